/* Defaults, file, environment and flags into a daemon's struct, from one table. Blocking reads of small local files, at start-up
 * and at SIGHUP only. Values are never printed for secrets, faults included.
 *
 * Invariant: once defaults are applied every string and list member is non-NULL, and config_fini() may be called at any time. */
#include "common/config.h"

#include "common/buf.h"
#include "common/config_value.h"
#include "common/log.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>

#ifndef MINUTEMAIL_VERSION
#define MINUTEMAIL_VERSION "unknown"
#endif
#define ENV_PREFIX "MINUTEMAIL_"
#define VALUE_FILE_MAX 65536

struct flag {
	const struct config_key *key;
	const char *value;
};

struct load {
	const struct config_key *keys;
	char *config; /* the daemon's struct */
	const char *program;
	const char *file; /* --config; NULL: not given */
	struct flag *flags;
	size_t flags_n;
	bool help, version, check;
	bool to_log; /* a running daemon: faults go to the log */
	bool bad;
};

/* For config_reload(): the flags are given once. */
static int saved_argc;
static char **saved_argv;
static bool saved_rest;

/* By the key's place in the table: config_forget() has removed its variable, so a reload keeps the value. */
#define KEYS_MAX 256
static bool forgotten[KEYS_MAX];

printf_like(2, 3) static void fault(struct load *l, const char *fmt, ...) {
	char text[1024];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	l->bad = true;
	if (l->to_log)
		log_msg(LOG_LEVEL_ERROR, "configuration fault", "%s", text);
	else
		fprintf(stderr, "%s: %s\n", l->program, text);
}

static const char *program_of(char **argv) {
	const char *name = argv[0] ? argv[0] : "minutemail", *slash = strrchr(name, '/');
	return slash ? slash + 1 : name;
}

static void *member_of(const struct load *l, const struct config_key *key) {
	return l->config + key->offset;
}

/* `dashes`: a flag, where '-' stands for '_'. */
static const struct config_key *find_key(const struct load *l, const char *name, size_t n, bool dashes) {
	for (const struct config_key *key = l->keys; key->name; key++) {
		size_t i = 0;
		while (i < n && key->name[i] && key->name[i] == (dashes && name[i] == '-' ? '_' : name[i]))
			i++;
		if (i == n && !key->name[i])
			return key;
	}
	return NULL;
}

static void apply(struct load *l, const struct config_key *key, const char *text, const char *where) {
	char why[CONFIG_FAULT_SIZE];
	if (config_value_parse(key, text, member_of(l, key), why) == 0)
		return;
	if (key->type == CONFIG_SECRET)
		fault(l, "%s: %s: %s", where, key->name, why);
	else
		fault(l, "%s: %s: \"%.200s\": %s", where, key->name, text, why);
}

static void apply_defaults(struct load *l) {
	for (const struct config_key *key = l->keys; key->name; key++) {
		if (key->fallback)
			apply(l, key, key->fallback, "default");
		else if (key->type == CONFIG_STRING || key->type == CONFIG_SECRET || key->type == CONFIG_LIST)
			apply(l, key, "", "default");
	}
}

static char *trim(char *s) {
	s += strspn(s, " \t");
	size_t n = strlen(s);
	while (n && strchr(" \t\r\n", s[n - 1]))
		s[--n] = '\0';
	return s;
}

static void apply_line(struct load *l, const char *path, unsigned number, char *line) {
	char where[512];
	char *name = trim(line), *equals = strchr(name, '=');
	if (*name == '#' || !*name)
		return;
	snprintf(where, sizeof(where), "%s:%u", path, number);
	if (!equals) {
		fault(l, "%s: want key = value", where);
		return;
	}
	*equals = '\0';
	name = trim(name);
	const struct config_key *key = find_key(l, name, strlen(name), false);
	if (!key)
		fault(l, "%s: unknown key \"%.100s\"", where, name);
	else
		apply(l, key, trim(equals + 1), where);
}

/* Allocated. *ret_given: somebody named it, so it must exist. */
static char *file_path(const struct load *l, bool *ret_given) {
	const char *given = l->file ? l->file : getenv(ENV_PREFIX "CONFIG");
	*ret_given = given && *given;
	return *ret_given ? xstrdup(given) : xasprintf("/etc/minutemail/%s.conf", l->program);
}

