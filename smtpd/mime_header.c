/* The fields of a message or part: which there are, within the caps, and what those that matter here say. Not the
 * headers view of the API, which shows all of them. GMime reads parameter lists (see mime.c for why nothing else).
 *
 * Invariants: of a field that may stand once the first counts, and a second that differs is said in a warning; what
 * GMime gets is one line of clean UTF-8 with a bounded number of parameters. */
#include "smtpd/mime_address.h"
#include "smtpd/mime_private.h"
#include "smtpd/prescan.h"
#include "smtpd/steps.h"

#include <gmime/gmime.h>
#include <strings.h>

#define CONTENT_ID_MAX 998
#define TYPE_MAX 127 /* of type and of subtype (RFC 6838 4.2) */
#define STRAY_LOOK 8  /* lines and fields that are looked at behind a line that is no field */

static GMimeParserOptions *parser_options;

void mime_init(void) {
	if (parser_options)
		return;
	g_mime_init();
	parser_options = g_mime_parser_options_new();
	g_mime_parser_options_set_parameter_compliance_mode(parser_options, GMIME_RFC_COMPLIANCE_LOOSE);
}

void mime_entity_fini(struct mime_entity *e) {
	free(e->type);
	free(e->charset);
	free(e->boundary);
	free(e->name);
	free(e->content_id);
}

/* The values of the fields that say what a part is; NULL: absent. */
struct part_fields {
	struct slice type, disposition, encoding, id;
};

static bool has_8bit(struct slice s) {
	uint8_t all = 0;
	for (size_t i = 0; i < s.n; i++)
		all |= (uint8_t)s.p[i];
	return all & 0x80;
}

static bool name_is(struct slice name, const char *s) {
	return strlen(s) == name.n && strncasecmp(name.p, s, name.n) == 0;
}

static void note_once(struct mime_walk *w, struct slice *kept, struct slice value) {
	if (!kept->p)
		*kept = value;
	else if (!slice_eq(*kept, value))
		message_warn(w->msg, "conflicting_header");
}

static void note_field(struct mime_walk *w, const struct text_field *f, struct part_fields *ret) {
	if (f->name.n < 10 || (f->name.p[0] | 0x20) != 'c')
		return;
	if (name_is(f->name, "content-type"))
		note_once(w, &ret->type, f->value);
	else if (name_is(f->name, "content-transfer-encoding"))
		note_once(w, &ret->encoding, f->value);
	else if (name_is(f->name, "content-disposition"))
		note_once(w, &ret->disposition, f->value);
	else if (name_is(f->name, "content-id") && !ret->id.p)
		ret->id = f->value;
}

/* "From someone Mon Jan…", which mailbox files put before a message, and some deliveries into the middle of its fields:
 * no field and no end of fields. */
static bool is_mbox_line(const struct mime_walk *w) {
	struct slice s = slice_of(w->source + w->at, w->n - w->at);
	size_t i = 5;
	if (s.n > 0 && *s.p == '>')
		s.p++, s.n--;
	if (s.n < i || memcmp(s.p, "From ", i) != 0)
		return false;
	while (i < s.n && (s.p[i] == ' ' || s.p[i] == '\t'))
		i++;
	return i == s.n || s.p[i] != ':';
}

static void skip_mbox_line(struct mime_walk *w) {
	if (!is_mbox_line(w))
		return;
	const char *lf = memchr(w->source + w->at, '\n', w->n - w->at);
	w->at = lf ? (size_t)(lf - w->source) + 1 : w->n;
}

/* How long the empty line at `at` is; 0: none is there. */
static size_t blank_line(const struct mime_walk *w, size_t at) {
	const char *p = w->source + at;
	if (w->n - at >= 1 && p[0] == '\n')
		return 1;
	return w->n - at >= 2 && p[0] == '\r' && p[1] == '\n' ? 2 : 0;
}

static bool is_dashes(const struct mime_walk *w, size_t at) {
	return w->n - at >= 2 && w->source[at] == '-' && w->source[at + 1] == '-';
}

