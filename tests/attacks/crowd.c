/* SPDX-License-Identifier: MIT */
/*
 * Many users connect at once, each in its own way, and each says on the connection who made it: `crowd ADDRESS PORT
 * COUNT OTHER UID…`, as root. A process per UID makes COUNT connections, one after another, by turns
 *
 *	plainly                               itself
 *	by a child that ends                  before the first byte is sent
 *	by a child that shares its memory     and descriptors, and ends
 *	and then executes OTHER               a copy of this program, with the descriptor open
 *
 * while others of each user reset, abandon half-open and never use what they connect. Ends when all are made: 0, or 1
 * when one of them could not connect. What is said is `struct claim`; the other side closes when it has read it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct claim {
	uint32_t uid, worker, number, pid;
	uint64_t inode;
};

static struct sockaddr_in to = { .sin_family = AF_INET };
static uint64_t inode;

static int new_socket(int flags)
{
	int made = socket(AF_INET, SOCK_STREAM | flags, 0);

	if (made < 0)
		exit(1);
	return made;
}

static int connect_it(int made)
{
	return connect(made, (struct sockaddr *)&to, sizeof(to));
}

/* In a child that shares our memory and descriptors. */
static int connect_for_parent(void *made)
{
	return connect_it(*(int *)made);
}

static pid_t start_child(int made, int shared)
{
	static char stack[65536] __attribute__((aligned(16)));
	pid_t child;

	if (shared)
		return clone(connect_for_parent, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | CLONE_FILES | SIGCHLD, &made);
	child = fork();
	if (child == 0)
		_exit(connect_it(made) != 0);
	return child;
}

static void say(int made, const struct claim *claim)
{
	char end;

	if (write(made, claim, sizeof(*claim)) != sizeof(*claim) || read(made, &end, 1) != 0)
		exit(1);
	close(made);
}

static void say_as_another_program(int made, const struct claim *claim, char *other)
{
	char text[128], number[12];

	snprintf(text, sizeof(text), "%u %u %u %d %llu", claim->uid, claim->worker, claim->number, getpid(),
		 (unsigned long long)claim->inode);
	snprintf(number, sizeof(number), "%d", made);
	execl(other, other, number, text, (char *)0);
	exit(1);
}

/* We are OTHER now. */
static int say_for(char **argv)
{
	struct claim claim;
	unsigned long long of;

	if (sscanf(argv[2], "%u %u %u %u %llu", &claim.uid, &claim.worker, &claim.number, &claim.pid, &of) != 5)
		return 1;
	claim.inode = of;
	say(atoi(argv[1]), &claim);
	return 0;
}

static void work(uint32_t uid, uint32_t worker, uint32_t count, char *other)
{
	struct claim claim = { .uid = uid, .worker = worker, .inode = inode };
	int made, status;
	pid_t child;

	for (claim.number = 0; claim.number < count; claim.number++) {
		made = new_socket(0);
		claim.pid = getpid();
		switch (claim.number % 50) {
		case 10: case 20:
			claim.pid = child = start_child(made, claim.number % 50 == 20);
			if (child < 0 || waitpid(child, &status, 0) < 0 || status)
				exit(1);
			break;
		case 30:
			child = fork();
			if (child == 0) {
				if (connect_it(made))
					exit(1);
				say_as_another_program(made, &claim, other);
			}
			if (child < 0 || waitpid(child, &status, 0) < 0 || status)
				exit(1);
			close(made);
			continue;
		default:
			if (connect_it(made))
				exit(1);
		}
		say(made, &claim);
	}
}

#define HANDFUL 16

/* Until killed, 25 times a second: reset, abandon, end with connections open. */
static void disturb(void)
{
	struct linger at_once = { .l_onoff = 1 };
	int i, made[HANDFUL];

	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		if (fork() == 0) {
			for (i = 0; i < HANDFUL; i++) {
				made[i] = new_socket(SOCK_NONBLOCK);
				connect_it(made[i]);
				if (i % 3 == 0)
					setsockopt(made[i], SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
				if (i % 3 < 2)
					close(made[i]);
			}
			_exit(0);
		}
		usleep(40000);
	}
}

static pid_t as_user(uint32_t uid)
{
	pid_t child = fork();

	if (child)
		return child;
	if (setresgid(uid, uid, uid) || setresuid(uid, uid, uid) || prctl(PR_SET_PDEATHSIG, SIGKILL))
		exit(1);
	return 0;
}

int main(int argc, char **argv)
{
	int workers = argc - 5, failed = 0, status, i;
	pid_t worker[64], disturber[64];
	struct stat self;

	if (argc == 3)
		return say_for(argv);
	if (workers < 1 || workers > 64 || stat("/proc/self/exe", &self) || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1)
		return 3;
	inode = self.st_ino;
	to.sin_port = htons(atoi(argv[2]));
	for (i = 0; i < workers; i++) {
		uint32_t uid = atoi(argv[5 + i]);

		disturber[i] = as_user(uid);
		if (!disturber[i])
			disturb();
		worker[i] = as_user(uid);
		if (!worker[i]) {
			work(uid, i, atoi(argv[3]), argv[4]);
			return 0;
		}
	}
	for (i = 0; i < workers; i++)
		failed |= waitpid(worker[i], &status, 0) < 0 || status;
	for (i = 0; i < workers; i++)
		kill(disturber[i], SIGKILL);
	return failed;
}
