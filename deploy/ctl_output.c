/* What the tool prints: tables and lines for people, one JSON document for programs, from the same columns. */
#include "deploy/ctl.h"

#include "common/buf.h"
#include "common/clock.h"
#include "common/json_out.h"

#include <stdarg.h>

#define OUTPUT_CEILING ((size_t)256 << 20)

static void json_cell(struct json_out *j, enum ctl_cell type, const char *value) {
	if (!value && type != CTL_LIST) {
		json_out_null(j);
		return;
	}
	switch (type) {
	case CTL_TEXT:
		json_out_cstring(j, value);
		return;
	case CTL_INT:
		json_out_int(j, strtoll(value, NULL, 10));
		return;
	case CTL_BOOL:
		json_out_bool(j, *value == 't');
		return;
	case CTL_TIME:
		json_out_time(j, strtoll(value, NULL, 10));
		return;
	case CTL_LIST:
		break;
	}
	json_out_array(j);
	for (const char *p = value ? value : ""; *p;) {
		size_t n = strcspn(p, ",");
		json_out_string(j, p, n);
		p += n;
		p += *p == ',';
	}
	json_out_array_end(j);
}

static const char *cell_value(const PGresult *res, int row, unsigned column) {
	return PQgetisnull(res, row, (int)column) ? NULL : PQgetvalue(res, row, (int)column);
}

static void json_row(struct json_out *j, const struct ctl_column *columns, unsigned n, const PGresult *res, int row) {
	for (unsigned c = 0; c < n; c++) {
		json_out_key(j, columns[c].name);
		json_cell(j, columns[c].type, cell_value(res, row, c));
	}
}

static int write_json(struct ctl *ctl, struct buf *b) {
	bool ok = !b->overflow;
	if (ok)
		fprintf(ctl->out, "%s\n", b->data);
	else
		ctl_error(ctl, "the answer is too large");
	buf_fini(b);
	return ok ? CTL_OK : CTL_FAILED;
}

/* For people. `room` holds what has to be made; the result is that or the value itself. */
static const char *text_cell(enum ctl_cell type, const char *value, char room[32]) {
	if (!value)
		return "-";
	switch (type) {
	case CTL_BOOL:
		return *value == 't' ? "yes" : "no";
	case CTL_TIME:
		clock_format_rfc3339(strtoll(value, NULL, 10), room);
		return room;
	case CTL_TEXT:
	case CTL_INT:
	case CTL_LIST:
		break;
	}
	return *value ? value : "-";
}

/* Characters, so that columns stand straight under UTF-8: octets that do not continue one. */
static int width_of(const char *s) {
	int n = 0;
	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

/* What a name contains must not move a terminal's cursor. */
static void print_plain(FILE *f, const char *s) {
	for (; *s; s++)
		fputc((unsigned char)*s < 0x20 || *s == 0x7f ? '?' : *s, f);
}

static void print_padded(FILE *f, const char *s, int width, bool right) {
	int blanks = max_of(width - width_of(s), 0);
	fprintf(f, "%*s", right ? blanks : 0, "");
	print_plain(f, s);
	fprintf(f, "%*s", right ? 0 : blanks, "");
}

static void print_table(struct ctl *ctl, const struct ctl_column *columns, unsigned n, const PGresult *res) {
	int *widths = xcalloc(n, sizeof(int));
	char room[32];
	int rows = PQntuples(res);
	for (unsigned c = 0; c < n; c++) {
		widths[c] = width_of(columns[c].title);
		for (int r = 0; r < rows; r++)
			widths[c] = max_of(widths[c], width_of(text_cell(columns[c].type, cell_value(res, r, c), room)));
	}
	for (int r = -1; r < rows; r++) {
		for (unsigned c = 0; c < n; c++) {
			const char *s = r < 0 ? columns[c].title : text_cell(columns[c].type, cell_value(res, r, c), room);
			bool last = c + 1 == n, right = columns[c].type == CTL_INT;
			print_padded(ctl->out, s, last && !right ? width_of(s) : widths[c], right);
			fputs(last ? "\n" : "  ", ctl->out);
		}
	}
	free(widths);
}

int ctl_print_list(struct ctl *ctl, const struct ctl_column *columns, unsigned n, const PGresult *res) {
	struct buf b;
	struct json_out j;
	if (!ctl->json) {
		print_table(ctl, columns, n, res);
		return CTL_OK;
	}
	buf_init(&b, OUTPUT_CEILING);
	json_out_init(&j, &b);
	json_out_object(&j);
	json_out_key(&j, "items");
	json_out_array(&j);
	for (int r = 0; r < PQntuples(res); r++) {
		json_out_object(&j);
		json_row(&j, columns, n, res, r);
		json_out_object_end(&j);
	}
	json_out_array_end(&j);
	json_out_object_end(&j);
	return write_json(ctl, &b);
}

static void print_lines(struct ctl *ctl, const struct ctl_column *columns, unsigned n, const PGresult *res) {
	int width = 0;
	char room[32];
	for (unsigned c = 0; c < n; c++)
		width = max_of(width, width_of(columns[c].title));
	for (unsigned c = 0; c < n; c++) {
		print_padded(ctl->out, columns[c].title, width, false);
		fputs("  ", ctl->out);
		print_plain(ctl->out, text_cell(columns[c].type, cell_value(res, 0, c), room));
		fputc('\n', ctl->out);
	}
}

int ctl_print_one(struct ctl *ctl, const struct ctl_column *columns, unsigned n, const PGresult *res,
                  const char *secret_name, const char *secret) {
	struct buf b;
	struct json_out j;
	if (!ctl->json) {
		if (secret_name)
			fprintf(ctl->out, "%s\n\nThis is the only time that the %s is shown.\n\n", secret, secret_name);
		print_lines(ctl, columns, n, res);
		return CTL_OK;
	}
	buf_init(&b, OUTPUT_CEILING);
	json_out_init(&j, &b);
	json_out_object(&j);
	if (secret_name)
		json_out_member_cstring(&j, secret_name, secret);
	json_row(&j, columns, n, res, 0);
	json_out_object_end(&j);
	return write_json(ctl, &b);
}

int ctl_print_done(struct ctl *ctl, const char *id, const char *name, const char *fmt, ...) {
	struct buf b;
	struct json_out j;
	if (!ctl->json) {
		va_list ap;
		va_start(ap, fmt);
		vfprintf(ctl->out, fmt, ap);
		va_end(ap);
		fputc('\n', ctl->out);
		return CTL_OK;
	}
	buf_init(&b, OUTPUT_CEILING);
	json_out_init(&j, &b);
	json_out_object(&j);
	json_out_member_cstring(&j, "id", id);
	json_out_member_bool(&j, name, true);
	json_out_object_end(&j);
	return write_json(ctl, &b);
}