static void apply_file(struct load *l) {
	char *line = NULL;
	size_t size = 0;
	ssize_t n;
	bool given;
	char *path = file_path(l, &given);
	FILE *f = fopen(path, "re");
	if (!f && (given || errno != ENOENT))
		fault(l, "%s: %s", path, strerror(errno));
	for (unsigned number = 1; f && (n = getline(&line, &size, f)) >= 0; number++) {
		if (strlen(line) != (size_t)n)
			fault(l, "%s:%u: NUL in the line", path, number);
		else
			apply_line(l, path, number, line);
	}
	if (f && ferror(f))
		fault(l, "%s: cannot read", path);
	if (f)
		fclose(f);
	if (line)
		explicit_bzero(line, size); /* it may have held a secret */
	free(line);
	free(path);
}

/* A file whose content, without its last line end, is the value. Returns it allocated; NULL: fault reported. */
static char *read_value_file(struct load *l, const char *variable, const char *path) {
	char *text = xmalloc(VALUE_FILE_MAX + 1);
	FILE *f = fopen(path, "re");
	size_t n = f ? fread(text, 1, VALUE_FILE_MAX + 1, f) : 0;
	bool read = f && !ferror(f), whole = n <= VALUE_FILE_MAX && !memchr(text, '\0', n);
	if (!read)
		fault(l, "%s: %s: %s", variable, path, strerror(errno));
	else if (!whole)
		fault(l, "%s: %s: too long, or not text", variable, path);
	if (f)
		fclose(f);
	if (read && whole) {
		while (n && (text[n - 1] == '\n' || text[n - 1] == '\r'))
			n--;
		text[n] = '\0';
		return text;
	}
	explicit_bzero(text, VALUE_FILE_MAX + 1);
	free(text);
	return NULL;
}

static void variable_name(const struct config_key *key, const char *suffix, char *ret, size_t size) {
	snprintf(ret, size, ENV_PREFIX "%s%s", key->name, suffix);
	for (char *p = ret; *p; p++)
		*p = (char)toupper((unsigned char)*p);
}

static void apply_variable(struct load *l, const struct config_key *key) {
	char name[128], file_name[128], with_file[128];
	variable_name(key, "", name, sizeof(name));
	variable_name(key, "_FILE", file_name, sizeof(file_name));
	const char *value = getenv(name), *path = getenv(file_name);
	/* MINUTEMAIL_PID_FILE is the key pid_file, not a file with the key pid. */
	snprintf(with_file, sizeof(with_file), "%s_file", key->name);
	if (find_key(l, with_file, strlen(with_file), false))
		path = NULL;
	if (value && path) {
		fault(l, "%s and %s are both set", name, file_name);
	} else if (path) {
		char *text = read_value_file(l, file_name, path);
		if (text) {
			apply(l, key, text, file_name);
			explicit_bzero(text, strlen(text));
		}
		free(text);
	} else if (value) {
		apply(l, key, value, name);
	}
}

static void apply_flags(struct load *l) {
	for (size_t i = 0; i < l->flags_n; i++)
		apply(l, l->flags[i].key, l->flags[i].value, "flag");
}

/* Flags that are not keys. */
static bool meta_flag(struct load *l, const char *name, size_t n, const char *value) {
	static const struct {
		const char *name;
		size_t offset;
	} rows[] = {{"help", offsetof(struct load, help)},
	            {"version", offsetof(struct load, version)},
	            {"check-config", offsetof(struct load, check)}};
	for (size_t i = 0; i < array_len(rows); i++) {
		if (strlen(rows[i].name) != n || memcmp(rows[i].name, name, n) != 0)
			continue;
		if (value)
			fault(l, "--%s takes no value", rows[i].name);
		*(bool *)((char *)l + rows[i].offset) = true;
		return true;
	}
	return false;
}

static bool is_bool_word(const char *s) {
	static const struct config_key key = {.name = "", .type = CONFIG_BOOL};
	char why[CONFIG_FAULT_SIZE];
	bool v;
	return s && config_value_parse(&key, s, &v, why) == 0;
}

