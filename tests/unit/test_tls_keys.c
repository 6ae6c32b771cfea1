/* tls_keys: keeper, signer and worker as they are, the worker being this process: signatures of every kind by the signer, reloads
 * that are good and bad, a signer that dies and one that hangs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/log.h"
#include "common/loop.h"
#include "common/metrics.h"
#include "common/tls_keys_impl.h"

#include "tls_test.h"

#include <openssl/pem.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct metrics_def defs[] = {{"expiry", METRICS_GAUGE, "", NULL}, {NULL, METRICS_COUNTER, NULL, NULL}};

struct fixture {
	char dir[64];
	char *certificates[3];
	struct tls_keys_options options;
	struct tls_keys *keys;
	struct metrics *metrics;
	struct loop *loop;
	struct tls *tls;
	struct timer tick;
};

static void on_tick(void *arg) {
}

static void write_pair(struct fixture *f, const char *file, const char *name, bool rsa, int64_t days) {
	struct tls_pair p = make_pair(name, rsa, days);
	cleanup(freep) char *path = xasprintf("%s/%s", f->dir, file);
	FILE *out = fopen(path, "w");
	PEM_write_X509(out, p.leaf);
	PEM_write_PrivateKey(out, p.key, NULL, NULL, 0, NULL, NULL);
	fclose(out);
	tls_pair_fini(&p);
}

/* Worker and master are one here: the control stays open. */
static void open_worker(struct fixture *f) {
	int control = dup(f->keys->control);
	f->metrics = metrics_new(defs, 1);
	f->loop = loop_new();
	timer_init(&f->tick, f->loop, on_tick, NULL);
	f->tls = tls_open(f->keys, f->loop, 0, f->metrics, 0);
	f->keys->control = control;
}

static void begin(struct fixture *f, bool configured) {
	*f = (struct fixture){.dir = "/tmp/minutemail-keys-XXXXXX"};
	assert_non_null(mkdtemp(f->dir));
	if (configured) {
		f->certificates[0] = xasprintf("%s/ec.pem", f->dir);
		f->certificates[1] = xasprintf("%s/rsa.pem", f->dir);
		write_pair(f, "ec.pem", "mx.example.org", false, 100);
		write_pair(f, "rsa.pem", "mx.example.org", true, 100);
	}
	f->options = (struct tls_keys_options){"test", f->certificates, f->dir, "self.example.org", "", 1};
	assert_int_equal(tls_keys_start(&f->options, &f->keys), 0);
	assert_non_null(f->keys);
	open_worker(f);
}

static void end(struct fixture *f) {
	tls_close(f->tls);
	timer_fini(&f->tick);
	loop_free(f->loop);
	metrics_free(f->metrics);
	tls_keys_free(f->keys);
	cleanup(freep) char *command = xasprintf("rm -rf '%s'", f->dir);
	assert_int_equal(system(command), 0);
	free(f->certificates[0]);
	free(f->certificates[1]);
}

/* Turns until the set in use is another, or nobody serves any more, or about ten seconds. */
static struct tls_set *await_change(struct fixture *f, const struct tls_set *from) {
	struct tls_set *now = NULL;
	for (int i = 0; i < 2000; i++) {
		timer_arm(&f->tick, 5000);
		loop_turn(f->loop);
		now = tls_usable(f->tls);
		if (now && now != from)
			return now;
	}
	return now;
}

static pid_t signer_of(const struct fixture *f) {
	cleanup(freep) char *path = xasprintf("/proc/%d/task/%d/children", f->keys->keeper, f->keys->keeper);
	FILE *in = fopen(path, "r");
	int pid = 0;
	assert_non_null(in);
	assert_int_equal(fscanf(in, "%d", &pid), 1);
	fclose(in);
	return pid;
}

static void test_signatures(void **state) {
	static const struct {
		const char *sigalgs, *ciphers;
		int version;
		bool rsa;
	} rows[] = {
		{"ECDSA+SHA256", NULL, TLS1_3_VERSION, false},
		{"RSA-PSS+SHA256", NULL, TLS1_3_VERSION, true},
		{"RSA-PSS+SHA512", NULL, TLS1_3_VERSION, true},
		{"ECDSA+SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256", TLS1_2_VERSION, false},
		{"RSA+SHA256", "ECDHE-RSA-AES128-GCM-SHA256", TLS1_2_VERSION, true},
		{"RSA+SHA512", "ECDHE-RSA-AES128-GCM-SHA256", TLS1_2_VERSION, true},
		{"RSA-PSS+SHA256", "ECDHE-RSA-AES128-GCM-SHA256", TLS1_2_VERSION, true},
	};
	struct fixture f;
	begin(&f, true);
	for (size_t i = 0; i < array_len(rows); i++) {
		struct outcome o = meet_once(tls_usable(f.tls), &(struct offer){NULL, rows[i].sigalgs, rows[i].ciphers, rows[i].version, NULL});
		assert_true(o.done);
		assert_int_equal(o.rsa, rows[i].rsa);
	}
	int64_t left = metrics_sum(f.metrics, 0);
	assert_true(left > 99 * 86400 && left <= 100 * 86400);
	end(&f);
}

