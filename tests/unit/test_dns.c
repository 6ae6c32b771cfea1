/* dns: names, zone files, messages of the wire, and questions on the loop, to a server of our own on loopback. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/dns.h"
#include "common/dns_wire.h"
#include "common/dns_zone.h"
#include "common/loop.h"

#include <arpa/inet.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- names ---- */

static void test_names(void **state) {
	static const struct {
		const char *in, *out; /* NULL: none */
	} rows[] = {
		{"Example.ORG", "example.org"}, {"example.org.", "example.org"}, {".", ""},
		{"", NULL},                     {"..", NULL},                    {"a..b", NULL},
		{".a", NULL},                   {"_dmarc.a-b.c", "_dmarc.a-b.c"}, {"a b", NULL},
		{"a\\.b", NULL},                {"a\x80", NULL},                 {"a\x7f", NULL},
		{"123456789012345678901234567890123456789012345678901234567890123.a",
		 "123456789012345678901234567890123456789012345678901234567890123.a"},
		{"1234567890123456789012345678901234567890123456789012345678901234.a", NULL},
	};
	char name[DNS_NAME_SIZE], longest[300];
	for (size_t i = 0; i < array_len(rows); i++) {
		int r = dns_name_canonical(rows[i].in, strlen(rows[i].in), name);
		assert_int_equal(r, rows[i].out ? 0 : -EINVAL);
		if (rows[i].out)
			assert_string_equal(name, rows[i].out);
	}
	for (size_t i = 0; i < 254; i++)
		longest[i] = i % 2 ? '.' : 'a';
	assert_int_equal(dns_name_canonical(longest, 253, name), 0);
	longest[253] = 'a';
	assert_int_equal(dns_name_canonical(longest, 254, name), -EINVAL);
	assert_true(dns_name_within("a.example.org", "example.org"));
	assert_true(dns_name_within("example.org", "example.org"));
	assert_false(dns_name_within("badexample.org", "example.org"));
	assert_false(dns_name_within("org", "example.org"));
	assert_true(dns_name_reversed((const uint8_t *)"\x7f\0\0\2", 4, NULL, name));
	assert_string_equal(name, "2.0.0.127.in-addr.arpa");
	assert_true(dns_name_reversed((const uint8_t *)"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1", 16, "bl.example", name));
	assert_string_equal(name, "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.bl.example");
}

/* ---- zone files ---- */

static void test_zone_faults(void **state) {
	static const struct {
		const char *text, *fault; /* NULL: fine */
	} rows[] = {
		{"", NULL},
		{"; nothing\n\n   ; here\n", NULL},
		{"a.example. 60 IN A 192.0.2.1 ; yes\n\tAAAA 2001:db8::1\n", NULL},
		{"a.example A 192.0.2.256", "line 1: not an IPv4 address"},
		{"a.example AAAA 192.0.2.1", "line 1: not an IPv6 address"},
		{"\n\n  A 192.0.2.1", "line 3: no name before this line"},
		{"a..b A 192.0.2.1", "line 1: not a name"},
		{"a.example SOA x", "line 1: unknown type"},
		{"a.example", "line 1: unknown type"},
		{"a.example MX mail.example", "line 1: MX needs a preference, 0 to 65535"},
		{"a.example MX 65536 mail.example", "line 1: MX needs a preference, 0 to 65535"},
		{"a.example TXT", "line 1: TXT needs a string"},
		{"a.example TXT \"open", "line 1: a string without its closing quote"},
		{"a.example TXT \"\\999\"", "line 1: bad \\ in a string"},
		{"a.example TXT \"\\", "line 1: bad \\ in a string"},
		{"a.example A 192.0.2.1 192.0.2.2", "line 1: something follows the record"},
		{"a.example 4294967296 A 192.0.2.1", "line 1: unknown type"},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		struct dns_zone *z = NULL;
		char fault[DNS_ZONE_FAULT_SIZE] = "";
		int r = dns_zone_parse(rows[i].text, strlen(rows[i].text), &z, fault);
		assert_string_equal(fault, rows[i].fault ? rows[i].fault : "");
		assert_int_equal(r, rows[i].fault ? -EINVAL : 0);
		dns_zone_free(z);
	}
}

