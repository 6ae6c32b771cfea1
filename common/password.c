#include "common/password.h"

#include <sodium.h>
#include <stdio.h>
#include <strings.h>

_Static_assert(PASSWORD_HASH_SIZE == crypto_pwhash_STRBYTES, "libsodium's text");

/* The commonest of 12 octets or more in the lists of what was found in breaches: what a guesser tries first. No rule about
 * kinds of characters: those make people choose Password1234!, which is in the list. */
static const char *const COMMON[] = {
    "123456789012", "1234567890123", "12345678901234", "123456789abc", "1q2w3e4r5t6y", "1qaz2wsx3edc", "1qaz2wsx3edc4rfv",
    "abcdefghijkl", "administrator", "adminadminadmin", "changeme1234", "changemenow1", "iloveyou1234", "letmein12345",
    "password1234", "password12345", "password123456", "password1234!", "passwordpassword", "qazwsxedcrfv", "qwerty123456",
    "qwertyuiop12", "qwertyuiop123", "qwertyuiopasdfgh", "qwertyuiopasdf", "welcome12345", "correcthorsebatterystaple",
    "minutemail12", "minutemail123", "minutemail1234",
};

static bool is_common(struct slice password) {
	for (size_t i = 0; i < array_len(COMMON); i++) {
		if (strlen(COMMON[i]) == password.n && strncasecmp(COMMON[i], password.p, password.n) == 0)
			return true;
	}
	return false;
}

static unsigned distinct(struct slice s) {
	bool seen[256] = {false};
	unsigned n = 0;
	for (size_t i = 0; i < s.n; i++) {
		n += !seen[(uint8_t)s.p[i]];
		seen[(uint8_t)s.p[i]] = true;
	}
	return n;
}

const char *password_fault(struct slice password, const char *email) {
	if (password.n < PASSWORD_LEAST)
		return "a password has 12 octets or more";
	if (password.n > PASSWORD_MOST)
		return "a password has 1024 octets at the most";
	if (distinct(password) < 5)
		return "that password repeats a few characters";
	if (is_common(password))
		return "that password is among the first that are guessed";
	if (strlen(email) == password.n && strncasecmp(email, password.p, password.n) == 0)
		return "a password is not the e-mail address";
	return NULL;
}

int password_hash(struct slice password, const struct password_cost *cost, char ret[PASSWORD_HASH_SIZE]) {
	return crypto_pwhash_str_alg(ret, password.p, password.n, cost->passes, cost->memory, crypto_pwhash_ALG_ARGON2ID13) < 0
	           ? -ENOMEM
	           : 0;
}

bool password_verify(struct slice password, const char *hash, const struct password_cost *cost) {
	char nobody[PASSWORD_HASH_SIZE];
	snprintf(nobody, sizeof(nobody),
	         "$argon2id$v=19$m=%zu,t=%u,p=1$c29tZSBzYWx0IG9mIG91cg$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
	         cost->memory / 1024, cost->passes);
	bool same = crypto_pwhash_str_verify(hash ? hash : nobody, password.p, password.n) == 0;
	return hash && same;
}

bool password_hash_is_old(const char *hash, const struct password_cost *cost) {
	return crypto_pwhash_str_needs_rehash(hash, cost->passes, cost->memory) != 0;
}