/* No field can begin at `at`: an empty line, a delimiter or the end is there. */
static bool fields_end(const struct mime_walk *w, size_t at) {
	struct mime_delimiter unused;
	if (at == w->n || blank_line(w, at))
		return true;
	return w->depth > 0 && is_dashes(w, at) && mime_delimiter_at(w, at, &unused);
}

static bool has_prefix(struct slice name, const char *prefix) {
	return name.n > strlen(prefix) && strncasecmp(name.p, prefix, strlen(prefix)) == 0;
}

/* Fields that no text begins a line with. */
static bool is_technical(struct slice name) {
	return has_prefix(name, "content-") || has_prefix(name, "x-") || name_is(name, "mime-version") || name_is(name, "received") ||
	       name_is(name, "message-id") || name_is(name, "return-path") || name_is(name, "delivered-to");
}

/* Behind the lines at w->at that are no fields, when the header goes on after them: soon a field comes that text would not
 * hold. Else w->at, as before what could be a delimiter. */
static size_t stray_end(const struct mime_walk *w) {
	struct slice rest = slice_of(w->source + w->at, w->n - w->at);
	size_t at = w->at, behind = at;
	struct text_field f;
	for (int i = 0; i < STRAY_LOOK && !fields_end(w, at) && !is_dashes(w, at) && text_next_field(&rest, &f) > 0; i++) {
		steps_add((size_t)(rest.p - w->source) - at);
		if (f.name.n == 0 && behind == at)
			behind = (size_t)(rest.p - w->source);
		else if (behind == w->at || is_technical(f.name))
			return behind;
		at = (size_t)(rest.p - w->source);
	}
	return w->at;
}

static size_t line_end_length(const char *p, size_t n) {
	if (n == 0 || p[n - 1] != '\n')
		return 0;
	return n > 1 && p[n - 2] == '\r' ? 2 : 1;
}

/* A field that was folded without a blank, as by mailers that wrap at a column: its lines are taken into it. */
static void take_strays(struct mime_walk *w, struct text_field *f) {
	size_t behind = is_mbox_line(w) ? w->at : stray_end(w);
	if (behind == w->at)
		return;
	message_warn(w->msg, "unfolded_header");
	w->at = behind;
	f->value.n = (size_t)(w->source + behind - f->value.p);
	f->value.n -= line_end_length(f->value.p, f->value.n);
}

/* The next field, or false at the end of the fields: an empty line (skipped), a delimiter, the end, or a line that
 * is no field, with which the body begins (as it does for Postfix). */
static bool next_field(struct mime_walk *w, struct text_field *ret) {
	if (is_mbox_line(w))
		w->at = stray_end(w);
	size_t blank = blank_line(w, w->at);
	w->at += blank;
	if (blank || fields_end(w, w->at))
		return false;
	struct slice rest = slice_of(w->source + w->at, w->n - w->at);
	const char *p = rest.p;
	if (text_next_field(&rest, ret) == 0 || ret->name.n == 0)
		return false;
	steps_add((size_t)(rest.p - p));
	w->at = (size_t)(rest.p - w->source);
	take_strays(w, ret);
	return true;
}

static void read_fields(struct mime_walk *w, bool top, struct part_fields *ret) {
	size_t block = 0; /* octets of fields, of each no more than may be read */
	unsigned count = 0;
	bool spent = false;
	struct text_field f;
	for (size_t start = w->at; next_field(w, &f); start = w->at) {
		block += min_of(w->at - start, w->limits->field);
		if (count >= w->limits->fields_entity || w->fields >= w->limits->fields_message) {
			spent = w->fields >= w->limits->fields_message;
			message_warn(w->msg, "too_many_headers");
			continue;
		}
		if (block > w->limits->field_block) {
			message_warn(w->msg, "header_block_too_long");
			count = w->limits->fields_entity;
			continue;
		}
		count++;
		w->fields++;
		if (top)
			w->top_end = w->at;
		if (f.value.n > w->limits->field) {
			message_warn(w->msg, "header_too_long");
			f.value.n = w->limits->field;
		}
		if (has_8bit(f.value))
			message_warn(w->msg, "8bit_header");
		note_field(w, &f, ret);
	}
	/* A part whose fields nobody may read any more is better not shown as something it is not. */
	if (spent && !top)
		w->stopped = true;
}

/* --- Content-Type and Content-Disposition --- */