/* One flag at argv[i], which starts with "--"; returns the index of the next argument. */
static int scan_flag(struct load *l, char **argv, int i) {
	const char *name = argv[i] + 2, *equals = strchr(name, '='), *value = equals ? equals + 1 : NULL,
	           *next = argv[i + 1];
	size_t n = equals ? (size_t)(equals - name) : strlen(name);
	if (meta_flag(l, name, n, value))
		return i + 1;
	bool is_file = n == 6 && memcmp(name, "config", 6) == 0;
	const struct config_key *key = is_file ? NULL : find_key(l, name, n, true);
	int used = 1;
	if (!key && !is_file) {
		fault(l, "unknown flag --%.*s (see --help)", (int)min_of(n, (size_t)100), name);
		return i + 1;
	}
	if (key && key->type == CONFIG_BOOL && !value && !is_bool_word(next))
		value = "yes";
	if (!value && next && strncmp(next, "--", 2) != 0) {
		value = next;
		used = 2;
	}
	if (!value)
		fault(l, "--%s wants a value", name);
	else if (is_file)
		l->file = value;
	else if (key->type == CONFIG_SECRET)
		fault(l, "--%s: a secret may not be a flag, which other users can see; use the environment or the file",
		      key->name);
	else
		l->flags[l->flags_n++] = (struct flag){key, value};
	return i + used;
}

/* Returns the first positional argument. */
static char **scan_flags(struct load *l, int argc, char **argv, bool rest) {
	int i = min_of(1, argc);
	l->flags = xcalloc((size_t)argc + 1, sizeof(*l->flags));
	while (argv[i]) {
		if (strcmp(argv[i], "--") == 0) {
			i++;
			break;
		}
		if (strcmp(argv[i], "-h") == 0)
			l->help = true;
		else if (strncmp(argv[i], "--", 2) == 0) {
			i = scan_flag(l, argv, i);
			continue;
		} else if (argv[i][0] == '-' && argv[i][1])
			fault(l, "unknown flag %.100s (see --help)", argv[i]);
		else
			break;
		i++;
	}
	if (argv[i] && !rest)
		fault(l, "unexpected argument \"%.100s\"", argv[i]);
	return &argv[i];
}

static void apply_all(struct load *l) {
	apply_defaults(l);
	apply_file(l);
	for (const struct config_key *key = l->keys; key->name; key++)
		apply_variable(l, key);
	apply_flags(l);
}

static void print_help(const struct load *l, const char *about, bool rest) {
	static const char *const types[] = {
	    [CONFIG_STRING] = "TEXT", [CONFIG_SECRET] = "SECRET",     [CONFIG_BOOL] = "yes|no", [CONFIG_INT] = "NUMBER",
	    [CONFIG_SIZE] = "SIZE",   [CONFIG_DURATION] = "DURATION", [CONFIG_LIST] = "LIST",
	};
	printf("%s\n\nUsage: %s [--config FILE] [--KEY=VALUE]...%s\n\n", about, l->program, rest ? " COMMAND..." : "");
	printf(
	    "Settings, from the lowest to the highest precedence: defaults, the file (key = value lines, # comments;\n"
	    "default /etc/minutemail/%s.conf), the environment (the variable named below, or the same with _FILE added,\n"
	    "naming a file that holds the value), flags. Keys marked * change at SIGHUP.\n\n",
	    l->program);
	for (const struct config_key *key = l->keys; key->name; key++) {
		char variable[128];
		if (!key->help)
			continue;
		variable_name(key, "", variable, sizeof(variable));
		printf("  %s%s  %s\n      %s\n      default: %s; environment: %s\n", key->name, key->reloadable ? " *" : "",
		       types[key->type], key->help, key->fallback && *key->fallback ? key->fallback : "none",
		       variable);
	}
	printf("\n  --check-config  print the effective settings and exit\n  --version       print the version and exit\n"
	       "  --help          this\n");
}

void config_print(const struct config_key *keys, const void *config) {
	struct buf text;
	buf_init(&text, SIZE_MAX);
	for (const struct config_key *key = keys; key->name; key++) {
		buf_printf(&text, "%s = ", key->name);
		config_value_format(key, (const char *)config + key->offset, &text);
		buf_append_char(&text, '\n');
	}
	if (text.len)
		fwrite(text.data, 1, text.len, stdout);
	buf_fini(&text);
}

static enum config_result load(struct load *l, int argc, char **argv, const char *about, char ***ret_rest) {
	char **rest = scan_flags(l, argc, argv, ret_rest != NULL);
	if (l->help || l->version) {
		if (l->help)
			print_help(l, about, ret_rest != NULL);
		else
			printf("%s %s\n", l->program, MINUTEMAIL_VERSION);
		return CONFIG_EXIT_OK;
	}
	apply_all(l);
	if (l->bad)
		return CONFIG_BAD;
	if (ret_rest)
		*ret_rest = rest;
	return l->check ? CONFIG_CHECK : CONFIG_OK;
}

