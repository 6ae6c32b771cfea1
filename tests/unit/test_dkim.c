/* DKIM: the examples of RFC 6376 and RFC 8463, canonical forms, and everything a signature or a key can have wrong. That signatures of
 * another program verify, and no longer when anything changes, is differential/dkim_signed.py's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "smtpd/dkim_canon.h"
#include "smtpd/tag_list.h"
#include "tests/support/dkim_message.h"

#include <openssl/evp.h>
#include <sodium.h>

/* ---- tag lists ---- */

static void test_tag_lists(void **state) {
	static const struct {
		const char *in;
		bool strict;
		unsigned count, tolerant_count;
	} rows[] = {
		{"v=1; a=b", true, 2, 2},  {"v=1;", true, 1, 1},         {" v = 1 ;\r\n\ta = b c ; ", true, 2, 2},
		{"v=", true, 1, 1},        {"v=1;;a=b", false, 0, 2},    {"v=1; v=2", false, 0, 1},
		{"", false, 0, 0},         {";", false, 0, 0},           {"v", false, 0, 0},
		{"1v=1", false, 0, 0},     {"v_1=1=1", true, 1, 1},      {"v=\x01; a=b", false, 0, 1},
		{"v=1; junk; a=b", false, 0, 2},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		struct tag_list l;
		bool ok = tag_list_parse(slice_str(rows[i].in), false, &l);
		assert_int_equal(ok, rows[i].strict);
		if (ok)
			assert_int_equal(l.count, rows[i].count);
		assert_true(tag_list_parse(slice_str(rows[i].in), true, &l));
		assert_int_equal(l.count, rows[i].tolerant_count);
	}
	struct tag_list l;
	uint64_t n;
	assert_true(tag_list_parse(slice_str(" a = x : Y\r\n : z ; b= "), false, &l));
	assert_true(tag_value_has(tag_list_value(&l, "a"), "y"));
	assert_false(tag_value_has(tag_list_value(&l, "a"), "xy"));
	assert_int_equal(tag_list_value(&l, "b").n, 0);
	assert_null(tag_list_value(&l, "c").p);
	assert_true(tag_value_number(slice_str("99999999999999999999"), &n) && n == UINT64_MAX);
	assert_false(tag_value_number(slice_str(""), &n));
	assert_false(tag_value_number(slice_str("1 2"), &n));
}

/* ---- canonical forms ---- */

static void hash_of(const char *s, size_t n, char ret[SHA256_LEN * 2 + 1]) {
	uint8_t digest[SHA256_LEN];
	sha256_of(s, n, digest);
	sodium_bin2hex(ret, SHA256_LEN * 2 + 1, digest, SHA256_LEN);
}

static void body_hash(const char *in, size_t n, bool relaxed, uint64_t limit, size_t step, char ret[SHA256_LEN * 2 + 1], bool *whole) {
	struct dkim_body b;
	uint8_t digest[SHA256_LEN];
	dkim_body_init(&b, relaxed, limit);
	for (size_t at = 0; at < n; at += step)
		dkim_body_feed(&b, in + at, min_of(step, n - at));
	*whole = dkim_body_end(&b, digest);
	dkim_body_fini(&b);
	sodium_bin2hex(ret, SHA256_LEN * 2 + 1, digest, SHA256_LEN);
}

