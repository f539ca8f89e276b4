/* Path validation: a chain, the anchors of one trust domain, and the path between them. */

#include <stdlib.h>

#include <openssl/err.h>
#include <openssl/pool.h>
#include <openssl/x509.h>

#include "engine.h"

struct bs_store {
  X509_STORE *store;
  int purpose; /* X509_PURPOSE_* */
  X509 **anchors;
  int count;
};

static X509 *parse(const uint8_t *der, size_t length) {
  CRYPTO_BUFFER *buffer = CRYPTO_BUFFER_new(der, length, NULL);
  X509 *certificate = buffer != NULL ? X509_parse_from_buffer(buffer) : NULL;
  CRYPTO_BUFFER_free(buffer);
  ERR_clear_error();
  return certificate;
}

bs_store *bs_store_new(int purpose) {
  bs_store *made = calloc(1, sizeof(*made));
  X509_STORE *store = X509_STORE_new();
  if (made == NULL || store == NULL) {
    free(made);
    X509_STORE_free(store);
    return NULL;
  }
  /* Every certificate of a bundle is an anchor, self-signed or not; time is judged with a clock that is an argument. */
  X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_NO_CHECK_TIME);
  made->purpose = purpose == BS_PURPOSE_SERVER ? X509_PURPOSE_SSL_SERVER : X509_PURPOSE_SSL_CLIENT;
  X509_STORE_set_purpose(store, made->purpose);
  X509_STORE_set_depth(store, BS_MAX_PATH - 2);
  made->store = store;
  return made;
}

int bs_store_add(bs_store *store, const uint8_t *der, size_t length) {
  X509 *certificate = parse(der, length);
  X509 **anchors = certificate != NULL ? realloc(store->anchors, (store->count + 1) * sizeof(X509 *)) : NULL;
  if (anchors == NULL) {
    X509_free(certificate);
    return 0;
  }
  store->anchors = anchors;
  anchors[store->count++] = certificate;
  int ok = X509_STORE_add_cert(store->store, certificate);
  ERR_clear_error();
  return ok;
}

void bs_store_free(bs_store *store) {
  if (store == NULL) return;
  for (int i = 0; i < store->count; i++) X509_free(store->anchors[i]);
  free(store->anchors);
  X509_STORE_free(store->store);
  free(store);
}

int bs_parses(const uint8_t *der, size_t length) {
  X509 *certificate = parse(der, length);
  X509_free(certificate);
  return certificate != NULL;
}

/* Where a certificate of the path came from. The anchor comes first: a root may be sent along as well. */
static int place(const bs_store *store, X509 *const *presented, size_t count, const X509 *certificate) {
  for (size_t i = 0; i < count; i++) {
    if (presented[i] == certificate) return (int)i;
  }
  for (int i = 0; i < store->count; i++) {
    if (X509_cmp(store->anchors[i], certificate) == 0) return -1 - i;
  }
  for (size_t i = 0; i < count; i++) {
    if (presented[i] != NULL && X509_cmp(presented[i], certificate) == 0) return (int)i;
  }
  return 0;
}

/* The path ends at the first certificate that is an anchor; BoringSSL goes on to one that is self-signed. */
static size_t length_to_anchor(const bs_store *store, STACK_OF(X509) *path) {
  for (size_t i = 0; i < sk_X509_num(path); i++) {
    for (int j = 0; j < store->count; j++) {
      if (X509_cmp(store->anchors[j], sk_X509_value(path, i)) == 0) return i + 1;
    }
  }
  return sk_X509_num(path);
}

/*
 * BoringSSL takes an anchor for its name and key alone. Here it is also what its extensions say, as with OpenSSL: a CA
 * for this purpose, with its limit to the path's length. (Its name constraints BoringSSL has looked at.)
 */
static int anchor_error(STACK_OF(X509) *path, size_t length, int purpose) {
  size_t last = length - 1;
  if (last == 0) return X509_V_OK; /* the leaf itself is in the bundle */
  X509 *anchor = sk_X509_value(path, last);
  long between = 0;
  for (size_t i = 1; i < last; i++) {
    if (!(X509_get_extension_flags(sk_X509_value(path, i)) & EXFLAG_SI)) between++;
  }
  if (X509_get_extension_flags(anchor) & EXFLAG_CRITICAL) return X509_V_ERR_UNHANDLED_CRITICAL_EXTENSION;
  if (!X509_check_ca(anchor)) return X509_V_ERR_INVALID_CA;
  if (X509_check_purpose(anchor, purpose, 1) != 1) return X509_V_ERR_INVALID_PURPOSE;
  if (X509_get_pathlen(anchor) >= 0 && between > X509_get_pathlen(anchor)) return X509_V_ERR_PATH_LENGTH_EXCEEDED;
  return X509_V_OK;
}

int bs_verify(bs_store *store, const uint8_t *const *ders, const size_t *lengths, size_t count, int *path,
              int *path_length, int *depth) {
  X509 *presented[BS_MAX_PATH] = {NULL};
  STACK_OF(X509) *untrusted = sk_X509_new_null();
  X509_STORE_CTX *context = X509_STORE_CTX_new();
  int error = X509_V_ERR_UNSPECIFIED;
  *path_length = 0;
  *depth = 0;
  if (count == 0 || count > BS_MAX_PATH) {
    error = X509_V_ERR_CERT_CHAIN_TOO_LONG;
    goto done;
  }
  if (untrusted == NULL || context == NULL) goto done;
  for (size_t i = 0; i < count; i++) {
    presented[i] = parse(ders[i], lengths[i]);
    if (presented[i] == NULL) {
      if (i == 0) goto done;
      continue; /* what cannot be read is no part of any path */
    }
    if (i > 0 && !sk_X509_push(untrusted, presented[i])) goto done;
  }
  if (!X509_STORE_CTX_init(context, store->store, presented[0], untrusted)) goto done;
  if (X509_verify_cert(context) == 1) {
    STACK_OF(X509) *found = X509_STORE_CTX_get0_chain(context);
    size_t length = length_to_anchor(store, found);
    error = anchor_error(found, length, store->purpose);
    *depth = (int)length - 1;
    for (size_t i = 0; i < length && i < BS_MAX_PATH && error == X509_V_OK; i++) {
      path[(*path_length)++] = place(store, presented, count, sk_X509_value(found, i));
    }
  } else {
    error = X509_STORE_CTX_get_error(context);
    *depth = X509_STORE_CTX_get_error_depth(context);
    if (error == X509_V_OK) error = X509_V_ERR_UNSPECIFIED;
  }

done:
  X509_STORE_CTX_free(context);
  sk_X509_free(untrusted);
  for (size_t i = 0; i < BS_MAX_PATH; i++) X509_free(presented[i]);
  ERR_clear_error();
  return error;
}

const char *bs_verify_words(int error) { return X509_verify_cert_error_string(error); }