enum config_result config_load(const struct config_key *keys, void *config, int argc, char **argv, const char *about,
                               char ***ret_rest) {
	struct load l = {.keys = keys, .config = config, .program = program_of(argv)};
	saved_argc = argc;
	saved_argv = argv;
	saved_rest = ret_rest != NULL;
	enum config_result r = load(&l, argc, argv, about, ret_rest);
	free(l.flags);
	return r;
}

static size_t struct_size(const struct config_key *keys) {
	size_t size = 0;
	for (; keys->name; keys++)
		size = max_of(size, keys->offset + sizeof(int64_t));
	return size;
}

static void take_over(const struct config_key *keys, char *old, char *fresh) {
	for (const struct config_key *key = keys; key->name; key++) {
		if (forgotten[key - keys] || config_value_equal(key, old + key->offset, fresh + key->offset))
			continue;
		if (key->reloadable)
			config_value_swap(key, old + key->offset, fresh + key->offset);
		else
			log_msg(LOG_LEVEL_WARNING, "ignoring changed setting", "%s changes only at a restart", key->name);
	}
}

int config_reload(const struct config_key *keys, void *config) {
	assert(saved_argv);
	struct load l = {.keys = keys, .program = program_of(saved_argv), .to_log = true};
	l.config = xcalloc(1, struct_size(keys));
	scan_flags(&l, saved_argc, saved_argv, saved_rest);
	apply_all(&l);
	if (!l.bad)
		take_over(keys, config, l.config);
	config_fini(keys, l.config);
	free(l.config);
	free(l.flags);
	return l.bad ? -EINVAL : 0;
}

void config_each_file(const struct config_key *keys, void (*fn)(void *arg, const char *path), void *arg) {
	assert(saved_argv);
	struct load l = {.keys = keys, .program = program_of(saved_argv), .to_log = true};
	bool given;
	scan_flags(&l, saved_argc, saved_argv, saved_rest);
	cleanup(freep) char *path = file_path(&l, &given);
	fn(arg, path);
	for (const struct config_key *key = keys; key->name; key++) {
		char name[128];
		variable_name(key, "_FILE", name, sizeof(name));
		const char *value = key->reloadable ? getenv(name) : NULL;
		if (value && *value)
			fn(arg, value);
	}
	free(l.flags);
}

/* Where the environment's own text is: /proc shows that memory, not what getenv() finds. */
static void wipe_variable(const char *name) {
	char *value = getenv(name);
	if (!value)
		return;
	explicit_bzero(value, strlen(value));
	unsetenv(name);
}

static bool needed_by_reload(const struct config_key *keys, const char *name) {
	char want[128];
	for (const struct config_key *key = keys; key && key->name; key++) {
		variable_name(key, "", want, sizeof(want));
		size_t n = strlen(want);
		if (key->reloadable && strncmp(name, want, n) == 0 && (!name[n] || strcmp(name + n, "_FILE") == 0))
			return true;
	}
	return strcmp(name, ENV_PREFIX "CONFIG") == 0 || strcmp(name, ENV_PREFIX "ALLOW_UNSAFE_DATABASE") == 0;
}

void config_forget(const struct config_key *keys) {
	extern char **environ;
	for (const struct config_key *key = keys; key && key->name; key++) {
		char name[128], file_name[128];
		variable_name(key, "", name, sizeof(name));
		variable_name(key, "_FILE", file_name, sizeof(file_name));
		assert(key - keys < KEYS_MAX);
		forgotten[key - keys] = !key->reloadable && (getenv(name) || getenv(file_name));
	}
	for (size_t i = 0; environ[i];) {
		char name[128];
		size_t n = strcspn(environ[i], "=");
		snprintf(name, sizeof(name), "%.*s", (int)min_of(n, sizeof(name) - 1), environ[i]);
		if (strncmp(name, ENV_PREFIX, strlen(ENV_PREFIX)) != 0 || n >= sizeof(name) || needed_by_reload(keys, name))
			i++;
		else
			wipe_variable(name); /* the next one takes its place */
	}
	if (!keys)
		wipe_variable("PGPASSWORD");
}

void config_fini(const struct config_key *keys, void *config) {
	for (const struct config_key *key = keys; key->name; key++)
		config_value_free(key, (char *)config + key->offset);
}