static void test_bodies(void **state) {
	static const struct {
		const char *in, *simple, *relaxed;
	} rows[] = { /* RFC 6376 3.4.3 to 3.4.5 */
		{"", "\r\n", ""},
		{"\r\n", "\r\n", ""},
		{"\r\n\r\n\r\n", "\r\n", ""},
		{"a", "a\r\n", "a\r\n"},
		{"a\r\n", "a\r\n", "a\r\n"},
		{"a\r\n\r\n\r\n", "a\r\n", "a\r\n"},
		{" C \r\nD \t E\r\n\r\n\r\n", " C \r\nD \t E\r\n", " C\r\nD E\r\n"},
		{"a\r\n \t\r\n\r\n", "a\r\n \t\r\n", "a\r\n"},
		{"a\r\n\r\n \r\nb", "a\r\n\r\n \r\nb\r\n", "a\r\n\r\n\r\nb\r\n"},
		{"\r\n\r\na \t", "\r\n\r\na \t\r\n", "\r\n\r\na\r\n"},
		{"a\nb\rc\r", "a\nb\rc\r\r\n", "a\nb\rc\r\r\n"},
		{"a\r\r\n", "a\r\r\n", "a\r\r\n"},
		{" \r\n", " \r\n", ""},
		{"a \r\rb", "a \r\rb\r\n", "a \r\rb\r\n"},
	};
	char want[SHA256_LEN * 2 + 1], got[SHA256_LEN * 2 + 1];
	bool whole;
	for (size_t i = 0; i < array_len(rows); i++) {
		for (unsigned k = 0; k < 4; k++) {
			const char *text = k % 2 ? rows[i].relaxed : rows[i].simple;
			hash_of(text, strlen(text), want);
			body_hash(rows[i].in, strlen(rows[i].in), k % 2, UINT64_MAX, k < 2 ? 1 : 100, got, &whole);
			assert_string_equal(got, want);
			assert_true(whole);
		}
	}
	hash_of("ab", 2, want);
	body_hash("abcdef\r\n", 8, false, 2, 1, got, &whole);
	assert_string_equal(got, want);
	assert_true(whole);
	body_hash("ab\r\n", 4, false, 5, 1, got, &whole);
	assert_false(whole);
	body_hash("ab", 2, false, 4, 1, got, &whole);
	assert_true(whole);
	hash_of("", 0, want);
	body_hash("ab", 2, false, 0, 1, got, &whole);
	assert_string_equal(got, want);
}

static void test_headers(void **state) {
	static const struct {
		const char *in, *hole, *simple, *relaxed;
	} rows[] = {
		{"A: X\r\n", NULL, "A: X", "a:X"}, /* RFC 6376 3.4.5 */
		{"B : Y\t\r\n\tZ  \r\n", NULL, "B : Y\t\r\n\tZ  ", "b:Y Z"},
		{"Subject:\r\n", NULL, "Subject:", "subject:"},
		{"X-Y: a:b \t c\r\n", NULL, "X-Y: a:b \t c", "x-y:a:b c"},
		{"D: b=12\r\n 3; c=4\r\n", "12\r\n 3", "D: b=; c=4", "d:b=; c=4"},
		{"D: c=4; b= 123 \r\n", " 123 ", "D: c=4; b=", "d:c=4; b="},
		{"A: x\ry\r\n", NULL, "A: x\ry", "a:x\ry"},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		for (int relaxed = 0; relaxed < 2; relaxed++) {
			const char *want = relaxed ? rows[i].relaxed : rows[i].simple;
			struct slice hole = {0};
			uint8_t a[SHA256_LEN], b[SHA256_LEN];
			struct sha256 *sha = sha256_new();
			if (rows[i].hole)
				hole = slice_of(strstr(rows[i].in, rows[i].hole), strlen(rows[i].hole));
			sha256_reset(sha);
			dkim_header_add(sha, relaxed, slice_str(rows[i].in), hole);
			sha256_final(sha, a);
			sha256_free(sha);
			sha256_of(want, strlen(want), b);
			assert_memory_equal(a, b, SHA256_LEN);
		}
	}
}

/* ---- the RFCs' messages ---- */

/* With errata 3192 and 4926: one blank between the sentences. */
#define RFC_FIELDS                                                     \
	"From: Joe SixPack <joe@football.example.com>\r\n"                 \
	"To: Suzie Q <suzie@shopping.example.net>\r\n"                     \
	"Subject: Is dinner ready?\r\n"                                    \
	"Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n"                  \
	"Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n"
#define RFC_BODY "\r\nHi.\r\n\r\nWe lost the game. Are you hungry yet?\r\n\r\nJoe.\r\n"

static const char RFC6376[] = "DKIM-Signature: v=1; a=rsa-sha256; s=brisbane; d=example.com;\r\n"
							  "      c=simple/simple; q=dns/txt; i=joe@football.example.com;\r\n"
							  "      h=Received : From : To : Subject : Date : Message-ID;\r\n"
							  "      bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n"
							  "      b=AuUoFEfDxTDkHlLXSZEpZj79LICEps6eda7W3deTVFOk4yAUoqOB\r\n"
							  "      4nujc7YopdG5dWLSdNg6xNAZpOPr+kHxt1IrE+NahM6L/LbvaHut\r\n"
							  "      KVdkLLkpVaVVQPzeRDI009SO2Il5Lu7rDNH6mZckBdrIx0orEtZV\r\n"
							  "      4bmp/YzhwvcubU4=;\r\n"
							  "Received: from client1.football.example.com  [192.0.2.1]\r\n"
							  "      by submitserver.example.com with SUBMISSION;\r\n"
							  "      Fri, 11 Jul 2003 21:01:54 -0700 (PDT)\r\n" RFC_FIELDS RFC_BODY;

