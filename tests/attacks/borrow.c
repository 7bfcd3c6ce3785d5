/* SPDX-License-Identifier: MIT */
/*
 * Runs as one program and is called another: puts ALLOWED in the place of our executable by prctl(PR_SET_MM_MAP),
 * which asks for a capability in a user namespace, and then sends REQUEST.
 *
 *	borrow alone|shared|handed ALLOWED ADDRESS PORT REQUEST
 *
 * `alone` enters a user namespace itself. `shared` lets a child do it that shares our memory, so that we connect from
 * the initial one. `handed` does so too, with ALLOWED as the kernel opened it to execute it: a handler of binfmt_misc in
 * a user namespace of ours is given that descriptor (AT_EXECFD), and sends it. Prints what /proc/self/exe says, then the
 * answer; exits with 77 where the kernel has no binfmt_misc in user namespaces.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/prctl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct plan {
	struct prctl_mm_map map;
	struct sockaddr_in to;
	struct { uintptr_t start, length; } mine[16];
	int count, socket, request_length;
	long shared;
	char self[24], request[2048], text[4096];
};

/* Everything from here on runs in a copy of this function, when no page of our executable is mapped any more. */
static inline __attribute__((always_inline)) long call(long n, long a, long b, long c, long d, long e)
{
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e;
	long result;

	__asm__ volatile("syscall" : "=a"(result)
			 : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return result;
}

__attribute__((section("borrowed"), noinline, used)) static void stage(struct plan *p)
{
	long got, child;
	int i;

	for (i = 0; i < p->count; i++)
		call(SYS_munmap, p->mine[i].start, p->mine[i].length, 0, 0, 0);
	if (p->shared) {
		child = call(SYS_clone, CLONE_VM | CLONE_VFORK | CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
		if (child == 0) {
			got = call(SYS_prctl, PR_SET_MM, PR_SET_MM_MAP, (long)&p->map, sizeof(p->map), 0);
			call(SYS_exit, got ? 1 : 0, 0, 0, 0, 0);
		}
	} else {
		call(SYS_unshare, CLONE_NEWUSER, 0, 0, 0, 0);
		call(SYS_prctl, PR_SET_MM, PR_SET_MM_MAP, (long)&p->map, sizeof(p->map), 0);
	}
	got = call(SYS_readlink, (long)p->self, (long)p->text, sizeof(p->text) - 1, 0, 0);
	if (got > 0) {
		p->text[got] = '\n';
		call(SYS_write, 1, (long)p->text, got + 1, 0, 0);
	}
	if (call(SYS_connect, p->socket, (long)&p->to, sizeof(p->to), 0, 0))
		call(SYS_exit_group, 2, 0, 0, 0, 0);
	call(SYS_write, p->socket, (long)p->request, p->request_length, 0, 0);
	while ((got = call(SYS_read, p->socket, (long)p->text, sizeof(p->text), 0, 0)) > 0)
		call(SYS_write, 1, (long)p->text, got, 0, 0);
	call(SYS_exit_group, 0, 0, 0, 0, 0);
}

extern char __start_borrowed[], __stop_borrowed[];

#define UNSUPPORTED 77
#define SCRATCH "/tmp"
#define NAME SCRATCH "/x.borrow"

static void put(const char *file, const char *text)
{
	int fd = open(file, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		exit(UNSUPPORTED);
	close(fd);
}

/* One descriptor over a socket: sent when fd >= 0, else received. */
static int pass(int by, int fd)
{
	char byte = 0, control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec part = { &byte, 1 };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	if (fd >= 0)
		return sendmsg(by, &message, 0) == 1 ? fd : -1;
	if (recvmsg(by, &message, 0) != 1 || !(header = CMSG_FIRSTHDR(&message)))
		return -1;
	memcpy(&fd, CMSG_DATA(header), sizeof(fd));
	return fd;
}

/* In a child: register ourselves for names that end in .borrow, and execute ALLOWED by such a name. */
static void be_handed(const char *self, const char *allowed, int by)
{
	char text[4200], users[32], groups[32], number[12];

	snprintf(users, sizeof(users), "0 %d 1", (int)getuid());
	snprintf(groups, sizeof(groups), "0 %d 1", (int)getgid());
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS))
		exit(UNSUPPORTED);
	put("/proc/self/uid_map", users);
	put("/proc/self/setgroups", "deny");
	put("/proc/self/gid_map", groups);
	if (mount("binfmt_misc", SCRATCH, "binfmt_misc", 0, 0))
		exit(UNSUPPORTED);
	snprintf(text, sizeof(text), ":borrow:E::borrow::%s:O", self);
	put(SCRATCH "/register", text);
	if (mount("tmpfs", SCRATCH, "tmpfs", 0, 0) || symlink(allowed, NAME))
		exit(3);
	snprintf(number, sizeof(number), "%d", by);
	execl(NAME, "x", "handed", number, (char *)0);
	exit(3);
}

static int executable_as_handed(const char *self, const char *allowed)
{
	int pair[2], state, fd;
	pid_t child;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		exit(3);
	child = fork();
	if (child == 0)
		be_handed(self, allowed, pair[1]);
	waitpid(child, &state, 0);
	if (!WIFEXITED(state) || WEXITSTATUS(state))
		exit(WIFEXITED(state) ? WEXITSTATUS(state) : 3);
	fd = pass(pair[0], -1);
	if (fd < 0)
		exit(3);
	return fd;
}

int main(int argc, char **argv)
{
	char line[4096], self[4096];
	unsigned long start, end;
	struct plan *p;
	char *code;
	FILE *maps;
	ssize_t n;

	if (argc == 4 && !strcmp(argv[2], "handed"))
		return pass(atoi(argv[3]), (int)getauxval(AT_EXECFD)) < 0;
	if (argc != 6)
		return 3;
	p = mmap(0, 65536, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (p == MAP_FAILED || n < 0)
		return 3;
	self[n] = 0;
	code = (char *)p + 32768;
	memcpy(code, __start_borrowed, __stop_borrowed - __start_borrowed);
	p->shared = strcmp(argv[1], "alone");
	p->map.start_code = p->map.start_data = p->map.start_stack = (uintptr_t)p;
	p->map.end_code = p->map.end_data = (uintptr_t)p + 4096;
	p->map.start_brk = p->map.brk = (uintptr_t)p + 8192;
	p->map.arg_start = p->map.arg_end = p->map.env_start = p->map.env_end = (uintptr_t)p;
	p->map.exe_fd = strcmp(argv[1], "handed") ? open(argv[2], O_RDONLY) : executable_as_handed(self, argv[2]);
	p->to.sin_family = AF_INET;
	inet_pton(AF_INET, argv[3], &p->to.sin_addr);
	p->to.sin_port = htons(atoi(argv[4]));
	p->socket = socket(AF_INET, SOCK_STREAM, 0);
	p->request_length = snprintf(p->request, sizeof(p->request), "%s", argv[5]);
	strcpy(p->self, "/proc/self/exe");
	maps = fopen("/proc/self/maps", "r");
	while (maps && fgets(line, sizeof(line), maps)) {
		line[strcspn(line, "\n")] = 0;
		if (!strstr(line, self) || sscanf(line, "%lx-%lx", &start, &end) != 2)
			continue;
		p->mine[p->count].start = start;
		p->mine[p->count++].length = end - start;
	}
	((void (*)(struct plan *))code)(p);
	return 3;
}