static bool is_token_char(char c) {
	return (uint8_t)c > ' ' && (uint8_t)c < 0x7f && !strchr("()<>@,;:\\\"/[]?=", c);
}

static size_t token_length(const char *p, size_t n) {
	size_t i = 0;
	while (i < n && is_token_char(p[i]))
		i++;
	return i;
}

static size_t skip_blanks(struct slice s, size_t i) {
	while (i < s.n && s.p[i] == ' ')
		i++;
	return i;
}

static void lower(char *s) {
	for (; *s; s++)
		if (*s >= 'A' && *s <= 'Z')
			*s = (char)(*s + ('a' - 'A'));
}

size_t mime_read_type(struct slice line, char **ret) {
	size_t type = token_length(line.p, line.n), i = skip_blanks(line, type);
	if (type == 0 || type > TYPE_MAX || i == line.n || line.p[i] != '/')
		return 0;
	i = skip_blanks(line, i + 1);
	size_t subtype = token_length(line.p + i, line.n - i);
	if (subtype == 0 || subtype > TYPE_MAX)
		return 0;
	*ret = xasprintf("%.*s/%.*s", (int)type, line.p, (int)subtype, line.p + i);
	lower(*ret);
	return i + subtype;
}

static enum media media_of(const char *type) {
	if (strcmp(type, "text/plain") == 0)
		return MEDIA_TEXT;
	if (strcmp(type, "text/html") == 0)
		return MEDIA_HTML;
	if (strncmp(type, "text/", 5) == 0)
		return MEDIA_OTHER_TEXT;
	return strncmp(type, "multipart/", 10) == 0 ? MEDIA_MULTIPART : MEDIA_OTHER;
}

/* The parameters from the first ';' of line[from..] on, or, where somebody forgot it, from the first word. NULL:
 * none, or more than may be read. */
static GMimeParamList *read_parameters(struct mime_walk *w, struct slice line, size_t from) {
	struct prescan_parameters seen;
	size_t start = skip_blanks(line, from);
	const char *semicolon = start < line.n ? memchr(line.p + start, ';', line.n - start) : NULL;
	const char *equals = start < line.n ? memchr(line.p + start, '=', line.n - start) : NULL;
	if (!equals)
		return NULL;
	if (semicolon && semicolon < equals)
		start = (size_t)(semicolon - line.p) + 1;
	buf_reset(&w->raw);
	if (prescan_parameters(line.p + start, line.n - start, w->limits->parameters, &w->raw, &seen) == PRESCAN_BARE) {
		message_warn(w->msg, "too_many_parameters");
		return NULL;
	}
	if (seen.unknown_charset)
		message_warn(w->msg, "unknown_charset");
	if (seen.conflicting)
		message_warn(w->msg, "conflicting_parameter");
	return w->raw.len ? g_mime_param_list_parse(parser_options, w->raw.data) : NULL;
}

/* The parameter's value; NULL: none. Of two, one in RFC 2231 form is meant for those who can read it (as in RFC 6266
 * 4.3), else the first counts. */
static char *take_parameter(struct mime_walk *w, GMimeParamList *list, const char *name) {
	const char *found = NULL;
	bool extended = false;
	for (int i = 0; i < g_mime_param_list_length(list); i++) {
		GMimeParam *p = g_mime_param_list_get_parameter_at(list, i);
		const char *value = g_mime_param_get_value(p);
		if (!value || strcasecmp(g_mime_param_get_name(p), name) != 0)
			continue;
		bool is_extended = g_mime_param_get_encoding_method(p) == GMIME_PARAM_ENCODING_METHOD_RFC2231;
		if (found && is_extended == extended && strcmp(found, value) != 0)
			message_warn(w->msg, "conflicting_parameter");
		if (!found || (is_extended && !extended)) {
			found = value;
			extended = is_extended;
		}
	}
	if (!found)
		return NULL;
	char *copy = xstrdup(found);
	prescan_unmask(copy);
	return copy;
}

