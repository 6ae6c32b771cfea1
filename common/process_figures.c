#include "common/process_figures.h"

#include "common/buf.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHILDREN_MAX 64 /* looked at, of one process: a worker has a zygote, that a parser */

enum place { PLACE_MASTER, PLACE_METRICS, PLACE_KEEPER, PLACE_KEYS, PLACE_WORKERS };
enum { OF_WORKER, OF_ZYGOTE, OF_PARSER, PER_WORKER };

enum figure { RESIDENT, DESCRIPTORS, DESCRIPTORS_MAX, FIGURES };

struct process_figures {
	unsigned workers;
	size_t bytes;
	_Atomic int64_t v[][FIGURES]; /* by place; 0: not known */
};

static unsigned places(unsigned workers) {
	return PLACE_WORKERS + workers * PER_WORKER;
}

struct process_figures *process_figures_new(unsigned workers) {
	struct process_figures *f;
	size_t bytes = sizeof(*f) + places(workers) * sizeof(f->v[0]);
	f = xshared(bytes);
	f->workers = workers;
	f->bytes = bytes;
	return f;
}

struct process_figures *process_figures_free(struct process_figures *f) {
	if (f)
		munmap(f, f->bytes);
	return NULL;
}

/* ---- looking ---- */

/* A file of a process's directory as a string, "" if it cannot be read. */
static const char *read_proc(pid_t pid, const char *file, char *text, size_t size) {
	char path[96];
	snprintf(path, sizeof(path), "/proc/%ld/%s", (long)pid, file);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);
	if (fd >= 0)
		close(fd);
	text[max_of(n, (ssize_t)0)] = '\0';
	return text;
}

static int64_t resident(pid_t pid) {
	char text[64];
	long long pages = 0;
	return sscanf(read_proc(pid, "statm", text, sizeof(text)), "%*d %lld", &pages) == 1 ? pages * sysconf(_SC_PAGESIZE) : 0;
}

/* Since Linux 6.2 the directory's size is their number, which may be seen where they may not. */
static int64_t descriptors(pid_t pid) {
	struct stat st;
	char path[64];
	snprintf(path, sizeof(path), "/proc/%ld/fd", (long)pid);
	return stat(path, &st) == 0 ? st.st_size : 0;
}

static int64_t descriptors_max(pid_t pid) {
	char text[2048];
	long long soft = 0;
	const char *line = strstr(read_proc(pid, "limits", text, sizeof(text)), "\nMax open files");
	return line && sscanf(line, "\nMax open files %lld", &soft) == 1 ? soft : 0;
}

static void look(struct process_figures *f, unsigned place, pid_t pid) {
	const int64_t v[FIGURES] = {pid ? resident(pid) : 0, pid ? descriptors(pid) : 0, pid ? descriptors_max(pid) : 0};
	for (unsigned i = 0; i < FIGURES; i++)
		atomic_store_explicit(&f->v[place][i], v[i], memory_order_relaxed);
}

/* The child of that name; 0: there is none. */
static pid_t child_named(pid_t parent, const char *name) {
	char file[64], list[CHILDREN_MAX * 12], comm[32], *rest = list;
	if (!parent)
		return 0;
	snprintf(file, sizeof(file), "task/%ld/children", (long)parent);
	read_proc(parent, file, list, sizeof(list));
	for (char *word; (word = strtok_r(rest, " ", &rest));) {
		pid_t pid = (pid_t)strtol(word, NULL, 10);
		read_proc(pid, "comm", comm, sizeof(comm));
		comm[strcspn(comm, "\n")] = '\0';
		if (strcmp(comm, name) == 0)
			return pid;
	}
	return 0;
}

void process_figures_look(struct process_figures *f, const pid_t *slots) {
	pid_t keeper = child_named(getpid(), "keys keeper");
	look(f, PLACE_MASTER, getpid());
	look(f, PLACE_METRICS, slots[f->workers]);
	look(f, PLACE_KEEPER, keeper);
	look(f, PLACE_KEYS, child_named(keeper, "keys"));
	for (unsigned w = 0; w < f->workers; w++) {
		unsigned place = PLACE_WORKERS + w * PER_WORKER;
		pid_t zygote = child_named(slots[w], "mime-zygote");
		look(f, place + OF_WORKER, slots[w]);
		look(f, place + OF_ZYGOTE, zygote);
		look(f, place + OF_PARSER, child_named(zygote, "mime-parser"));
	}
}

/* ---- showing ---- */

/* A worker by its number alone; what belongs to it by a word before that. */
static void print_label(unsigned place, struct buf *out) {
	static const char *const names[] = {"master", "metrics", "keeper", "keys"}, *const words[] = {"", "zygote ", "parser "};
	unsigned nth = place - PLACE_WORKERS;
	if (place < PLACE_WORKERS)
		buf_append_str(out, names[place]);
	else
		buf_printf(out, "%s%u", words[nth % PER_WORKER], nth / PER_WORKER);
}

void process_figures_print(const struct process_figures *f, const char *daemon, struct buf *out) {
	static const struct {
		const char *name, *help;
	} metrics[FIGURES] = {
		[RESIDENT] = {"minutemail_process_resident_bytes", "Memory of a process."},
		[DESCRIPTORS] = {"minutemail_process_open_fds", "Open descriptors of a process."},
		[DESCRIPTORS_MAX] = {"minutemail_process_max_fds", "How many descriptors a process may have."},
	};
	for (unsigned i = 0; i < FIGURES; i++) {
		bool first = true;
		for (unsigned place = 0; place < places(f->workers); place++) {
			int64_t value = atomic_load_explicit(&f->v[place][i], memory_order_relaxed);
			if (!value)
				continue;
			if (first)
				buf_printf(out, "# HELP %s %s\n# TYPE %s gauge\n", metrics[i].name, metrics[i].help, metrics[i].name);
			first = false;
			buf_printf(out, "%s{daemon=\"%s\",process=\"", metrics[i].name, daemon);
			print_label(place, out);
			buf_printf(out, "\"} %" PRId64 "\n", value);
		}
	}
}
