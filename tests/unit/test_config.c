/* config: values of every type, precedence, faults with their place, secrets, reload. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/buf.h"
#include "common/config.h"
#include "common/config_value.h"
#include "common/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

struct sample {
	char *name;
	char *password;
	bool fast;
	int64_t count, size, wait;
	char **listen;
	char *pid_file;
	char *pid;
};

#define KEY(member, type, ...)                                                                                         \
	{ #member, type, offsetof(struct sample, member), __VA_ARGS__ }
static const struct config_key keys[] = {
    KEY(name, CONFIG_STRING, "anon", 0, 0, true, "who"),
    KEY(password, CONFIG_SECRET, NULL, 0, 0, true, "secret"),
    KEY(fast, CONFIG_BOOL, "no", 0, 0, true, "quick"),
    KEY(count, CONFIG_INT, "3", 1, 10, false, "how many"),
    KEY(size, CONFIG_SIZE, "25M", 1024, 1 << 30, true, "how large"),
    KEY(wait, CONFIG_DURATION, "5s", 0, 3600000000, true, "how long"),
    KEY(listen, CONFIG_LIST, "127.0.0.1:25", 0, 0, true, "where"),
    KEY(pid_file, CONFIG_STRING, NULL, 0, 0, false, "pid file"),
    KEY(pid, CONFIG_STRING, NULL, 0, 0, false, "only here for its name"),
    {NULL, CONFIG_STRING, 0, NULL, 0, 0, false, NULL},
};

static char dir[64], out[8192];

static const char *path_of(const char *name) {
	static char path[128];
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void put_file(const char *name, const char *text, size_t n) {
	int fd = open(path_of(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, n), n);
	close(fd);
}

static void put_text(const char *name, const char *text) {
	put_file(name, text, strlen(text));
}

/* Runs config_load with standard output and error in `out`. */
static enum config_result load(struct sample *s, char ***rest, const char *const *args) {
	char *argv[16] = {(char *)(uintptr_t) "/usr/sbin/sample"};
	int argc = 1, saved[2] = {dup(1), dup(2)};
	static char *kept[16];
	while (args && args[argc - 1] && argc < 15) {
		argv[argc] = (char *)(uintptr_t)args[argc - 1];
		argc++;
	}
	memcpy(kept, argv, sizeof(kept)); /* config_reload() reads it again */
	fflush(NULL);
	int fd = open(path_of("out"), O_RDWR | O_CREAT | O_TRUNC, 0600);
	dup2(fd, 1);
	dup2(fd, 2);
	memset(s, 0, sizeof(*s));
	enum config_result r = config_load(keys, s, argc, kept, "sample: a test", rest);
	if (r == CONFIG_CHECK)
		config_print(keys, s);
	fflush(NULL);
	dup2(saved[0], 1);
	dup2(saved[1], 2);
	close(saved[0]);
	close(saved[1]);
	ssize_t n = pread(fd, out, sizeof(out) - 1, 0);
	out[n > 0 ? n : 0] = '\0';
	close(fd);
	return r;
}

static void clear_env(void) {
	static const char *const names[] = {"CONFIG", "NAME", "NAME_FILE", "PASSWORD", "PASSWORD_FILE", "FAST", "COUNT",
	                                    "SIZE",   "WAIT", "LISTEN",    "PID_FILE", "PID",           "OTHER"};
	for (size_t i = 0; i < array_len(names); i++) {
		char name[64];
		snprintf(name, sizeof(name), "MINUTEMAIL_%s", names[i]);
		unsetenv(name);
	}
}

struct value_row {
	enum config_type type;
	const char *text;
	int64_t want;
	const char *printed; /* NULL: a fault */
};

static const struct value_row value_rows[] = {
    {CONFIG_INT, "0", 0, "0"},
    {CONFIG_INT, "-12", -12, "-12"},
    {CONFIG_INT, "9223372036854775807", INT64_MAX, "9223372036854775807"},
    {CONFIG_INT, "9223372036854775808", 0, NULL},
    {CONFIG_INT, "", 0, NULL},
    {CONFIG_INT, "-", 0, NULL},
    {CONFIG_INT, "1x", 0, NULL},
    {CONFIG_INT, " 1", 0, NULL},
    {CONFIG_INT, "+1", 0, NULL},
    {CONFIG_SIZE, "512", 512, "512"},
    {CONFIG_SIZE, "256K", 262144, "256K"},
    {CONFIG_SIZE, "25m", 26214400, "25M"},
    {CONFIG_SIZE, "1G", 1073741824, "1G"},
    {CONFIG_SIZE, "2048K", 2097152, "2M"},
    {CONFIG_SIZE, "9000000T", 0, NULL},
    {CONFIG_SIZE, "-1", 0, NULL},
    {CONFIG_SIZE, "K", 0, NULL},
    {CONFIG_SIZE, "1KB", 0, NULL},
    {CONFIG_DURATION, "300ms", 300000, "300ms"},
    {CONFIG_DURATION, "5s", 5000000, "5s"},
    {CONFIG_DURATION, "7", 7000000, "7s"},
    {CONFIG_DURATION, "10m", 600000000, "10m"},
    {CONFIG_DURATION, "90m", 5400000000, "90m"},
    {CONFIG_DURATION, "1h", 3600000000, "1h"},
    {CONFIG_DURATION, "2d", 172800000000, "2d"},
    {CONFIG_DURATION, "0", 0, "0s"},
    {CONFIG_DURATION, "1w", 0, NULL},
    {CONFIG_DURATION, "1h30m", 0, NULL},
    {CONFIG_DURATION, "999999999999d", 0, NULL},
};

