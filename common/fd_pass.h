/* A descriptor that travels beside octets on a Unix socket (SCM_RIGHTS, unix(7)); one a message. Pure: sendmsg() and recvmsg() are the
 * caller's. */
#ifndef MINUTEMAIL_FD_PASS_H
#define MINUTEMAIL_FD_PASS_H

#include "common/base.h"

#include <sys/socket.h>

union fd_room {
	struct cmsghdr header; /* for its alignment */
	char octets[CMSG_SPACE(sizeof(int))];
};

/* A copy of `fd` goes with *m; `room` is borrowed until that is sent. */
static inline void fd_attach(struct msghdr *m, union fd_room *room, int fd) {
	memset(room, 0, sizeof(*room));
	m->msg_control = room;
	m->msg_controllen = sizeof(*room);
	room->header = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(fd))};
	memcpy(CMSG_DATA(&room->header), &fd, sizeof(fd));
}

/* Before recvmsg(): where what comes with the octets has room. */
static inline void fd_expect(struct msghdr *m, union fd_room *room) {
	m->msg_control = room;
	m->msg_controllen = sizeof(*room);
}

/* After a recvmsg() that got something: the descriptor, the caller's now; -1: none came. */
static inline int fd_received(struct msghdr *m) {
	struct cmsghdr *c = CMSG_FIRSTHDR(m);
	int fd = -1;
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(fd)))
		memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

#endif
