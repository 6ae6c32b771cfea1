#include "smtpd/header_block.h"

#include "common/text.h"

#include <strings.h>

bool header_field_is(const struct header_field *f, const char *name) {
	return f->name.n == strlen(name) && strncasecmp(f->name.p, name, f->name.n) == 0;
}

void header_block_fini(struct header_block *b) {
	free(b->fields);
	*b = (struct header_block){0};
}

static void add(struct header_block *b, struct header_field f) {
	if ((b->count & (b->count - 1)) == 0)
		b->fields = xrealloc(b->fields, max_of(b->count * 2, 1U) * sizeof(*b->fields));
	b->fields[b->count++] = f;
}

void header_block_parse(struct slice text, struct header_block *ret) {
	struct slice rest = text;
	struct text_field f;
	*ret = (struct header_block){0};
	while (text_next_field(&rest, &f) == 1) {
		const char *start = f.name.p;
		if (f.name.n == 0 || ret->count == HEADER_FIELDS_MAX) {
			ret->odd = true;
			continue;
		}
		add(ret, (struct header_field){slice_of(start, (size_t)(rest.p - start)), f.name, f.value});
	}
	const char *lf = rest.n ? memchr(rest.p, '\n', min_of(rest.n, (size_t)2)) : NULL;
	ret->body = text.n;
	if (lf)
		ret->body = (size_t)(lf + 1 - text.p);
	else if (text.n >= HEADER_BLOCK_MAX)
		ret->odd = true;
}
