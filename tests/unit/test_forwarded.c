/* forwarded: whom a proxy speaks for, and what nobody else is believed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "apid/forwarded.h"

#define FOR "X-Forwarded-For: "
#define PROTO "X-Forwarded-Proto: "

static const struct {
	const char *what, *peer, *fields, *client;
	bool secure;
} rows[] = {
    /* 10/8 and 2001:db8:1::/48 are ours */
    {"nothing said", "10.0.0.1", "", "10.0.0.1", false},
    {"one hop", "10.0.0.1", FOR "192.0.2.7\r\n" PROTO "https\r\n", "192.0.2.7", true},
    {"a stranger is not believed", "192.0.2.1", FOR "198.51.100.1\r\n" PROTO "https\r\n", "192.0.2.1", false},
    {"what stands left of our own anybody may have written", "10.0.0.1", FOR "127.0.0.1, 198.51.100.9\r\n", "198.51.100.9", false},
    {"our own are left out", "10.0.0.1", FOR "203.0.113.5, 198.51.100.9, 10.0.0.3,10.0.0.2\r\n", "198.51.100.9", false},
    {"only our own", "10.0.0.1", FOR "10.0.0.3, 10.0.0.2\r\n", "10.0.0.3", false},
    {"two fields are one list", "10.0.0.1", FOR "203.0.113.5\r\n" FOR "198.51.100.9, 10.0.0.2\r\n", "198.51.100.9", false},
    {"and go on to the left", "10.0.0.1", FOR "203.0.113.5, 198.51.100.9\r\n" FOR "10.0.0.2\r\n", "198.51.100.9", false},
    {"with a port", "10.0.0.1", FOR "198.51.100.9:4711\r\n", "198.51.100.9", false},
    {"IPv6", "10.0.0.1", FOR "2001:db8:2::9\r\n", "2001:db8:2::9", false},
    {"IPv6 in brackets", "2001:db8:1::1", FOR "[2001:db8:2::9]\r\n", "2001:db8:2::9", false},
    {"IPv6 with a port", "2001:db8:1::1", FOR "[2001:db8:2::9]:80\r\n", "2001:db8:2::9", false},
    {"no address: what comes behind it is not asked", "10.0.0.1", FOR "203.0.113.5, unknown, 10.0.0.2\r\n", "10.0.0.2", false},
    {"no address at all", "10.0.0.1", FOR "unknown\r\n", "10.0.0.1", false},
    {"an empty field", "10.0.0.1", FOR "\r\n", "10.0.0.1", false},
    {"an empty element", "10.0.0.1", FOR "203.0.113.5,,10.0.0.2\r\n", "10.0.0.2", false},
    {"IPv4 in brackets", "10.0.0.1", FOR "[198.51.100.9]\r\n", "10.0.0.1", false},
    {"a bracket left open", "10.0.0.1", FOR "[2001:db8:2::9\r\n", "10.0.0.1", false},
    {"proto in capitals", "10.0.0.1", PROTO "HTTPS\r\n", "10.0.0.1", true},
    {"proto http", "10.0.0.1", PROTO "http\r\n", "10.0.0.1", false},
    {"proto twice", "10.0.0.1", PROTO "https\r\n" PROTO "https\r\n", "10.0.0.1", false},
    {"proto is a list", "10.0.0.1", PROTO "https, http\r\n", "10.0.0.1", false},
    {"a Unix socket's peer is ours", "", FOR "198.51.100.9\r\n" PROTO "https\r\n", "198.51.100.9", true},
};

static void read_row(size_t i, struct http_listen *listen, struct forwarded *ret) {
	char text[1024];
	size_t used;
	struct http_parse parse;
	struct netaddr peer = {0};
	int n = snprintf(text, sizeof(text), "GET /a HTTP/1.1\r\nHost: a\r\nAccept: b\r\n%s\r\n", rows[i].fields);
	if (rows[i].peer[0])
		assert_int_equal(netaddr_parse(rows[i].peer, strlen(rows[i].peer), &peer), 0);
	http_parse_init(&parse);
	if (http_parse_feed(&parse, text, (size_t)n, &used) != HTTP_PARSE_HEAD)
		fail_msg("%s: %s", rows[i].what, parse.error.text);
	forwarded_read(listen, &peer, &parse.head, ret);
	http_parse_fini(&parse);
}

static void test_rows(void **state) {
	struct http_listen listen;
	char fault[LISTEN_FAULT_SIZE], client[NETADDR_TEXT_SIZE];
	assert_int_equal(http_listen_parse("*:80;forwarded=10.0.0.0/8+2001:db8:1::/48", &listen, fault), 0);
	for (size_t i = 0; i < array_len(rows); i++) {
		struct forwarded f;
		read_row(i, &listen, &f);
		netaddr_format(&f.client, client);
		if (strcmp(client, rows[i].client) != 0 || f.secure != rows[i].secure)
			fail_msg("%s: got %s %d", rows[i].what, client, f.secure);
	}
	http_listen_fini(&listen);
}

/* A listener without proxies believes nobody, a Unix socket's peers included. */
static void test_nobody(void **state) {
	struct http_listen plain = {0}, tls = {.tls = true};
	char client[NETADDR_TEXT_SIZE];
	for (size_t i = 0; i < array_len(rows); i++) {
		struct forwarded f;
		read_row(i, &plain, &f);
		netaddr_format(&f.client, client);
		assert_string_equal(client, rows[i].peer);
		assert_false(f.secure);
		read_row(i, &tls, &f);
		assert_true(f.secure);
	}
}

/* Our own TLS, and a proxy that says its client had none. */
static void test_clear_behind_tls(void **state) {
	struct http_listen listen;
	char fault[LISTEN_FAULT_SIZE];
	struct forwarded f;
	assert_int_equal(http_listen_parse("*:443;tls;forwarded=10.0.0.0/8", &listen, fault), 0);
	for (size_t i = 0; i < array_len(rows); i++) {
		read_row(i, &listen, &f);
		if (strcmp(rows[i].what, "nothing said") == 0)
			assert_true(f.secure);
		if (strcmp(rows[i].what, "proto http") == 0)
			assert_false(f.secure);
	}
	http_listen_fini(&listen);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_nobody),
		cmocka_unit_test(test_clear_behind_tls),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
