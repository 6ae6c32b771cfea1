/* Which charset are 8-bit octets in that nobody declared and that are not UTF-8? Between the two that senders leave
 * out most often: windows-1251 (Cyrillic) and windows-1252 (Western). Not a language detector.
 *
 * What tells them apart is how letters stand together: Cyrillic words are made of octets above 0x7f only, Western
 * ones have one or two of them among ASCII letters ("Pr\xe4sident"). A letter that stands alone ("\xe0", "\xe8": words
 * in French and Italian as well as in Russian) says nothing. */
#include "common/text.h"

/* Letters of windows-1251 below 0xc0, one bit each: Ђ Ѓ ѓ Љ Њ Ќ Ћ Џ, ђ љ њ ќ ћ џ, Ў ў Ј Ґ Ё Є Ї, І і ґ ё є ј Ѕ ѕ ї. */
static const uint64_t letters_80 =
	UINT64_C(1) << 0x00 | UINT64_C(1) << 0x01 | UINT64_C(1) << 0x03 | UINT64_C(1) << 0x0a | UINT64_C(0xf) << 0x0c |
	UINT64_C(1) << 0x10 | UINT64_C(1) << 0x1a | UINT64_C(0xf) << 0x1c | UINT64_C(7) << 0x21 | UINT64_C(1) << 0x25 |
	UINT64_C(1) << 0x28 | UINT64_C(1) << 0x2a | UINT64_C(1) << 0x2f | UINT64_C(7) << 0x32 | UINT64_C(1) << 0x38 |
	UINT64_C(1) << 0x3a | UINT64_C(0xf) << 0x3c;

static bool is_high_letter(uint8_t c) {
	return c >= 0xc0 || (c >= 0x80 && (letters_80 >> (c - 0x80) & 1));
}

static bool is_ascii_letter(uint8_t c) {
	return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

const char *text_charset_guess(const char *p, size_t n) {
	size_t cyrillic = 0, western = 0, high = 0, basic = 0, ascii = 0; /* basic: А to я */
	for (size_t i = 0; i <= n; i++) {
		uint8_t c = i < n ? (uint8_t)p[i] : 0;
		if (is_ascii_letter(c)) {
			ascii++;
		} else if (is_high_letter(c)) {
			high++;
			basic += c >= 0xc0;
		} else { /* the word, if there was one, is over */
			if (ascii > 0)
				western += high;
			else if (high > 1 && basic > 0)
				cyrillic += high;
			high = basic = ascii = 0;
		}
	}
	return cyrillic > western ? "windows-1251" : "windows-1252";
}
