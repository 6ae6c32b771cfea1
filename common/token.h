/* Random secrets that are no API keys: of console sessions, of links to set a password, of invitations. 43 characters of
 * base64url for 256 random bits. At rest there is only BLAKE2b-256, keyed with the installation's secret, of what the token
 * is for and the token: one that was made for one use is nothing in another. Pure. */
#ifndef MINUTEMAIL_TOKEN_H
#define MINUTEMAIL_TOKEN_H

#include "common/base.h"

#define TOKEN_LEN 43
#define TOKEN_SIZE (TOKEN_LEN + 1)
#define TOKEN_HASH_LEN 32

enum token_use {
	TOKEN_SESSION,
	TOKEN_CSRF,       /* not random: the keyed hash of a session's id, as text */
	TOKEN_RESET,
	TOKEN_INVITATION,
	TOKEN_KNOWN,      /* not random: the keyed hash of an e-mail address */
};

void token_make(char ret[TOKEN_SIZE]);
/* `secret`: 32 octets. False: by its form it is no token. */
bool token_hash(enum token_use, struct slice token, const uint8_t secret[32], uint8_t ret[TOKEN_HASH_LEN]);
/* A token that whoever has the secret can make again from `what`. */
void token_derive(enum token_use, const void *what, size_t n, const uint8_t secret[32], char ret[TOKEN_SIZE]);
/* In constant time. */
bool token_equal(struct slice, const char token[TOKEN_SIZE]);

#endif
