/* apid/api_common and api_download: cursors, ranges, names and types of downloads, and the mail object. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "apid/api_common.h"
#include "apid/mail_json.h"

#include <stdio.h>

static const struct id ID = {
    {0x01, 0x89, 0x0a, 0x5d, 0xac, 0x96, 0x77, 0x4b, 0xbc, 0xce, 0xb3, 0x02, 0x09, 0x9a, 0x80, 0x57}};

static void test_cursor(void **state) {
	char text[API_CURSOR_SIZE];
	struct id back;
	api_cursor_encode(API_LIST_MAILS, &ID, text);
	assert_int_equal(strlen(text), API_CURSOR_SIZE - 1);
	for (const char *p = text; *p; p++) /* goes into a query without escapes */
		assert_true((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || *p == '-' ||
		            *p == '_');
	assert_true(api_cursor_decode(API_LIST_MAILS, slice_str(text), &back));
	assert_true(id_equal(&back, &ID));
}

static void test_cursor_refused(void **state) {
	char text[API_CURSOR_SIZE], bad[API_CURSOR_SIZE + 1];
	struct id back;
	api_cursor_encode(API_LIST_MAILS, &ID, text);
	assert_false(api_cursor_decode(API_LIST_MAILBOXES, slice_str(text), &back)); /* of another list */
	for (size_t n = 0; n < API_CURSOR_SIZE - 1; n++)
		assert_false(api_cursor_decode(API_LIST_MAILS, slice_of(text, n), &back));
	snprintf(bad, sizeof bad, "%sA", text);
	assert_false(api_cursor_decode(API_LIST_MAILS, slice_str(bad), &back));
	for (size_t i = 0; i < API_CURSOR_SIZE - 1; i++) {
		memcpy(bad, text, sizeof text);
		bad[i] = '*';
		assert_false(api_cursor_decode(API_LIST_MAILS, slice_str(bad), &back));
	}
	assert_false(api_cursor_decode(API_LIST_MAILS, slice_of(NULL, 0), &back));
}

static void test_accept(void **state) { /* RFC 9110 12.5.1 */
	static const struct {
		const char *accept;
		bool octets;
	} rows[] = {
	    {"application/octet-stream", true},
	    {"Application/Octet-Stream", true},
	    {"application/octet-stream, */*;q=0.1", true},
	    {"application/json, application/octet-stream", true},
	    {" text/html ,\tapplication/octet-stream ; q=0.001 ", true},
	    {"application/octet-stream;x=y;Q=1.000, application/json;q=0.999", true},
	    {"application/octet-stream;q=0.5, application/json", false},
	    {"application/octet-stream;q=0.5, application/json;q=0.50", true},
	    {"application/octet-stream;q=0", false},
	    {"application/octet-stream;q=0.000", false},
	    {"application/octet-stream2", false},
	    {"x-application/octet-stream", false},
	    {"application/json;x=application/octet-stream", false},
	    {"application/json", false},
	    {"*/*", false},
	    {"application/*", false},
	    {";,=,;q", false},
	    {"", false},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		if (api_accepts_octets(slice_str(rows[i].accept)) != rows[i].octets)
			fail_msg("%s", rows[i].accept);
	}
}

