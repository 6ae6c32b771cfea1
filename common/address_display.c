/* One label after the other; see the header. */
#include "common/address_display.h"

#include "common/address.h"

#include <idn2.h>
#include <strings.h>
#include <unictype.h>
#include <unistr.h>

#define LABEL_TEXT_MAX (63 * 4 + 1)

/* ---- scripts ---- */

/* Sets that a character of such a script may be in beside its own (UTS #39, table 1a). */
enum augmented {
	HAN_WITH_BOPOMOFO = 1,
	JAPANESE = 2,
	KOREAN = 4,
	ALL_AUGMENTED = 7,
};

static unsigned augmented_by(const char *script) {
	static const struct {
		const char *script;
		unsigned sets;
	} rows[] = {
		{"Han", ALL_AUGMENTED}, {"Hiragana", JAPANESE}, {"Katakana", JAPANESE}, {"Hangul", KOREAN}, {"Bopomofo", HAN_WITH_BOPOMOFO},
	};
	for (size_t i = 0; i < array_len(rows); i++)
		if (strcmp(script, rows[i].script) == 0)
			return rows[i].sets;
	return 0;
}

static bool single_script(const uint8_t *s, size_t n) {
	const uc_script_t *first = NULL;
	bool same = true;
	unsigned sets = ALL_AUGMENTED;
	ucs4_t c;
	for (size_t i = 0; i < n;) {
		i += (size_t)u8_mbtoucr(&c, s + i, n - i);
		const uc_script_t *script = uc_script(c);
		if (!script)
			return false;
		if (strcmp(script->name, "Common") == 0 || strcmp(script->name, "Inherited") == 0)
			continue;
		same &= !first || script == first;
		first = script;
		sets &= augmented_by(script->name);
	}
	return same || sets;
}

/* ---- labels ---- */

/* The U-label of an A-label, or NULL: it has none that may be shown. */
static char *shown(const char *a_label) {
	char *u_label = NULL, *again = NULL;
	bool ok = idn2_to_unicode_8z8z(a_label, &u_label, 0) == IDN2_OK &&
	          idn2_to_ascii_8z(u_label, &again, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) == IDN2_OK && strcasecmp(again, a_label) == 0 &&
	          u8_check((const uint8_t *)u_label, strlen(u_label)) == NULL && single_script((const uint8_t *)u_label, strlen(u_label));
	char *ret = ok ? xstrdup(u_label) : NULL;
	idn2_free(again);
	idn2_free(u_label);
	return ret;
}

static void append_label(struct buf *out, const char *p, size_t n) {
	char label[LABEL_TEXT_MAX];
	cleanup(freep) char *u_label = NULL;
	if (n > 4 && n < sizeof(label) && strncasecmp(p, "xn--", 4) == 0) {
		memcpy(label, p, n);
		label[n] = '\0';
		u_label = shown(label);
	}
	if (u_label)
		buf_append_str(out, u_label);
	else
		buf_append(out, p, n);
}

static void append_domain(struct buf *out, const char *p, size_t n) {
	char domain[ADDRESS_DOMAIN_MAX + 1];
	if (address_canonical_domain(p, n, domain) < 0) {
		buf_append(out, p, n);
		return;
	}
	for (const char *label = domain;; label++) {
		size_t len = strcspn(label, ".");
		append_label(out, label, len);
		label += len;
		if (!*label)
			return;
		buf_append_char(out, '.');
	}
}

/* Where the domain begins. */
static size_t domain_at(const char *p, size_t n) {
	const char *at = n ? memrchr(p, '@', n) : NULL;
	return at ? (size_t)(at + 1 - p) : 0;
}

void address_append_display(struct buf *out, const char *p, size_t n) {
	size_t local = domain_at(p, n);
	buf_append(out, p, local);
	if (address_display_differs(p, n))
		append_domain(out, p + local, n - local);
	else
		buf_append(out, p + local, n - local);
}

bool address_display_differs(const char *p, size_t n) {
	for (size_t i = domain_at(p, n); i < n; i++)
		if ((unsigned char)p[i] >= 0x80 || (n - i > 4 && strncasecmp(p + i, "xn--", 4) == 0))
			return true;
	return false;
}