static const char ZONE[] = "example.org. 60 IN MX 10 mail.example.org.\n"
						   "             20 IN MX 20 Backup.Example.ORG\n"
						   "             TXT \"v=spf1 \" -all ; two strings\n"
						   "             TXT \"a\\\"b\\\\c\\065\\000d\"\n"
						   "www.example.org CNAME web.example.org\n"
						   "web.example.org A 192.0.2.1\r\n"
						   "                AAAA 2001:db8::1\r\n"
						   "round.example.org CNAME round.example.org\n"
						   "deep.a.b.example.org A 192.0.2.2\n"
						   "null.example.org MX 0 .\n"
						   "broken.example.org SERVFAIL\n"
						   "dead.example.org TIMEOUT\n";

static void test_zone_lookups(void **state) {
	static const struct {
		enum dns_type type;
		const char *name;
		enum dns_status status;
		unsigned count;
	} rows[] = {
		{DNS_MX, "example.org", DNS_FOUND, 2},         {DNS_A, "example.org", DNS_NO_DATA, 0},
		{DNS_A, "www.example.org", DNS_FOUND, 1},      {DNS_TXT, "www.example.org", DNS_NO_DATA, 0},
		{DNS_A, "nobody.example.org", DNS_NXDOMAIN, 0}, {DNS_A, "b.example.org", DNS_NO_DATA, 0},
		{DNS_A, "round.example.org", DNS_TEMPORARY, 0}, {DNS_A, "broken.example.org", DNS_TEMPORARY, 0},
		{DNS_MX, "null.example.org", DNS_FOUND, 1},
	};
	struct dns_zone *z;
	char fault[DNS_ZONE_FAULT_SIZE];
	assert_int_equal(dns_zone_parse(ZONE, sizeof(ZONE) - 1, &z, fault), 0);
	for (size_t i = 0; i < array_len(rows); i++) {
		struct dns_answer *a = dns_zone_lookup(z, rows[i].type, rows[i].name);
		assert_int_equal(a->status, rows[i].status);
		assert_int_equal(a->count, rows[i].count);
		dns_answer_free(a);
	}
	assert_null(dns_zone_lookup(z, DNS_A, "dead.example.org"));
	struct dns_answer *a = dns_zone_lookup(z, DNS_MX, "example.org");
	assert_int_equal(a->ttl, 20);
	assert_string_equal(a->records[1].data, "backup.example.org");
	assert_int_equal(a->records[1].preference, 20);
	dns_answer_free(a);
	a = dns_zone_lookup(z, DNS_TXT, "example.org");
	assert_string_equal(a->records[0].data, "v=spf1 -all");
	assert_int_equal(a->records[1].n, 8);
	assert_memory_equal(a->records[1].data, "a\"b\\cA\0d", 9);
	dns_answer_free(a);
	dns_zone_free(z);
}

/* ---- the wire ---- */

/* A message under construction; `name` as a string of labels. */
struct packet {
	uint8_t p[4096];
	size_t n;
};

static void put(struct packet *k, const void *p, size_t n) {
	memcpy(k->p + k->n, p, n);
	k->n += n;
}

static void put16(struct packet *k, unsigned v) {
	put(k, (const uint8_t[]){(uint8_t)(v >> 8), (uint8_t)v}, 2);
}

static void put_name(struct packet *k, const char *name) {
	while (*name) {
		size_t n = strcspn(name, ".");
		put(k, &(uint8_t){(uint8_t)n}, 1);
		put(k, name, n);
		name += n + (name[n] == '.');
	}
	put(k, "", 1);
}

