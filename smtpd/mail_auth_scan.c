#include "smtpd/mail_auth_scan.h"

#include "common/text.h"

#include <strings.h>

#define PIECE (64 * 1024)

/* ---- who claims to be us ---- */

/* The authserv-id, a token or a quoted string, against ours. */
static bool value_claims(struct slice v, const char *id) {
	size_t i = text_skip_comments(v, 0), n = 0, len = strlen(id);
	bool quoted = i < v.n && v.p[i] == '"';
	for (i += quoted; i < v.n; i++) {
		char c = v.p[i];
		if (quoted ? c == '"' : strchr(" \t\r\n;(", c) != NULL)
			break;
		if (quoted && c == '\\' && i + 1 < v.n)
			c = v.p[++i];
		if (n >= len || strncasecmp(&c, &id[n], 1) != 0)
			return false;
		n++;
	}
	return n == len;
}

bool mail_auth_claims(const struct header_block *b, const char *authserv_id) {
	for (unsigned i = 0; i < b->count; i++)
		if (header_field_is(&b->fields[i], "Authentication-Results") && value_claims(b->fields[i].value, authserv_id))
			return true;
	return false;
}

/* ---- the source ---- */

static ssize_t read_full(struct spool *spool, uint64_t at, char *p, size_t n) {
	size_t got = 0;
	while (got < n) {
		ssize_t r = spool_read(spool, at + got, p + got, n - got);
		if (r < 0)
			return r;
		if (r == 0)
			break;
		got += (size_t)r;
	}
	return (ssize_t)got;
}

static int feed_body(struct spool *spool, uint64_t at, struct dkim_set *dkim) {
	const char *memory = spool_memory(spool);
	if (memory) {
		dkim_feed(dkim, memory + at, (size_t)(spool_size(spool) - at));
		return 0;
	}
	cleanup(freep) char *piece = xmalloc(PIECE);
	while (at < spool_size(spool)) {
		ssize_t r = read_full(spool, at, piece, PIECE);
		if (r <= 0)
			return r < 0 ? (int)r : -EIO;
		dkim_feed(dkim, piece, (size_t)r);
		at += (uint64_t)r;
	}
	return 0;
}

static void scan_text(struct spool *spool, struct slice text, const char *authserv_id, struct mail_auth_scan *ret) {
	struct header_block block;
	header_block_parse(text, &block);
	dkim_scan(&block, &ret->dkim);
	ret->author = dmarc_author_domain(&block, ret->author_domain);
	ret->forged = mail_auth_claims(&block, authserv_id);
	if (dkim_wants_body(&ret->dkim))
		ret->failed = feed_body(spool, block.body, &ret->dkim) < 0;
	dkim_feed_end(&ret->dkim);
	header_block_fini(&block);
}

void mail_auth_scan(struct spool *spool, const char *authserv_id, struct mail_auth_scan *ret) {
	size_t n = (size_t)min_of(spool_size(spool), (uint64_t)HEADER_BLOCK_MAX);
	const char *memory = spool_memory(spool);
	*ret = (struct mail_auth_scan){.author = DMARC_AUTHOR_NONE};
	if (memory) {
		scan_text(spool, slice_of(memory, n), authserv_id, ret);
		return;
	}
	cleanup(freep) char *head = malloc(n);
	ret->failed = !head || read_full(spool, 0, head, n) != (ssize_t)n;
	if (!ret->failed)
		scan_text(spool, slice_of(head, n), authserv_id, ret);
}

void mail_auth_scan_fini(struct mail_auth_scan *s) {
	dkim_set_fini(&s->dkim);
}