/* What a worker may have signed is what TLS signs. */
static void test_refused(void **state) {
	static const struct {
		enum tls_op op;
		uint32_t len;
		uint8_t first, last;
		bool rsa;
		int result;
	} rows[] = {
		{TLS_OP_RSA_PKCS1, 51, 0x30, 0, true, 0},
		{TLS_OP_RSA_PKCS1, 51, 0x00, 0, true, -EINVAL},
		{TLS_OP_RSA_PKCS1, 200, 0x30, 0, true, -EINVAL},
		{TLS_OP_RSA_PSS, 256, 0x00, 0xbc, true, 0},
		{TLS_OP_RSA_PSS, 256, 0x00, 0x01, true, -EINVAL},
		{TLS_OP_RSA_PSS, 255, 0x00, 0xbc, true, -EINVAL},
		{TLS_OP_RSA_PSS, 256, 0xff, 0xbc, true, -EINVAL}, /* not below the modulus */
		{TLS_OP_ECDSA, 32, 1, 1, true, -EINVAL},
		{TLS_OP_ECDSA, 32, 1, 1, false, 0},
		{TLS_OP_ECDSA, 0, 0, 0, false, -EINVAL},
		{TLS_OP_ECDSA, 65, 1, 1, false, -EINVAL},
		{TLS_OP_RSA_PKCS1, 51, 0x30, 0, false, -EINVAL},
		{TLS_OP_CERTIFICATES, 1, 0, 0, false, -EINVAL},
		{99, 1, 0, 0, true, -EINVAL},
	};
	struct tls_pair ec = make_pair("a.example", false, 1), rsa = make_pair("a.example", true, 1);
	for (size_t i = 0; i < array_len(rows); i++) {
		struct tls_request q = {.op = rows[i].op, .len = rows[i].len};
		uint8_t signature[TLS_SIGN_MAX];
		uint32_t len;
		q.data[0] = rows[i].first;
		if (rows[i].len > 1)
			q.data[rows[i].len - 1] = rows[i].last;
		assert_int_equal(tls_signer_sign(rows[i].rsa ? rsa.key : ec.key, &q, signature, &len), rows[i].result);
	}
	tls_pair_fini(&ec);
	tls_pair_fini(&rsa);
}

static void test_reload(void **state) {
	struct fixture f;
	begin(&f, true);
	struct tls_set *first = tls_set_ref(tls_usable(f.tls));
	/* A key that is not the certificate's: everything stays. */
	write_pair(&f, "ec.pem", "new.example.org", false, 100);
	cleanup(freep) char *command = xasprintf("sed -i '/PRIVATE/,/PRIVATE/d' %s/rsa.pem", f.dir);
	assert_int_equal(system(command), 0);
	pid_t signer = signer_of(&f);
	tls_keys_reload(f.keys);
	for (int i = 0; i < 60; i++) {
		timer_arm(&f.tick, 5000);
		loop_turn(f.loop);
	}
	assert_int_equal(signer_of(&f), signer);
	struct outcome o = meet_once(tls_usable(f.tls), &(struct offer){0});
	assert_true(o.done);
	assert_string_equal(o.cn, "mx.example.org");
	/* An expired one: refused as well, since there is a better one in use. */
	write_pair(&f, "rsa.pem", "new.example.org", true, -1);
	tls_keys_reload(f.keys);
	for (int i = 0; i < 60; i++) {
		timer_arm(&f.tick, 5000);
		loop_turn(f.loop);
	}
	assert_int_equal(signer_of(&f), signer);
	write_pair(&f, "rsa.pem", "new.example.org", true, 5);
	tls_keys_reload(f.keys);
	struct tls_set *second = await_change(&f, first);
	assert_ptr_not_equal(second, first);
	o = meet_once(second, &(struct offer){0});
	assert_true(o.done);
	assert_string_equal(o.cn, "new.example.org");
	assert_true(metrics_sum(f.metrics, 0) <= 5 * 86400);
	/* A handshake that began before the reload ends as it began; one from before the reload before fails, and is not signed by
	 * another key. */
	assert_int_equal(signer_of(&f), signer);
	o = meet_once(first, &(struct offer){0});
	assert_true(o.done);
	assert_string_equal(o.cn, "mx.example.org");
	tls_keys_reload(f.keys);
	await_change(&f, second);
	assert_false(meet_once(first, &(struct offer){0}).done);
	tls_set_unref(first);
	end(&f);
}