static void put_header(struct packet *k, unsigned id, unsigned flags, unsigned answers, const char *name, unsigned type) {
	k->n = 0;
	put16(k, id);
	put16(k, flags);
	put16(k, 1);
	put16(k, answers);
	put16(k, 0);
	put16(k, 0);
	put_name(k, name);
	put16(k, type);
	put16(k, 1);
}

static void put_rr(struct packet *k, const char *name, unsigned type, unsigned ttl, const void *rdata, size_t n) {
	put_name(k, name);
	put16(k, type);
	put16(k, 1);
	put16(k, 0);
	put16(k, ttl);
	put16(k, (unsigned)n);
	put(k, rdata, n);
}

static struct dns_answer *read_packet(const struct packet *k, enum dns_type type, const char *name) {
	return dns_wire_read(k->p, k->n, type, name);
}

static void test_wire(void **state) {
	struct packet k;
	struct dns_answer *a;
	put_header(&k, 1, 0x8180, 3, "www.example.org", DNS_A);
	put_rr(&k, "Example.org", DNS_A, 50, "\xc0\0\2\1", 4);
	put_rr(&k, "www.EXAMPLE.org", 5, 40, "\7example\3org", 13);
	put_rr(&k, "other.example", DNS_A, 10, "\xc0\0\2\2", 4); /* nobody asked */
	a = read_packet(&k, DNS_A, "www.example.org");
	assert_int_equal(a->status, DNS_FOUND);
	assert_int_equal(a->count, 1);
	assert_int_equal(a->ttl, 40);
	assert_memory_equal(a->records[0].data, "\xc0\0\2\1", 4);
	dns_answer_free(a);
	/* Every cut of it is malformed, not a crash and not a shorter answer. */
	for (size_t n = 0; n < k.n; n++) {
		uint8_t *exact = n ? xmemdup(k.p, n) : NULL;
		a = dns_wire_read(exact, n, DNS_A, "www.example.org");
		assert_int_equal(a->status, DNS_TEMPORARY);
		dns_answer_free(a);
		free(exact);
	}
	put_header(&k, 1, 0x8183, 0, "www.example.org", DNS_A);
	a = read_packet(&k, DNS_A, "www.example.org");
	assert_int_equal(a->status, DNS_NXDOMAIN);
	dns_answer_free(a);
	put_header(&k, 1, 0x8182, 0, "www.example.org", DNS_A);
	a = read_packet(&k, DNS_A, "www.example.org");
	assert_int_equal(a->status, DNS_TEMPORARY);
	dns_answer_free(a);
	put_header(&k, 1, 0x8180, 1, "a.example", DNS_TXT);
	put_rr(&k, "a.example", DNS_TXT, 50, "\2ab\3cde", 7);
	a = read_packet(&k, DNS_TXT, "a.example");
	assert_string_equal(a->records[0].data, "abcde");
	dns_answer_free(a);
	put_header(&k, 1, 0x8180, 1, "a.example", DNS_TXT);
	put_rr(&k, "a.example", DNS_TXT, 50, "\2ab\4cde", 7); /* a string past its record */
	a = read_packet(&k, DNS_TXT, "a.example");
	assert_int_equal(a->status, DNS_TEMPORARY);
	dns_answer_free(a);
	put_header(&k, 1, 0x8180, 1, "a.example", DNS_A);
	put_rr(&k, "a.example", 5, 50, "\1a\7example", 11); /* its own alias */
	a = read_packet(&k, DNS_A, "a.example");
	assert_int_equal(a->status, DNS_NO_DATA);
	dns_answer_free(a);
}