static const char RFC8463[] = "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n"
							  " d=football.example.com; i=@football.example.com;\r\n"
							  " q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n"
							  " subject : date : message-id : from : subject : date;\r\n"
							  " bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n"
							  " b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus\r\n"
							  " Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==\r\n"
							  "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n"
							  " d=football.example.com; i=@football.example.com;\r\n"
							  " q=dns/txt; s=test; t=1528637909; h=from : to : subject :\r\n"
							  " date : message-id : from : subject : date;\r\n"
							  " bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n"
							  " b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3\r\n"
							  " DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz\r\n"
							  " dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=\r\n" RFC_FIELDS RFC_BODY;

static const char ZONE[] =
	"brisbane._domainkey.example.com TXT \"v=DKIM1; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQ\" "
	"\"KBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYt\" \"IxN2SnFCjxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v\" "
	"\"/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhi\" \"tdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB\"\n"
	"brisbane._domainkey.football.example.com TXT \"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\"\n"
	"test._domainkey.football.example.com TXT \"v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3i\" "
	"\"dY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB\"\n";

#define NOW 1600000000000000LL

static void test_rfcs(void **state) {
	struct dns_zone *zone = zone_of(ZONE);
	struct dkim_set set;
	for (size_t step = 1; step < 2000; step = step * 3 + 1) {
		dkim_message(slice_of(RFC6376, sizeof(RFC6376) - 1), zone, NOW, step, &set);
		assert_int_equal(set.count, 1);
		assert_int_equal(set.v[0].verdict, DKIM_PASS);
		assert_string_equal(set.v[0].domain, "example.com");
		assert_string_equal(set.v[0].identity, "joe@football.example.com");
		assert_int_equal(set.v[0].key_bits, 1024);
		dkim_set_fini(&set);
		dkim_message(slice_of(RFC8463, sizeof(RFC8463) - 1), zone, NOW, step, &set);
		assert_int_equal(set.count, 2);
		assert_int_equal(set.body_count, 1);
		assert_int_equal(set.v[0].verdict, DKIM_PASS);
		assert_int_equal(set.v[0].algorithm, DKIM_ED25519_SHA256);
		assert_int_equal(set.v[1].verdict, DKIM_PASS);
		assert_string_equal(set.v[1].selector, "test");
		assert_string_equal(set.v[1].tag, "F45dVWDf");
		dkim_set_fini(&set);
	}
	dns_zone_free(zone);
}

/* A second field of a name that is signed once more than it is there (oversigned) fails; so does any other change. */
static void test_tampered(void **state) {
	static const struct {
		const char *where, *with, *reason;
	} rows[] = {
		{"Subject: Is", "Subject: is", "signature does not verify"},
		{"Hi.", "Ho.", "body was changed"},
		{"Subject: Is", "Subject: first\r\nSubject: Is", "signature does not verify"},
		{"From: Joe", "From: X <x@example.com>\r\nFrom: Joe", "signature does not verify"},
		{"t=1528637909", "t=1528637908", "signature does not verify"},
		{"d=football.example.com; i=@football.example.com", "d=other.example.com", "no key"},
		{"To: Suzie Q", "To:   Suzie\r\n Q", NULL}, /* relaxed */
		{"To: Suzie Q", "this is no field\r\nTo: Suzie Q", "header holds lines that are no fields"},
	};
	struct dns_zone *zone = zone_of(ZONE);
	for (size_t i = 0; i < array_len(rows); i++) {
		char text[4096];
		const char *at = strstr(RFC8463, rows[i].where);
		struct dkim_set set;
		size_t n = at ? (size_t)(at - RFC8463) : 0;
		snprintf(text, sizeof(text), "%.*s%s%s", (int)n, RFC8463, at ? rows[i].with : "",
		         RFC8463 + n + (at ? strlen(rows[i].where) : 0));
		dkim_message(slice_str(text), zone, NOW, 100, &set);
		if (rows[i].reason ? !set.v[0].reason || strcmp(set.v[0].reason, rows[i].reason) != 0 : set.v[0].verdict != DKIM_PASS)
			fail_msg("%s: %s", rows[i].with, set.v[0].reason ? set.v[0].reason : "pass");
		dkim_set_fini(&set);
	}
	dns_zone_free(zone);
}

