/* TLS for a daemon of several workers, with the private keys in none of them.
 *
 *   master ── "reload" ──► keeper ── forks ──► signer (the keys; no files, no network, no rights; seccomp)
 *     └ workers ══════ a socket pair each ══════┘   certificates down, "sign this" up
 *
 * The keeper is forked first of all and, if certificates are configured, stays who the master was at that moment (root, if it was), so
 * that a reload can read what only root may: its whole input is one octet, "read the files again". Each load is a new child that reads
 * and checks; the first becomes the unprivileged user, locks itself up and is the signer, later ones hand it what they have read. One
 * that fails leaves everything as it was. A signer that dies is replaced as it was made. Workers keep serving while the keeper is gone;
 * only a reload is not possible then. With both gone there is no TLS and mail comes in clear, until the daemon is started anew. */
#ifndef MINUTEMAIL_TLS_KEYS_H
#define MINUTEMAIL_TLS_KEYS_H

#include "common/base.h"

struct loop;
struct metrics;
struct tls;
struct tls_keys;
struct tls_set;

struct tls_keys_options {
	const char *name;             /* of the daemon: "smtpd" */
	char *const *certificates;    /* as tls_load() takes them, NULL at the end; read at each load */
	const char *self_signed_dir;  /* used when there are none; "": no TLS then */
	const char *hostname;         /* of the self-signed one */
	const char *user;             /* the signer's; "" or NULL: as we are */
	unsigned workers;
	void (*forget)(void *arg);    /* in the keeper: wipe what is none of its business; NULL: nothing */
	void *arg;
	const char *alpn;             /* the one protocol spoken, for clients that offer a choice (RFC 7301); NULL: what they say is ignored */
};

/* In the master, before any other fork and before it gives up its rights: forks the keeper and waits for its first load. A
 * certificate that has expired is served at the start, with a warning. *ret is NULL if there is no TLS: nothing is configured, or
 * the self-signed certificate cannot be made (a warning says why). -errno: a configured one cannot be used; it was logged. The
 * options are borrowed for the life of the daemon. */
int tls_keys_start(const struct tls_keys_options *, struct tls_keys **ret);
/* In the master: at SIGHUP. Returns at once; workers get what was loaded from the signer. A failure is logged by the signer. NULL is
 * fine. */
void tls_keys_reload(struct tls_keys *);
/* In the master, now and then: says so once if the keeper has died. NULL is fine. */
void tls_keys_look(struct tls_keys *);
/* In a process that serves no TLS: closes all of it. NULL is fine, and returned. In the master: the keeper and the signer end. */
struct tls_keys *tls_keys_free(struct tls_keys *);

/* In worker number `worker`: its end of it, the others' closed. Waits a moment for the certificates; without them it starts, and
 * they come when there are any. Worker 0 keeps the gauge at the seconds until the first certificate expires, and logs a warning
 * when 21, 7 and 1 days are left. */
struct tls *tls_open(struct tls_keys *, struct loop *, unsigned worker, struct metrics *, unsigned expiry_gauge);
/* After the last stream that uses it. NULL is fine, and returned. */
struct tls *tls_close(struct tls *);
/* What a handshake can be started with now, borrowed until the next turn (a stream takes a reference of its own); NULL: no
 * certificate, or nobody to sign with its key. */
struct tls_set *tls_usable(struct tls *);

#endif