static void test_wire_limits(void **state) {
	struct dns_answer *a = dns_answer_new(DNS_TXT, DNS_NO_DATA);
	static char big[DNS_ANSWER_OCTETS_MAX];
	for (unsigned i = 0; i < DNS_RECORDS_MAX; i++)
		assert_true(dns_answer_add(a, 0, "x", 1));
	assert_false(dns_answer_add(a, 0, "x", 1));
	dns_answer_free(a);
	a = dns_answer_new(DNS_TXT, DNS_NO_DATA);
	assert_true(dns_answer_add(a, 0, big, sizeof(big) - 1));
	assert_false(dns_answer_add(a, 0, big, 2));
	assert_true(dns_answer_add(a, 0, big, 1));
	dns_answer_free(a);
}

/* ---- on the loop ---- */

struct fixture {
	struct loop *loop;
	struct dns *dns;
	int udp, tcp;
	struct event *on_udp, *on_tcp, *on_tcp_data;
	unsigned udp_queries, tcp_queries;
	char server[32];
	unsigned told;
	enum dns_status status;
	unsigned count;
};

/* "tc.": cut over UDP; "dead.": silence; "none.": no such name; anything else: 192.0.2.1. */
static bool answer(const uint8_t *q, size_t n, bool tcp, struct packet *ret) {
	char name[256];
	size_t at = 12, len = 0;
	while (at < n && q[at] && len + q[at] + 1 < sizeof(name)) {
		memcpy(name + len, q + at + 1, q[at]);
		len += q[at];
		name[len++] = '.';
		at += q[at] + 1U;
	}
	name[len] = '\0';
	unsigned id = (unsigned)q[0] << 8 | q[1];
	bool cut = !tcp && strncmp(name, "tc.", 3) == 0;
	if (strncmp(name, "dead.", 5) == 0)
		return false;
	if (strncmp(name, "none.", 5) == 0 || cut) {
		put_header(ret, id, cut ? 0x8380 : 0x8183, 0, name, DNS_A);
		return true;
	}
	put_header(ret, id, 0x8180, 1, name, DNS_A);
	put_rr(ret, name, DNS_A, 60, "\xc0\0\2\1", 4);
	return true;
}

static void on_udp(evutil_socket_t fd, short what, void *arg) {
	struct fixture *f = arg;
	struct sockaddr_in peer;
	socklen_t peer_len = sizeof(peer);
	uint8_t q[1024];
	struct packet reply;
	ssize_t n = recvfrom(fd, q, sizeof(q), 0, (struct sockaddr *)&peer, &peer_len);
	f->udp_queries++;
	if (n > 12 && answer(q, (size_t)n, false, &reply))
		sendto(fd, reply.p, reply.n, 0, (struct sockaddr *)&peer, peer_len);
}

static void on_tcp_data(evutil_socket_t c, short what, void *arg) {
	struct fixture *f = arg;
	uint8_t q[1024];
	struct packet reply;
	ssize_t n = recv(c, q, sizeof(q), MSG_PEEK);
	if (n >= 2 && n < 2 + ((ssize_t)q[0] << 8 | q[1]))
		return; /* the rest is under way */
	if (n > 2 && answer(q + 2, (size_t)n - 2, true, &reply)) {
		uint8_t len[2] = {(uint8_t)(reply.n >> 8), (uint8_t)reply.n};
		assert_int_equal(send(c, len, 2, MSG_MORE), 2);
		assert_int_equal(send(c, reply.p, reply.n, 0), (ssize_t)reply.n);
	}
	event_free(f->on_tcp_data);
	f->on_tcp_data = NULL;
	close(c);
}

static void on_tcp(evutil_socket_t fd, short what, void *arg) {
	struct fixture *f = arg;
	assert_null(f->on_tcp_data);
	f->tcp_queries++;
	f->on_tcp_data = event_new(loop_base(f->loop), accept(fd, NULL, NULL), EV_READ | EV_PERSIST, on_tcp_data, f);
	event_add(f->on_tcp_data, NULL);
}

