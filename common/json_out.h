/* A small JSON writer onto buf (RFC 8259). Strings are checked: invalid UTF-8 becomes U+FFFD, NUL and control characters are
 * escaped, so whatever was stored is valid JSON. Commas are kept by the writer; nesting at most 32 deep (assert). */
#ifndef MINUTEMAIL_JSON_OUT_H
#define MINUTEMAIL_JSON_OUT_H

#include "common/buf.h"

struct json_out {
	struct buf *out;    /* borrowed */
	uint32_t has_member; /* bit per depth */
	unsigned depth;
	bool after_key;
};

void json_out_init(struct json_out *, struct buf *out);
void json_out_object(struct json_out *);
void json_out_object_end(struct json_out *);
void json_out_array(struct json_out *);
void json_out_array_end(struct json_out *);
void json_out_key(struct json_out *, const char *key);            /* key: our own literals */
void json_out_string(struct json_out *, const char *s, size_t n); /* s NULL: null */
void json_out_cstring(struct json_out *, const char *s);
void json_out_int(struct json_out *, int64_t);
void json_out_bool(struct json_out *, bool);
void json_out_null(struct json_out *);
void json_out_raw(struct json_out *, const char *p, size_t n);    /* one complete JSON value, trusted */
void json_out_time(struct json_out *, int64_t wall_us);           /* RFC 3339 string, milliseconds, Z */
/* key + value in one call */
void json_out_member_string(struct json_out *, const char *key, const char *s, size_t n);
void json_out_member_cstring(struct json_out *, const char *key, const char *s);
void json_out_member_int(struct json_out *, const char *key, int64_t);
void json_out_member_bool(struct json_out *, const char *key, bool);

#endif
