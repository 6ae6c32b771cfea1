/* Return-Path and Received; see the header. Only what is safe in a header is written: a client chose half of the
 * words. */
#include "smtpd/received.h"

#include "common/clock.h"
#include "common/text.h"

#include <strings.h>

/* Non-ASCII passes when it is there: addresses were checked to be UTF-8 and only SMTPUTF8 lets them be so (RFC 6531
 * 3.7.3). */
static void append_text(struct buf *out, const char *s) {
	for (; *s; s++) {
		if ((unsigned char)*s >= 0x20 && *s != 0x7f)
			buf_append_char(out, *s);
	}
}

/* A host name or address literal as one token: an EHLO name with a bracket or a semicolon in it must not look like
 * our own words. */
static void append_host(struct buf *out, const char *s) {
	if (!*s) {
		buf_append_str(out, "unknown");
		return;
	}
	for (; *s; s++) {
		bool alnum = (*s >= '0' && *s <= '9') || ((*s | 0x20) >= 'a' && (*s | 0x20) <= 'z');
		if (alnum || strchr(".-_:[]", *s))
			buf_append_char(out, *s);
		else if ((unsigned char)*s > 0x20 && *s != 0x7f)
			buf_append_char(out, '?');
	}
}

/* RFC 3848; RFC 6531 4.3. */
static const char *protocol(const struct received *r) {
	if (r->utf8)
		return r->tls ? "UTF8SMTPS" : "UTF8SMTP";
	if (!r->esmtp)
		return "SMTP"; /* HELO inside TLS too: the S is registered for ESMTP alone, and the tls clause tells */
	return r->tls ? "ESMTPS" : "ESMTP";
}

void received_append(struct buf *out, const struct received *r) {
	char date[CLOCK_RFC5322_SIZE];
	buf_append_str(out, "Return-Path: <");
	append_text(out, r->mail_from);
	buf_append_str(out, ">\r\nReceived: from ");
	append_host(out, r->helo);
	buf_append_str(out, "\r\n\tby ");
	append_host(out, r->hostname);
	buf_printf(out, " with %s id %s", protocol(r), r->queue_id);
	if (r->rcpt_to) {
		buf_append_str(out, "\r\n\tfor <");
		append_text(out, r->rcpt_to);
		buf_append_char(out, '>');
	}
	if (r->tls) { /* RFC 8314 4.3: the cipher alone; the version before it becomes a comment */
		const char *blank = strrchr(r->tls, ' ');
		buf_append_str(out, "\r\n\ttls ");
		append_host(out, blank ? blank + 1 : r->tls);
		if (blank)
			buf_printf(out, " (%.*s)", (int)(blank - r->tls), r->tls);
	}
	clock_format_rfc5322(r->wall_us, date);
	buf_printf(out, ";\r\n\t%s\r\n", date);
}

/* ---- what came back ---- */

static struct slice next_word(struct slice value, size_t *at) {
	size_t from = text_skip_comments(value, *at), to = from;
	while (to < value.n && !strchr(" \t\r\n(;", value.p[to]))
		to++;
	*at = to;
	return slice_of(value.p + from, to - from);
}

static bool same_word(struct slice word, const char *text) {
	return word.n == strlen(text) && strncasecmp(word.p, text, word.n) == 0;
}

/* Whose it was when this host took the message, if it did; relays in between may have folded the field anew. */
static bool taken_here(struct slice value, const char *hostname, struct address *ret) {
	bool here = false, whose = false;
	struct slice word;
	for (size_t at = 0; (word = next_word(value, &at)).n > 0;) {
		if (same_word(word, "by"))
			here = same_word(next_word(value, &at), hostname);
		else if (same_word(word, "for") && (word = next_word(value, &at)).n > 2)
			whose = address_parse(word.p + 1, word.n - 2, true, true, ret) == ADDRESS_OK;
	}
	return here && whose;
}

unsigned received_rounds(struct slice head, const char *hostname, const struct address *recipients, unsigned n) {
	struct text_field f;
	struct address whose;
	unsigned most = 0;
	cleanup(freep) unsigned *rounds = NULL;
	while (text_next_field(&head, &f) > 0) {
		if (!same_word(f.name, "received") || !taken_here(f.value, hostname, &whose))
			continue;
		if (!rounds)
			rounds = xcalloc(n, sizeof(*rounds));
		for (unsigned i = 0; i < n; i++) {
			if (strcmp(recipients[i].canonical, whose.canonical) == 0)
				rounds[i]++;
			most = max_of(most, rounds[i]);
		}
	}
	return most;
}