static void test_range(void **state) { /* RFC 9110 14.1.2 */
	static const struct {
		const char *header;
		uint64_t size;
		int result;
		uint64_t first, n;
	} rows[] = {
	    {"bytes=0-0", 10, 1, 0, 1},
	    {"bytes=2-5", 10, 1, 2, 4},
	    {"bytes=2-", 10, 1, 2, 8},
	    {"bytes=-3", 10, 1, 7, 3},
	    {"bytes=-30", 10, 1, 0, 10},
	    {"bytes=5-99", 10, 1, 5, 5},
	    {"bytes=9-9", 10, 1, 9, 1},
	    {"bytes=0-99999999999999999999999", 10, 1, 0, 10},
	    {"bytes=10-", 10, -ERANGE, 0, 0},
	    {"bytes=10-12", 10, -ERANGE, 0, 0},
	    {"bytes=99999999999999999999999-", 10, -ERANGE, 0, 0},
	    {"bytes=-0", 10, -ERANGE, 0, 0},
	    {"bytes=0-", 0, -ERANGE, 0, 0},
	    {"bytes=-5", 0, -ERANGE, 0, 0},
	    {"bytes=5-2", 10, 0, 0, 0},
	    {"bytes=0-1,3-4", 10, 0, 0, 0},
	    {"bytes=", 10, 0, 0, 0},
	    {"bytes=-", 10, 0, 0, 0},
	    {"bytes=1", 10, 0, 0, 0},
	    {"bytes=a-b", 10, 0, 0, 0},
	    {"bytes= 1-2", 10, 0, 0, 0},
	    {"lines=1-2", 10, 0, 0, 0},
	    {"", 10, 0, 0, 0},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		uint64_t first = 0, n = 0;
		int result = api_range_parse(slice_str(rows[i].header), rows[i].size, &first, &n);
		if (result != rows[i].result || (result > 0 && (first != rows[i].first || n != rows[i].n)))
			fail_msg("%s of %llu: %d, %llu + %llu", rows[i].header, (unsigned long long)rows[i].size, result,
			         (unsigned long long)first, (unsigned long long)n);
	}
}

static void test_disposition(void **state) { /* RFC 6266 4.3, RFC 8187 3.2 */
	static const struct {
		const char *name, *value;
	} rows[] = {
	    {"a.pdf", "attachment; filename=\"a.pdf\""},
	    {"two words.txt", "attachment; filename=\"two words.txt\""},
	    {"Ünï.txt", "attachment; filename=\"_n_.txt\"; filename*=UTF-8''%C3%9Cn%C3%AF.txt"},
	    {"a\"b\\c.txt", "attachment; filename=\"a_b_c.txt\"; filename*=UTF-8''a%22b%5Cc.txt"},
	    {"100%.txt", "attachment; filename=\"100_.txt\"; filename*=UTF-8''100%25.txt"},
	    {"x\r\nSet-Cookie: a", "attachment; filename=\"x__Set-Cookie: a\"; filename*=UTF-8''x%0D%0ASet-Cookie%3A%20a"},
	    {"\xf0\x9f\x93\xa7.eml", "attachment; filename=\"_.eml\"; filename*=UTF-8''%F0%9F%93%A7.eml"},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		struct buf out;
		buf_init(&out, 4096);
		api_disposition(&out, rows[i].name);
		assert_string_equal(out.data, rows[i].value);
		buf_fini(&out);
	}
}

static void test_safe_type(void **state) {
	static const struct {
		const char *declared, *safe;
	} rows[] = {
	    {"image/png", NULL},
	    {"text/plain", NULL},
	    {"application/zip", NULL},
	    {"application/vnd.oasis.opendocument.text", NULL},
	    {"message/rfc822", NULL},
	    {"text/html", "application/octet-stream"},
	    {"image/svg+xml", "application/octet-stream"},
	    {"application/xhtml+xml", "application/octet-stream"},
	    {"application/atom+xml", "application/octet-stream"},
	    {"text/javascript", "application/octet-stream"},
	    {"application/pdf", "application/octet-stream"},
	    {"multipart/mixed", "application/octet-stream"},
	    {"", "application/octet-stream"},
	    {"text", "application/octet-stream"},
	    {"/plain", "application/octet-stream"},
	    {"text/", "application/octet-stream"},
	    {"text/plain; charset=utf-7", "application/octet-stream"},
	    {"text/plain\r\nX: y", "application/octet-stream"},
	    {"a/b/c", "application/octet-stream"},
	};
	for (size_t i = 0; i < array_len(rows); i++)
		assert_string_equal(api_safe_type(rows[i].declared), rows[i].safe ? rows[i].safe : rows[i].declared);
}

static void test_etag(void **state) {
	char etag[API_ETAG_SIZE];
	uint8_t digest[32];
	memset(digest, 0xab, sizeof digest);
	api_etag(slice_of((const char *)digest, sizeof digest), NULL, etag);
	assert_string_equal(etag, "\"abababababababababababababababab\"");
	api_etag(slice_of((const char *)digest, sizeof digest), "j", etag);
	assert_string_equal(etag, "\"ababababababababababababababababj\"");
}

