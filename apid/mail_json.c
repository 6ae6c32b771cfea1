/* Mail and attachment objects onto json_out. Deleted parts are never shown. */
#include "apid/mail_json.h"

#include "apid/api_common.h"

static const struct {
	const char *name;
	enum mail_field bit;
} FIELDS[] = {
    {"id", MAIL_ID},
    {"mailboxId", MAIL_MAILBOX_ID},
    {"sender", MAIL_SENDER},
    {"from", MAIL_FROM},
    {"displaySender", MAIL_DISPLAY_SENDER},
    {"fromName", MAIL_FROM_NAME},
    {"to", MAIL_TO},
    {"cc", MAIL_CC},
    {"replyTo", MAIL_REPLY_TO},
    {"subject", MAIL_SUBJECT},
    {"body", MAIL_BODY},
    {"bodyText", MAIL_BODY_TEXT},
    {"bodyHtml", MAIL_BODY_HTML},
    {"hasAttachments", MAIL_HAS_ATTACHMENTS},
    {"attachments", MAIL_ATTACHMENTS},
    {"sizeBytes", MAIL_SIZE_BYTES},
    {"receivedAt", MAIL_RECEIVED_AT},
    {"expiresAt", MAIL_EXPIRES_AT},
    {"envelope", MAIL_ENVELOPE},
    {"warnings", MAIL_WARNINGS},
    {"authentication", MAIL_AUTHENTICATION},
};

static unsigned field_bit(struct slice name) {
	for (size_t i = 0; i < array_len(FIELDS); i++)
		if (slice_eq(name, slice_str(FIELDS[i].name)))
			return FIELDS[i].bit;
	return 0;
}

bool mail_fields_parse(struct slice list, unsigned *ret, struct slice *ret_unknown) {
	unsigned fields = 0;
	if (!list.p) {
		*ret = MAIL_ALL;
		return true;
	}
	for (size_t start = 0; start <= list.n;) {
		const char *comma = start < list.n ? memchr(list.p + start, ',', list.n - start) : NULL;
		size_t end = comma ? (size_t)(comma - list.p) : list.n;
		struct slice name = slice_of(list.p + start, end - start);
		unsigned bit = field_bit(name);
		if (!bit) {
			*ret_unknown = name;
			return false;
		}
		fields |= bit;
		start = end + 1;
	}
	*ret = fields;
	return true;
}

void mail_view_read(const struct pg_rows *rows, unsigned row, const struct id *mailbox, const struct part_table *parts,
                    struct mail_view *ret) {
	*ret = (struct mail_view){
	    .mailbox_id = *mailbox,
	    .expires_at = pg_time(rows, row, 0),
	    .id = pg_uuid(rows, row, MAIL_COLUMN_ID),
	    .received_at = pg_time(rows, row, 2),
	    .mail_from = pg_text(rows, row, 3),
	    .rcpt_to = pg_text(rows, row, 4),
	    .helo = pg_text(rows, row, 5),
	    .tls = pg_text(rows, row, 6),
	    .from_address = pg_text(rows, row, 7),
	    .from_name = pg_text(rows, row, 8),
	    .to = pg_text(rows, row, 9),
	    .cc = pg_text(rows, row, 10),
	    .reply_to = pg_text(rows, row, 11),
	    .subject = pg_text(rows, row, 12),
	    .body_text = pg_text(rows, row, 13),
	    .body_html = pg_text(rows, row, 14),
	    .size = pg_int(rows, row, 15),
	    .warnings = pg_text(rows, row, 17),
	    .authentication = pg_text(rows, row, 18),
	    .forged = !pg_null(rows, row, 19) && pg_bool(rows, row, 19),
	    .parts = parts,
	};
}

/* ---- Attachments ---- */

void attachment_write_open(struct json_out *j, const struct id *mail, const struct part *part,
                           const struct attachment_owner *whose) {
	struct id id;
	part_id(mail, part->number, &id);
	json_out_object(j);
	json_out_member_id(j, "id", &id);
	json_out_member_cstring(j, "filename", part->name);
	json_out_member_cstring(j, "name", part->name);
	json_out_member_cstring(j, "contentType", part->type);
	json_out_member_int(j, "sizeBytes", (int64_t)part->size);
	json_out_member_bool(j, "inline", part->flags & PART_INLINE);
	json_out_member_cstring(j, "contentId", part->content_id);
	if (whose) {
		json_out_member_time(j, "expiresAt", whose->expires_at);
		json_out_member_id(j, "mailId", &whose->mail_id);
		json_out_member_id(j, "mailboxId", &whose->mailbox_id);
		json_out_member_time(j, "createdAt", whose->received_at);
	}
}

static void write_attachments(struct json_out *j, const struct mail_view *m) {
	json_out_key(j, "attachments");
	json_out_array(j);
	for (unsigned i = 0; i < m->parts->count; i++) {
		if (m->parts->parts[i].flags & PART_DELETED)
			continue;
		attachment_write_open(j, &m->id, &m->parts->parts[i], NULL);
		json_out_object_end(j);
	}
	json_out_array_end(j);
}

