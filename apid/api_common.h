/* What the handlers share: refusals, lists of ids, pages and their cursors, the mailbox object. Asking PostgreSQL
 * is in api_query.h.
 *
 * Every function that is given a request and "answers" finishes it: the caller returns and does not touch it
 * again. */
#ifndef MINUTEMAIL_API_COMMON_H
#define MINUTEMAIL_API_COMMON_H

#include "apid/api_query.h"
#include "apid/json_in.h"
#include "apid/request.h"
#include "common/json_out.h"

#define API_IDS_MAX 1000 /* of a bulk delete */
#define API_PAGE_MAX 1000

/* Nothing was found: 403 if the mailbox is there but not for this key, else 404. `missing`: what was looked for
 * inside the mailbox ("mail …"), NULL: the mailbox itself; copied. */
void api_refuse(struct request *, bool archived, const struct id *mailbox, const char *missing);
void api_refuse_mail(struct request *, const struct id *mailbox, const struct id *mail);

/* ---- What came ---- */

/* 400 with what json_in said. */
void api_answer_bad_member(struct request *, const struct json_in_error *);

struct api_ids {
	struct id *v; /* each once, in the order of the body */
	unsigned n;
	unsigned
	    *rising; /* indexes by rising id: the order in which rows are locked, so that two requests cannot deadlock */
};
/* {"ids":[…]}; false: answered. Memory of the request. */
bool api_body_ids(struct request *, struct api_ids *ret);

/* `limit` and `cursor`; false: answered. A cursor is bound to its kind of list. */
enum api_list {
	API_LIST_WHOLE = 0, /* has no pages */
	API_LIST_MAILBOXES = 'b',
	API_LIST_ARCHIVED = 'a',
	API_LIST_MAILS = 'm',
	API_LIST_AUDIT = 'l',
	API_LIST_MEMBERS = 'p',
};
struct api_page {
	unsigned limit;
	bool has_cursor;
	struct id cursor; /* the last one seen */
};
bool api_page(struct request *, enum api_list, unsigned limit_default, struct api_page *ret);
#define API_CURSOR_SIZE 24
void api_cursor_encode(enum api_list, const struct id *last, char ret[API_CURSOR_SIZE]);
bool api_cursor_decode(enum api_list, struct slice text, struct id *ret);

/* Whether an Accept header asks for application/octet-stream, and for nothing that answers in JSON more than for that. Only who names this very
 * type does: a browser's or a library's wildcard means JSON. */
bool api_accepts_octets(struct slice accept);
/* A Range header against so many octets (RFC 9110 14.1.2, 14.2). 1: *ret_first and *ret_n; 0: to be ignored,
 * because it is absent, malformed, of another unit or names several ranges; -ERANGE: none of it is there. */
int api_range_parse(struct slice header, uint64_t size, uint64_t *ret_first, uint64_t *ret_n);

/* ---- What goes ---- */

void json_out_member_id(struct json_out *, const char *key, const struct id *);
void json_out_member_time(struct json_out *, const char *key, int64_t wall_us); /* INT64_MAX: null */
/* respond_json() unless the text did not fit, which is our fault: 500. */
void api_answer_json(struct request *, unsigned status, struct buf *);

/* Around the items of a list: {"items":[ … ]} of `room` octets at the most, with nextCursor behind the item `last` unless that is NULL. */
void api_items_begin(struct json_out *, struct buf *body, size_t room);
void api_items_answer(struct request *, struct json_out *, struct buf *body, enum api_list, const struct id *last);

/* A strong validator of what is streamed: from a SHA-256 and, if the form of it matters, a suffix. */
#define API_ETAG_SIZE 48
void api_etag(struct slice sha256, const char *suffix, char ret[API_ETAG_SIZE]);

/* "attachment" with the name as RFC 6266 4.3 wants it: an ASCII stand-in and, where that is not the name,
 * filename*. */
void api_disposition(struct buf *out, const char *name);
/* The type a browser may be told: as declared if it is a plain type/subtype that no browser runs or renders as a
 * document. */
const char *api_safe_type(const char *declared);

struct api_mailbox {
	struct id id;
	struct slice address, tag;
	bool recoverable;
	int64_t created_at, expires_at, message_count;
};
void api_mailbox_read(const struct pg_rows *, unsigned row,
                      struct api_mailbox *ret); /* of mailbox_get; slices borrowed */
void api_mailbox_write(struct json_out *, const struct api_mailbox *, const char *owner);
void api_mailbox_answer(struct request *, unsigned status, const struct api_mailbox *);
/* alias and domain of an address. */
void api_address_write(struct json_out *, struct slice address);
/* A member for people: an address or a domain with U-labels (address_display.h). A null slice is null. */
void api_display_write(struct json_out *, const char *key, struct slice text);

/* How long a new or changed mailbox lives: `expiresIn` and `noExpiration` of the body, else the default (ret:
 * wall µs, INT64_MAX: for ever). 1: given, 0: default, -1: answered. */
int api_expiry(struct request *, const json_t *body, int64_t *ret_expires_at);

/* Adds the two rows of a new mailbox; `domain` is its id. */
void api_mailbox_insert_steps(struct api_tx *, struct request *, const struct api_mailbox *, const struct id *domain);

/* How mailboxes or archived ones are deleted, all or none: every row is locked first. */
struct api_deletion {
	bool archived;
	const struct pg_stmt *lock; /* one row if it is there and the asker's */
	bool (*may_go)(struct request *, const struct pg_rows *); /* of the row locked; false: answered. NULL: yes */
	void (*delete)(struct request *, struct api_tx *, const struct id *); /* adds its steps */
};
void api_delete_many(struct request *, const struct api_deletion *); /* the ids of the body */
void api_delete_one(struct request *, const struct api_deletion *);  /* the id in the path */

/* A list whose rows are asked for one by one, pipelined, because each lies in its own bucket: first `ids`, then
 * `get` for each; rows that are gone are left out. */
struct api_listing {
	enum api_list kind;
	const struct pg_stmt *ids, *get;
	void (*write)(struct json_out *, const struct pg_rows *, const char *owner);
};
void api_listing_start(struct request *, const struct api_listing *);
/* The same of another user, as far as the asker's domains go; `owner` is his e-mail address, of the request's memory. */
void api_listing_of(struct request *, const struct api_listing *, const struct id *user, const char *owner);

#endif
