/* tls, tls_files, tls_tickets: who is served which certificate, what is refused and why, and that any worker resumes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tls_test.h"

#include <openssl/pem.h>
#include <sys/stat.h>
#include <unistd.h>

static struct tls_set *build(struct tls_pair *pairs, size_t n, struct tls_tickets *tickets) {
	struct tls_set *set;
	assert_int_equal(tls_set_new(pairs, n, tickets, &set), 0);
	for (size_t i = 0; i < n; i++)
		tls_pair_fini(&pairs[i]);
	return set;
}

/* RFC 7301: the one protocol, for who offers it among others; another is refused; who offers none is served. */
static void test_alpn(void **state) {
	struct tls_pair pairs[] = {make_pair("a.example.org", false, 100)};
	struct tls_set *set = build(pairs, 1, NULL);
	struct outcome o = meet_once(set, &(struct offer){.alpn = "\x02h2"});
	assert_true(o.done); /* not asked for: ignored */
	assert_string_equal(o.alpn, "");
	tls_set_alpn(set, "http/1.1");
	o = meet_once(set, &(struct offer){.alpn = "\x02h2\x08http/1.1"});
	assert_true(o.done);
	assert_string_equal(o.alpn, "http/1.1");
	assert_false(meet_once(set, &(struct offer){.alpn = "\x02h2"}).done);
	assert_false(meet_once(set, &(struct offer){.alpn = "\x08http/1.0"}).done);
	assert_true(meet_once(set, &(struct offer){0}).done);
	tls_set_unref(set);
}

static void test_by_name(void **state) {
	struct tls_pair pairs[] = {
		make_pair("mx.example.org", false, 100),
		make_pair("*.example.org", false, 100),
		make_pair("*.deep.example.org", false, 100),
		make_pair("exact.deep.example.org", false, 100),
	};
	static const struct {
		const char *sni, *cn;
	} rows[] = {
		{NULL, "mx.example.org"},
		{"mx.example.org", "mx.example.org"},
		{"MX.Example.ORG", "mx.example.org"},
		{"a.example.org", "*.example.org"},
		{"a.deep.example.org", "*.deep.example.org"},
		{"exact.deep.example.org", "exact.deep.example.org"},
		{"a.b.deep.example.org", "mx.example.org"},  /* a wildcard is one label */
		{"example.org", "mx.example.org"},
		{"elsewhere.example", "mx.example.org"},     /* unknown: completes all the same */
		{"no_name", "mx.example.org"},
	};
	struct tls_set *set = build(pairs, array_len(pairs), NULL);
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		for (size_t i = 0; i < array_len(rows); i++) {
			struct outcome o = meet_once(set, &(struct offer){.sni = rows[i].sni, .version = version});
			assert_true(o.done);
			assert_string_equal(o.cn, rows[i].cn);
			assert_int_equal(strcasecmp(o.info.sni, rows[i].sni ? rows[i].sni : ""), 0);
		}
	}
	const char *name;
	char cn[64];
	X509_NAME_get_text_by_NID(X509_get_subject_name(tls_set_find(set, "b.example.org")), NID_commonName, cn, sizeof(cn));
	assert_string_equal(cn, "*.example.org");
	assert_true(tls_set_expires(set, &name) > clock_wall_us() + 99 * DAY_US);
	tls_set_unref(set);
}

/* A name that is no host name is not kept; the handshake goes on. */
static void test_odd_name(void **state) {
	struct tls_set *set = make_set(NULL);
	struct outcome o = meet_once(set, &(struct offer){.sni = "a b\r\nX: y"});
	assert_true(o.done);
	assert_string_equal(o.info.sni, "");
	tls_set_unref(set);
}

static void test_two_key_types(void **state) {
	struct tls_pair pairs[] = {
		make_pair("mx.example.org", false, 100),
		make_pair("other.example.org", false, 100),
		make_pair("mx.example.org", true, 10),
	};
	struct tls_set *set = build(pairs, array_len(pairs), NULL);
	static const struct {
		const char *sni, *sigalgs, *ciphers;
		int version;
		bool done, rsa;
	} rows[] = {
		{NULL, NULL, NULL, TLS1_3_VERSION, true, false},
		{NULL, "RSA-PSS+SHA256", NULL, TLS1_3_VERSION, true, true},
		{NULL, "ECDSA+SHA256", NULL, TLS1_3_VERSION, true, false},
		{"mx.example.org", "RSA-PSS+SHA256", NULL, TLS1_3_VERSION, true, true},
		{"mx.example.org", NULL, "ECDHE-RSA-AES128-GCM-SHA256", TLS1_2_VERSION, true, true},
		{"mx.example.org", NULL, "ECDHE-ECDSA-AES128-GCM-SHA256", TLS1_2_VERSION, true, false},
		{"unknown.example", NULL, "ECDHE-RSA-AES128-GCM-SHA256", TLS1_2_VERSION, true, true},
		{"other.example.org", "RSA-PSS+SHA256", NULL, TLS1_3_VERSION, false, false}, /* no RSA of that name */
		{NULL, NULL, "AES128-GCM-SHA256", TLS1_2_VERSION, false, false},             /* no forward secrecy */
		{NULL, NULL, "DHE-RSA-AES128-GCM-SHA256", TLS1_2_VERSION, false, false},
		{NULL, NULL, NULL, TLS1_1_VERSION, false, false},
		{NULL, NULL, NULL, TLS1_VERSION, false, false},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		struct outcome o = meet_once(set, &(struct offer){rows[i].sni, rows[i].sigalgs, rows[i].ciphers, rows[i].version, NULL});
		assert_int_equal(o.done, rows[i].done);
		if (o.done)
			assert_int_equal(o.rsa, rows[i].rsa);
	}
	const char *name;
	assert_true(tls_set_expires(set, &name) < clock_wall_us() + 11 * DAY_US); /* the first of them */
	assert_string_equal(name, "mx.example.org");
	tls_set_unref(set);
}