static void test_fields(void **state) {
	static const struct {
		const char *list;
		bool known;
		unsigned fields;
		const char *unknown;
	} rows[] = {
	    {NULL, true, MAIL_ALL, NULL},
	    {"id", true, MAIL_ID, NULL},
	    {"subject,id,from", true, MAIL_ID | MAIL_SUBJECT | MAIL_FROM, NULL},
	    {"id,id", true, MAIL_ID, NULL},
	    {"warnings,envelope", true, MAIL_WARNINGS | MAIL_ENVELOPE, NULL},
	    {"", false, 0, ""},
	    {"id,", false, 0, ""},
	    {"id,nonsense,from", false, 0, "nonsense"},
	    {"ID", false, 0, "ID"},
	    {" id", false, 0, " id"},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		unsigned fields = 0;
		struct slice unknown = {0};
		bool known = mail_fields_parse(slice_str(rows[i].list), &fields, &unknown);
		assert_int_equal(known, rows[i].known);
		assert_int_equal(fields, rows[i].fields);
		if (!known)
			assert_true(slice_eq(unknown, slice_str(rows[i].unknown)));
	}
}

static void test_address(void **state) {
	struct buf out;
	struct json_out j;
	buf_init(&out, 4096);
	json_out_init(&j, &out);
	json_out_object(&j);
	api_address_write(&j, slice_str("cdvk6fxequwd@minutemail.cc"));
	json_out_object_end(&j);
	assert_string_equal(
	    out.data,
	    "{\"alias\":\"cdvk6fxequwd\",\"domain\":\"minutemail.cc\",\"address\":\"cdvk6fxequwd@minutemail.cc\","
	    "\"displayDomain\":\"minutemail.cc\",\"displayAddress\":\"cdvk6fxequwd@minutemail.cc\"}");
	buf_fini(&out);
}

static void test_mailbox(void **state) {
	struct buf out;
	struct json_out j;
	struct api_mailbox m = {
	    .id = ID,
	    .address = slice_str("a@b.cc"),
	    .expires_at = INT64_MAX,
	    .created_at = INT64_C(1795532400123000),
	    .message_count = 3,
	};
	buf_init(&out, 4096);
	json_out_init(&j, &out);
	api_mailbox_write(&j, &m, "me@example.org");
	assert_string_equal(
	    out.data,
	    "{\"id\":\"01890a5d-ac96-774b-bcce-b302099a8057\",\"alias\":\"a\",\"domain\":\"b.cc\",\"address\":\"a@b.cc\",\"displayDomain\":\"b.cc\",\"displayAddress\":\"a@b.cc\","
	    "\"recoverable\":false,\"tag\":null,\"owner\":\"me@example.org\",\"messageCount\":3,\"permanent\":true,"
	    "\"expiresAt\":null,\"createdAt\":\"2026-11-24T15:00:00.123Z\"}");
	buf_fini(&out);
}

static void check_mail(const struct mail_view *m, unsigned fields, const char *text) {
	struct buf out;
	struct json_out j;
	buf_init(&out, 65536);
	json_out_init(&j, &out);
	mail_write(&j, m, fields);
	assert_string_equal(out.data, text);
	buf_fini(&out);
}

