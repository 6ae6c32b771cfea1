/* Mailbox syntax (RFC 5321 4.1.2, RFC 6531 3.3) and the one canonical form by which mail is looked up. Pure. */
#ifndef MINUTEMAIL_ADDRESS_H
#define MINUTEMAIL_ADDRESS_H

#include "common/base.h"

#define ADDRESS_LOCAL_MAX 64     /* octets, RFC 5321 4.5.3.1.1 */
#define ADDRESS_DOMAIN_MAX 255   /* 4.5.3.1.2 */
#define ADDRESS_PATH_MAX 256     /* 4.5.3.1.3, with the angle brackets */
#define ADDRESS_MAX (ADDRESS_LOCAL_MAX + 1 + ADDRESS_DOMAIN_MAX)
#define ADDRESS_LITERAL_SIZE 56  /* "[IPv6:…]" and its NUL */

enum address_result {
	ADDRESS_OK,
	ADDRESS_BAD_SYNTAX,
	ADDRESS_TOO_LONG,
	ADDRESS_NON_ASCII,       /* needs SMTPUTF8 and it was not given */
	ADDRESS_BAD_IDNA,        /* libidn2 refuses the domain */
};

enum address_kind { ADDRESS_NULL /* <> */, ADDRESS_DOMAIN, ADDRESS_LITERAL, ADDRESS_POSTMASTER /* <Postmaster>, no domain */ };

struct address {
	enum address_kind kind;
	bool utf8;                               /* an octet over 0x7f was seen */
	char raw[ADDRESS_MAX + 4];               /* as given, without brackets and source route; NUL-terminated */
	char local[ADDRESS_LOCAL_MAX + 1];       /* quoted-string undone, case kept */
	char domain[ADDRESS_DOMAIN_MAX + 1];     /* lower-case A-label form, no trailing dot; "[1.2.3.4]", "[IPv6:::1]" */
	char canonical[ADDRESS_MAX + 1];         /* local: +detail cut, ASCII lower case, NFC; '@'; domain. "" for <> and literals,
	                                          * "postmaster" for <Postmaster> */
};

/* One path without its angle brackets: "a@b", "\"a b\"@c", "@r1,@r2:u@d" (the route is dropped), "u@[IPv6:…]", "". `utf8`: SMTPUTF8
 * applies. `recipient`: a forward path, where `<Postmaster>` is accepted in any case, and a label "xn--…" must be an A-label
 * (RFC 5890 2.3.2.1); senders have domains that IDNA2008 has no place for. */
enum address_result address_parse(const char *s, size_t n, bool utf8, bool recipient, struct address *ret);

/* An address as the domain of an address literal, in the form that address_parse() gives. "" for NETADDR_NONE. */
struct netaddr;
void address_format_literal(const struct netaddr *, char ret[ADDRESS_LITERAL_SIZE]);

/* A domain name as configured or as in the API: to its lower-case A-label. -EINVAL: not a name, or a false A-label. */
int address_canonical_domain(const char *s, size_t n, char ret[ADDRESS_DOMAIN_MAX + 1]);
/* A person's e-mail address in the one spelling by which it is stored and found: the local part in lower case (a +detail stays), the
 * domain as A-labels. -EINVAL: not one. */
int address_canonical_email(const char *s, size_t n, char ret[ADDRESS_MAX + 1]);
/* An alias a client may create: dot-atom, 1..64 octets, ASCII, no '+'; stored lower-case into ret. -EINVAL. */
int address_canonical_alias(const char *s, size_t n, char ret[ADDRESS_LOCAL_MAX + 1]);
/* <Postmaster>, and postmaster or abuse of any domain: to be reached whatever else is refused (RFC 5321 4.5.1, RFC 2142 5). */
bool address_is_role(const struct address *);
/* Whether a canonical address is postmaster's of a domain. */
bool address_is_postmaster(struct slice canonical);
/* postmaster, abuse, hostmaster, webmaster, mailer-daemon, noreply. */
bool address_alias_reserved(const char *canonical_alias);

#endif