/* News that came while there was no descriptor for them cost one handshake, not all from the second reload on. */
static void test_news_lost(void **state) {
	struct fixture f;
	struct rlimit many, none;
	begin(&f, true);
	struct tls_set *first = tls_usable(f.tls);
	int next = dup(STDERR_FILENO);
	close(next);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &many), 0);
	none = many;
	none.rlim_cur = (rlim_t)next;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	tls_keys_reload(f.keys);
	tls_keys_reload(f.keys);
	bool works = true;
	for (int i = 0; i < 2000 && works; i++) {
		timer_arm(&f.tick, 5000);
		loop_turn(f.loop);
		assert_ptr_equal(tls_usable(f.tls), first);
		works = meet_once(first, &(struct offer){0}).done;
	}
	assert_false(works);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &many), 0);
	meet_once(first, &(struct offer){0});
	struct tls_set *second = await_change(&f, first);
	assert_ptr_not_equal(second, first);
	assert_true(meet_once(second, &(struct offer){0}).done);
	end(&f);
}

static void test_signer_dies(void **state) {
	struct fixture f;
	begin(&f, true);
	struct tls_set *first = tls_set_ref(tls_usable(f.tls));
	pid_t signer = signer_of(&f);
	kill(signer, SIGKILL);
	struct tls_set *second = await_change(&f, first);
	assert_non_null(second);
	assert_ptr_not_equal(second, first);
	assert_int_not_equal(signer_of(&f), signer);
	assert_true(meet_once(second, &(struct offer){0}).done);
	tls_set_unref(first);
	end(&f);
}

/* One wait, then no TLS for a while instead of a wait for each. */
static void test_signer_hangs(void **state) {
	struct fixture f;
	begin(&f, true);
	kill(signer_of(&f), SIGSTOP);
	int64_t before = clock_mono_us_now();
	assert_false(meet_once(tls_usable(f.tls), &(struct offer){0}).done);
	assert_true(clock_mono_us_now() - before >= 1900000);
	clock_update();
	assert_null(tls_usable(f.tls));
	kill(signer_of(&f), SIGCONT);
	end(&f);
}

static void test_self_signed(void **state) {
	struct fixture f;
	struct stat st;
	begin(&f, false);
	struct outcome o = meet_once(tls_usable(f.tls), &(struct offer){0});
	assert_true(o.done && !o.rsa);
	assert_string_equal(o.cn, "self.example.org");
	cleanup(freep) char *path = xasprintf("%s/selfsigned.pem", f.dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	end(&f);
}

static char logged[4096];

static void sink(void *arg, enum log_level level, const char *line, size_t n) {
	if (level >= LOG_LEVEL_WARNING)
		snprintf(logged, sizeof(logged), "%.*s", (int)n, line);
}

static void test_expiry_warning(void **state) {
	static const struct {
		int64_t days;
		const char *warning;
	} rows[] = {{100, NULL}, {22, NULL}, {20, "expires soon"}, {6, "expires soon"}, {0, "expire"}, {-2, "certificate expired"}};
	for (size_t i = 0; i < array_len(rows); i++) {
		struct fixture f = {.dir = "/tmp/minutemail-keys-XXXXXX"};
		assert_non_null(mkdtemp(f.dir));
		write_pair(&f, "only.pem", "late.example.org", false, rows[i].days);
		f.certificates[0] = xasprintf("%s/only.pem", f.dir);
		f.options = (struct tls_keys_options){"test", f.certificates, f.dir, "h", "", 1};
		assert_int_equal(tls_keys_start(&f.options, &f.keys), 0); /* expired or not, mail comes in */
		logged[0] = '\0';
		log_set_sink(sink, NULL);
		open_worker(&f);
		log_set_sink(NULL, NULL);
		assert_true(meet_once(tls_usable(f.tls), &(struct offer){0}).done);
		if (rows[i].warning) {
			assert_non_null(strstr(logged, rows[i].warning));
			assert_non_null(strstr(logged, "late.example.org"));
		} else {
			assert_string_equal(logged, "");
		}
		end(&f);
	}
}

static void test_not_startable(void **state) {
	char *wrong[] = {(char[]){"/nonexistent/chain.pem:/nonexistent/key.pem"}, NULL}, *none[] = {NULL};
	struct tls_keys *keys = (void *)1;
	struct tls_keys_options o = {"test", wrong, "", "h", "", 1};
	assert_int_equal(tls_keys_start(&o, &keys), -EINVAL);
	assert_null(keys);
	o.certificates = none;
	assert_int_equal(tls_keys_start(&o, &keys), 0); /* nothing is configured */
	assert_null(keys);
	o.self_signed_dir = "/proc/nowhere";
	assert_int_equal(tls_keys_start(&o, &keys), 0); /* a warning, and no TLS */
	assert_null(keys);
	assert_null(tls_keys_free(NULL));
	assert_null(tls_usable(NULL));
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_signatures),     cmocka_unit_test(test_refused),      cmocka_unit_test(test_reload),
		cmocka_unit_test(test_news_lost),      cmocka_unit_test(test_signer_dies),  cmocka_unit_test(test_signer_hangs),
		cmocka_unit_test(test_self_signed),    cmocka_unit_test(test_expiry_warning), cmocka_unit_test(test_not_startable),
	};
	signal(SIGPIPE, SIG_IGN);
	log_init("test", LOG_LEVEL_WARNING);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