/* ---- signatures of our own ---- */

static EVP_PKEY *key;
static char key_text[64];

static int make_key(void **state) {
	uint8_t raw[32];
	size_t n = sizeof(raw);
	key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	EVP_PKEY_get_raw_public_key(key, raw, &n);
	sodium_bin2base64(key_text, sizeof(key_text), raw, n, sodium_base64_VARIANT_ORIGINAL);
	return 0;
}

static int drop_key(void **state) {
	EVP_PKEY_free(key);
	return 0;
}

/* A message of one From field, signed with simple/simple by the tags given, which follow "DKIM-Signature: ". */
static void sign(const char *tags, const char *body, char *ret, size_t room) {
	char field[1024], hash[64], signature[128];
	uint8_t digest[SHA256_LEN], raw[64];
	size_t n = sizeof(raw);
	sha256_of(body, strlen(body), digest);
	sodium_bin2base64(hash, sizeof(hash), digest, sizeof(digest), sodium_base64_VARIANT_ORIGINAL);
	snprintf(field, sizeof(field), "From: a@example.com\r\nDKIM-Signature: %s; bh=%s; b=", tags, hash);
	sha256_of(field, strlen(field), digest);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	assert_int_equal(EVP_DigestSignInit(ctx, NULL, NULL, NULL, key), 1);
	assert_int_equal(EVP_DigestSign(ctx, raw, &n, digest, sizeof(digest)), 1);
	EVP_MD_CTX_free(ctx);
	sodium_bin2base64(signature, sizeof(signature), raw, n, sodium_base64_VARIANT_ORIGINAL);
	snprintf(ret, room, "%s%s\r\nFrom: a@example.com\r\n\r\n%s", strstr(field, "DKIM"), signature, body);
}

#define GOOD "v=1; a=ed25519-sha256; d=example.com; s=k; h=from"

