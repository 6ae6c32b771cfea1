/* A walk over the attributes of a TNEF stream. Attributes of a file follow the one that opens it (attAttachRendData);
 * its better name, type and content id are MAPI properties in another (attAttachment). Checksums are not judged:
 * writers get them wrong.
 *
 * Invariants: the cursor never moves back, and every length is checked against what is left before it is believed. */
#include "smtpd/mime_tnef.h"

#include "smtpd/steps.h"

#define SIGNATURE 0x223e9f78u
#define LEVEL_MESSAGE 1
#define LEVEL_FILE 2
#define INTERFACE_ID 16 /* octets before the data of an object */

enum { /* numbers of attributes (MS-OXTNEF 2.1.3.2); their types, in the upper half, are not looked at */
	   ATT_OEM_CODEPAGE = 0x9007,
	   ATT_FILE_BEGINS = 0x9002, /* attAttachRendData */
	   ATT_TITLE = 0x8010,
	   ATT_DATA = 0x800f,
	   ATT_PROPERTIES = 0x9005, /* attAttachment */
};

enum { /* properties (MS-OXPROPS) */
	   PROP_DISPLAY_NAME = 0x3001,
	   PROP_DATA = 0x3701,
	   PROP_NAME = 0x3704,
	   PROP_METHOD = 0x3705,
	   PROP_LONG_NAME = 0x3707,
	   PROP_MIME_TAG = 0x370e,
	   PROP_CONTENT_ID = 0x3712,
};

#define METHOD_MESSAGE 5 /* MS-OXCMSG 2.2.2.9 */

enum { /* property types (MS-OXCDATA 2.11.1) */
	   TYPE_OBJECT = 0x000d,
	   TYPE_STRING8 = 0x001e,
	   TYPE_UNICODE = 0x001f,
	   TYPE_BINARY = 0x0102,
	   TYPE_MANY = 0x1000, /* a flag: several values */
};

struct cursor {
	const uint8_t *p, *end;
	bool bad;
};

static const uint8_t *take(struct cursor *c, size_t n) {
	if ((size_t)(c->end - c->p) < n) {
		c->bad = true;
		c->p = c->end;
		return NULL;
	}
	const uint8_t *p = c->p;
	c->p += n;
	return p;
}

static uint32_t take_int(struct cursor *c, unsigned octets) {
	const uint8_t *p = take(c, octets);
	uint32_t v = 0;
	while (p && octets-- > 0)
		v = v << 8 | p[octets];
	return v;
}

static struct slice take_slice(struct cursor *c, size_t n) {
	const uint8_t *p = take(c, n);
	return slice_of((const char *)p, p ? n : 0);
}

static struct cursor cursor_of(struct slice s) {
	const uint8_t *p = (const uint8_t *)(s.n ? s.p : "");
	return (struct cursor){p, p + s.n, false};
}

/* A value with its length, padded to four octets; the last value may lack its padding. */
static struct slice take_counted(struct cursor *c) {
	uint32_t n = take_int(c, 4);
	struct slice s = take_slice(c, n);
	if (!c->bad)
		take(c, min_of((size_t)(-n & 3), (size_t)(c->end - c->p)));
	return s;
}

/* Octets of a value of fixed size, as they are padded; 0: no such type. */
static size_t fixed_size(unsigned type) {
	switch (type) {
	case 0x0002: /* two octets, padded */
	case 0x0003:
	case 0x0004:
	case 0x000a:
	case 0x000b:
		return 4;
	case 0x0005:
	case 0x0006:
	case 0x0007:
	case 0x0014:
	case 0x0040:
		return 8;
	case 0x0048:
		return 16;
	}
	return 0;
}

/* The property's value, of several the first. */
static struct slice take_value(struct cursor *c, unsigned type) {
	unsigned one = type & ~(unsigned)TYPE_MANY;
	size_t fixed = fixed_size(one);
	bool counted = one == TYPE_OBJECT || one == TYPE_STRING8 || one == TYPE_UNICODE || one == TYPE_BINARY;
	uint32_t count = counted || (type & TYPE_MANY) ? take_int(c, 4) : 1;
	struct slice first = {0};
	if (!counted && !fixed) {
		c->bad = true;
		return first;
	}
	for (uint32_t i = 0; i < count && !c->bad; i++) {
		struct slice value = counted ? take_counted(c) : take_slice(c, fixed);
		if (i == 0)
			first = value;
	}
	return first;
}