/* A file's name: encoded words in it are not legal, and common (RFC 2047 5 (3)). */
static char *take_name(struct mime_walk *w, GMimeParamList *list, const char *parameter) {
	char *raw = take_parameter(w, list, parameter);
	if (!raw)
		return NULL;
	buf_reset(&w->raw);
	text_append_header(&w->raw, raw, strlen(raw), w->charset);
	free(raw);
	return w->raw.len ? xstrndup(w->raw.data, w->raw.len) : NULL;
}

/* Without the comment or the next word that GMime leaves on it. */
static char *take_charset(struct mime_walk *w, GMimeParamList *list) {
	char *charset = take_parameter(w, list, "charset");
	size_t blank = charset ? strspn(charset, " ") : 0;
	if (charset)
		charset[blank + strcspn(charset + blank, " (")] = '\0';
	return charset;
}

static void take_boundary(struct mime_walk *w, struct mime_entity *e, GMimeParamList *list) {
	char *b = list ? take_parameter(w, list, "boundary") : NULL;
	size_t n = b ? strlen(b) : 0;
	while (n > 0 && b[n - 1] == ' ')
		b[--n] = '\0';
	if (n == 0) {
		message_warn(w->msg, "no_boundary");
		e->media = MEDIA_TEXT;
	} else if (n > w->limits->boundary) {
		message_warn(w->msg, "boundary_too_long");
		e->media = MEDIA_OTHER;
	} else {
		e->boundary = take_ptr(b);
	}
	free(b);
}

static void set_type(struct mime_entity *e, const char *type) {
	free(e->type);
	e->type = xstrdup(type);
	e->media = media_of(type);
}

static struct slice unfold(struct mime_walk *w, struct slice value) {
	buf_reset(&w->scratch);
	text_append_unfolded(&w->scratch, value.p, value.n, w->charset);
	struct slice line = w->scratch.len ? buf_slice(&w->scratch) : slice_str("");
	size_t i = skip_blanks(line, 0);
	return slice_of(line.p + i, line.n - i);
}

static void read_content_type(struct mime_walk *w, struct slice value, struct mime_entity *e) {
	struct slice line = unfold(w, value);
	size_t from = mime_read_type(line, &e->type);
	if (from > 0) {
		e->media = media_of(e->type);
	} else if (line.n == 0) {
		return;
	} else {
		/* "text" alone was valid before MIME was; of other wrong values the body may tell more (RFC 2045 5.2). */
		const char *semicolon = memchr(line.p, ';', line.n);
		from = semicolon ? (size_t)(semicolon - line.p) : line.n;
		e->malformed_type = !(token_length(line.p, line.n) == 4 && strncasecmp(line.p, "text", 4) == 0);
		set_type(e, "text/plain");
	}
	GMimeParamList *list = read_parameters(w, line, from);
	if (list) {
		if (e->media <= MEDIA_OTHER_TEXT)
			e->charset = take_charset(w, list);
		e->name = take_name(w, list, "name");
	}
	if (e->media == MEDIA_MULTIPART)
		take_boundary(w, e, list);
	if (list)
		g_object_unref(list);
}

/* An unknown disposition means attachment (RFC 2183 2.8). */
static void read_disposition(struct mime_walk *w, struct slice value, struct mime_entity *e) {
	struct slice line = unfold(w, value);
	size_t n = token_length(line.p, line.n);
	struct slice word = slice_of(line.p, n);
	size_t after = skip_blanks(line, n);
	if (after < line.n && line.p[after] == '=') { /* parameters only: no disposition at all */
		n = 0;
	} else if (n > 0) {
		e->is_inline = name_is(word, "inline");
		e->attachment = !e->is_inline;
	}
	GMimeParamList *list = read_parameters(w, line, n);
	char *name = list ? take_name(w, list, "filename") : NULL;
	if (name) {
		free(e->name);
		e->name = name;
	}
	if (list)
		g_object_unref(list);
}

static void read_encoding(struct mime_walk *w, struct slice value, struct mime_entity *e) {
	struct slice line = unfold(w, value);
	size_t n = token_length(line.p, line.n);
	bool unknown;
	e->encoding = transfer_parse(line.p, n, &unknown);
	if (unknown && line.n > 0)
		message_warn(w->msg, "unknown_encoding");
}