static void test_numbers(void **state) {
	for (size_t i = 0; i < array_len(value_rows); i++) {
		const struct value_row *row = &value_rows[i];
		struct config_key key = {.name = "x", .type = row->type};
		char why[CONFIG_FAULT_SIZE] = "";
		int64_t v = 42;
		struct buf b;
		buf_init(&b, 100);
		int r = config_value_parse(&key, row->text, &v, why);
		assert_int_equal(r, row->printed ? 0 : -EINVAL);
		assert_true(v == (row->printed ? row->want : 42));
		assert_true((row->printed != NULL) == (why[0] == '\0'));
		config_value_format(&key, &v, &b);
		if (row->printed)
			assert_string_equal(b.data, row->printed);
		buf_fini(&b);
	}
}

static void test_bools(void **state) {
	static const struct {
		const char *text;
		int want; /* -1: a fault */
	} rows[] = {{"yes", 1}, {"No", 0}, {"TRUE", 1}, {"false", 0}, {"on", 1},
	            {"off", 0}, {"1", 1},  {"0", 0},    {"", -1},     {"2", -1}};
	const struct config_key key = {.name = "x", .type = CONFIG_BOOL};
	for (size_t i = 0; i < array_len(rows); i++) {
		char why[CONFIG_FAULT_SIZE];
		bool v = false;
		assert_int_equal(config_value_parse(&key, rows[i].text, &v, why), rows[i].want < 0 ? -EINVAL : 0);
		assert_int_equal(v, rows[i].want > 0);
	}
}

static void test_lists(void **state) {
	static const struct {
		const char *text, *printed;
	} rows[] = {{"", ""}, {" , ,", ""}, {"a", "a"}, {"a,b", "a, b"}, {" a b\t, c ,", "a, b, c"}};
	const struct config_key key = {.name = "x", .type = CONFIG_LIST};
	for (size_t i = 0; i < array_len(rows); i++) {
		char why[CONFIG_FAULT_SIZE], **v = NULL;
		struct buf b;
		buf_init(&b, 100);
		assert_int_equal(config_value_parse(&key, rows[i].text, &v, why), 0);
		config_value_format(&key, &v, &b);
		assert_string_equal(b.data ? b.data : "", rows[i].printed);
		config_value_free(&key, &v);
		buf_fini(&b);
	}
}

static void test_defaults(void **state) {
	struct sample s;
	assert_int_equal(load(&s, NULL, NULL), CONFIG_OK);
	assert_string_equal(out, "");
	assert_string_equal(s.name, "anon");
	assert_string_equal(s.password, "");
	assert_string_equal(s.pid_file, "");
	assert_false(s.fast);
	assert_true(s.count == 3 && s.size == 26214400 && s.wait == 5000000);
	assert_string_equal(s.listen[0], "127.0.0.1:25");
	assert_null(s.listen[1]);
	config_fini(keys, &s);
	config_fini(keys, &s);
	assert_null(s.name);
}

static void test_precedence(void **state) {
	struct sample s;
	put_text("conf",
	         "# comment\n\n  name =  file # kept \r\ncount=4\nwait = 1m\nfast = yes\nlisten = a, b\npassword = f\n");
	put_text("secret", "from file\n");
	setenv("MINUTEMAIL_CONFIG", path_of("conf"), 1);
	setenv("MINUTEMAIL_COUNT", "5", 1);
	setenv("MINUTEMAIL_WAIT", "2m", 1);
	setenv("MINUTEMAIL_PASSWORD_FILE", path_of("secret"), 1);
	setenv("MINUTEMAIL_PID_FILE", "/run/x.pid", 1);
	setenv("MINUTEMAIL_OTHER", "of another daemon", 1);
	static const char *const args[] = {"--wait=3m", "--listen", "c", "--wait", "4m", "--pid-file=/run/y.pid", NULL};
	assert_int_equal(load(&s, NULL, args), CONFIG_OK);
	assert_string_equal(s.name, "file # kept");
	assert_true(s.count == 5 && s.wait == 240000000 && s.fast);
	assert_string_equal(s.listen[0], "c");
	assert_string_equal(s.password, "from file");
	assert_string_equal(s.pid_file, "/run/y.pid");
	assert_string_equal(s.pid, "");
	config_fini(keys, &s);
}

