/* message: the channel's record there and back, and a decoder that a hostile parser process cannot fool. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "smtpd/message.h"

#define SOURCE_SIZE 1000

static struct message *sample(void) {
	struct message *m = message_new();
	m->from_address = xstrdup("a@example.org");
	m->from_name = xstrdup("Анна");
	m->subject = xstrdup("");
	m->body_text = xstrdup("text");
	message_strings_add(&m->to, "x@y", 3);
	message_strings_add(&m->to, "z@y", 3);
	message_strings_add(&m->reply_to, "r@y", 3);
	message_warn(m, "text_cut");
	m->received_count = 7;
	m->parts.parts = xcalloc(1, sizeof(struct part));
	m->parts.count = 1;
	m->parts.parts[0] = (struct part){.number = 1,
	                                  .offset = 900,
	                                  .length = 100,
	                                  .size = 75,
	                                  .encoding = TRANSFER_BASE64,
	                                  .name = xstrdup("a"),
	                                  .type = xstrdup("b/c")};
	return m;
}

static void test_round_trip(void **state) {
	struct message *m = sample(), *got;
	struct buf b, again;
	buf_init(&b, 10000);
	buf_init(&again, 10000);
	assert_int_equal(message_encode(m, &b), 0);
	assert_int_equal(message_decode(b.data, b.len, SOURCE_SIZE, &got), 0);
	assert_string_equal(got->from_address, "a@example.org");
	assert_string_equal(got->from_name, "Анна");
	assert_string_equal(got->subject, "");
	assert_string_equal(got->body_text, "text");
	assert_null(got->body_html);
	assert_int_equal(got->to.n, 2);
	assert_string_equal(got->to.v[1], "z@y");
	assert_int_equal(got->cc.n, 0);
	assert_string_equal(got->reply_to.v[0], "r@y");
	assert_true(message_warned(got, "text_cut"));
	assert_int_equal(got->received_count, 7);
	assert_int_equal(got->parts.count, 1);
	assert_int_equal(message_encode(got, &again), 0);
	assert_true(slice_eq(buf_slice(&b), buf_slice(&again)));
	message_free(got);
	/* the same record, a shorter source */
	assert_int_equal(message_decode(b.data, b.len, SOURCE_SIZE - 1, &got), -EBADMSG);
	message_free(m);
	buf_fini(&b);
	buf_fini(&again);
}

static void test_damage(void **state) {
	struct message *m = sample();
	struct buf b;
	buf_init(&b, 10000);
	assert_int_equal(message_encode(m, &b), 0);
	for (size_t n = 0; n < b.len; n++) {
		struct message *got = NULL;
		char *copy = xmemdup(b.data, n);
		if (message_decode(copy, n, SOURCE_SIZE, &got) == 0)
			message_free(got); /* cut where the part table's parts begin */
		free(copy);
	}
	for (size_t i = 0; i < b.len; i++)
		for (unsigned v = 0; v < 256; v += 3) {
			struct message *got;
			char *copy = xmemdup(b.data, b.len);
			copy[i] = (char)v;
			if (message_decode(copy, b.len, SOURCE_SIZE, &got) == 0)
				message_free(got);
			free(copy);
		}
	message_free(m);
	buf_fini(&b);
}

static int recode(const struct message *m) {
	struct message *got = NULL;
	struct buf b;
	buf_init(&b, 16 << 20);
	assert_int_equal(message_encode(m, &b), 0);
	int r = message_decode(b.data, b.len, SOURCE_SIZE, &got);
	message_free(got);
	buf_fini(&b);
	return r;
}

static void test_bounds(void **state) {
	struct message *m = sample();
	assert_int_equal(recode(m), 0);
	m->parts.parts[0].size = 101; /* more than it was encoded */
	assert_int_equal(recode(m), -EBADMSG);
	m->parts.parts[0].size = 75;
	free(m->subject);
	m->subject = xstrdup("\xc3");
	assert_int_equal(recode(m), -EBADMSG);
	m->subject[0] = 'x';
	assert_int_equal(recode(m), 0);

	free(m->body_text);
	m->body_text = xmalloc(MESSAGE_TEXT_MAX + 2);
	memset(m->body_text, 'a', MESSAGE_TEXT_MAX + 1);
	m->body_text[MESSAGE_TEXT_MAX + 1] = '\0';
	assert_int_equal(recode(m), -EBADMSG);
	m->body_text[MESSAGE_TEXT_MAX] = '\0';
	assert_int_equal(recode(m), 0);

	while (m->cc.n < MESSAGE_ADDRESSES_MAX)
		message_strings_add(&m->cc, "c@y", 3);
	assert_int_equal(recode(m), 0);
	message_strings_add(&m->cc, "c@y", 3);
	assert_int_equal(recode(m), -EBADMSG);
	message_free(m);
}

static void test_warnings(void **state) {
	struct message *m = message_new();
	for (int i = 0; i < 100; i++) {
		char word[16];
		snprintf(word, sizeof word, "w%d", i / 2);
		message_warn(m, word);
	}
	assert_int_equal(m->warnings.n, 32);
	assert_true(message_warned(m, "w31"));
	assert_false(message_warned(m, "w32"));
	message_free(m);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_warnings),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
