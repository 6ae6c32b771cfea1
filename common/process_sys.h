/* What master and workers ask of the system once: identity, the service manager, the pid file. Private to process.c and to the keeper of TLS
 * keys (tls_keys.c). */
#ifndef MINUTEMAIL_PROCESS_SYS_H
#define MINUTEMAIL_PROCESS_SYS_H

#include "common/base.h"

/* Becomes `user` with its groups for good, if this process is root and user is neither NULL nor "". -errno, logged. */
int process_drop_user(const char *user);
/* True, logged: this is root, and nobody has said which user to become; "root" is an answer. */
bool process_lacks_user(const char *user);
/* In a master that has started: of root's rights it keeps what a master needs (reading keys, binding ports, other users' children)
 * and it enters SANDBOX_MASTER. -errno, logged. `successor`: of a master that was confined. */
int process_confine_master(bool successor);
/* One datagram to $NOTIFY_SOCKET ("READY=1"), if there is one (sd_notify(3)). */
void process_notify(const char *state);
/* RELOADING=1 with the time that it wants with it; READY=1 ends it. */
void process_notify_reloading(void);
/* Our pid, by rename, so that a reader sees all of it or nothing. False: not written, logged. */
bool process_write_pid(const char *path);
void process_remove_pid(const char *path);
/* Logs a process that the file still names although there is none of that number any more: it has not removed the file. */
void process_report_stale_pid(const char *path);

#endif