/* A property above 0x8000 says its name: a GUID, and a number or a string. */
static void skip_name(struct cursor *c) {
	take(c, 16);
	if (take_int(c, 4) == 0)
		take(c, 4);
	else
		take_counted(c);
}

static struct mime_tnef_string string_of(struct slice s, bool utf16) {
	size_t unit = utf16 ? 2 : 1;
	while (s.n >= unit && s.p[s.n - 1] == '\0' && s.p[s.n - unit] == '\0')
		s.n -= unit;
	return (struct mime_tnef_string){s, utf16};
}

/* An OLE object, or a message (which is a TNEF stream again, and stays one). */
static struct slice data_of(unsigned type, struct slice value) {
	if (type == TYPE_BINARY)
		return value;
	if (type == TYPE_OBJECT && value.n >= INTERFACE_ID)
		return slice_of(value.p + INTERFACE_ID, value.n - INTERFACE_ID);
	return slice_of(NULL, 0);
}

static unsigned int_of(struct slice value) {
	struct cursor c = cursor_of(value);
	return take_int(&c, 4);
}

/* The data of a property counts for a file that has no attAttachData, and for a message, in whose attAttachData writers only say that
 * it is one. */
static void read_properties(struct slice data, struct mime_tnef_file *file) {
	struct cursor c = cursor_of(data);
	struct slice object = {0};
	unsigned method = 0;
	uint32_t count = take_int(&c, 4);
	for (uint32_t i = 0; i < count && !c.bad; i++) {
		unsigned type = take_int(&c, 2), id = take_int(&c, 2);
		if (id >= 0x8000)
			skip_name(&c);
		struct slice value = take_value(&c, type);
		if (c.bad)
			break;
		if (id == PROP_DATA && !object.p)
			object = data_of(type, value);
		else if (id == PROP_METHOD)
			method = int_of(value);
		if (type != TYPE_STRING8 && type != TYPE_UNICODE)
			continue;
		struct mime_tnef_string s = string_of(value, type == TYPE_UNICODE);
		bool name = id == PROP_NAME || id == PROP_DISPLAY_NAME;
		if (id == PROP_LONG_NAME || (name && file->name.s.n == 0))
			file->name = s;
		else if (id == PROP_MIME_TAG)
			file->type = s;
		else if (id == PROP_CONTENT_ID)
			file->content_id = s;
	}
	if (object.p && (!file->data.p || method == METHOD_MESSAGE))
		file->data = object;
}

static void read_attribute(struct mime_tnef *t, uint32_t id, struct slice data, struct mime_tnef_file *file) {
	struct cursor c = cursor_of(data);
	switch (id) {
	case ATT_OEM_CODEPAGE:
		t->codepage = take_int(&c, 4);
		break;
	case ATT_TITLE:
		if (file->name.s.n == 0)
			file->name = string_of(data, false);
		break;
	case ATT_DATA:
		file->data = data;
		break;
	case ATT_PROPERTIES:
		read_properties(data, file);
		break;
	}
}

void mime_tnef_begin(struct mime_tnef *t, struct slice data) {
	struct cursor c = cursor_of(data);
	*t = (struct mime_tnef){.data = data};
	t->bad = take_int(&c, 4) != SIGNATURE;
	take_int(&c, 2); /* a key that nobody uses */
	t->bad |= c.bad;
	t->at = t->bad ? data.n : 6;
}

bool mime_tnef_next(struct mime_tnef *t, struct mime_tnef_file *ret) {
	struct mime_tnef_file file = {0};
	while (t->at < t->data.n && !t->bad) {
		struct cursor c = cursor_of(slice_of(t->data.p + t->at, t->data.n - t->at));
		unsigned level = take_int(&c, 1);
		uint32_t id = take_int(&c, 4) & 0xffff, n = take_int(&c, 4);
		struct slice data = take_slice(&c, n);
		take(&c, 2); /* checksum */
		if (c.bad || (level != LEVEL_MESSAGE && level != LEVEL_FILE)) {
			t->bad = true;
			break;
		}
		if (id == ATT_FILE_BEGINS && file.data.p)
			break; /* the next one: read again in the next call */
		if (id == ATT_FILE_BEGINS)
			file = (struct mime_tnef_file){0};
		steps_add(data.n);
		read_attribute(t, id, data, &file);
		t->at += 11 + (size_t)n;
	}
	*ret = file;
	return file.data.p;
}
