/* The mail object and the attachment object, written from a row or from a mail just made. */
#ifndef MINUTEMAIL_MAIL_JSON_H
#define MINUTEMAIL_MAIL_JSON_H

#include "common/id.h"
#include "common/json_out.h"
#include "common/part_table.h"

struct pg_rows;

/* Members of a mail object, in the order in which they are written. */
enum mail_field {
	MAIL_ID = 1 << 0,
	MAIL_MAILBOX_ID = 1 << 1,
	MAIL_SENDER = 1 << 2,
	MAIL_FROM = 1 << 3,
	MAIL_FROM_NAME = 1 << 4,
	MAIL_TO = 1 << 5,
	MAIL_CC = 1 << 6,
	MAIL_REPLY_TO = 1 << 7,
	MAIL_SUBJECT = 1 << 8,
	MAIL_BODY = 1 << 9,
	MAIL_BODY_TEXT = 1 << 10,
	MAIL_BODY_HTML = 1 << 11,
	MAIL_HAS_ATTACHMENTS = 1 << 12,
	MAIL_ATTACHMENTS = 1 << 13,
	MAIL_SIZE_BYTES = 1 << 14,
	MAIL_RECEIVED_AT = 1 << 15,
	MAIL_EXPIRES_AT = 1 << 16,
	MAIL_ENVELOPE = 1 << 17,
	MAIL_WARNINGS = 1 << 18,
	MAIL_AUTHENTICATION = 1 << 19,
	MAIL_DISPLAY_SENDER = 1 << 20,
	MAIL_ALL = (1 << 21) - 1,
	MAIL_BODIES = MAIL_BODY | MAIL_BODY_TEXT | MAIL_BODY_HTML,
};

/* "id,subject,from". False: *ret_unknown is the name that no member has. An absent list means all. */
bool mail_fields_parse(struct slice list, unsigned *ret, struct slice *ret_unknown);

struct mail_view { /* borrows everything */
	struct id id, mailbox_id;
	int64_t received_at, expires_at, size;
	struct slice mail_from, rcpt_to, helo, tls;
	struct slice from_address, from_name, subject, body_text, body_html; /* p NULL: none */
	struct slice to, cc, reply_to, warnings;                             /* JSON arrays */
	struct slice authentication;                                         /* JSON object; p NULL: not known (yet) */
	bool forged;                                                         /* its source claims results of ours */
	const struct part_table *parts;
};

/* Row of mail_get or mail_list; the parts are given apart because they must be decoded. */
void mail_view_read(const struct pg_rows *, unsigned row, const struct id *mailbox, const struct part_table *,
                    struct mail_view *ret);
#define MAIL_COLUMN_ID 1
#define MAIL_COLUMN_PARTS 16
void mail_write(struct json_out *, const struct mail_view *, unsigned fields);

/* `whose` NULL: as inside a mail object; else with expiresAt, mailId, mailboxId and createdAt. The object is left
 * open: the caller may add members, then json_out_object_end(). */
struct attachment_owner {
	struct id mailbox_id, mail_id;
	int64_t received_at, expires_at;
};
void attachment_write_open(struct json_out *, const struct id *mail, const struct part *,
                           const struct attachment_owner *whose);

#endif
