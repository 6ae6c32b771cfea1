/* Configuration: one const table of keys fills a struct from, in rising order of precedence, defaults, a file
 * (`key = value` lines, `#` comments), environment (MINUTEMAIL_KEY, or MINUTEMAIL_KEY_FILE naming a file with the value)
 * and flags (--key=value or --key value, '_' written '-'; the last of one key wins; a bool alone means yes). --help and
 * --check-config come from the same table. A value in both variables of one key is a fault. */
#ifndef MINUTEMAIL_CONFIG_H
#define MINUTEMAIL_CONFIG_H

#include "common/base.h"

enum config_type {
	CONFIG_STRING,   /* char *, owned by the struct */
	CONFIG_SECRET,   /* char *, owned, wiped by config_fini, never printed; flag form refused (ps shows it) */
	CONFIG_BOOL,     /* bool: yes/no/true/false/on/off/1/0 */
	CONFIG_INT,      /* int64_t within min..max */
	CONFIG_SIZE,     /* int64_t octets: 25M, 256K, 1G, plain */
	CONFIG_DURATION, /* int64_t microseconds: 300ms, 5s, 10m, 1h, 2d; plain number: seconds */
	CONFIG_LIST,     /* char **, NULL-terminated, owned; comma or blank separated */
};

struct config_key {
	const char *name;      /* lower case with underscores */
	enum config_type type;
	size_t offset;         /* of the member in the daemon's struct */
	const char *fallback;  /* as text; NULL: "" / empty list / 0 */
	int64_t min, max;      /* for INT, SIZE, DURATION (DURATION in microseconds); both 0: no bound */
	bool reloadable;       /* SIGHUP may change it */
	const char *help;      /* one line, units included; NULL: for our tests, not shown */
};

enum config_result {
	CONFIG_OK,      /* run */
	CONFIG_CHECK,   /* --check-config: judge what the table cannot say (config_check.h), then config_print() instead of running */
	CONFIG_EXIT_OK, /* --help or --version did their work and printed */
	CONFIG_BAD,     /* one line per fault was printed to standard error, each naming the key and where it came from */
};

/* Fills `config` (zeroed by the caller). `keys` ends with a row whose name is NULL. An unknown key in the file or in a flag is a fault;
 * unknown MINUTEMAIL_ variables are ignored, since daemons share an environment. The file is --config PATH, or MINUTEMAIL_CONFIG, or
 * /etc/minutemail/PROGRAM.conf, which may be missing. String and list members are never NULL afterwards. Call config_fini() whatever the
 * result. `about` is the first line of --help. Positional arguments are refused unless ret_rest is non-NULL (then it points into argv at
 * the first one, NULL-terminated). */
enum config_result config_load(const struct config_key *keys, void *config, int argc, char **argv, const char *about,
                               char ***ret_rest);
/* What is in force, one "key = value" a line, on standard output; secrets only as being there. */
void config_print(const struct config_key *keys, const void *config);
/* Reads file and environment again (flags still win) into a second struct; rows not reloadable keep the old value, and are
 * named in a warning when they differ. -EINVAL: nothing changed, faults logged. Strings that changed are freed: borrow no
 * reloadable string for longer than a turn. What the daemon itself wrote into a member after config_load() counts as a
 * difference. */
int config_reload(const struct config_key *keys, void *config);
void config_fini(const struct config_key *keys, void *config);

/* Calls back with each file that a reload reads: the configuration file, whether it exists or not, and those of reloadable keys. */
void config_each_file(const struct config_key *keys, void (*fn)(void *arg, const char *path), void *arg);
/* For a process that needs no more than its struct: wipes all MINUTEMAIL_ variables from the environment and from /proc, except
 * those of reloadable keys. A later reload keeps the values that came from the others. NULL: all of them, and PGPASSWORD. */
void config_forget(const struct config_key *keys);

#endif
