/* What the MIME parser makes of messages, as JSON for other programs to compare: for each message on standard input (its
 * length in decimal, a line feed, its octets) one line on standard output. With an argument: of that one file. */
#include <stdio.h>

#include "common/json_out.h"
#include "smtpd/mime.h"

#define MESSAGE_MAX (64u << 20)

static void put_strings(struct json_out *j, const char *key, const struct message_strings *s) {
	json_out_key(j, key);
	json_out_array(j);
	for (unsigned i = 0; i < s->n; i++)
		json_out_cstring(j, s->v[i]);
	json_out_array_end(j);
}

static void put_part(struct json_out *j, const struct part *p) {
	static const char *const encodings[] = {"identity", "base64", "quoted-printable", "uuencode"};
	char hex[2 * sizeof p->sha256 + 1];
	for (size_t i = 0; i < sizeof p->sha256; i++)
		snprintf(hex + 2 * i, 3, "%02x", p->sha256[i]);
	json_out_object(j);
	json_out_member_cstring(j, "name", p->name);
	json_out_member_cstring(j, "rawName", p->raw_name);
	json_out_member_cstring(j, "type", p->type);
	json_out_member_cstring(j, "contentId", p->content_id);
	json_out_member_cstring(j, "encoding", encodings[p->encoding]);
	json_out_member_bool(j, "inline", p->flags & PART_INLINE);
	json_out_member_bool(j, "unnamed", p->flags & PART_UNNAMED);
	json_out_member_int(j, "offset", (int64_t)p->offset);
	json_out_member_int(j, "length", (int64_t)p->length);
	json_out_member_int(j, "skip", (int64_t)p->skip);
	json_out_member_int(j, "size", (int64_t)p->size);
	json_out_member_cstring(j, "sha256", hex);
	json_out_object_end(j);
}

static void dump(const char *source, size_t n) {
	cleanup(message_freep) struct message *m = mime_parse(source, n, &MIME_LIMITS);
	struct buf out;
	struct json_out j;
	buf_init(&out, 1u << 30);
	json_out_init(&j, &out);
	json_out_object(&j);
	json_out_member_cstring(&j, "from", m->from_address);
	json_out_member_cstring(&j, "fromName", m->from_name);
	json_out_member_cstring(&j, "subject", m->subject);
	json_out_member_cstring(&j, "text", m->body_text);
	json_out_member_cstring(&j, "html", m->body_html);
	put_strings(&j, "to", &m->to);
	put_strings(&j, "cc", &m->cc);
	put_strings(&j, "replyTo", &m->reply_to);
	put_strings(&j, "warnings", &m->warnings);
	json_out_key(&j, "parts");
	json_out_array(&j);
	for (unsigned i = 0; i < m->parts.count; i++)
		put_part(&j, &m->parts.parts[i]);
	json_out_array_end(&j);
	json_out_object_end(&j);
	fwrite(out.data, 1, out.len, stdout);
	putchar('\n');
	fflush(stdout);
	buf_fini(&out);
}

static int dump_file(const char *name) {
	FILE *f = fopen(name, "rb");
	if (!f) {
		perror(name);
		return 1;
	}
	char *source = xmalloc(MESSAGE_MAX);
	dump(source, fread(source, 1, MESSAGE_MAX, f));
	free(source);
	fclose(f);
	return 0;
}

int main(int argc, char **argv) {
	unsigned long n;
	mime_init();
	if (argc > 1)
		return dump_file(argv[1]);
	while (scanf("%lu", &n) == 1 && n <= MESSAGE_MAX && getchar() == '\n') {
		char *source = xmalloc(n + 1);
		if (fread(source, 1, n, stdin) == n)
			dump(source, n);
		free(source);
	}
	return 0;
}
