/*
 * Bytes between a socket and an SSL.
 *
 * BoringSSL asks for the five bytes of a record's header and then for its body: two system calls for each record, and
 * one more to learn that there is nothing left. This BIO reads ahead instead, into a buffer of the thread, so that a
 * handshake's flight, or all that the kernel holds, comes with one. Two rules keep that from costing anything else:
 *
 * - Within one call everything that was read ahead is consumed, unless it is a record's beginning. What is left over
 *   when a handshake ends (the first application data) moves to memory of the connection's own, and `buffered` says
 *   so: no readiness will announce it. An idle connection owns no buffer.
 * - No more is read than the caller's buffer can take, so no plaintext is left behind inside either.
 *
 * The kernel giving less than was asked for means that it has no more now. A FIN or an error behind it stays readable.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>

#include <openssl/bio.h>
#include <openssl/err.h>

#include "engine.h"

#define AHEAD_BYTES 65536
#define RECORD_BYTES (16384 + 512) /* a whole record, with all that protects it */
/* Reads of the kernel in one bs_read: enough to fill the caller's buffer. A peer that sends a byte a record would else
 * keep one call busy for as long as it keeps the kernel's buffer filled (75 ms for 6 MB), and every other connection. */
#define FILLS_A_CALL 5

static __thread uint8_t read_ahead[AHEAD_BYTES];

/*
 * A TLS 1.3 client that gives up before it has keys of its own says why in the clear (OpenSSL's do). BoringSSL, which
 * expects a protected record by then, calls it broken; so what such an alert says is kept for whoever asks why. It comes
 * as two reads, of a header and of two bytes, and proves nothing: whoever could forge it could break the connection too.
 */
static void look_for_alert(bs_inner *inner, const uint8_t *bytes, size_t n) {
  if (inner->alert_record && n == 2) inner->plain_alert = bytes[1];
  inner->alert_record = n == 5 && bytes[0] == SSL3_RT_ALERT && bytes[3] == 0 && bytes[4] == 2;
}

static int take(bs_inner *inner, char *out, int length) {
  size_t n = inner->ahead_length < (size_t)length ? inner->ahead_length : (size_t)length;
  memcpy(out, inner->ahead, n);
  if (n <= 5) look_for_alert(inner, inner->ahead, n);
  inner->ahead += n;
  inner->ahead_length -= n;
  return (int)n;
}

static int bio_read(BIO *bio, char *out, int length) {
  bs_inner *inner = BIO_get_data(bio);
  BIO_clear_retry_flags(bio);
  if (inner->ahead_length > 0) return take(inner, out, length);
  if (inner->drained || inner->fills <= 0) {
    BIO_set_retry_read(bio); /* what the kernel still has is told again */
    return -1;
  }
  size_t room = inner->room < AHEAD_BYTES ? inner->room : AHEAD_BYTES;
  if (room < (size_t)length) room = (size_t)length < AHEAD_BYTES ? (size_t)length : AHEAD_BYTES;
  ssize_t n;
  do {
    n = recv(inner->fd, read_ahead, room, 0);
  } while (n < 0 && errno == EINTR);
  if (n < 0) {
    if (errno == EAGAIN || errno == EWOULDBLOCK) BIO_set_retry_read(bio);
    return -1;
  }
  if (n == 0) {
    inner->saw_fin = 1;
    return 0;
  }
  inner->fills--;
  if ((size_t)n < room) inner->drained = 1;
  inner->room -= inner->room < (size_t)n ? inner->room : (size_t)n;
  inner->ahead = read_ahead;
  inner->ahead_length = (size_t)n;
  return take(inner, out, length);
}

static int bio_write(BIO *bio, const char *data, int length) {
  bs_inner *inner = BIO_get_data(bio);
  BIO_clear_retry_flags(bio);
  ssize_t n;
  do {
    n = send(inner->fd, data, (size_t)length, MSG_NOSIGNAL | (inner->fin_follows ? MSG_MORE : 0));
  } while (n < 0 && errno == EINTR);
  if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) BIO_set_retry_write(bio);
  return (int)n;
}

