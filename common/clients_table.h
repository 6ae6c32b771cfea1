/* The memory that clients.c counts in: one table of fixed size that all workers map, also those of another master while an upgrade lasts.
 * It lives in an unnamed file (memfd_create(2)), so that it can be handed over as a descriptor. Private to clients*.c.
 *
 * A worker counts its connections in a row of its own, and holds a record lock (fcntl(2)) on the row's number for as long as it lives: the
 * kernel lets go of it however the process ends. So a row that can be locked belongs to nobody, and what is left in it is void. */
#ifndef MINUTEMAIL_CLIENTS_TABLE_H
#define MINUTEMAIL_CLIENTS_TABLE_H

#include "common/clients.h"

#include <sodium.h>

#define CLIENTS_VERSION 1          /* raise it when what a word means changes; sizes are compared besides */
#define CLIENTS_SETS 8192
#define CLIENTS_WAYS 8
#define CLIENTS_PLACES (CLIENTS_SETS * CLIENTS_WAYS)
#define CLIENTS_ROWS 1024          /* workers of all masters there are: 256 each. Only rows that were used take memory */

struct clients_place {
	uint64_t key;
	int64_t fair[CLIENTS_RATES];   /* monotonic */
};
_Static_assert(sizeof(struct clients_place) == 64, "a cache line each");

struct clients_form {
	char magic[8];
	uint32_t version, sets, ways, rows, rates, place_size;
};

struct clients_table {
	struct clients_form form;
	uint8_t secret[crypto_shorthash_KEYBYTES];
	uint32_t rows_used;            /* rows from here on have never been anybody's */
	_Alignas(64) struct clients_place places[CLIENTS_PLACES];
	uint32_t held[CLIENTS_ROWS][CLIENTS_PLACES];
};

/* Takes the table behind `inherited` (-1: none), which is closed if it has another form, or makes a new one. *ret_fd is the table's. */
struct clients_table *clients_table_open(int inherited, int *ret_fd);
void clients_table_close(struct clients_table *, int fd);
/* A row for this process, which must not have one yet; what others have left behind is cleared. NULL: there is none, and the log says why.
 * Closing `fd`, or any copy of it in this process, gives the row up. */
uint32_t *clients_table_take_row(struct clients_table *, int fd);
/* Clears rows whose process has ended. Not in a process that has a row. */
void clients_table_sweep(struct clients_table *, int fd);

#endif
