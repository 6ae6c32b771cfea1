/* Certificates and keys on disk: reads and checks pairs, and makes a self-signed one. Blocking; made at start-up and at a reload, in
 * the process that keeps the keys. No private key is ever logged. */
#ifndef MINUTEMAIL_TLS_FILES_H
#define MINUTEMAIL_TLS_FILES_H

#include "common/tls.h"

/* `spec`: "CHAIN:KEY", two PEM files, or one file that holds both. The chain begins with the leaf, each certificate followed by
 * its issuer. Refused: a key that is not the leaf's, an RSA key under 2048 bits, a key that is neither RSA nor on P-256 or
 * P-384, a leaf out of its dates unless `any_date`. -errno, -EINVAL for content; *ret_error then says what and in which file
 * (allocated). tls_pair_fini() what was returned. */
int tls_load(const char *spec, bool any_date, struct tls_pair *ret, char **ret_error);

/* The self-signed pair of `dir` (made with its parents, mode 0700, if missing): one file, mode 0600, ECDSA P-256, for `hostname`, ten
 * years. One that is there is kept, whatever its name. *ret_spec is what tls_load() takes (allocated). Errors as above. */
int tls_self_signed(const char *dir, const char *hostname, char **ret_spec, char **ret_error);
/* The same in memory. */
int tls_make_self_signed(const char *hostname, EVP_PKEY *key, int64_t from_us, int64_t to_us, X509 **ret);

#endif
