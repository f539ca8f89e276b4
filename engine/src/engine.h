/* Between the C files: what is behind the opaque types of interface.h. */

#ifndef MTLS_SIDECAR_ENGINE_H
#define MTLS_SIDECAR_ENGINE_H

#include <stddef.h>
#include <stdint.h>

#include <openssl/aead.h>
#include <openssl/ssl.h>

#include "interface.h"

#define BS_TICKET_NAME_BYTES 16
#define BS_TICKET_NONCE_BYTES 12

struct bs_context {
  SSL_CTX *ssl_context;
  int server;
  uint8_t *alpn; /* ours, in order of preference, as on the wire */
  size_t alpn_length;
  int has_ticket_key;
  uint8_t ticket_name[BS_TICKET_NAME_BYTES];
  EVP_AEAD_CTX ticket_key;
};

enum bs_verdict { BS_UNJUDGED, BS_GOOD, BS_BAD, BS_FATAL };

struct bs_inner {
  SSL *ssl;
  bs_context *context; /* outlives the connection: the Python object that owns it is kept by the one that owns this */
  int fd;

  /* Reading (stream.c). */
  uint8_t *held; /* ciphertext that was read ahead and outlived the call that read it; NULL for none */
  const uint8_t *ahead;
  size_t ahead_length;
  size_t room; /* how much may be read ahead: what is decrypted must fit into the caller's buffer */
  int fills;   /* how many more times the kernel may be asked for bytes in this call */
  int drained; /* the kernel gave less than was asked for: asking again would give nothing */
  int saw_fin;
  int alert_record; /* the header of an alert in the clear was read */
  int plain_alert;  /* and this is what it said */
  int owes_ticket;  /* TLS 1.3, server: BoringSSL sends its ticket with the first bytes that are written */
  int fin_follows;  /* what is written now may wait for the FIN, to go in one segment with it */

  /* Judging (handshake.c, tickets.c). */
  enum bs_verdict chain, ticket;
  uint8_t alert;           /* for a chain that is BS_BAD */
  int asked_for_ticket;    /* what bs_decide answers: the ticket, or else the chain */
  uint8_t *opened;         /* a decrypted ticket, from the question to the answer */
  size_t opened_length;
  SSL_SESSION *offered;    /* the session in it */
  SSL_SESSION *newest;     /* client: the last session that came */
};

/* Python has a connection without anything in it stand for those that are closed. */
static inline int bs_closed(const bs_connection *connection) { return connection == NULL || connection->inner == NULL; }

/* stream.c */
int bs_attach(bs_connection *connection);  /* gives the SSL its BIO; 0 when memory is short */
void bs_begin(bs_inner *inner);
void bs_settle(bs_connection *connection);
int bs_stopped(bs_connection *connection, int code); /* sorts SSL_get_error, empties the queue, returns BS_* */

/* tickets.c */
void bs_install_tickets(SSL_CTX *ssl_context);
void bs_forget_ticket(bs_inner *inner);

#endif
