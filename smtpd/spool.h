/* The octets of one message while it is received: in memory up to 256 KiB, or less where memory is short, then in an unlinked file.
 * Exact. */
#ifndef MINUTEMAIL_SPOOL_H
#define MINUTEMAIL_SPOOL_H

#include "common/base.h"
#include "common/sha256.h"

#define SPOOL_MEMORY_MAX (256 * 1024)

struct spool;

/* `dir`: where O_TMPFILE files go when memory is not enough; borrowed. */
struct spool *spool_new(const char *dir);
struct spool *spool_free(struct spool *);
define_cleanup(struct spool *, spool_free)
/* -ENOSPC, -EIO, … : the message cannot be taken (452/451); what came before stays readable. */
int spool_append(struct spool *, const void *p, size_t n);
uint64_t spool_size(const struct spool *);
/* All octets while they are in memory, else NULL. Borrowed until the next append. */
const void *spool_memory(const struct spool *);
int spool_fd(const struct spool *); /* the file once there is one, else -1; for reading only, so that a parser may have it */
/* Reads up to n octets at offset; returns how many (0 at the end), or -errno. */
ssize_t spool_read(struct spool *, uint64_t offset, void *p, size_t n);
void spool_digest(struct spool *, uint8_t ret[SHA256_LEN]);  /* SHA-256 of everything appended */
/* Octets held in memory by all spools of the process, and what they may be at the most: over it messages go to files. No bound at first. */
size_t spool_memory_in_use(void);
void spool_bound_memory(size_t octets);

/* Octets of the messages in all spools of the process, in memory or files. */
uint64_t spool_octets_in_use(void);

#endif