struct fault_row {
	const char *file; /* NULL: none */
	const char *args[3];
	const char *want; /* in the output */
};

static const struct fault_row fault_rows[] = {
    {"name = x\nnonsense\n", {NULL}, ":2: want key = value"},
    {"\n\nnam = x\n", {NULL}, ":3: unknown key \"nam\""},
    {"count = 11\n", {NULL}, ":1: count: \"11\": out of range, want 1 to 10"},
    {"size = 2G\n", {NULL}, "out of range, want 1K to 1G"},
    {"wait = soon\n", {NULL}, "want a duration"},
    {NULL, {"--count=x"}, "flag: count: \"x\": want a whole number"},
    {NULL, {"--nope=1"}, "unknown flag --nope"},
    {NULL, {"-x"}, "unknown flag -x"},
    {NULL, {"--name"}, "--name wants a value"},
    {NULL, {"--name", "--fast"}, "--name wants a value"},
    {NULL, {"--password=hunter2"}, "a secret may not be a flag"},
    {NULL, {"--fast=maybe"}, "want yes or no"},
    {NULL, {"--help=yes"}, "--help takes no value"},
    {NULL, {"stray"}, "unexpected argument \"stray\""},
    {NULL, {"--config", "/nonexistent/conf"}, "/nonexistent/conf: No such file"},
};

static void test_faults(void **state) {
	for (size_t i = 0; i < array_len(fault_rows); i++) {
		const struct fault_row *row = &fault_rows[i];
		const char *args[5] = {row->args[0], row->args[1], NULL};
		struct sample s;
		clear_env();
		if (row->file) {
			put_text("conf", row->file);
			setenv("MINUTEMAIL_CONFIG", path_of("conf"), 1);
		}
		enum config_result r = load(&s, NULL, args);
		assert_true(r == CONFIG_BAD || strstr(row->args[0], "help"));
		if (!strstr(out, row->want))
			fail_msg("want \"%s\", got \"%s\"", row->want, out);
		assert_null(strstr(out, "hunter2"));
		config_fini(keys, &s);
	}
}

static void test_more_faults(void **state) {
	struct sample s;
	put_file("conf", "name = a\0b\n", 11);
	setenv("MINUTEMAIL_CONFIG", path_of("conf"), 1);
	setenv("MINUTEMAIL_PASSWORD", "hunter2", 1);
	setenv("MINUTEMAIL_PASSWORD_FILE", "/dev/null", 1);
	setenv("MINUTEMAIL_NAME_FILE", "/nonexistent/name", 1);
	assert_int_equal(load(&s, NULL, NULL), CONFIG_BAD);
	assert_non_null(strstr(out, ":1: NUL in the line"));
	assert_non_null(strstr(out, "MINUTEMAIL_PASSWORD and MINUTEMAIL_PASSWORD_FILE are both set"));
	assert_non_null(strstr(out, "MINUTEMAIL_NAME_FILE: /nonexistent/name: No such file"));
	assert_null(strstr(out, "hunter2"));
	config_fini(keys, &s);
}

static void test_printing(void **state) {
	struct sample s;
	static const char *const help[] = {"--help", NULL}, *const check[] = {"--check-config", "--fast", NULL},
	                         *const version[] = {"--version", NULL};
	setenv("MINUTEMAIL_PASSWORD", "hunter2", 1);
	assert_int_equal(load(&s, NULL, help), CONFIG_EXIT_OK);
	for (const struct config_key *key = keys; key->name; key++)
		assert_non_null(strstr(out, key->name));
	assert_non_null(strstr(out, "sample: a test\n"));
	assert_non_null(strstr(out, "MINUTEMAIL_COUNT"));
	assert_non_null(strstr(out, "default: 25M"));
	config_fini(keys, &s);
	assert_int_equal(load(&s, NULL, version), CONFIG_EXIT_OK);
	assert_int_equal(strncmp(out, "sample ", 7), 0);
	config_fini(keys, &s);
	assert_int_equal(load(&s, NULL, check), CONFIG_CHECK);
	assert_string_equal(out, "name = anon\npassword = (set)\nfast = yes\ncount = 3\nsize = 25M\nwait = 5s\n"
	                         "listen = 127.0.0.1:25\npid_file = \npid = \n");
	config_fini(keys, &s);
}

