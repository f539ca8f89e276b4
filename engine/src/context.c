/* Contexts: the words of a handshake, our identity, and what all connections of a context share. */

#include <string.h>

#include <openssl/bytestring.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/mem.h>
#include <openssl/pool.h>

#include "engine.h"

/* What a certificate's key may sign with. BoringSSL leaves out Ed25519 and P-521 by default; SHA-1 stays out. */
static const uint16_t signatures[] = {
    SSL_SIGN_ECDSA_SECP256R1_SHA256, SSL_SIGN_ED25519,           SSL_SIGN_RSA_PSS_RSAE_SHA256,
    SSL_SIGN_RSA_PKCS1_SHA256,       SSL_SIGN_ECDSA_SECP384R1_SHA384, SSL_SIGN_RSA_PSS_RSAE_SHA384,
    SSL_SIGN_RSA_PKCS1_SHA384,       SSL_SIGN_ECDSA_SECP521R1_SHA512, SSL_SIGN_RSA_PSS_RSAE_SHA512,
    SSL_SIGN_RSA_PKCS1_SHA512,
};
#define SIGNATURES (sizeof(signatures) / sizeof(signatures[0]))

#define TEXT(number) #number
#define TEXT_OF(macro) TEXT(macro)

const char *bs_version(void) { return "BoringSSL API " TEXT_OF(BORINGSSL_API_VERSION) " (" BS_RELEASE ")"; }

const char *bs_last_words(void) {
  const char *words = ERR_reason_error_string(ERR_peek_error());
  ERR_clear_error();
  return words != NULL ? words : "it does not say why";
}

/* The answer is given outside of the handshake, which is resumed then: no code of Python's runs below BoringSSL's. */
static enum ssl_verify_result_t verify(SSL *ssl, uint8_t *out_alert) {
  bs_connection *connection = SSL_get_app_data(ssl);
  if (connection == NULL || connection->inner == NULL) return ssl_verify_invalid;
  *out_alert = connection->inner->alert;
  switch (connection->inner->chain) {
    case BS_UNJUDGED:
      return ssl_verify_retry;
    case BS_GOOD:
      return ssl_verify_ok;
    default:
      return ssl_verify_invalid;
  }
}

static int keep_session(SSL *ssl, SSL_SESSION *session) {
  bs_connection *connection = SSL_get_app_data(ssl);
  if (connection == NULL || connection->inner == NULL) return 0;
  SSL_SESSION_free(connection->inner->newest);
  connection->inner->newest = session;
  connection->tickets++;
  return 1; /* the reference is ours */
}

static int select_alpn(SSL *ssl, const uint8_t **out, uint8_t *out_length, const uint8_t *offered, unsigned length,
                       void *argument) {
  (void)ssl;
  const bs_context *context = argument;
  CBS ours, name;
  CBS_init(&ours, context->alpn, context->alpn_length);
  while (CBS_get_u8_length_prefixed(&ours, &name)) {
    CBS theirs, other;
    CBS_init(&theirs, offered, length);
    while (CBS_get_u8_length_prefixed(&theirs, &other)) {
      if (CBS_mem_equal(&name, CBS_data(&other), CBS_len(&other))) {
        *out = CBS_data(&name);
        *out_length = (uint8_t)CBS_len(&name);
        return SSL_TLSEXT_ERR_OK;
      }
    }
  }
  return SSL_TLSEXT_ERR_NOACK; /* nothing in common: none is selected, and the handshake goes on */
}

