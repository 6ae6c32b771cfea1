#include "common/clients_table.h"

#include "common/log.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW)

static const struct clients_form FORM = {
	.magic = "clients",
	.version = CLIENTS_VERSION,
	.sets = CLIENTS_SETS,
	.ways = CLIENTS_WAYS,
	.rows = CLIENTS_ROWS,
	.rates = CLIENTS_RATES,
	.place_size = sizeof(struct clients_place),
};

static struct clients_table *map(int fd) {
	void *p = mmap(NULL, sizeof(struct clients_table), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	return p == MAP_FAILED ? NULL : p;
}

/* Its size is looked at before anything in it, and sealed: a shorter file would kill who reads it. */
static struct clients_table *adopt(int fd) {
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);
	if (fstat(fd, &st) < 0 || seals < 0 || (seals & SEALS) != SEALS || st.st_size != (off_t)sizeof(struct clients_table))
		return NULL;
	struct clients_table *t = map(fd);
	if (t && memcmp(&t->form, &FORM, sizeof(FORM)) != 0) {
		munmap(t, sizeof(*t));
		return NULL;
	}
	return t;
}

static struct clients_table *make(int *ret_fd) {
	int fd = memfd_create("minutemail-clients", MFD_CLOEXEC | MFD_NOEXEC_SEAL);
	if (fd < 0) /* an older kernel */
		fd = memfd_create("minutemail-clients", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || ftruncate(fd, sizeof(struct clients_table)) < 0 || fcntl(fd, F_ADD_SEALS, SEALS) < 0)
		abort();
	struct clients_table *t = map(fd);
	if (!t || sodium_init() < 0)
		abort();
	crypto_shorthash_keygen(t->secret);
	t->form = FORM;
	*ret_fd = fd;
	return t;
}

struct clients_table *clients_table_open(int inherited, int *ret_fd) {
	if (inherited < 0)
		return make(ret_fd);
	struct clients_table *t = adopt(inherited);
	if (!t) {
		close(inherited);
		log_msg(LOG_LEVEL_INFO, "ignoring inherited table of clients", "it is another version's: they are counted anew");
		return make(ret_fd);
	}
	fcntl(inherited, F_SETFD, FD_CLOEXEC);
	*ret_fd = inherited;
	return t;
}

void clients_table_close(struct clients_table *t, int fd) {
	munmap(t, sizeof(*t));
	close(fd);
}

/* 0, or -errno: EAGAIN and EACCES if it is another's. */
static int lock(int fd, unsigned row, short type) {
	struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = row, .l_len = 1};
	return fcntl(fd, F_SETLK, &l) < 0 ? -errno : 0;
}

static void clear(uint32_t *row) {
	for (size_t i = 0; i < CLIENTS_PLACES; i++)
		if (__atomic_load_n(&row[i], __ATOMIC_RELAXED))
			__atomic_store_n(&row[i], 0, __ATOMIC_SEQ_CST);
}

static unsigned used(const struct clients_table *t) {
	return min_of(__atomic_load_n(&t->rows_used, __ATOMIC_SEQ_CST), (uint32_t)CLIENTS_ROWS);
}

/* Whoever looks at sums from now on sees this row. */
static void use(struct clients_table *t, unsigned row) {
	uint32_t n = __atomic_load_n(&t->rows_used, __ATOMIC_SEQ_CST);
	while (n <= row && !__atomic_compare_exchange_n(&t->rows_used, &n, row + 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		;
}

void clients_table_sweep(struct clients_table *t, int fd) {
	for (unsigned row = 0; row < used(t); row++) {
		if (lock(fd, row, F_WRLCK) < 0)
			continue;
		clear(t->held[row]);
		lock(fd, row, F_UNLCK);
	}
}

uint32_t *clients_table_take_row(struct clients_table *t, int fd) {
	int r = -EAGAIN;
	clients_table_sweep(t, fd);
	for (unsigned row = 0; row < CLIENTS_ROWS && (r == -EAGAIN || r == -EACCES); row++) {
		r = lock(fd, row, F_WRLCK);
		if (r < 0)
			continue;
		clear(t->held[row]); /* its last owner may have ended this very moment */
		use(t, row);
		return t->held[row];
	}
	log_msg(LOG_LEVEL_ERROR, "clients are not counted", "no row of the table: %s", strerror(-r));
	return NULL;
}
