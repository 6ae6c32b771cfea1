/* Text to value and back for each type of configuration key. Whole texts only: trailing characters are a fault. */
#include "common/config_value.h"

#include <inttypes.h>
#include <stdio.h>
#include <strings.h>

#define BLANKS " \t,"

struct unit {
	const char *name;
	int64_t factor;
};

/* Rising, so that the last that divides is the shortest way to write a value. */
static const struct unit size_units[] = {{"", 1},        {"K", 1 << 10},          {"M", 1 << 20},
                                         {"G", 1 << 30}, {"T", INT64_C(1) << 40}, {NULL, 0}};
static const struct unit duration_units[] = {{"ms", 1000},      {"s", 1000000},     {"m", 60000000},
                                             {"h", 3600000000}, {"d", 86400000000}, {NULL, 0}};

static bool parse_bool(const char *s, bool *ret) {
	static const char *const words[][2] = {{"no", "yes"}, {"false", "true"}, {"off", "on"}, {"0", "1"}};
	for (size_t i = 0; i < array_len(words); i++) {
		for (int v = 0; v < 2; v++) {
			if (strcasecmp(s, words[i][v]) == 0) {
				*ret = v == 1;
				return true;
			}
		}
	}
	return false;
}

/* Digits, then one of the units; `plain` is the factor of a number without one. Overflow is a fault like any other. */
static bool parse_scaled(const char *s, const struct unit *units, int64_t plain, int64_t *ret) {
	int64_t v = 0, factor = plain;
	const char *p = s;
	for (; *p >= '0' && *p <= '9'; p++)
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *p - '0', &v))
			return false;
	if (p == s)
		return false;
	if (*p) {
		while (units->name && strcasecmp(p, units->name) != 0)
			units++;
		if (!units->name)
			return false;
		factor = units->factor;
	}
	return !__builtin_mul_overflow(v, factor, ret);
}

static bool parse_int(const char *s, int64_t *ret) {
	static const struct unit none[] = {{NULL, 0}};
	bool negative = *s == '-';
	if (!parse_scaled(s + negative, none, 1, ret))
		return false;
	if (negative)
		*ret = -*ret;
	return true;
}

static void format_scaled(int64_t v, const struct unit *units, struct buf *out) {
	const struct unit *best = units;
	for (const struct unit *u = units; u->name; u++)
		if (v != 0 && v % u->factor == 0)
			best = u;
	buf_printf(out, "%" PRId64 "%s", v / best->factor, best->name);
}

static void format_number(const struct config_key *key, int64_t v, struct buf *out) {
	if (key->type == CONFIG_SIZE)
		format_scaled(v, size_units, out);
	else if (key->type == CONFIG_DURATION && v == 0)
		buf_append_str(out, "0s");
	else if (key->type == CONFIG_DURATION)
		format_scaled(v, duration_units, out);
	else
		buf_printf(out, "%" PRId64, v);
}

static int range_fault(const struct config_key *key, char ret_fault[CONFIG_FAULT_SIZE]) {
	struct buf text;
	buf_init(&text, CONFIG_FAULT_SIZE - 1);
	buf_append_str(&text, "out of range, want ");
	format_number(key, key->min, &text);
	buf_append_str(&text, " to ");
	format_number(key, key->max, &text);
	snprintf(ret_fault, CONFIG_FAULT_SIZE, "%s", text.data);
	buf_fini(&text);
	return -EINVAL;
}

static int parse_number(const struct config_key *key, const char *text, int64_t *member,
                        char ret_fault[CONFIG_FAULT_SIZE]) {
	const char *want = "want a whole number";
	int64_t v = 0;
	bool ok;
	if (key->type == CONFIG_SIZE) {
		ok = parse_scaled(text, size_units, 1, &v);
		want = "want a size like 512, 256K, 25M or 1G";
	} else if (key->type == CONFIG_DURATION) {
		ok = parse_scaled(text, duration_units, 1000000, &v);
		want = "want a duration like 300ms, 5s, 10m, 1h or 2d";
	} else {
		ok = parse_int(text, &v);
	}
	if (!ok) {
		snprintf(ret_fault, CONFIG_FAULT_SIZE, "%s", want);
		return -EINVAL;
	}
	if ((key->min || key->max) && (v < key->min || v > key->max))
		return range_fault(key, ret_fault);
	*member = v;
	return 0;
}