static void test_own(void **state) {
	static const struct {
		const char *tags, *record; /* %s: the key */
		enum dkim_verdict verdict;
		const char *reason;
	} rows[] = {
		{GOOD, "v=DKIM1; k=ed25519; p=%s", DKIM_PASS, NULL},
		{GOOD, "k=ed25519; p=%s; n=note; x=ignored", DKIM_PASS, NULL},
		{GOOD, "v=DKIM1; k=ed25519; h=sha1:sha256; s=email; t=y; p=%s", DKIM_PASS, NULL},
		{GOOD "; x=1600000000", "v=DKIM1; k=ed25519; p=%s", DKIM_PASS, NULL},
		{GOOD "; l=6", "v=DKIM1; k=ed25519; p=%s", DKIM_PASS, NULL},
		{GOOD "; i=x@sub.example.com", "v=DKIM1; k=ed25519; p=%s", DKIM_PASS, NULL},
		{GOOD "; i=x@sub.example.com", "v=DKIM1; k=ed25519; t=s; p=%s", DKIM_PERMERROR, "key is not for subdomains"},
		{GOOD "; i=x@badexample.com", "v=DKIM1; k=ed25519; p=%s", DKIM_PERMERROR, "i= is not in d="},
		{GOOD "; i=x=2By=40exa\r\n\tmple.com", "v=DKIM1; k=ed25519; t=s; p=%s", DKIM_PASS, NULL},
		{GOOD "; i=x=40other.example", "v=DKIM1; k=ed25519; p=%s", DKIM_PERMERROR, "i= is not in d="},
		{GOOD "; i=x", "v=DKIM1; k=ed25519; p=%s", DKIM_PERMERROR, "i= is no identity"},
		{GOOD "; x=1599999999", "v=DKIM1; k=ed25519; p=%s", DKIM_FAIL, "signature expired"},
		{GOOD "; t=1600086401", "v=DKIM1; k=ed25519; p=%s", DKIM_FAIL, "signed in the future"},
		{GOOD "; t=1600086400", "v=DKIM1; k=ed25519; p=%s", DKIM_PASS, NULL},
		{GOOD "; t=2; x=1", "v=DKIM1; k=ed25519; p=%s", DKIM_PERMERROR, "expires before it was signed"},
		{GOOD "; x=soon", "v=DKIM1; k=ed25519; p=%s", DKIM_PERMERROR, "t=, x= or l= is no number"},
		{GOOD "; l=7", "v=DKIM1; k=ed25519; p=%s", DKIM_FAIL, "body is shorter than l="},
		{GOOD "; q=http", "v=DKIM1; k=ed25519; p=%s", DKIM_PERMERROR, "unknown way to the key"},
		{GOOD "; c=nowsp", "v=DKIM1; k=ed25519; p=%s", DKIM_PERMERROR, "unknown canonicalisation"},
		{GOOD, "v=DKIM1; k=ed25519; p=", DKIM_PERMERROR, "key revoked"},
		{GOOD, "v=DKIM1; k=ed25519", DKIM_PERMERROR, "key record without a key"},
		{GOOD, "k=ed25519; v=DKIM1; p=%s", DKIM_PERMERROR, "key record of another version"},
		{GOOD, "v=DKIM2; k=ed25519; p=%s", DKIM_PERMERROR, "key record of another version"},
		{GOOD, "v=DKIM1; p=%s", DKIM_PERMERROR, "key of another type"},
		{GOOD, "v=DKIM1; k=ed25519; h=sha1; p=%s", DKIM_PERMERROR, "key is not for sha256"},
		{GOOD, "v=DKIM1; k=ed25519; s=tlsrpt; p=%s", DKIM_PERMERROR, "key is not for mail"},
		{GOOD, "v=DKIM1; k=ed25519; p=!%s", DKIM_PERMERROR, "key cannot be read"},
		{GOOD, "v=DKIM1; k=ed25519; p=AAAA", DKIM_PERMERROR, "key cannot be read"},
		{GOOD, "no tags", DKIM_PERMERROR, "key record cannot be read"},
		{"v=1; a=ed25519-sha256; d=example.com; s=k; h=to", "k=ed25519; p=%s", DKIM_PERMERROR, "From is not signed"},
		{"v=2; a=ed25519-sha256; d=example.com; s=k; h=from", "k=ed25519; p=%s", DKIM_PERMERROR, "unknown version"},
		{"v=1; a=rsa-sha1; d=example.com; s=k; h=from", "p=%s", DKIM_PERMERROR, "rsa-sha1 is not accepted"},
		{"v=1; a=ed25519-sha512; d=example.com; s=k; h=from", "p=%s", DKIM_PERMERROR, "unknown algorithm"},
		{"v=1; a=ed25519-sha256; d=com; s=k; h=from", "k=ed25519; p=%s", DKIM_PERMERROR, "d= is no domain"},
		{"v=1; a=ed25519-sha256; d=example.com; s=; h=from", "k=ed25519; p=%s", DKIM_PERMERROR, "s= is no selector"},
		{"v=1; a=ed25519-sha256; d=example.com; s=nobody; h=from", "k=ed25519; p=%s", DKIM_PERMERROR, "no key"},
		{"v=1; a=ed25519-sha256; d=example.com; s=dead; h=from", "k=ed25519; p=%s", DKIM_TEMPERROR, "no answer for the key"},
		{GOOD "; d=example.com", "k=ed25519; p=%s", DKIM_PERMERROR, "signature cannot be read"},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		char message[2048], record[256], zone_text[512];
		struct dkim_set set;
		const char *hole = strstr(rows[i].record, "%s");
		snprintf(record, sizeof(record), "%.*s%s%s", hole ? (int)(hole - rows[i].record) : 999, rows[i].record, hole ? key_text : "",
		         hole ? hole + 2 : "");
		snprintf(zone_text, sizeof(zone_text), "k._domainkey.example.com TXT \"%s\"\ndead._domainkey.example.com TIMEOUT\n", record);
		struct dns_zone *zone = zone_of(zone_text);
		sign(rows[i].tags, "body\r\n", message, sizeof(message));
		dkim_message(slice_str(message), zone, NOW, 1, &set);
		assert_int_equal(set.count, 1);
		const struct dkim_signature *s = &set.v[0];
		if (s->verdict != rows[i].verdict || (s->reason == NULL) != (rows[i].reason == NULL) ||
		    (s->reason && strcmp(s->reason, rows[i].reason) != 0))
			fail_msg("%s with %s: %s %s", rows[i].tags, record, dkim_verdict_name(s->verdict), s->reason ? s->reason : "");
		if (strstr(rows[i].tags, "=2B"))
			assert_string_equal(s->identity, "x+y@example.com");
		assert_int_equal(s->testing, strstr(record, "t=y") != NULL);
		dkim_set_fini(&set);
		dns_zone_free(zone);
	}
}