static void test_rest(void **state) {
	struct sample s;
	char **rest;
	static const char *const args[] = {"--fast", "key", "create", "--name", NULL},
	                         *const none[] = {"--fast", "no", NULL}, *const dashes[] = {"--", "--fast", NULL};
	assert_int_equal(load(&s, &rest, args), CONFIG_OK);
	assert_true(s.fast);
	assert_string_equal(rest[0], "key");
	assert_string_equal(rest[2], "--name");
	assert_null(rest[3]);
	config_fini(keys, &s);
	assert_int_equal(load(&s, &rest, none), CONFIG_OK);
	assert_false(s.fast);
	assert_null(rest[0]);
	config_fini(keys, &s);
	assert_int_equal(load(&s, &rest, dashes), CONFIG_OK);
	assert_string_equal(rest[0], "--fast");
	config_fini(keys, &s);
}

static char logged[2048];

static void sink(void *arg, enum log_level level, const char *line, size_t n) {
	(void)arg;
	(void)level;
	snprintf(logged, sizeof(logged), "%.*s", (int)n, line);
}

static void test_reload(void **state) {
	struct sample s;
	static const char *const args[] = {"--wait=9s", NULL};
	put_text("conf", "name = one\ncount = 4\npassword = p1\n");
	setenv("MINUTEMAIL_CONFIG", path_of("conf"), 1);
	assert_int_equal(load(&s, NULL, args), CONFIG_OK);
	logged[0] = '\0';
	assert_int_equal(config_reload(keys, &s), 0);
	assert_string_equal(logged, "");

	put_text("conf", "name = two\ncount = 5\nwait = 1s\nlisten = x y\npassword = p2\nfast = 1\n");
	assert_int_equal(config_reload(keys, &s), 0);
	assert_string_equal(s.name, "two");
	assert_string_equal(s.password, "p2");
	assert_string_equal(s.listen[1], "y");
	assert_true(s.fast && s.count == 4 && s.wait == 9000000);
	assert_non_null(strstr(logged, "count changes only at a restart"));

	put_text("conf", "name = three\nsize = big\n");
	assert_int_equal(config_reload(keys, &s), -EINVAL);
	assert_string_equal(s.name, "two");
	assert_non_null(strstr(logged, "want a size"));
	config_fini(keys, &s);
}

static void count_path(void *arg, const char *path) {
	assert_string_equal(path, path_of("conf"));
	++*(unsigned *)arg;
}

/* The last test: what is forgotten stays so. */
static void test_forget(void **state) {
	struct sample s;
	unsigned files = 0;
	put_text("conf", "count = 4\nname = two\n");
	setenv("MINUTEMAIL_CONFIG", path_of("conf"), 1);
	setenv("MINUTEMAIL_COUNT", "7", 1);
	setenv("MINUTEMAIL_NAME", "one", 1);
	setenv("MINUTEMAIL_OTHER_SECRET", "x", 1);
	assert_int_equal(load(&s, NULL, NULL), CONFIG_OK);
	const char *was = getenv("MINUTEMAIL_OTHER_SECRET");
	config_each_file(keys, count_path, &files);
	assert_int_equal(files, 1);
	config_forget(keys);
	assert_int_equal(*was, '\0');
	assert_null(getenv("MINUTEMAIL_OTHER_SECRET"));
	assert_null(getenv("MINUTEMAIL_COUNT"));
	assert_string_equal(getenv("MINUTEMAIL_NAME"), "one");
	logged[0] = '\0';
	assert_int_equal(config_reload(keys, &s), 0);
	assert_string_equal(logged, "");
	assert_int_equal(s.count, 7);
	assert_string_equal(s.name, "one");
	config_forget(NULL);
	assert_null(getenv("MINUTEMAIL_NAME"));
	config_fini(keys, &s);
}

static int set_up(void **state) {
	clear_env();
	return 0;
}

static int make_dir(void **state) {
	strcpy(dir, "/tmp/test_config.XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state) {
	static const char *const names[] = {"conf", "secret", "out"};
	for (size_t i = 0; i < array_len(names); i++)
		unlink(path_of(names[i]));
	return rmdir(dir);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_numbers),
	    cmocka_unit_test(test_bools),
	    cmocka_unit_test(test_lists),
	    cmocka_unit_test_setup(test_defaults, set_up),
	    cmocka_unit_test_setup(test_precedence, set_up),
	    cmocka_unit_test_setup(test_faults, set_up),
	    cmocka_unit_test_setup(test_more_faults, set_up),
	    cmocka_unit_test_setup(test_printing, set_up),
	    cmocka_unit_test_setup(test_rest, set_up),
	    cmocka_unit_test_setup(test_reload, set_up),
	    cmocka_unit_test_setup(test_forget, set_up),
	};
	log_set_sink(sink, NULL);
	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