static char **parse_list(const char *text) {
	size_t n = 0;
	char **list = xcalloc(strlen(text) / 2 + 2, sizeof(*list));
	for (const char *p = text + strspn(text, BLANKS); *p; p += strspn(p, BLANKS)) {
		size_t len = strcspn(p, BLANKS);
		list[n++] = xstrndup(p, len);
		p += len;
	}
	return list;
}

int config_value_parse(const struct config_key *key, const char *text, void *member,
                       char ret_fault[CONFIG_FAULT_SIZE]) {
	switch (key->type) {
	case CONFIG_STRING:
	case CONFIG_SECRET:
		config_value_free(key, member);
		*(char **)member = xstrdup(text);
		return 0;
	case CONFIG_LIST:
		config_value_free(key, member);
		*(char ***)member = parse_list(text);
		return 0;
	case CONFIG_BOOL:
		if (parse_bool(text, member))
			return 0;
		snprintf(ret_fault, CONFIG_FAULT_SIZE, "want yes or no");
		return -EINVAL;
	case CONFIG_INT:
	case CONFIG_SIZE:
	case CONFIG_DURATION:
		return parse_number(key, text, member, ret_fault);
	}
	abort();
}

static void format_list(char *const *list, struct buf *out) {
	for (size_t i = 0; list && list[i]; i++)
		buf_printf(out, "%s%s", i ? ", " : "", list[i]);
}

void config_value_format(const struct config_key *key, const void *member, struct buf *out) {
	const char *s;
	switch (key->type) {
	case CONFIG_STRING:
		s = *(char *const *)member;
		buf_append_str(out, s ? s : "");
		break;
	case CONFIG_SECRET:
		s = *(char *const *)member;
		buf_append_str(out, s && *s ? "(set)" : "(not set)");
		break;
	case CONFIG_BOOL:
		buf_append_str(out, *(const bool *)member ? "yes" : "no");
		break;
	case CONFIG_LIST:
		format_list(*(char **const *)member, out);
		break;
	case CONFIG_INT:
	case CONFIG_SIZE:
	case CONFIG_DURATION:
		format_number(key, *(const int64_t *)member, out);
		break;
	}
}

static bool list_equal(char *const *a, char *const *b) {
	size_t i = 0;
	while (a[i] && b[i] && strcmp(a[i], b[i]) == 0)
		i++;
	return !a[i] && !b[i];
}

bool config_value_equal(const struct config_key *key, const void *a, const void *b) {
	switch (key->type) {
	case CONFIG_STRING:
	case CONFIG_SECRET:
		return strcmp(*(char *const *)a, *(char *const *)b) == 0;
	case CONFIG_BOOL:
		return *(const bool *)a == *(const bool *)b;
	case CONFIG_LIST:
		return list_equal(*(char **const *)a, *(char **const *)b);
	case CONFIG_INT:
	case CONFIG_SIZE:
	case CONFIG_DURATION:
		return *(const int64_t *)a == *(const int64_t *)b;
	}
	abort();
}

static size_t value_size(const struct config_key *key) {
	switch (key->type) {
	case CONFIG_BOOL:
		return sizeof(bool);
	case CONFIG_STRING:
	case CONFIG_SECRET:
	case CONFIG_LIST:
		return sizeof(void *);
	case CONFIG_INT:
	case CONFIG_SIZE:
	case CONFIG_DURATION:
		return sizeof(int64_t);
	}
	abort();
}

void config_value_swap(const struct config_key *key, void *a, void *b) {
	char tmp[8];
	size_t n = value_size(key);
	memcpy(tmp, a, n);
	memcpy(a, b, n);
	memcpy(b, tmp, n);
}

void config_value_free(const struct config_key *key, void *member) {
	if (key->type == CONFIG_SECRET && *(char **)member)
		explicit_bzero(*(char **)member, strlen(*(char **)member));
	if (key->type == CONFIG_LIST) {
		char **list = *(char ***)member;
		for (size_t i = 0; list && list[i]; i++)
			free(list[i]);
	}
	if (key->type == CONFIG_STRING || key->type == CONFIG_SECRET || key->type == CONFIG_LIST)
		free(*(void **)member);
	memset(member, 0, value_size(key));
}
