/* Reading and checking PEM files, and making the self-signed certificate of a first start. Says what was wrong and where; whether
 * that ends the daemon or only a reload is the caller's to decide. */
#include "common/tls_files.h"

#include "common/clock.h"

#include <fcntl.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define RSA_BITS_MIN 2048
#define CHAIN_MAX 10
#define FILE_NAME "selfsigned.pem"
#define YEARS_10_US (3652 * 86400 * 1000000LL)

static const char *openssl_reason(void) {
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());
	return reason ? reason : "not understood";
}

static int complain(char **ret_error, int r, const char *path, const char *what) {
	*ret_error = xasprintf("%s: %s", path, what);
	ERR_clear_error();
	return r;
}

static int open_pem(const char *path, FILE **ret, char **ret_error) {
	*ret = fopen(path, "re");
	if (*ret)
		return 0;
	int r = -errno;
	return complain(ret_error, r, path, strerror(-r));
}

/* A daemon has nobody to ask for a pass phrase. */
static int no_password(char *p, int n, int writing, void *arg) {
	(void)p;
	(void)n;
	(void)writing;
	(void)arg;
	return -1;
}

static int read_chain(const char *path, struct tls_pair *ret, char **ret_error) {
	FILE *f;
	int r = open_pem(path, &f, ret_error), count = 0;
	if (r < 0)
		return r;
	ret->leaf = PEM_read_X509(f, NULL, no_password, NULL);
	ret->chain = sk_X509_new_null();
	X509 *x;
	while (ret->leaf && ret->chain && count++ < CHAIN_MAX && (x = PEM_read_X509(f, NULL, no_password, NULL)) != NULL)
		sk_X509_push(ret->chain, x);
	fclose(f);
	if (!ret->leaf)
		return complain(ret_error, -EINVAL, path, "no certificate in it");
	unsigned long last = ERR_peek_last_error();
	if (count > CHAIN_MAX)
		return complain(ret_error, -EINVAL, path, "too many certificates in it");
	/* How a PEM file ends for OpenSSL; all else is a certificate that could not be read. */
	if (ERR_GET_LIB(last) != ERR_LIB_PEM || ERR_GET_REASON(last) != PEM_R_NO_START_LINE)
		return complain(ret_error, -EINVAL, path, openssl_reason());
	ERR_clear_error();
	const X509 *before = ret->leaf;
	for (int i = 0; i < sk_X509_num(ret->chain); i++) {
		if (X509_check_issued(sk_X509_value(ret->chain, i), (X509 *)before) != X509_V_OK)
			return complain(ret_error, -EINVAL, path, "a certificate is not followed by its issuer's");
		before = sk_X509_value(ret->chain, i);
	}
	return 0;
}

static int check_key(const char *path, EVP_PKEY *key, char **ret_error) {
	char curve[32] = "";
	switch (EVP_PKEY_get_base_id(key)) {
	case EVP_PKEY_RSA:
		if (EVP_PKEY_get_bits(key) < RSA_BITS_MIN)
			return complain(ret_error, -EINVAL, path, "an RSA key of fewer than 2048 bits");
		return 0;
	case EVP_PKEY_EC:
		EVP_PKEY_get_group_name(key, curve, sizeof(curve), NULL);
		if (strcmp(curve, "prime256v1") == 0 || strcmp(curve, "secp384r1") == 0)
			return 0;
		return complain(ret_error, -EINVAL, path, "an ECDSA key that is not on P-256 or P-384");
	default:
		return complain(ret_error, -EINVAL, path, "a key that is neither RSA nor ECDSA");
	}
}

static int read_key(const char *path, const char *chain_path, struct tls_pair *ret, char **ret_error) {
	FILE *f;
	int r = open_pem(path, &f, ret_error);
	if (r < 0)
		return r;
	ret->key = PEM_read_PrivateKey(f, NULL, no_password, NULL);
	fclose(f);
	if (!ret->key)
		return complain(ret_error, -EINVAL, path, "no private key in it, or one with a pass phrase");
	r = check_key(path, ret->key, ret_error);
	if (r < 0)
		return r;
	if (X509_check_private_key(ret->leaf, ret->key) != 1) {
		cleanup(freep) char *what = xasprintf("not the key of the certificate in %s", chain_path);
		return complain(ret_error, -EINVAL, path, what);
	}
	return 0;
}

static int check_dates(const char *path, const X509 *x, char **ret_error) {
	time_t now = (time_t)(clock_wall_us() / 1000000);
	if (X509_cmp_time(X509_get0_notBefore(x), &now) > 0)
		return complain(ret_error, -EINVAL, path, "the certificate is not valid yet");
	if (X509_cmp_time(X509_get0_notAfter(x), &now) < 0)
		return complain(ret_error, -EINVAL, path, "the certificate has expired");
	return 0;
}

