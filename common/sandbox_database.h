/* What a process in a sandbox needs so that libpq can connect, and connect again. */
#ifndef MINUTEMAIL_SANDBOX_DATABASE_H
#define MINUTEMAIL_SANDBOX_DATABASE_H

struct sandbox;

/* The ports, certificates and password file that a connection string names, or that libpq takes from its environment or from
 * the home directory; /etc for look-ups if a host is a name, since the files of libc there are replaced now and then. */
void sandbox_may_use_database(struct sandbox *, const char *conninfo);

#endif
