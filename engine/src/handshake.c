/* Connections: from nothing to a finished handshake, and what can be asked about it. */

#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/pool.h>
#include <openssl/sha.h>

#include "engine.h"

static bs_connection *begin(bs_context *context, int fd) {
  bs_connection *connection = calloc(1, sizeof(*connection));
  bs_inner *inner = calloc(1, sizeof(*inner));
  if (connection == NULL || inner == NULL) {
    free(connection);
    free(inner);
    return NULL;
  }
  connection->inner = inner;
  connection->words = "";
  inner->context = context;
  inner->fd = fd;
  inner->ssl = SSL_new(context->ssl_context);
  if (inner->ssl == NULL || !SSL_set_app_data(inner->ssl, connection) || !bs_attach(connection)) {
    bs_free(connection);
    ERR_clear_error();
    return NULL;
  }
  SSL_set_shed_handshake_config(inner->ssl, 1); /* nothing is renegotiated: a third of an idle connection's memory */
  return connection;
}

bs_connection *bs_accept(bs_context *context, int fd) {
  bs_connection *connection = begin(context, fd);
  if (connection != NULL) SSL_set_accept_state(connection->inner->ssl);
  return connection;
}

bs_connection *bs_connect(bs_context *context, int fd, const char *server_name, SSL_SESSION *session) {
  bs_connection *connection = begin(context, fd);
  if (connection == NULL) return NULL;
  SSL *ssl = connection->inner->ssl;
  SSL_set_connect_state(ssl);
  if ((server_name != NULL && !SSL_set_tlsext_host_name(ssl, server_name)) ||
      (session != NULL && !SSL_set_session(ssl, session))) {
    ERR_clear_error();
    bs_free(connection);
    return NULL;
  }
  return connection;
}

void bs_free(bs_connection *connection) {
  if (connection == NULL) return;
  bs_inner *inner = connection->inner;
  SSL_free(inner->ssl);
  bs_forget_ticket(inner);
  SSL_SESSION_free(inner->newest);
  free(inner->held);
  free(inner);
  free(connection);
}

int bs_handshake(bs_connection *connection) {
  if (bs_closed(connection)) return BS_RESET;
  bs_inner *inner = connection->inner;
  bs_begin(inner);
  int code = SSL_do_handshake(inner->ssl);
  if (code != 1) {
    if (bs_stopped(connection, code) == BS_FAILED && connection->reason < SSL_AD_REASON_OFFSET && inner->plain_alert) {
      connection->reason = SSL_AD_REASON_OFFSET + inner->plain_alert;
    }
  } else {
    connection->stop = BS_DONE;
    connection->resumed = SSL_session_reused(inner->ssl);
    connection->version = (uint16_t)SSL_version(inner->ssl);
    connection->group = SSL_get_group_id(inner->ssl);
    const SSL_CIPHER *cipher = SSL_get_current_cipher(inner->ssl);
    connection->cipher = cipher != NULL ? SSL_CIPHER_get_protocol_id(cipher) : 0;
    inner->owes_ticket = inner->context->server && connection->version == TLS1_3_VERSION;
    bs_forget_ticket(inner);
  }
  bs_settle(connection);
  return connection->stop;
}

void bs_decide(bs_connection *connection, int answer) {
  if (bs_closed(connection)) return;
  bs_inner *inner = connection->inner;
  if (inner->asked_for_ticket) {
    inner->ticket = answer == BS_YES ? BS_GOOD : answer == BS_NEVER ? BS_FATAL : BS_BAD;
  } else {
    inner->chain = answer == BS_YES ? BS_GOOD : BS_BAD;
    inner->alert = answer > 0 && answer < 256 ? (uint8_t)answer : SSL_AD_INTERNAL_ERROR;
  }
}

static const STACK_OF(CRYPTO_BUFFER) *presented(const bs_connection *connection) {
  if (bs_closed(connection)) return NULL;
  const bs_inner *inner = connection->inner;
  if (connection->stop == BS_JUDGE_TICKET) {
    return inner->offered != NULL ? SSL_SESSION_get0_peer_certificates(inner->offered) : NULL;
  }
  return SSL_get0_peer_certificates(inner->ssl);
}

int bs_certificates(bs_connection *connection) {
  const STACK_OF(CRYPTO_BUFFER) *chain = presented(connection);
  return chain != NULL ? (int)sk_CRYPTO_BUFFER_num(chain) : 0;
}

int bs_certificate(bs_connection *connection, int at, const uint8_t **der) {
  const STACK_OF(CRYPTO_BUFFER) *chain = presented(connection);
  if (chain == NULL || at < 0 || (size_t)at >= sk_CRYPTO_BUFFER_num(chain)) return 0;
  const CRYPTO_BUFFER *certificate = sk_CRYPTO_BUFFER_value(chain, (size_t)at);
  *der = CRYPTO_BUFFER_data(certificate);
  return (int)CRYPTO_BUFFER_len(certificate);
}

void bs_chain_digest(bs_connection *connection, uint8_t *digest) {
  const STACK_OF(CRYPTO_BUFFER) *chain = presented(connection);
  uint8_t each[SHA256_DIGEST_LENGTH];
  SHA256_CTX all;
  SHA256_Init(&all);
  for (size_t i = 0; chain != NULL && i < sk_CRYPTO_BUFFER_num(chain); i++) {
    const CRYPTO_BUFFER *certificate = sk_CRYPTO_BUFFER_value(chain, i);
    SHA256(CRYPTO_BUFFER_data(certificate), CRYPTO_BUFFER_len(certificate), each);
    SHA256_Update(&all, each, sizeof(each));
  }
  SHA256_Final(digest, &all);
}

const char *bs_server_name(bs_connection *connection) {
  return !bs_closed(connection) ? SSL_get_servername(connection->inner->ssl, TLSEXT_NAMETYPE_host_name) : NULL;
}

int bs_alpn(bs_connection *connection, const uint8_t **name) {
  unsigned length = 0;
  if (!bs_closed(connection)) SSL_get0_alpn_selected(connection->inner->ssl, name, &length);
  return (int)length;
}

SSL_SESSION *bs_session(bs_connection *connection) {
  if (bs_closed(connection) || connection->inner->context->server) return NULL;
  bs_inner *inner = connection->inner;
  SSL_SESSION *session = inner->newest;
  if (session == NULL && connection->version == TLS1_2_VERSION) session = SSL_get_session(inner->ssl);
  if (session == NULL || !SSL_SESSION_is_resumable(session)) return NULL;
  SSL_SESSION_up_ref(session);
  return session;
}

void bs_session_free(SSL_SESSION *session) { SSL_SESSION_free(session); }

uint32_t bs_session_early_data(SSL_SESSION *session) { return (uint32_t)SSL_SESSION_early_data_capable(session); }