int tls_load(const char *spec, bool any_date, struct tls_pair *ret, char **ret_error) {
	const char *colon = strrchr(spec, ':');
	cleanup(freep) char *chain = colon ? xstrndup(spec, (size_t)(colon - spec)) : xstrdup(spec);
	const char *key = colon ? colon + 1 : spec;
	*ret = (struct tls_pair){0};
	*ret_error = NULL;
	int r = read_chain(chain, ret, ret_error);
	if (r == 0)
		r = read_key(key, chain, ret, ret_error);
	if (r == 0 && !any_date)
		r = check_dates(chain, ret->leaf, ret_error);
	if (r < 0)
		tls_pair_fini(ret);
	return r;
}

/* ---- self-signed ---- */

static bool is_host_name(const char *s) {
	size_t n = strlen(s);
	return n > 0 && n <= TLS_NAME_MAX && strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-*") == n;
}

static bool add_extension(X509 *x, int nid, const char *value) {
	X509V3_CTX ctx;
	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, x, x, NULL, NULL, 0);
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	bool ok = e && X509_add_ext(x, e, -1) == 1;
	X509_EXTENSION_free(e);
	return ok;
}

static bool set_serial(X509 *x) {
	BIGNUM *n = BN_new();
	bool ok = n && BN_rand(n, 127, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x));
	BN_free(n);
	return ok;
}

int tls_make_self_signed(const char *hostname, EVP_PKEY *key, int64_t from_us, int64_t to_us, X509 **ret) {
	const char *host = is_host_name(hostname) ? hostname : "localhost";
	cleanup(freep) char *san = xasprintf("DNS:%s", host);
	X509 *x = X509_new();
	if (!x)
		abort();
	X509_NAME *subject = X509_get_subject_name(x);
	const unsigned char *cn = (const unsigned char *)(strlen(host) <= 64 ? host : "minutemail"); /* ub-common-name */
	bool ok = X509_set_version(x, X509_VERSION_3) == 1 && set_serial(x) &&
	          ASN1_TIME_set(X509_getm_notBefore(x), (time_t)(from_us / 1000000)) &&
	          ASN1_TIME_set(X509_getm_notAfter(x), (time_t)(to_us / 1000000)) &&
	          X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, cn, -1, -1, 0) == 1 && X509_set_issuer_name(x, subject) == 1 &&
	          X509_set_pubkey(x, key) == 1 && add_extension(x, NID_basic_constraints, "critical,CA:FALSE") &&
	          add_extension(x, NID_key_usage, "critical,digitalSignature") && add_extension(x, NID_ext_key_usage, "serverAuth") &&
	          add_extension(x, NID_subject_alt_name, san) && X509_sign(x, key, EVP_sha256()) > 0;
	if (!ok) {
		X509_free(x);
		return -EINVAL;
	}
	*ret = x;
	return 0;
}

static int make_directories(const char *dir) {
	cleanup(freep) char *path = xstrdup(dir);
	for (char *p = path + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

static int write_pem(const char *path, X509 *x, EVP_PKEY *key) {
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	FILE *f = fdopen(fd, "w");
	if (!f) {
		close(fd);
		return -errno;
	}
	bool ok = PEM_write_X509(f, x) == 1 && PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) == 1 && fflush(f) == 0 &&
	          fsync(fd) == 0;
	int r = ok ? 0 : -errno;
	if (fclose(f) != 0 && r == 0)
		r = -errno;
	return ok ? r : r < 0 ? r : -EIO;
}

/* Under another name first, then by rename: never half a file under its own. */
static int make_file(const char *path, const char *hostname) {
	cleanup(freep) char *fresh = xasprintf("%s.%ld", path, (long)getpid());
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = NULL;
	int64_t now = clock_wall_us();
	int r = key ? tls_make_self_signed(hostname, key, now - DAY_US, now + YEARS_10_US, &x) : -EINVAL;
	if (r == 0)
		r = write_pem(fresh, x, key);
	if (r == 0 && rename(fresh, path) < 0)
		r = -errno;
	if (r < 0)
		unlink(fresh);
	X509_free(x);
	EVP_PKEY_free(key);
	return r;
}

int tls_self_signed(const char *dir, const char *hostname, char **ret_spec, char **ret_error) {
	cleanup(freep) char *path = xasprintf("%s/%s", dir, FILE_NAME);
	int r = 0;
	if (access(path, F_OK) < 0) {
		r = make_directories(dir);
		if (r == 0)
			r = make_file(path, hostname);
	}
	if (r < 0)
		return complain(ret_error, r, path, strerror(-r));
	*ret_spec = take_ptr(path);
	return 0;
}