/* Two sets, as two workers or the time before and after a reload have, on the same ticket keys. */
static void test_resumed_elsewhere(void **state) {
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		struct tls_tickets *tickets = tls_tickets_new(), *others = tls_tickets_new();
		struct tls_set *one = make_set(tickets), *two = make_set(tickets), *stranger = make_set(others);
		struct offer offer = {.sni = "mx.example.org", .version = version};
		struct outcome first = meet(one, &offer);
		assert_true(first.done && !first.info.resumed);
		offer.session = first.session;
		struct outcome o = meet_once(two, &offer);
		assert_true(o.done && o.info.resumed);
		assert_string_equal(o.info.sni, "mx.example.org");
		o = meet_once(stranger, &offer);
		assert_true(o.done && !o.info.resumed);
		SSL_SESSION_free(first.session);
		tls_set_unref(one);
		tls_set_unref(two);
		tls_set_unref(stranger);
		tls_tickets_free(tickets);
		tls_tickets_free(others);
	}
}

static int open_ticket(struct tls_tickets *t, unsigned char name[16], int issue) {
	unsigned char iv[EVP_MAX_IV_LENGTH] = {0};
	EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
	EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(mac);
	int r = tls_tickets_use(t, name, iv, cipher, ctx, issue);
	EVP_MAC_CTX_free(ctx);
	EVP_MAC_free(mac);
	EVP_CIPHER_CTX_free(cipher);
	return r;
}

/* A key issues for 12 hours and opens for 12 more; an old one asks for a new ticket (2). */
static void test_rotation(void **state) {
	unsigned char name[16], next[16];
	clock_set(1700000000000000);
	struct tls_tickets *t = tls_tickets_new();
	assert_int_equal(open_ticket(t, name, 1), 1);
	assert_int_equal(open_ticket(t, name, 0), 1);
	clock_advance(12 * 3600 * 1000000LL);
	assert_int_equal(open_ticket(t, name, 0), 2);
	assert_int_equal(open_ticket(t, next, 1), 1);
	assert_memory_not_equal(name, next, sizeof(name));
	clock_advance(12 * 3600 * 1000000LL);
	assert_int_equal(open_ticket(t, name, 0), 0);
	assert_int_equal(open_ticket(t, next, 0), 2);
	tls_tickets_free(t);
}

/* ---- files ---- */

static char dir[64];

static char *file(const char *name) {
	return xasprintf("%s/%s", dir, name);
}

static void write_file(const char *name, X509 *x, EVP_PKEY *key, const char *text) {
	cleanup(freep) char *path = file(name);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	if (x)
		PEM_write_X509(f, x);
	if (key)
		PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL);
	if (text)
		fputs(text, f);
	fclose(f);
}

static void check_load(const char *chain, const char *key, bool any_date, const char *complaint) {
	struct tls_pair p;
	cleanup(freep) char *spec = key ? xasprintf("%s/%s:%s/%s", dir, chain, dir, key) : file(chain), *error = NULL;
	int r = tls_load(spec, any_date, &p, &error);
	if (!complaint) {
		assert_int_equal(r, 0);
		tls_pair_fini(&p);
		return;
	}
	assert_true(r < 0);
	if (!strstr(error, complaint))
		fail_msg("\"%s\" does not say \"%s\"", error, complaint);
	assert_non_null(strstr(error, dir)); /* the file is named */
}

