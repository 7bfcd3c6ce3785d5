/* SPDX-License-Identifier: MIT */
/*
 * Connects by what Python has no words for: `ways WAY ADDRESS PORT [UID]`.
 *
 *	plain                 itself
 *	inline async sqpoll   io_uring: in the call, by a worker, by the ring's own thread
 *	vfork files           a child that shares our memory, or memory and descriptors: it connects what we use
 *
 * With a UID it becomes that user when the ring is there. Says what caller.py says: `local`, `peer`, `pid` (of who connected) or `error`. Needs Linux 5.11 for sqpoll.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static struct sockaddr_in to = { .sin_family = AF_INET };
static int made, result;
static uid_t uid;

static void *map_ring(int ring, size_t size, long offset)
{
	void *at = mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, offset);

	if (at == MAP_FAILED)
		exit(3);
	return at;
}

/* One IORING_OP_CONNECT, waited for; an errno, negative, or 0. */
static int by_ring(unsigned int setup, unsigned char flags)
{
	struct io_uring_params p = { .flags = setup, .sq_thread_idle = 1000 };
	unsigned int enter = IORING_ENTER_GETEVENTS | (setup ? IORING_ENTER_SQ_WAKEUP : 0);
	int ring = syscall(SYS_io_uring_setup, 1, &p);
	unsigned int *tail, *array, *ready;
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;
	char *sq, *cq;

	if (ring < 0 || (uid && setresuid(uid, uid, uid)))
		return -errno;
	sq = map_ring(ring, p.sq_off.array + p.sq_entries * sizeof(*array), IORING_OFF_SQ_RING);
	cq = map_ring(ring, p.cq_off.cqes + p.cq_entries * sizeof(*cqe), IORING_OFF_CQ_RING);
	sqe = map_ring(ring, p.sq_entries * sizeof(*sqe), IORING_OFF_SQES);
	tail = (void *)(sq + p.sq_off.tail);
	array = (void *)(sq + p.sq_off.array);
	ready = (void *)(cq + p.cq_off.tail);
	cqe = (void *)(cq + p.cq_off.cqes);

	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = IORING_OP_CONNECT;
	sqe->flags = flags;
	sqe->fd = made;
	sqe->addr = (uintptr_t)&to;
	sqe->off = sizeof(to);
	array[0] = 0;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	/* The ring's thread sleeps when it found nothing to do for a while: on a busy machine, before we got here. */
	if (syscall(SYS_io_uring_enter, ring, setup ? 0 : 1, 1, enter, 0, 0) < 0)
		return -errno;
	return __atomic_load_n(ready, __ATOMIC_ACQUIRE) ? cqe->res : -EAGAIN;
}

static int connect_there(void *unused)
{
	(void)unused;
	result = connect(made, (struct sockaddr *)&to, sizeof(to)) ? -errno : 0;
	return 0;
}

/* A descriptor of the child is ours as well when the table is shared, or was made before. */
static int make_and_connect_there(void *unused)
{
	made = socket(AF_INET, SOCK_STREAM, 0);
	return connect_there(unused);
}

static pid_t by_child(int (*what)(void *), int flags)
{
	static char stack[65536] __attribute__((aligned(16)));
	pid_t child = clone(what, stack + sizeof(stack), flags | CLONE_VM | CLONE_VFORK | SIGCHLD, 0);

	if (child < 0 || waitpid(child, 0, 0) != child)
		exit(3);
	return child;
}

static void tell_address(const char *name, int (*get)(int, struct sockaddr *, socklen_t *))
{
	struct sockaddr_in at;
	socklen_t size = sizeof(at);

	if (get(made, (struct sockaddr *)&at, &size))
		exit(3);
	printf("\"%s\": [\"%s\", %d], ", name, inet_ntoa(at.sin_addr), ntohs(at.sin_port));
}

int main(int argc, char **argv)
{
	pid_t who = getpid();

	if (argc < 4 || argc > 5 || inet_pton(AF_INET, argv[2], &to.sin_addr) != 1)
		return 3;
	to.sin_port = htons(atoi(argv[3]));
	uid = argc == 5 ? atoi(argv[4]) : 0;
	made = socket(AF_INET, SOCK_STREAM, 0);
	if (!strcmp(argv[1], "plain"))
		connect_there(0);
	else if (!strcmp(argv[1], "inline"))
		result = by_ring(0, 0);
	else if (!strcmp(argv[1], "async"))
		result = by_ring(0, IOSQE_ASYNC);
	else if (!strcmp(argv[1], "sqpoll"))
		result = by_ring(IORING_SETUP_SQPOLL, 0);
	else if (!strcmp(argv[1], "vfork"))
		who = by_child(connect_there, 0);
	else if (!strcmp(argv[1], "files"))
		who = by_child(make_and_connect_there, CLONE_FILES);
	else
		return 3;
	if (result) {
		printf("{\"error\": \"%s\"}\n", strerrorname_np(-result));
		return 0;
	}
	printf("{");
	tell_address("local", getsockname);
	tell_address("peer", getpeername);
	printf("\"pid\": %d}\n", who);
	return 0;
}
