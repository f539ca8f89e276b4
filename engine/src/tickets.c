/*
 * Session tickets that are judged before they are honoured.
 *
 * A ticket holds the session, and with it the chain that the client presented in its first handshake. BoringSSL would
 * resume it without asking anybody. So this is its hook for tickets of one's own: `open` decrypts, keeps the session,
 * and says "retry", which stops the handshake (BS_JUDGE_TICKET). Python looks at the chain as it would look at one that
 * is presented now, and the second call of `open` gives the session out, or ignores the ticket. A client whose ticket
 * is ignored does a full handshake: it shows the certificate that it has now, and is let in by that, or is told by the
 * ordinary alert why not.
 *
 * A ticket is NAME (16 bytes), NONCE (12 random bytes), AES-256-GCM-SIV over the session with NAME as associated data.
 * SIV, because the workers of a sidecar share the key and draw their nonces without knowing of each other (RFC 8452).
 */

#include <string.h>

#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/rand.h>

#include "engine.h"

#define PREFIX_BYTES (BS_TICKET_NAME_BYTES + BS_TICKET_NONCE_BYTES)

/*
 * A client brings its ticket in its ClientHello, of which 16 KiB are looked at where TLS is told from plaintext
 * (core/clienthello.py), and in which a ticket of 64 KiB does not fit at all. Who has a longer chain than this, which
 * is three times as long as those of SPIFFE, gets none, and presents it each time.
 */
#define SESSION_BYTES 12288

static const bs_connection *connection_of(const SSL *ssl) { return SSL_get_app_data(ssl); }

static size_t max_overhead(SSL *ssl) {
  (void)ssl;
  return PREFIX_BYTES + EVP_AEAD_MAX_OVERHEAD;
}

static int seal(SSL *ssl, uint8_t *out, size_t *out_length, size_t max_length, const uint8_t *in, size_t length) {
  const bs_connection *connection = connection_of(ssl);
  *out_length = 0;
  if (connection == NULL || !connection->inner->context->has_ticket_key) return 1; /* no ticket is sent */
  if (length > SESSION_BYTES) return 1;
  const bs_context *context = connection->inner->context;
  if (max_length < PREFIX_BYTES) return 0;
  uint8_t *nonce = out + BS_TICKET_NAME_BYTES;
  size_t sealed = 0;
  /* BoringSSL allows `in` and `out` to be the same. */
  uint8_t *copy = in == out ? OPENSSL_memdup(in, length) : NULL;
  if (in == out && copy == NULL) return 0;
  memcpy(out, context->ticket_name, BS_TICKET_NAME_BYTES);
  RAND_bytes(nonce, BS_TICKET_NONCE_BYTES);
  int ok = EVP_AEAD_CTX_seal(&context->ticket_key, out + PREFIX_BYTES, &sealed, max_length - PREFIX_BYTES, nonce,
                             BS_TICKET_NONCE_BYTES, copy != NULL ? copy : in, length, context->ticket_name,
                             BS_TICKET_NAME_BYTES);
  OPENSSL_free(copy); /* which clears it */
  if (ok) *out_length = PREFIX_BYTES + sealed;
  return ok;
}

static int decrypt(bs_inner *inner, const uint8_t *in, size_t length) {
  const bs_context *context = inner->context;
  if (!context->has_ticket_key || length < PREFIX_BYTES || memcmp(in, context->ticket_name, BS_TICKET_NAME_BYTES)) {
    return 0;
  }
  inner->opened = OPENSSL_malloc(length);
  return inner->opened != NULL &&
         EVP_AEAD_CTX_open(&context->ticket_key, inner->opened, &inner->opened_length, length,
                           in + BS_TICKET_NAME_BYTES, BS_TICKET_NONCE_BYTES, in + PREFIX_BYTES, length - PREFIX_BYTES,
                           context->ticket_name, BS_TICKET_NAME_BYTES);
}

static enum ssl_ticket_aead_result_t open(SSL *ssl, uint8_t *out, size_t *out_length, size_t max_length,
                                          const uint8_t *in, size_t length) {
  bs_connection *connection = SSL_get_app_data(ssl);
  if (connection == NULL) return ssl_ticket_aead_ignore_ticket;
  bs_inner *inner = connection->inner;
  if (inner->ticket == BS_GOOD && inner->opened != NULL && inner->opened_length <= max_length) {
    memcpy(out, inner->opened, inner->opened_length);
    *out_length = inner->opened_length;
    bs_forget_ticket(inner);
    return ssl_ticket_aead_success;
  }
  if (inner->ticket == BS_UNJUDGED && inner->opened == NULL && decrypt(inner, in, length)) {
    inner->offered = SSL_SESSION_from_bytes(inner->opened, inner->opened_length, inner->context->ssl_context);
    if (inner->offered != NULL) return ssl_ticket_aead_retry;
  }
  enum ssl_ticket_aead_result_t result =
      inner->ticket == BS_FATAL ? ssl_ticket_aead_error : ssl_ticket_aead_ignore_ticket;
  ERR_clear_error();
  if (inner->ticket == BS_UNJUDGED) inner->ticket = BS_BAD;
  bs_forget_ticket(inner);
  return result;
}

void bs_forget_ticket(bs_inner *inner) {
  OPENSSL_free(inner->opened);
  SSL_SESSION_free(inner->offered);
  inner->opened = NULL;
  inner->opened_length = 0;
  inner->offered = NULL;
}

static const SSL_TICKET_AEAD_METHOD method = {max_overhead, seal, open};

void bs_install_tickets(SSL_CTX *ssl_context) { SSL_CTX_set_ticket_aead_method(ssl_context, &method); }
