/* Shared by the files of mime (mime.c, mime_header.c, mime_body.c) and nobody else. */
#ifndef MINUTEMAIL_MIME_PRIVATE_H
#define MINUTEMAIL_MIME_PRIVATE_H

#include "common/sha256.h"
#include "common/text.h"
#include "common/transfer.h"
#include "smtpd/mime.h"

enum media {
	MEDIA_TEXT,              /* text/plain, and text that nobody named otherwise */
	MEDIA_HTML,
	MEDIA_OTHER_TEXT,        /* text/calendar, text/csv, … */
	MEDIA_MULTIPART,
	MEDIA_OTHER,             /* message/rfc822 too: its inside belongs to whoever opens it */
};

enum container { CONTAINER_NONE, CONTAINER_MIXED, CONTAINER_ALTERNATIVE, CONTAINER_RELATED, CONTAINER_DIGEST };

/* What the fields of one part say. Strings are its own; fini frees them. */
struct mime_entity {
	enum media media;
	char *type;              /* "image/png", lower case */
	char *charset, *boundary;
	char *name;              /* of the file, decoded; NULL: none */
	char *content_id;
	enum transfer_encoding encoding;
	bool attachment, is_inline; /* Content-Disposition */
	bool malformed_type;     /* no type could be made out: what the body looks like decides */
};
void mime_entity_fini(struct mime_entity *);

struct mime_delimiter {
	size_t content_end;      /* of the part before it: the line end that belongs to the delimiter is left out */
	size_t next;             /* behind its line */
	int frame;               /* whose boundary; -1: the end of the source */
	bool closing;
};

struct mime_walk {
	const char *source;
	size_t n, at;
	const struct mime_limits *limits;
	struct message *msg;
	struct slice frames[MIME_DEPTH_MAX]; /* boundaries of the multiparts we are in, outermost first */
	unsigned depth, parts, fields;
	size_t top_start, top_end; /* the fields of the message itself */
	bool stopped;            /* a cap on the whole message was met: what is left stays unread */
	struct mime_delimiter delimiter;     /* that ended the last part */

	char *charset;           /* of the first text part that names one we know: for raw 8-bit headers */
	struct buf text, html;
	bool has_text, has_html;
	struct buf raw, scratch; /* reset by whoever uses them */
	struct sha256 *sha;
};

/* Reads the fields at w->at and leaves w->at at the body, or at a delimiter that came before any. */
void mime_read_header(struct mime_walk *w, struct mime_entity *ret, bool top, enum container in);
/* Subject, addresses, Received of the top level, once the charset is known. */
void mime_read_top_fields(struct mime_walk *w);
/* type "/" subtype in lower case; returns how much of the line it was, 0 and nothing if it is nothing of the kind. */
size_t mime_read_type(struct slice line, char **ret);
/* A part without parts: into the body or into the part table. `in`: the multipart it stands in. */
void mime_add_leaf(struct mime_walk *w, struct mime_entity *e, enum container in, size_t start, size_t end);
/* The text of a message that has HTML only. */
void mime_text_from_html(struct mime_walk *w);
/* The line at `at` (it begins with "--"): whose delimiter is it? False: nobody's. */
bool mime_delimiter_at(const struct mime_walk *w, size_t at, struct mime_delimiter *ret);

#endif