static bool has_attachments(const struct part_table *parts) {
	for (unsigned i = 0; i < parts->count; i++)
		if (!(parts->parts[i].flags & PART_DELETED))
			return true;
	return false;
}

/* ---- Mails ---- */

static void member_slice(struct json_out *j, const char *key, struct slice s) {
	json_out_member_string(j, key, s.p, s.n);
}

static void member_raw(struct json_out *j, const char *key, struct slice json) {
	json_out_key(j, key);
	json_out_raw(j, json.p, json.n);
}

static void write_people(struct json_out *j, const struct mail_view *m, unsigned fields) {
	struct slice sender = m->from_address.p ? m->from_address : m->mail_from;
	if (fields & MAIL_SENDER)
		member_slice(j, "sender", sender);
	if (fields & MAIL_FROM)
		member_slice(j, "from", sender);
	if (fields & MAIL_DISPLAY_SENDER)
		api_display_write(j, "displaySender", sender);
	if (fields & MAIL_FROM_NAME)
		member_slice(j, "fromName", m->from_name);
	if (fields & MAIL_TO)
		member_raw(j, "to", m->to);
	if (fields & MAIL_CC)
		member_raw(j, "cc", m->cc);
	if (fields & MAIL_REPLY_TO)
		member_raw(j, "replyTo", m->reply_to);
}

/* The mail has HTML only, and the parser made the text of it. */
static bool text_is_made(const struct mail_view *m) {
	static const char made[] = "\"text_from_html\"";
	return m->body_text.p && m->warnings.n > 0 && memmem(m->warnings.p, m->warnings.n, made, sizeof(made) - 1);
}

/* The mail's own text, or the HTML where it has none. */
static struct slice body_of(const struct mail_view *m) {
	if ((!m->body_text.p || text_is_made(m)) && m->body_html.p)
		return m->body_html;
	return m->body_text.p ? m->body_text : slice_of("", 0);
}

/* Subject and body are strings in MinuteMail's answers whatever the mail has, so a client may rely on that. */
static void write_content(struct json_out *j, const struct mail_view *m, unsigned fields) {
	const struct slice empty = {"", 0};
	if (fields & MAIL_SUBJECT)
		member_slice(j, "subject", m->subject.p ? m->subject : empty);
	if (fields & MAIL_BODY)
		member_slice(j, "body", body_of(m));
	if (fields & MAIL_BODY_TEXT) {
		member_slice(j, "bodyText", m->body_text);
		json_out_member_bool(j, "bodyTextFromHtml", text_is_made(m));
	}
	if (fields & MAIL_BODY_HTML)
		member_slice(j, "bodyHtml", m->body_html);
}

static void write_envelope(struct json_out *j, const struct mail_view *m) {
	json_out_key(j, "envelope");
	json_out_object(j);
	member_slice(j, "mailFrom", m->mail_from);
	member_slice(j, "rcptTo", m->rcpt_to);
	member_slice(j, "helo", m->helo);
	member_slice(j, "tls", m->tls);
	json_out_object_end(j);
}

/* The parser's, and what authentication found out later. */
static void write_warnings(struct json_out *j, const struct mail_view *m) {
	static const char forged[] = "\"forged_authentication_results\"]";
	if (!m->forged || m->warnings.n < 2) {
		member_raw(j, "warnings", m->warnings);
		return;
	}
	struct buf list;
	buf_init(&list, m->warnings.n + sizeof(forged) + 1);
	buf_append(&list, m->warnings.p, m->warnings.n - 1); /* without the bracket */
	if (m->warnings.n > 2)
		buf_append_char(&list, ',');
	buf_append_str(&list, forged);
	member_raw(j, "warnings", buf_slice(&list));
	buf_fini(&list);
}

static void write_authentication(struct json_out *j, const struct mail_view *m) {
	json_out_key(j, "authentication");
	if (m->authentication.p)
		json_out_raw(j, m->authentication.p, m->authentication.n);
	else
		json_out_null(j);
}

void mail_write(struct json_out *j, const struct mail_view *m, unsigned fields) {
	json_out_object(j);
	if (fields & MAIL_ID)
		json_out_member_id(j, "id", &m->id);
	if (fields & MAIL_MAILBOX_ID)
		json_out_member_id(j, "mailboxId", &m->mailbox_id);
	write_people(j, m, fields);
	write_content(j, m, fields);
	if (fields & MAIL_HAS_ATTACHMENTS)
		json_out_member_bool(j, "hasAttachments", has_attachments(m->parts));
	if (fields & MAIL_ATTACHMENTS)
		write_attachments(j, m);
	if (fields & MAIL_SIZE_BYTES)
		json_out_member_int(j, "sizeBytes", m->size);
	if (fields & MAIL_RECEIVED_AT)
		json_out_member_time(j, "receivedAt", m->received_at);
	if (fields & MAIL_EXPIRES_AT)
		json_out_member_time(j, "expiresAt", m->expires_at);
	if (fields & MAIL_ENVELOPE)
		write_envelope(j, m);
	if (fields & MAIL_WARNINGS)
		write_warnings(j, m);
	if (fields & MAIL_AUTHENTICATION)
		write_authentication(j, m);
	json_out_object_end(j);
}