static void serve(struct fixture *f) {
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(at);
	f->tcp = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(f->tcp, (struct sockaddr *)&at, sizeof(at)), 0);
	getsockname(f->tcp, (struct sockaddr *)&at, &len);
	assert_int_equal(listen(f->tcp, 8), 0);
	f->udp = socket(AF_INET, SOCK_DGRAM, 0);
	assert_int_equal(bind(f->udp, (struct sockaddr *)&at, sizeof(at)), 0);
	snprintf(f->server, sizeof(f->server), "127.0.0.1:%u", ntohs(at.sin_port));
	f->on_udp = event_new(loop_base(f->loop), f->udp, EV_READ | EV_PERSIST, on_udp, f);
	f->on_tcp = event_new(loop_base(f->loop), f->tcp, EV_READ | EV_PERSIST, on_tcp, f);
	event_add(f->on_udp, NULL);
	event_add(f->on_tcp, NULL);
}

static int setup(void **state) {
	struct fixture *f = xcalloc(1, sizeof(*f));
	char fault[DNS_FAULT_SIZE];
	f->loop = loop_new();
	serve(f);
	char *servers[] = {f->server, NULL};
	const struct dns_options options = {.servers = servers, .zone_file = "", .in_flight = 4, .waiting = 8, .cached = 2};
	assert_int_equal(dns_new(f->loop, &options, &f->dns, fault), 0);
	*state = f;
	return 0;
}

static int teardown(void **state) {
	struct fixture *f = *state;
	dns_free(f->dns);
	event_free(f->on_udp);
	event_free(f->on_tcp);
	close(f->udp);
	close(f->tcp);
	loop_free(f->loop);
	free(f);
	return 0;
}

static void told(void *arg, const struct dns_answer *a) {
	struct fixture *f = arg;
	f->told++;
	f->status = a->status;
	f->count = a->count;
}

static void wait_told(struct fixture *f, unsigned n) {
	while (f->told < n)
		loop_turn(f->loop);
}

static void test_question(void **state) {
	struct fixture *f = *state;
	dns_start(f->dns, DNS_A, "www.example.org", 10 * SECOND_US, told, f);
	dns_start(f->dns, DNS_A, "WWW.example.org.", 10 * SECOND_US, told, f); /* shares the query */
	assert_int_equal(f->told, 0);
	wait_told(f, 2);
	assert_int_equal(f->status, DNS_FOUND);
	assert_int_equal(f->count, 1);
	assert_int_equal(f->udp_queries, 1);
	assert_int_equal(dns_known(f->dns, DNS_A, "www.EXAMPLE.org")->count, 1);
	assert_null(dns_known(f->dns, DNS_AAAA, "www.example.org"));
	assert_null(dns_known(f->dns, DNS_A, "a..b"));
	dns_start(f->dns, DNS_A, "www.example.org", 10 * SECOND_US, told, f); /* from the cache, yet not at once */
	assert_null(dns_known(f->dns, DNS_A, "www.example.org"));          /* on its way to who asked */
	assert_int_equal(f->told, 2);
	wait_told(f, 3);
	assert_int_equal(f->udp_queries, 1);
	dns_start(f->dns, DNS_A, "none.example.org", 10 * SECOND_US, told, f);
	wait_told(f, 4);
	assert_int_equal(f->status, DNS_NXDOMAIN);
	dns_start(f->dns, DNS_A, "third.example.org", 10 * SECOND_US, told, f); /* the first leaves the cache of two */
	wait_told(f, 5);
	dns_start(f->dns, DNS_A, "www.example.org", 10 * SECOND_US, told, f);
	wait_told(f, 6);
	assert_int_equal(f->udp_queries, 4);
}

static void test_tcp(void **state) {
	struct fixture *f = *state;
	dns_start(f->dns, DNS_A, "tc.example.org", 10 * SECOND_US, told, f);
	wait_told(f, 1);
	assert_int_equal(f->status, DNS_FOUND);
	assert_int_equal(f->tcp_queries, 1);
}

