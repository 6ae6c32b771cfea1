/* The master's handle, and the keeper: reads nothing but one octet at a time from the master, forks loaders, and waits for them.
 *
 *   loader -checked, keys to the signer in place, "h"-> gone
 *   loader -none in place, or too many keys for a message: locked up, "r"-> keeper -ends the one before, "g"-> signer
 * A signer keeps the keys of the load before, so that no handshake under way fails at a reload. Invariants (keeper):
 * status->serving is 0 or says which child `signer` is; at most one loader besides. */
#include "common/tls_keys.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/process_sys.h"
#include "common/sandbox.h"
#include "common/tls_files.h"
#include "common/tls_keys_impl.h"

#include <linux/capability.h>
#include <openssl/rand.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define BACK_OFF_FIRST_MS 100
#define BACK_OFF_MOST_MS 5000
#define LIVED_LONG_US 10000000
#define LOAD_MOST_MS 30000      /* files on a sick disk */

struct keeper {
	struct tls_keys *keys;
	int control, signal_fd;
	pid_t signer;               /* 0: none */
	int loads;                  /* to the signer; -1: none */
	uint64_t generation;        /* given to loaders so far */
	int64_t since;
	int back_off;
};

static void close_fd(int *fd) {
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* ---- the loader, which becomes the signer ---- */

static void log_fault(const char *error) {
	struct log_line line;
	log_begin(&line, LOG_LEVEL_ERROR, "certificate not loaded");
	log_str(&line, "error", error);
	log_end(&line);
}

/* Also proves that the key works, and has OpenSSL fetch what it needs before there are no files any more. */
static bool try_key(EVP_PKEY *key) {
	bool rsa = EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA;
	struct tls_request q = {.op = rsa ? TLS_OP_RSA_PKCS1 : TLS_OP_ECDSA, .len = 32, .data = {0x30}};
	uint8_t signature[TLS_SIGN_MAX];
	uint32_t len;
	return tls_signer_sign(key, &q, signature, &len) == 0;
}

static int load_one(const char *spec, bool any_date, struct tls_pair *ret) {
	cleanup(freep) char *error = NULL;
	int r = tls_load(spec, any_date, ret, &error);
	if (r == 0 && !try_key(ret->key)) {
		error = xasprintf("%s: the key does not sign", spec);
		r = -EINVAL;
	}
	if (r < 0)
		log_fault(error);
	else if (tls_not_after(ret->leaf) < clock_wall_us())
		log_msg(LOG_LEVEL_WARNING, "certificate expired", "%s", spec);
	return r;
}

/* The self-signed pair becomes the user's: the keeper that made it reads it again as that one. */
static void give_to_user(const char *path, const char *dir, const char *user) {
	const struct passwd *pw = user && *user && geteuid() == 0 ? getpwnam(user) : NULL;
	struct stat st;
	if (pw && stat(path, &st) == 0 && st.st_uid == pw->pw_uid)
		return; /* the keeper of a master that follows another could not give it away again */
	if (pw && (chown(path, pw->pw_uid, pw->pw_gid) < 0 || chown(dir, pw->pw_uid, pw->pw_gid) < 0))
		log_msg(LOG_LEVEL_WARNING, "certificate stays root's", "%s: %s", path, strerror(errno));
}

/* 0: *ret_count pairs; or -errno, logged. */
static int load_all(const struct tls_keys_options *o, bool any_date, struct tls_pair **ret, size_t *ret_count) {
	size_t n = 0;
	while (o->certificates[n])
		n++;
	struct tls_pair *pairs = xcalloc(max_of(n, (size_t)1), sizeof(*pairs));
	int r = 0;
	for (size_t i = 0; i < n && r == 0; i++)
		r = load_one(o->certificates[i], any_date, &pairs[i]);
	if (n == 0) {
		cleanup(freep) char *spec = NULL, *error = NULL;
		r = tls_self_signed(o->self_signed_dir, o->hostname, &spec, &error);
		if (r < 0)
			log_fault(error);
		else
			r = load_one(spec, true, &pairs[0]);
		if (r == 0)
			give_to_user(spec, o->self_signed_dir, o->user);
		n = 1;
	}
	*ret = pairs; /* for the life of the process */
	*ret_count = n;
	return r;
}

static void log_loaded(const struct tls_pair *pairs, size_t count, uint64_t generation) {
	struct tls_set *set;
	const char *name;
	char until[CLOCK_RFC3339_SIZE];
	struct log_line line;
	if (tls_set_new(pairs, count, NULL, &set) < 0)
		return;
	clock_format_rfc3339(tls_set_expires(set, &name), until);
	log_begin(&line, LOG_LEVEL_INFO, "certificates loaded");
	log_int(&line, "certificates", (int64_t)count);
	log_int(&line, "generation", (int64_t)generation);
	log_str(&line, "first_to_expire", name);
	log_str(&line, "expires", until);
	log_end(&line);
	tls_set_unref(set);
}

_Noreturn static void run_loader(struct keeper *k, bool any_date, int ready, int go, int loads) {
	struct tls_keys *keys = k->keys;
	struct tls_load load = {.generation = k->generation};
	char octet;
	prctl(PR_SET_NAME, "keys");
	close(k->control);
	close(k->signal_fd);
	if (load_all(keys->options, any_date, &load.pairs, &load.count) < 0)
		_exit(1);
	load.certificates = tls_public_write(load.pairs, load.count, load.generation);
	if (load.certificates >= 0 && k->loads >= 0 && tls_signer_hand_over(k->loads, &load) == 0) {
		log_loaded(load.pairs, load.count, load.generation);
		_exit(write(ready, "h", 1) != 1);
	}
	if (load.certificates < 0 || process_drop_user(keys->options->user) < 0 || RAND_status() != 1 || tls_signer_lock_up() < 0) {
		log_msg(LOG_LEVEL_ERROR, "certificate not loaded", "the key process cannot be locked up: %s", strerror(errno));
		_exit(1);
	}
	/* Silence on `go` means that the keeper is gone: the signer in place stays. */
	if (write(ready, "r", 1) != 1 || read(go, &octet, 1) != 1)
		_exit(1);
	log_loaded(load.pairs, load.count, load.generation);
	tls_signer_serve(keys, &load, loads);
}

/* ---- the keeper ---- */

static void end_signer(struct keeper *k) {
	if (!k->signer)
		return;
	kill(k->signer, SIGKILL);
	waitpid(k->signer, NULL, 0);
	k->signer = 0;
	close_fd(&k->loads);
}

/* What the loader became: 'h', 'r', or 0: nothing. */
static char wait_ready(int fd) {
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char octet;
	int r;
	do
		r = poll(&p, 1, LOAD_MOST_MS);
	while (r < 0 && errno == EINTR);
	return r > 0 && read(fd, &octet, 1) == 1 ? octet : 0;
}

/* The loader takes the signer's place. */
static bool install(struct keeper *k, pid_t pid, int go, int loads) {
	end_signer(k);
	if (write(go, "g", 1) != 1)
		return false;
	k->signer = pid;
	k->loads = loads;
	k->since = clock_mono_us_now();
	atomic_store(&k->keys->status->serving, k->generation);
	return true;
}

static void close_all(int *fds, size_t n) {
	for (size_t i = 0; i < n; i++)
		close_fd(&fds[i]);
}

/* Loads, and has what was loaded served; false: nothing has changed. */
static bool load(struct keeper *k, bool any_date) {
	enum { READY, READY_THEIRS, GO_THEIRS, GO, LOADS, LOADS_THEIRS, COUNT };
	int fds[COUNT];
	memset(fds, -1, sizeof(fds));
	if (pipe(&fds[READY]) < 0 || pipe(&fds[GO_THEIRS]) < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET, 0, &fds[LOADS]) < 0) {
		close_all(fds, COUNT);
		return false;
	}
	k->generation++;
	pid_t pid = fork();
	if (pid == 0) {
		close_fd(&fds[READY]);
		close_fd(&fds[GO]);
		close_fd(&fds[LOADS]);
		run_loader(k, any_date, fds[READY_THEIRS], fds[GO_THEIRS], fds[LOADS_THEIRS]);
	}
	close_fd(&fds[READY_THEIRS]);
	char became = pid > 0 ? wait_ready(fds[READY]) : 0;
	bool ok = became == 'h';
	if (became == 'r' && install(k, pid, fds[GO], fds[LOADS])) {
		ok = true;
		fds[LOADS] = -1;
	} else if (pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	close_all(fds, COUNT);
	return ok;
}

/* Returns after how many ms to try again; -1: all is well. */
static int look_after_signer(struct keeper *k) {
	struct signalfd_siginfo info;
	int status;
	ssize_t n = read(k->signal_fd, &info, sizeof(info));
	(void)n;
	if (!k->signer || waitpid(k->signer, &status, WNOHANG) != k->signer)
		return k->signer ? -1 : k->back_off;
	atomic_store(&k->keys->status->serving, 0);
	k->signer = 0;
	close_fd(&k->loads);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		_exit(0); /* nobody is left who could ask */
	log_msg(LOG_LEVEL_ERROR, "key process died", "%s %d; another takes its place", WIFSIGNALED(status) ? "signal" : "status",
	        WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	if (clock_mono_us_now() - k->since > LIVED_LONG_US)
		k->back_off = BACK_OFF_FIRST_MS;
	return k->back_off;
}

_Noreturn static void run_keeper(struct keeper *k) {
	struct pollfd fds[] = {{.fd = k->control, .events = POLLIN}, {.fd = k->signal_fd, .events = POLLIN}};
	const struct tls_keys_options *o = k->keys->options;
	bool first = load(k, true);
	/* The self-signed pair is the user's by now: nothing is left that only root could read. */
	if (first && !o->certificates[0])
		first = process_drop_user(o->user) == 0;
	ssize_t n = write(k->control, first ? "o" : "f", 1);
	(void)n;
	for (int wait = -1; first;) {
		char octet;
		int r = poll(fds, 2, wait);
		clock_update();
		if (r == 0) { /* its time has come */
			k->back_off = min_of(k->back_off * 2, BACK_OFF_MOST_MS);
			wait = load(k, true) ? -1 : k->back_off;
			continue;
		}
		if (fds[0].revents) {
			if (read(k->control, &octet, 1) != 1)
				break;
			if (!load(k, k->signer == 0))
				log_msg(LOG_LEVEL_ERROR, "certificates not reloaded", "%s", k->signer ? "going on with those in use" : "there are none");
		}
		wait = fds[1].revents || !k->signer ? look_after_signer(k) : -1;
	}
	end_signer(k);
	_exit(first ? 0 : 1);
}

static int compare_fds(const void *a, const void *b) {
	return *(const int *)a - *(const int *)b;
}

/* Listening sockets that a master took over, for one, are nothing for a process that outlives it. */
static void close_others(const struct keeper *k) {
	unsigned n = k->keys->options->workers + 1, from = STDERR_FILENO + 1;
	int *kept = xmalloc(n * sizeof(int));
	memcpy(kept, k->keys->signer_fds, (n - 1) * sizeof(int));
	kept[n - 1] = k->control;
	qsort(kept, n, sizeof(int), compare_fds);
	for (unsigned i = 0; i < n; i++) {
		if ((unsigned)kept[i] > from)
			close_range(from, (unsigned)kept[i] - 1, 0);
		from = (unsigned)kept[i] + 1;
	}
	close_range(from, ~0u, 0);
	free(kept);
}

/* With certificates of the operator's: what reading them again, and making a signer of the user's of it, takes. */
static bool bound_rights(const struct tls_keys_options *o) {
	static const unsigned kept[] = {CAP_DAC_READ_SEARCH, CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_SETPCAP};
	uint64_t mask = 0;
	if (!o->certificates[0])
		return true; /* the self-signed one has still to be made, and given to the user */
	for (size_t i = 0; i < array_len(kept); i++)
		mask |= UINT64_C(1) << kept[i];
	return sandbox_keep_capabilities(mask) == 0;
}

/* As the master's, which has not entered its own yet. */
static bool filter_calls(void) {
	struct sandbox sandbox;
	sandbox_init(&sandbox, SANDBOX_MASTER);
	return sandbox_enter(&sandbox) == 0;
}

_Noreturn static void become_keeper(struct tls_keys *keys, int control) {
	static const int deaf[] = {SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGUSR1, SIGUSR2};
	static char title[64]; /* the log keeps it */
	struct keeper k = {.keys = keys, .control = control, .loads = -1, .back_off = BACK_OFF_FIRST_MS};
	sigset_t mask;
	snprintf(title, sizeof(title), "%s keys", keys->options->name);
	log_set_process(title);
	prctl(PR_SET_NAME, "keys keeper");
	prctl(PR_SET_DUMPABLE, 0);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	/* It ends when the last process that could need it has closed its end, not before: what drains still shakes hands. */
	for (size_t i = 0; i < array_len(deaf); i++)
		signal(deaf[i], SIG_IGN);
	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	close_others(&k);
	if (keys->options->forget)
		keys->options->forget(keys->options->arg);
	k.signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (k.signal_fd < 0 || !bound_rights(keys->options) || !filter_calls())
		_exit(1);
	run_keeper(&k);
}

/* ---- the master ---- */

static int open_pairs(struct tls_keys *k) {
	unsigned n = k->options->workers;
	k->worker_fds = xmalloc(n * sizeof(int));
	k->signer_fds = xmalloc(n * sizeof(int));
	memset(k->worker_fds, -1, n * sizeof(int));
	memset(k->signer_fds, -1, n * sizeof(int));
	for (unsigned i = 0; i < n; i++) {
		int fds[2];
		if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
			return -errno;
		k->worker_fds[i] = fds[0];
		k->signer_fds[i] = fds[1];
	}
	return 0;
}

static int fork_keeper(struct tls_keys *k) {
	int control[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control) < 0)
		return -errno;
	k->keeper = fork();
	if (k->keeper == 0) {
		become_keeper(k, control[1]);
	}
	close(control[1]);
	k->control = control[0];
	if (k->keeper < 0)
		return -errno;
	for (unsigned i = 0; i < k->options->workers; i++)
		close_fd(&k->signer_fds[i]);
	char octet = 'f';
	ssize_t n = read(k->control, &octet, 1);
	return n == 1 && octet == 'o' ? 0 : -EINVAL;
}

int tls_keys_start(const struct tls_keys_options *options, struct tls_keys **ret) {
	bool configured = options->certificates[0] != NULL;
	*ret = NULL;
	if (!configured && !*options->self_signed_dir)
		return 0;
	struct tls_keys *k = xcalloc(1, sizeof(*k));
	k->options = options;
	k->control = -1;
	k->master = getpid();
	clock_update();
	k->status = xshared(sizeof(*k->status));
	int r = open_pairs(k);
	if (r == 0)
		r = fork_keeper(k);
	if (r < 0) {
		tls_keys_free(k);
		if (configured)
			return r;
		log_msg(LOG_LEVEL_WARNING, "no TLS", "no certificate is configured and none could be made in %s", options->self_signed_dir);
		return 0;
	}
	k->tickets = tls_tickets_new();
	*ret = k;
	return 0;
}

void tls_keys_reload(struct tls_keys *k) {
	if (k && send(k->control, "r", 1, MSG_DONTWAIT | MSG_NOSIGNAL) != 1)
		log_msg(LOG_LEVEL_ERROR, "certificates not reloaded", "the key keeper is gone; start the daemon anew");
}

void tls_keys_look(struct tls_keys *k) {
	int status;
	if (!k || k->keeper <= 0 || waitpid(k->keeper, &status, WNOHANG) != k->keeper)
		return;
	k->keeper = 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return; /* nobody needs it any more */
	log_msg(LOG_LEVEL_ERROR, "key keeper died", "%s %d; until an upgrade or a restart no certificate is reloaded, and a key process that dies stays so",
	        WIFSIGNALED(status) ? "signal" : "status", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

struct tls_keys *tls_keys_free(struct tls_keys *k) {
	if (!k)
		return NULL;
	for (unsigned i = 0; i < k->options->workers; i++) {
		close_fd(&k->worker_fds[i]);
		close_fd(&k->signer_fds[i]);
	}
	close_fd(&k->control);
	if (k->keeper > 0 && k->master == getpid())
		waitpid(k->keeper, NULL, 0);
	tls_tickets_free(k->tickets);
	munmap(k->status, sizeof(*k->status));
	free(k->worker_fds);
	free(k->signer_fds);
	free(k);
	return NULL;
}
