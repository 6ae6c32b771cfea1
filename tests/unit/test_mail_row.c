/* common/mail_row: the hour of an instant, and chunks through compression and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/mail_row.h"

static void test_hours(void **state) {
	static const struct {
		const char *name;
		int64_t at;
		int32_t hour;
	} rows[] = {
	    {"the epoch", 0, 0},
	    {"one microsecond before one o'clock", INT64_C(3599999999), 0},
	    {"one o'clock", INT64_C(3600000000), 1},
	    {"2026-11-24T15:00:00Z", INT64_C(1795532400) * 1000000, 498759},
	    {"before the epoch", -1, 0},
	    {"as late as can be without being never", INT64_MAX - 1, MAIL_NEVER_HOUR - 1},
	    {"never", INT64_MAX, MAIL_NEVER_HOUR},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		int32_t got = mail_expiry_hour(rows[i].at);
		if (got != rows[i].hour)
			fail_msg("%s: hour %d, not %d", rows[i].name, got, rows[i].hour);
	}
}

static void fill(char *p, size_t n, bool noise) {
	uint32_t x = 12345;
	for (size_t i = 0; i < n; i++) {
		x = x * 1664525 + 1013904223;
		p[i] = noise ? (char)(x >> 24) : "The quick brown fox "[i % 20];
	}
}

static void test_round_trip(void **state) {
	static const struct {
		const char *name;
		size_t n;
		bool noise;
		enum mail_codec codec;
	} rows[] = {
	    {"nothing", 0, false, MAIL_CODEC_PLAIN},
	    {"one octet grows, so it stays", 1, false, MAIL_CODEC_PLAIN},
	    {"text", 5000, false, MAIL_CODEC_ZSTD},
	    {"noise stays as it is", 5000, true, MAIL_CODEC_PLAIN},
	    {"a full chunk of text", MAIL_CHUNK, false, MAIL_CODEC_ZSTD},
	    {"a full chunk of noise", MAIL_CHUNK, true, MAIL_CODEC_PLAIN},
	};
	cleanup(mail_zstd_freep) struct mail_zstd *z = mail_zstd_new();
	cleanup(mail_zstd_freep) struct mail_zstd *other = mail_zstd_new();
	for (size_t i = 0; i < array_len(rows); i++) {
		char *p = xmalloc(rows[i].n + 1);
		struct slice stored, back;
		fill(p, rows[i].n, rows[i].noise);
		enum mail_codec codec = mail_chunk_compress(z, p, rows[i].n, &stored);
		if (codec != rows[i].codec)
			fail_msg("%s: codec %d", rows[i].name, codec);
		assert_true(stored.n <= rows[i].n);
		assert_int_equal(mail_chunk_decompress(other, codec, (int64_t)rows[i].n, stored, &back), 0);
		assert_int_equal(back.n, rows[i].n);
		assert_memory_equal(back.n ? back.p : "", p, rows[i].n);
		free(p);
	}
}

static void test_damage(void **state) {
	cleanup(mail_zstd_freep) struct mail_zstd *z = mail_zstd_new();
	cleanup(mail_zstd_freep) struct mail_zstd *other = mail_zstd_new();
	char text[4000];
	struct slice stored, back = {"untouched", 9};
	fill(text, sizeof text, false);
	assert_int_equal(mail_chunk_compress(z, text, sizeof text, &stored), MAIL_CODEC_ZSTD);
	const struct {
		const char *name;
		int64_t codec, size;
		struct slice data;
	} rows[] = {
	    {"unknown codec", 2, sizeof text, stored},
	    {"negative codec", -1, sizeof text, stored},
	    {"size one less", MAIL_CODEC_ZSTD, sizeof text - 1, stored},
	    {"size one more", MAIL_CODEC_ZSTD, sizeof text + 1, stored},
	    {"size over a chunk", MAIL_CODEC_ZSTD, MAIL_CHUNK + 1, stored},
	    {"negative size", MAIL_CODEC_ZSTD, -1, stored},
	    {"frame cut", MAIL_CODEC_ZSTD, sizeof text, {stored.p, stored.n - 1}},
	    {"no frame", MAIL_CODEC_ZSTD, 5, {"hello", 5}},
	    {"plain of another size", MAIL_CODEC_PLAIN, 6, {"hello", 5}},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		if (mail_chunk_decompress(other, rows[i].codec, rows[i].size, rows[i].data, &back) != -EBADMSG)
			fail_msg("%s: taken", rows[i].name);
		assert_int_equal(back.n, 9);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_hours),
	    cmocka_unit_test(test_round_trip),
	    cmocka_unit_test(test_damage),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
