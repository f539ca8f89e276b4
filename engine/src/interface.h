/*
 * What Python sees of BoringSSL. This file is read twice: by the C compiler, and by cffi, which knows no directives.
 *
 * The unit is a connection, and a call does as much as it can before it comes back: Python pays for each crossing. No
 * call blocks, none calls back into Python, and each leaves BoringSSL's error queue empty: what went wrong stands in
 * the connection. A decision that is Python's to make (a certificate chain, the peer behind a ticket) is asked for by
 * coming back with BS_JUDGE_CHAIN or BS_JUDGE_TICKET; the answer is bs_decide(), and the handshake goes on.
 */

typedef struct bs_context bs_context; /* an SSL_CTX, its ticket key, its ALPN list */
typedef struct bs_inner bs_inner;     /* an SSL, and what belongs to it */
typedef struct bs_store bs_store;     /* trust anchors for one purpose */
typedef struct ssl_session_st SSL_SESSION;

/* Why a call came back. */
enum {
  BS_DONE = 0,
  BS_WANT_READ = 1,
  BS_WANT_WRITE = 2,
  BS_JUDGE_CHAIN = 3,  /* the peer presented a chain, or the client is about to resume the session that holds it */
  BS_JUDGE_TICKET = 4, /* a client wants to resume: the chain of its first handshake came back in its ticket */
  BS_CLOSED = 5,       /* close_notify */
  BS_CUT = 6,          /* a FIN without close_notify */
  BS_RESET = 7,        /* the socket is broken */
  BS_FAILED = 8,       /* `reason` and `words` tell what is wrong with what the peer sent, or the alert that it sent */
};

enum { BS_PURPOSE_CLIENT = 1, BS_PURPOSE_SERVER = 2 }; /* what the peer acts as */

/* For bs_decide: anything else is the number of an alert. A ticket that is not taken leads to a full handshake. */
enum { BS_YES = -1, BS_NO_TICKET = -2, BS_NEVER = -3 };

typedef struct bs_connection {
  int stop;          /* BS_*: why the last call came back */
  int reason;        /* BS_FAILED: SSL_R_*, 1000 + the alert for one that came; 0 for another library's error */
  int resumed;       /* set when the handshake is done, and for BS_JUDGE_CHAIN */
  int tickets;       /* client: how many session tickets have come */
  int buffered;      /* bytes that were taken from the socket and are not decrypted yet */
  uint16_t version;  /* these three are set when the handshake is done: 0x0303, 0x0304 */
  uint16_t group;    /* NamedGroup */
  uint16_t cipher;   /* CipherSuite */
  const char *words; /* BS_FAILED: what is wrong */
  bs_inner *inner;
} bs_connection;

const char *bs_version(void); /* BoringSSL numbers its interface, not itself; and where the source came from */

/* Contexts. The setters return 1, or 0 with bs_last_words() telling why. */
bs_context *bs_context_new(int server, uint16_t min_version, uint16_t max_version);
void bs_context_free(bs_context *context);
const char *bs_last_words(void);
int bs_context_set_ciphers(bs_context *context, const char *names);
int bs_context_set_groups(bs_context *context, const uint16_t *ids, size_t count);
int bs_context_set_identity(bs_context *context, const uint8_t *const *ders, const size_t *lengths, size_t count,
                            const uint8_t *key, size_t key_length);
int bs_context_set_alpn(bs_context *context, const uint8_t *wire, size_t length);
int bs_context_set_tickets(bs_context *context, int count);
int bs_context_set_ticket_key(bs_context *context, const uint8_t *name, const uint8_t *key); /* 16 and 32 bytes */

/* Connections. NULL when memory is short. A connection keeps what it needs of its context. */
bs_connection *bs_accept(bs_context *context, int fd);
bs_connection *bs_connect(bs_context *context, int fd, const char *server_name, SSL_SESSION *session);
void bs_free(bs_connection *connection);

int bs_handshake(bs_connection *connection);
void bs_decide(bs_connection *connection, int answer);
int bs_certificates(bs_connection *connection); /* how many the peer presented, or its ticket holds */
int bs_certificate(bs_connection *connection, int at, const uint8_t **der); /* returns the length */
void bs_chain_digest(bs_connection *connection, uint8_t *digest); /* SHA-256 over the SHA-256 of each, 32 bytes */
const char *bs_server_name(bs_connection *connection);
int bs_alpn(bs_connection *connection, const uint8_t **name); /* returns the length */
SSL_SESSION *bs_session(bs_connection *connection); /* to resume later, owned by the caller; NULL when there is none */
void bs_session_free(SSL_SESSION *session);
uint32_t bs_session_early_data(SSL_SESSION *session);

/* Bytes. Both return how many; `stop` tells why no more. capacity: 64 KiB at least. */
int bs_read(bs_connection *connection, void *buffer, int capacity);
int bs_write(bs_connection *connection, const void *data, int length);
int bs_close_notify(bs_connection *connection, int fin_follows); /* returns BS_*; waits for the FIN that follows */
void bs_flush(bs_connection *connection);       /* sends a ticket that still waits for the first bytes to go with */

/* RFC 5280 path validation. Time is not looked at: that is the caller's. */
bs_store *bs_store_new(int purpose);
int bs_store_add(bs_store *store, const uint8_t *der, size_t length); /* 0 when it cannot be parsed */
void bs_store_free(bs_store *store);
int bs_parses(const uint8_t *der, size_t length);
/* Returns X509_V_ERR_*, 0 for good. path: room for BS_MAX_PATH; filled leaf first with the places in `ders`, and with
 * -1 - the place in the store for anchors. */
enum { BS_MAX_PATH = 32 };
int bs_verify(bs_store *store, const uint8_t *const *ders, const size_t *lengths, size_t count, int *path,
              int *path_length, int *depth);
const char *bs_verify_words(int error);