static void test_deadline_and_cancel(void **state) {
	struct fixture *f = *state;
	struct dns_op *op = dns_start(f->dns, DNS_A, "dead.example.org", 10 * SECOND_US, told, f);
	dns_start(f->dns, DNS_A, "dead.example.org", 50000, told, f);
	wait_told(f, 1);
	assert_int_equal(f->status, DNS_TEMPORARY);
	assert_null(dns_cancel(op));
	assert_null(dns_cancel(NULL));
	dns_start(f->dns, DNS_A, "not a name", 10 * SECOND_US, told, f);
	wait_told(f, 2);
	assert_int_equal(f->status, DNS_NXDOMAIN);
}

/* Four at the server, eight in the queue: the rest fails at once, and what a cancel frees is used. */
static void test_bounds(void **state) {
	struct fixture *f = *state;
	struct dns_op *ops[16];
	char name[32];
	for (int i = 0; i < 12; i++) {
		snprintf(name, sizeof(name), "dead.example%d", i);
		ops[i] = dns_start(f->dns, DNS_A, name, 60 * SECOND_US, told, f);
		if (i == 3)
			while (f->udp_queries < 4)
				loop_turn(f->loop);
	}
	dns_start(f->dns, DNS_A, "dead.one.too.many", 60 * SECOND_US, told, f);
	wait_told(f, 1);
	assert_int_equal(f->status, DNS_TEMPORARY);
	for (int i = 0; i < 12; i++)
		ops[i] = dns_cancel(ops[i]);
	ops[0] = dns_start(f->dns, DNS_A, "waits.example", 60 * SECOND_US, told, f);
	loop_turn(f->loop);
	assert_int_equal(f->told, 1);
	/* freed with questions under way and waiting: no callback */
}

static void test_zone_on_loop(void **state) {
	struct fixture f = {.loop = loop_new()};
	char path[] = "/tmp/test_dns.XXXXXX", fault[DNS_FAULT_SIZE];
	int fd = mkstemp(path);
	struct dns_options options = {.zone_file = path};
	assert_int_equal(write(fd, ZONE, sizeof(ZONE) - 1), sizeof(ZONE) - 1);
	assert_int_equal(dns_new(f.loop, &options, &f.dns, fault), 0);
	dns_start(f.dns, DNS_A, "www.example.org", 10 * SECOND_US, told, &f);
	wait_told(&f, 1);
	assert_int_equal(f.status, DNS_FOUND);
	dns_start(f.dns, DNS_A, "dead.example.org", 20000, told, &f);
	wait_told(&f, 2);
	assert_int_equal(f.status, DNS_TEMPORARY);
	assert_int_equal(dns_known(f.dns, DNS_A, "www.example.org")->status, DNS_FOUND);
	assert_int_equal(dns_known(f.dns, DNS_A, "nobody.example.org")->status, DNS_NXDOMAIN); /* nobody has asked for it */
	assert_null(dns_known(f.dns, DNS_A, "dead.example.org"));
	dns_free(f.dns);
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(pwrite(fd, "a b c", 5, 0), 5);
	assert_int_equal(dns_new(f.loop, &options, &f.dns, fault), -EINVAL);
	assert_non_null(strstr(fault, "line 1: unknown type"));
	unlink(path);
	assert_int_equal(dns_new(f.loop, &options, &f.dns, fault), -ENOENT);
	close(fd);
	char *bad[] = {(char *)(uintptr_t)"no-address", NULL};
	options = (struct dns_options){.servers = bad};
	assert_int_equal(dns_new(f.loop, &options, &f.dns, fault), -EINVAL);
	assert_non_null(strstr(fault, "no-address"));
	loop_free(f.loop);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_zone_faults),
		cmocka_unit_test(test_zone_lookups),
		cmocka_unit_test(test_wire),
		cmocka_unit_test(test_wire_limits),
		cmocka_unit_test_setup_teardown(test_question, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tcp, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deadline_and_cancel, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bounds, setup, teardown),
		cmocka_unit_test(test_zone_on_loop),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