static void read_content_id(struct mime_walk *w, struct slice value, struct mime_entity *e) {
	struct slice line = unfold(w, value);
	const char *open = line.n ? memchr(line.p, '<', line.n) : NULL;
	const char *close = open ? memchr(open, '>', line.n - (size_t)(open - line.p)) : NULL;
	if (open && close)
		line = slice_of(open + 1, (size_t)(close - open) - 1);
	size_t n = text_cut(line.p, line.n, CONTENT_ID_MAX);
	while (n > 0 && line.p[n - 1] == ' ')
		n--;
	e->content_id = n ? xstrndup(line.p, n) : NULL;
}

void mime_read_header(struct mime_walk *w, struct mime_entity *ret, bool top, enum container in) {
	struct part_fields fields = {0};
	size_t start = w->at;
	if (top) {
		skip_mbox_line(w);
		w->top_start = w->top_end = w->at;
	}
	read_fields(w, top, &fields);
	if (top && w->top_end == w->top_start) {
		message_warn(w->msg, "no_headers");
		w->at = start + blank_line(w, start);
	}
	set_type(ret, in == CONTAINER_DIGEST ? "message/rfc822" : "text/plain");
	if (fields.type.p) {
		free(take_ptr(ret->type));
		read_content_type(w, fields.type, ret);
		if (!ret->type)
			set_type(ret, "text/plain");
	}
	if (fields.disposition.p)
		read_disposition(w, fields.disposition, ret);
	if (fields.encoding.p)
		read_encoding(w, fields.encoding, ret);
	if (fields.id.p)
		read_content_id(w, fields.id, ret);
}

/* --- the message's own fields --- */

struct address_sink {
	struct mime_walk *w;
	struct message_strings *list; /* NULL: From */
};

static bool add_address(void *arg, struct slice address, struct slice name) {
	struct address_sink *sink = arg;
	struct message *msg = sink->w->msg;
	if (!sink->list) {
		msg->from_address = xstrndup(address.p, address.n);
		msg->from_name = name.n ? xstrndup(name.p, name.n) : NULL;
		return false;
	}
	if (sink->list->n >= min_of(sink->w->limits->addresses, (unsigned)MESSAGE_ADDRESSES_MAX)) {
		message_warn(msg, "too_many_addresses");
		return false;
	}
	message_strings_add(sink->list, address.p, address.n);
	return true;
}

static void read_addresses(struct mime_walk *w, struct slice value, struct message_strings *list) {
	struct slice line = unfold(w, value);
	if (prescan_groups(line.p, line.n) > w->limits->groups) {
		message_warn(w->msg, "too_many_groups");
		return;
	}
	mime_address_list(line, add_address, &(struct address_sink){w, list});
}

static void read_subject(struct mime_walk *w, struct slice value) {
	buf_reset(&w->raw);
	text_append_header(&w->raw, value.p, value.n, w->charset);
	w->msg->subject = xstrndup(w->raw.len ? w->raw.data : "", w->raw.len);
}

static void read_top_field(struct mime_walk *w, const struct text_field *f, struct slice *from, struct slice *subject) {
	switch (f->name.p[0] | 0x20) {
	case 's':
		if (name_is(f->name, "subject"))
			note_once(w, subject, f->value);
		break;
	case 'f':
		if (name_is(f->name, "from"))
			note_once(w, from, f->value);
		break;
	case 't':
		if (name_is(f->name, "to"))
			read_addresses(w, f->value, &w->msg->to);
		break;
	case 'c':
		if (name_is(f->name, "cc"))
			read_addresses(w, f->value, &w->msg->cc);
		break;
	case 'r':
		if (name_is(f->name, "reply-to"))
			read_addresses(w, f->value, &w->msg->reply_to);
		else if (name_is(f->name, "received"))
			w->msg->received_count++;
		break;
	}
}

void mime_read_top_fields(struct mime_walk *w) {
	struct slice from = {0}, subject = {0};
	struct text_field f;
	w->at = w->top_start;
	while (w->at < w->top_end && next_field(w, &f)) {
		f.value.n = min_of(f.value.n, w->limits->field);
		read_top_field(w, &f, &from, &subject);
	}
	if (from.p)
		read_addresses(w, from, NULL);
	if (subject.p)
		read_subject(w, subject);
}