static void test_mail(void **state) {
	char name[] = "a.png", type[] = "image/png", cid[] = "x@y", gone[] = "gone";
	struct part parts[] = {
	    {.number = 1, .flags = PART_DELETED, .name = gone, .type = type, .size = 1},
	    {.number = 2, .flags = PART_INLINE, .name = name, .type = type, .content_id = cid, .size = 70},
	};
	struct part_table table = {parts, 1}, none = {0};
	struct mail_view m = {
	    .id = ID,
	    .mailbox_id = ID,
	    .mail_from = slice_str("env@x.org"),
	    .rcpt_to = slice_str("Box+1@b.cc"),
	    .helo = slice_str("h"),
	    .to = slice_str("[\"a@b.cc\"]"),
	    .cc = slice_str("[]"),
	    .reply_to = slice_str("[]"),
	    .warnings = slice_str("[\"no_headers\"]"),
	    .received_at = INT64_C(1795532400000000),
	    .expires_at = INT64_MAX,
	    .size = 42,
	    .parts = &none,
	};
	check_mail(
	    &m, MAIL_ALL,
	    "{\"id\":\"01890a5d-ac96-774b-bcce-b302099a8057\",\"mailboxId\":\"01890a5d-ac96-774b-bcce-b302099a8057\","
	    "\"sender\":\"env@x.org\",\"from\":\"env@x.org\",\"displaySender\":\"env@x.org\",\"fromName\":null,\"to\":[\"a@b.cc\"],\"cc\":[],\"replyTo\":[]"
	    ","
	    "\"subject\":\"\",\"body\":\"\",\"bodyText\":null,\"bodyTextFromHtml\":false,\"bodyHtml\":null,\"hasAttachments\":false,\"attachments\":[]"
	    ","
	    "\"sizeBytes\":42,\"receivedAt\":\"2026-11-24T15:00:00.000Z\",\"expiresAt\":null,\"envelope\":{\"mailFrom\":"
	    "\"env@x.org\","
	    "\"rcptTo\":\"Box+1@b.cc\",\"helo\":\"h\",\"tls\":null},\"warnings\":[\"no_headers\"],\"authentication\":null}");
	m.authentication = slice_str("{\"spf\":{}}");
	m.forged = true;
	check_mail(&m, MAIL_WARNINGS | MAIL_AUTHENTICATION,
	           "{\"warnings\":[\"no_headers\",\"forged_authentication_results\"],\"authentication\":{\"spf\":{}}}");
	m.warnings = slice_str("[]");
	check_mail(&m, MAIL_WARNINGS, "{\"warnings\":[\"forged_authentication_results\"]}");
	m.from_address = slice_str("head@x.org");
	check_mail(&m, MAIL_FROM | MAIL_SENDER, "{\"sender\":\"head@x.org\",\"from\":\"head@x.org\"}");
	m.body_html = slice_str("<p>");
	check_mail(&m, MAIL_BODIES, "{\"body\":\"<p>\",\"bodyText\":null,\"bodyTextFromHtml\":false,\"bodyHtml\":\"<p>\"}");
	m.body_text = slice_str("");
	check_mail(&m, MAIL_BODIES,
	           "{\"body\":\"\",\"bodyText\":\"\",\"bodyTextFromHtml\":false,\"bodyHtml\":\"<p>\"}");
	m.warnings = slice_str("[\"text_from_html\"]");
	check_mail(&m, MAIL_BODIES,
	           "{\"body\":\"<p>\",\"bodyText\":\"\",\"bodyTextFromHtml\":true,\"bodyHtml\":\"<p>\"}");
	m.parts = &table;
	check_mail(&m, MAIL_HAS_ATTACHMENTS | MAIL_ATTACHMENTS, "{\"hasAttachments\":false,\"attachments\":[]}");
	table.count = 2;
	check_mail(
	    &m, MAIL_HAS_ATTACHMENTS | MAIL_ATTACHMENTS,
	    "{\"hasAttachments\":true,\"attachments\":[{\"id\":\"01890a5d-ac96-774b-bcce-b302099a8002\",\"filename\":\"a."
	    "png\","
	    "\"name\":\"a.png\",\"contentType\":\"image/png\",\"sizeBytes\":70,\"inline\":true,\"contentId\":\"x@y\"}]}");
}

int main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_accept),
	    cmocka_unit_test(test_cursor),      cmocka_unit_test(test_cursor_refused), cmocka_unit_test(test_range),
	    cmocka_unit_test(test_disposition), cmocka_unit_test(test_safe_type),      cmocka_unit_test(test_etag),
	    cmocka_unit_test(test_fields),      cmocka_unit_test(test_address),        cmocka_unit_test(test_mailbox),
	    cmocka_unit_test(test_mail),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