static void test_load(void **state) {
	struct tls_pair ec = make_pair("a.example", false, 100), rsa = make_pair("a.example", true, 100), late = make_pair("a.example", false, -1);
	EVP_PKEY *weak = EVP_RSA_gen(1024), *odd = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"), *curve = EVP_EC_gen("P-521");
	X509 *weak_x = NULL, *curve_x = NULL;
	clock_update();
	int64_t now = clock_wall_us();
	tls_make_self_signed("a.example", weak, now - DAY_US, now + DAY_US, &weak_x);
	tls_make_self_signed("a.example", curve, now - DAY_US, now + DAY_US, &curve_x);
	write_file("ec.pem", ec.leaf, NULL, NULL);
	write_file("ec.key", NULL, ec.key, NULL);
	write_file("both.pem", ec.leaf, ec.key, NULL);
	write_file("rsa.pem", rsa.leaf, NULL, NULL);
	write_file("rsa.key", NULL, rsa.key, NULL);
	write_file("late.pem", late.leaf, late.key, NULL);
	write_file("weak.pem", weak_x, weak, NULL);
	write_file("curve.pem", curve_x, curve, NULL);
	write_file("odd.key", NULL, odd, NULL);
	write_file("text.pem", NULL, NULL, "not a certificate\n");
	write_file("cut.pem", ec.leaf, NULL, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
	check_load("ec.pem", "ec.key", false, NULL);
	check_load("rsa.pem", "rsa.key", false, NULL);
	check_load("both.pem", NULL, false, NULL);
	check_load("ec.pem", "rsa.key", false, "rsa.key: not the key of the certificate in");
	check_load("gone.pem", "ec.key", false, "gone.pem: No such file");
	check_load("ec.pem", "gone.key", false, "gone.key: No such file");
	check_load("text.pem", "ec.key", false, "text.pem: no certificate in it");
	check_load("cut.pem", "ec.key", false, "cut.pem: ");
	check_load("ec.pem", "ec.pem", false, "ec.pem: no private key in it");
	check_load("weak.pem", NULL, false, "fewer than 2048 bits");
	check_load("curve.pem", NULL, false, "not on P-256 or P-384");
	check_load("ec.pem", "odd.key", false, "neither RSA nor ECDSA");
	check_load("late.pem", NULL, false, "late.pem: the certificate has expired");
	check_load("late.pem", NULL, true, NULL);
	/* Two unrelated certificates are no chain. */
	cleanup(freep) char *path = file("mixed.pem");
	FILE *f = fopen(path, "w");
	PEM_write_X509(f, ec.leaf);
	X509 *stranger = NULL;
	EVP_PKEY *key = EVP_EC_gen("P-256");
	tls_make_self_signed("b.example", key, now - DAY_US, now + DAY_US, &stranger);
	PEM_write_X509(f, stranger);
	fclose(f);
	check_load("mixed.pem", "ec.key", false, "not followed by its issuer's");
	X509_free(stranger);
	EVP_PKEY_free(key);
	X509_free(weak_x);
	X509_free(curve_x);
	EVP_PKEY_free(weak);
	EVP_PKEY_free(odd);
	EVP_PKEY_free(curve);
	tls_pair_fini(&ec);
	tls_pair_fini(&rsa);
	tls_pair_fini(&late);
}

static void note(void *arg, const char *name) {
	snprintf(arg, 256, "%s", name);
}

static void test_self_signed(void **state) {
	cleanup(freep) char *where = file("state/tls"), *error = NULL, *spec = NULL, *again = NULL;
	struct tls_pair p, q;
	struct stat st;
	char name[256] = "";
	assert_int_equal(tls_self_signed(where, "mx.example.org", &spec, &error), 0);
	assert_int_equal(stat(where, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_int_equal(stat(spec, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(tls_load(spec, false, &p, &error), 0);
	assert_int_equal(EVP_PKEY_get_base_id(p.key), EVP_PKEY_EC);
	tls_names(p.leaf, note, name);
	assert_string_equal(name, "mx.example.org");
	assert_true(tls_not_after(p.leaf) > clock_wall_us() + 3650 * DAY_US);
	/* Kept, even when the host is called otherwise now. */
	assert_int_equal(tls_self_signed(where, "new.example.org", &again, &error), 0);
	assert_int_equal(tls_load(again, false, &q, &error), 0);
	assert_int_equal(X509_cmp(p.leaf, q.leaf), 0);
	tls_pair_fini(&p);
	tls_pair_fini(&q);
	assert_true(tls_self_signed("/proc/none", "h", &again, &error) < 0);
	assert_non_null(strstr(error, "/proc/none"));
}

static void test_days(void **state) {
	assert_int_equal(tls_days_class(22 * DAY_US), 999);
	assert_int_equal(tls_days_class(21 * DAY_US), 999);
	assert_int_equal(tls_days_class(21 * DAY_US - 1), 21);
	assert_int_equal(tls_days_class(7 * DAY_US - 1), 7);
	assert_int_equal(tls_days_class(DAY_US - 1), 1);
	assert_int_equal(tls_days_class(0), 0);
	assert_int_equal(tls_days_class(-DAY_US), 0);
}

static int make_dir(void **state) {
	snprintf(dir, sizeof(dir), "/tmp/minutemail-tls-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state) {
	cleanup(freep) char *command = xasprintf("rm -rf '%s'", dir);
	return system(command);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_by_name),
		cmocka_unit_test(test_alpn),           cmocka_unit_test(test_odd_name), cmocka_unit_test(test_two_key_types),
		cmocka_unit_test(test_resumed_elsewhere), cmocka_unit_test(test_load),     cmocka_unit_test(test_self_signed),
		cmocka_unit_test(test_days),              cmocka_unit_test(test_rotation), /* last: it sets the clock */
	};
	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
