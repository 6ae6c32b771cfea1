/* The part table: where each attachment of a message lies in its source. Kept in messages.parts (bytea) and in
 * parser-channel records: version octet 1, then per part a record of big-endian fields. The decoder trusts nothing.
 * Pure. */
#ifndef MINUTEMAIL_PART_TABLE_H
#define MINUTEMAIL_PART_TABLE_H

#include "common/base.h"
#include "common/buf.h"
#include "common/transfer.h"

#define PART_TABLE_MAX 1000

enum part_flags {
	PART_INLINE = 1,  /* Content-Disposition: inline, or referred to by content id inside multipart/related */
	PART_DELETED = 2, /* a client deleted it; the source still has it */
	PART_UNNAMED = 4, /* the name was made by us */
	PART_INNER = 8,   /* a file inside a file (winmail.dat): `skip` says where */
};

struct part {
	uint16_t number; /* stable in its message, 1.. in order of appearance; names the attachment */
	uint16_t flags;  /* enum part_flags */
	enum transfer_encoding encoding;
	uint64_t offset, length; /* of the encoded octets in the source */
	uint64_t skip;           /* decoded octets before it; 0 unless PART_INNER, and only then in the record */
	uint64_t size;           /* decoded octets */
	uint8_t sha256[32];      /* of the decoded octets */
	char *name;              /* safe display name, UTF-8, never empty */
	char *raw_name;          /* as decoded, UTF-8; NULL if the same as name */
	char *type;              /* "image/png", lower case */
	char *content_id;        /* without <>; NULL if none */
};

struct part_table {
	struct part *parts;
	unsigned count;
};

void part_table_fini(struct part_table *);
int part_table_encode(const struct part_table *, struct buf *out);
/* -EBADMSG: not a part table. Every string is checked to be UTF-8 without NUL. */
int part_table_decode(const void *p, size_t n, struct part_table *ret);
/* The attachment's id in the API: the message's id with its last 10 bits replaced by `number`, so it needs no row of
 * its own. */
struct id;
void part_id(const struct id *message, unsigned number, struct id *ret);
/* 0: not an id of this message. */
unsigned part_number(const struct id *message, const struct id *part);

/* The name a file may be shown and saved under: the last component of a path of either kind, NFC, without controls,
 * direction marks, zero-width characters or what file systems refuse, no device name, no leading dot, at most 255
 * octets with its extension kept. "" (allocated) when nothing is left. `raw` is UTF-8. */
char *part_safe_name(const char *raw, size_t n);
/* The name of the number-th part of the type, "attachment-3.png", for those that have none. */
char *part_made_name(unsigned number, const char *type);

#endif