bs_context *bs_context_new(int server, uint16_t min_version, uint16_t max_version) {
  bs_context *context = OPENSSL_zalloc(sizeof(*context));
  SSL_CTX *ssl_context = SSL_CTX_new(TLS_with_buffers_method());
  CRYPTO_BUFFER_POOL *pool = CRYPTO_BUFFER_POOL_new();
  if (context == NULL || ssl_context == NULL || pool == NULL) goto failed;
  context->ssl_context = ssl_context;
  context->server = server;
  if (!SSL_CTX_set_min_proto_version(ssl_context, min_version) ||
      !SSL_CTX_set_max_proto_version(ssl_context, max_version) ||
      !SSL_CTX_set_verify_algorithm_prefs(ssl_context, signatures, SIGNATURES) ||
      !SSL_CTX_set_signing_algorithm_prefs(ssl_context, signatures, SIGNATURES)) {
    goto failed;
  }
  SSL_CTX_set1_buffer_pool(ssl_context, pool); /* a thousand connections of one peer hold its certificates once */
  CRYPTO_BUFFER_POOL_free(pool);
  SSL_CTX_set_custom_verify(ssl_context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, verify);
  SSL_CTX_set_mode(ssl_context, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_options(ssl_context, SSL_OP_CIPHER_SERVER_PREFERENCE);
  if (server) {
    SSL_CTX_set_session_cache_mode(ssl_context, SSL_SESS_CACHE_OFF); /* tickets only: no state per client here */
    SSL_CTX_set_options(ssl_context, SSL_OP_NO_TICKET);              /* until there is a key to seal them with */
    bs_install_tickets(ssl_context);
  } else {
    SSL_CTX_set_session_cache_mode(ssl_context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ssl_context, keep_session);
    SSL_CTX_set_reverify_on_resume(ssl_context, 1);
  }
  return context;

failed:
  ERR_clear_error();
  CRYPTO_BUFFER_POOL_free(pool);
  SSL_CTX_free(ssl_context);
  OPENSSL_free(context);
  return NULL;
}

void bs_context_free(bs_context *context) {
  if (context == NULL) return;
  SSL_CTX_free(context->ssl_context);
  if (context->has_ticket_key) EVP_AEAD_CTX_cleanup(&context->ticket_key);
  OPENSSL_free(context->alpn);
  OPENSSL_free(context);
}

int bs_context_set_ciphers(bs_context *context, const char *names) {
  return SSL_CTX_set_strict_cipher_list(context->ssl_context, names);
}

int bs_context_set_groups(bs_context *context, const uint16_t *ids, size_t count) {
  return SSL_CTX_set1_group_ids(context->ssl_context, ids, count);
}

int bs_context_set_identity(bs_context *context, const uint8_t *const *ders, const size_t *lengths, size_t count,
                            const uint8_t *key, size_t key_length) {
  CRYPTO_BUFFER *certificates[BS_MAX_PATH] = {NULL};
  CBS encoded;
  CBS_init(&encoded, key, key_length);
  EVP_PKEY *private_key = EVP_parse_private_key(&encoded);
  int ok = private_key != NULL && count > 0 && count <= BS_MAX_PATH;
  for (size_t i = 0; ok && i < count; i++) {
    certificates[i] = CRYPTO_BUFFER_new(ders[i], lengths[i], NULL);
    ok = certificates[i] != NULL;
  }
  ok = ok && SSL_CTX_set_chain_and_key(context->ssl_context, certificates, count, private_key, NULL);
  for (size_t i = 0; i < BS_MAX_PATH; i++) CRYPTO_BUFFER_free(certificates[i]);
  EVP_PKEY_free(private_key);
  return ok;
}

int bs_context_set_alpn(bs_context *context, const uint8_t *wire, size_t length) {
  if (!context->server) return SSL_CTX_set_alpn_protos(context->ssl_context, wire, length) == 0;
  uint8_t *copy = OPENSSL_memdup(wire, length);
  if (copy == NULL) return 0;
  OPENSSL_free(context->alpn);
  context->alpn = copy;
  context->alpn_length = length;
  SSL_CTX_set_alpn_select_cb(context->ssl_context, select_alpn, context);
  return 1;
}

int bs_context_set_tickets(bs_context *context, int count) {
  if (count <= 0) {
    SSL_CTX_set_options(context->ssl_context, SSL_OP_NO_TICKET);
    return 1;
  }
  return SSL_CTX_set_num_tickets(context->ssl_context, (size_t)count);
}

int bs_context_set_ticket_key(bs_context *context, const uint8_t *name, const uint8_t *key) {
  if (context->has_ticket_key) return 0; /* a context is never changed: a new key is a new generation's */
  if (!EVP_AEAD_CTX_init(&context->ticket_key, EVP_aead_aes_256_gcm_siv(), key, 32, EVP_AEAD_DEFAULT_TAG_LENGTH,
                         NULL)) {
    return 0;
  }
  context->has_ticket_key = 1;
  memcpy(context->ticket_name, name, BS_TICKET_NAME_BYTES);
  SSL_CTX_clear_options(context->ssl_context, SSL_OP_NO_TICKET);
  return SSL_CTX_set_session_id_context(context->ssl_context, name, BS_TICKET_NAME_BYTES);
}
