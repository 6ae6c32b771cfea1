/* JSON bodies, read under limits (RFC 8259): duplicate members, trailing data, deep nesting, too many values,
 * invalid UTF-8 and \u0000 are refused, and every error names what was wrong. A fence around jansson, whose function
 * names clash with json_out.h's: nothing else includes <jansson.h>. Pure. */
#ifndef MINUTEMAIL_JSON_IN_H
#define MINUTEMAIL_JSON_IN_H

#include "common/base.h"

typedef struct json_t json_t;

#define JSON_IN_DEPTH 32     /* arrays and objects inside each other */
#define JSON_IN_VALUES 20000 /* commas, colons and brackets in the whole text: bounds what a body costs in memory */

struct json_in_error {
	char text[240]; /* `member "alias" must be a string`; valid UTF-8 is not promised: print it with json_out */
};

/* An object, or NULL with the error set: what is not JSON, and JSON that is no object. When `optional`, nothing at all is {}, and so is
 * null, which clients send that write an absent object as JSON. */
json_t *json_in_parse(const char *p, size_t n, bool optional, struct json_in_error *ret);
json_t *json_in_free(json_t *); /* NULL is fine; returns NULL */

/* A member of an object. 1: there, *ret set. 0: absent or null, *ret untouched. -EINVAL: of another type or out of
 * bounds, the error names it. Slices are borrowed until json_in_free(). */
int json_in_string(const json_t *object, const char *name, struct slice *ret, struct json_in_error *);
int json_in_bool(const json_t *object, const char *name, bool *ret, struct json_in_error *);
int json_in_int(const json_t *object, const char *name, int64_t least, int64_t most, int64_t *ret,
                struct json_in_error *);
/* 1-60 minutes, 61-3600 seconds, or text with a unit (duration.h). Microseconds. */
int json_in_duration(const json_t *object, const char *name, int64_t *ret_us, struct json_in_error *);
/* An array of strings with least..most elements: *ret_array for json_in_element(), *ret_count its length. */
int json_in_strings(const json_t *object, const char *name, size_t least, size_t most, const json_t **ret_array,
                    size_t *ret_count, struct json_in_error *);
struct slice json_in_element(const json_t *array, size_t i);
/* Whether the member is there and null: PATCH tells "clear it" from "leave it". */
bool json_in_is_null(const json_t *object, const char *name);

#endif