static long bio_control(BIO *bio, int command, long number, void *pointer) {
  (void)bio, (void)number, (void)pointer;
  return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *method; /* made once; the GIL was held by whoever imported us */

__attribute__((constructor)) static void make_method(void) {
  method = BIO_meth_new(BIO_TYPE_SOURCE_SINK | BIO_TYPE_DESCRIPTOR, "socket, read ahead");
  if (method == NULL) return;
  BIO_meth_set_read(method, bio_read);
  BIO_meth_set_write(method, bio_write);
  BIO_meth_set_ctrl(method, bio_control);
}

int bs_attach(bs_connection *connection) {
  BIO *bio = method != NULL ? BIO_new(method) : NULL;
  if (bio == NULL) return 0;
  BIO_set_data(bio, connection->inner);
  BIO_set_init(bio, 1);
  SSL_set_bio(connection->inner->ssl, bio, bio);
  return 1;
}

/* Before each call of a handshake, in which what is read ahead becomes nobody's plaintext yet. */
void bs_begin(bs_inner *inner) {
  inner->room = AHEAD_BYTES;
  inner->drained = 0;
  inner->fills = FILLS_A_CALL;
}

/* After it: the thread's buffer belongs to the next connection from now on. */
void bs_settle(bs_connection *connection) {
  bs_inner *inner = connection->inner;
  if (inner->ahead_length == 0) {
    free(inner->held);
    inner->held = NULL;
  } else if (inner->ahead >= read_ahead && inner->ahead < read_ahead + AHEAD_BYTES) {
    uint8_t *copy = malloc(inner->ahead_length);
    if (copy != NULL) {
      memcpy(copy, inner->ahead, inner->ahead_length);
    } else {
      inner->ahead_length = 0; /* the next record will not decrypt, and the connection ends */
    }
    free(inner->held);
    inner->held = copy;
    inner->ahead = copy;
  }
  connection->buffered = (int)inner->ahead_length;
}

int bs_stopped(bs_connection *connection, int code) {
  bs_inner *inner = connection->inner;
  int error = SSL_get_error(inner->ssl, code);
  connection->reason = 0;
  connection->words = "";
  switch (error) {
    case SSL_ERROR_WANT_READ:
      return connection->stop = BS_WANT_READ;
    case SSL_ERROR_WANT_WRITE:
      return connection->stop = BS_WANT_WRITE;
    case SSL_ERROR_WANT_CERTIFICATE_VERIFY:
      inner->asked_for_ticket = 0;
      connection->resumed = SSL_session_reused(inner->ssl);
      return connection->stop = BS_JUDGE_CHAIN;
    case SSL_ERROR_PENDING_TICKET:
      inner->asked_for_ticket = 1;
      return connection->stop = BS_JUDGE_TICKET;
    case SSL_ERROR_ZERO_RETURN:
      return connection->stop = BS_CLOSED;
    case SSL_ERROR_SYSCALL:
      ERR_clear_error();
      return connection->stop = inner->saw_fin ? BS_CUT : BS_RESET;
    default: {
      uint32_t first = ERR_get_error();
      const char *words = ERR_reason_error_string(first);
      connection->reason = ERR_GET_LIB(first) == ERR_LIB_SSL ? ERR_GET_REASON(first) : 0;
      connection->words = words != NULL ? words : "unknown error";
      ERR_clear_error();
      return connection->stop = BS_FAILED;
    }
  }
}

int bs_read(bs_connection *connection, void *buffer, int capacity) {
  if (bs_closed(connection)) return 0;
  bs_inner *inner = connection->inner;
  int total = 0;
  connection->stop = BS_DONE;
  inner->fills = FILLS_A_CALL;
  inner->drained = inner->ahead_length > 0; /* what came with the handshake is all for now; readiness tells of more */
  while (capacity - total > 2 * RECORD_BYTES || inner->ahead_length > 0) {
    int left = capacity - total;
    if (left > 2 * RECORD_BYTES) {
      inner->room = (size_t)(left - RECORD_BYTES); /* a record may be half read inside the SSL, and becomes whole */
    } else {
      inner->drained = 1; /* what was read ahead still fits, and the kernel keeps the rest */
    }
    int n = SSL_read(inner->ssl, (uint8_t *)buffer + total, left);
    if (n <= 0) {
      bs_stopped(connection, n);
      break;
    }
    total += n;
  }
  bs_settle(connection);
  return total;
}

int bs_write(bs_connection *connection, const void *data, int length) {
  if (bs_closed(connection)) return 0;
  int done = 0;
  connection->stop = BS_DONE;
  while (done < length) {
    int n = SSL_write(connection->inner->ssl, (const uint8_t *)data + done, length - done);
    if (n <= 0) {
      bs_stopped(connection, n);
      break;
    }
    connection->inner->owes_ticket = 0;
    done += n;
  }
  return done;
}

int bs_close_notify(bs_connection *connection, int fin_follows) {
  if (bs_closed(connection)) return BS_RESET;
  connection->inner->fin_follows = fin_follows;
  int code = SSL_shutdown(connection->inner->ssl);
  connection->inner->fin_follows = 0;
  connection->inner->owes_ticket = 0;
  connection->stop = BS_DONE;
  return code >= 0 ? BS_DONE : bs_stopped(connection, code);
}

void bs_flush(bs_connection *connection) {
  if (bs_closed(connection) || !connection->inner->owes_ticket) return;
  connection->inner->owes_ticket = 0;
  SSL_write(connection->inner->ssl, "", 0);
  ERR_clear_error();
}