/* Beyond what is read for what is shown, nobody can say what was signed. */
static void test_many_fields(void **state) {
	char text[HEADER_FIELDS_MAX * 4 + 8] = "";
	for (unsigned n = HEADER_FIELDS_MAX; n <= HEADER_FIELDS_MAX + 1; n++) {
		struct header_block block;
		for (unsigned i = 0; i < n; i++)
			memcpy(text + i * 4, "a:\r\n", 5);
		header_block_parse(slice_str(text), &block);
		assert_int_equal(block.odd, n > HEADER_FIELDS_MAX);
		assert_int_equal(block.count, HEADER_FIELDS_MAX);
		header_block_fini(&block);
	}
}

/* A second field on top of a signed one, for whoever shows the first (8.15). */
static void test_twins(void **state) {
	static const struct {
		const char *before;
		enum dkim_verdict verdict;
	} rows[] = {
		{"", DKIM_PASS},
		{"Subject: a\r\nSubject: b\r\nReceived: x\r\n", DKIM_PASS}, /* nobody signed one */
		{"FROM : b@example.com\r\n", DKIM_PERMERROR},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		char signed_text[2048], message[4096], zone_text[512];
		struct dkim_set set;
		snprintf(zone_text, sizeof(zone_text), "k._domainkey.example.com TXT \"k=ed25519; p=%s\"\n", key_text);
		struct dns_zone *zone = zone_of(zone_text);
		sign(GOOD, "body\r\n", signed_text, sizeof(signed_text));
		snprintf(message, sizeof(message), "%s%s", rows[i].before, signed_text);
		dkim_message(slice_str(message), zone, NOW, 1, &set);
		assert_int_equal(set.v[0].verdict, rows[i].verdict);
		if (rows[i].verdict != DKIM_PASS)
			assert_string_equal(set.v[0].reason, "a signed field stands twice");
		dkim_set_fini(&set);
		dns_zone_free(zone);
	}
}

/* The top ten count; different l= are different body hashes, of which only so many are made. */
static void test_many(void **state) {
	char message[8192] = "";
	struct dkim_set set;
	char zone_text[256];
	snprintf(zone_text, sizeof(zone_text), "k._domainkey.example.com TXT \"k=ed25519; p=%s\"\n", key_text);
	struct dns_zone *zone = zone_of(zone_text);
	for (unsigned i = 0; i < 12; i++)
		snprintf(message + strlen(message), sizeof(message) - strlen(message), "DKIM-Signature: %s; l=%u; bh=%s; b=AAAA\r\n", GOOD,
		         i < 6 ? i : 0, "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
	snprintf(message + strlen(message), sizeof(message) - strlen(message), "From: a@example.com\r\n\r\nbody\r\n");
	dkim_message(slice_str(message), zone, NOW, 1, &set);
	assert_int_equal(set.count, 10);
	assert_int_equal(set.ignored, 2);
	assert_string_equal(set.v[0].reason, "signature does not verify"); /* l=0: the empty body is right */
	assert_string_equal(set.v[1].reason, "body was changed");
	assert_string_equal(set.v[4].reason, "too many different body hashes");
	assert_string_equal(set.v[9].reason, "signature does not verify");
	dkim_set_fini(&set);
	dns_zone_free(zone);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tag_lists), cmocka_unit_test(test_bodies), cmocka_unit_test(test_headers), cmocka_unit_test(test_rfcs),
		cmocka_unit_test(test_tampered),  cmocka_unit_test(test_own), cmocka_unit_test(test_twins), cmocka_unit_test(test_many_fields),    cmocka_unit_test(test_many),
	};
	return cmocka_run_group_tests(tests, make_key, drop_key);
}
