// SPDX-License-Identifier: MIT
/*
 * PID 1 of a guest in which a Python would be too slow: attaches the eBPF object /gpa.bpf.o to a cgroup of its own and
 * tries what must hold, as the agent and as other users. The essence of tests/kernel, for another architecture.
 *
 * Prints a line a check on the console, as reporter.py does, behind "gpa: "; then switches the machine off.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include "record.h"

#define CGROUPS "/sys/fs/cgroup"
#define VM CGROUPS "/vm"
#define AGENT VM "/agent"
#define USERS VM "/users"
#define PORT 3080
#define UID 1234
#define GID 1235

static struct bpf_object *object;
static int listener = -1;
static char why[256];

/* A check that fails is over; the innermost says why. */
#define MUST(condition)                                                                                                \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			tell_why(__LINE__, #condition);                                                                \
			return false;                                                                                  \
		}                                                                                                      \
	} while (0)

static void tell_why(int line, const char *condition)
{
	if (why[0])
		return;
	snprintf(why, sizeof(why), "line %d: %s: %s", line, condition, strerror(errno));
	for (char *c = why; *c; c++)
		if (*c == '"' || *c == '\\')
			*c = '\'';
}

static bool enter(const char *cgroup)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/cgroup.procs", cgroup);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	MUST(fd >= 0);
	MUST(write(fd, "0", 1) == 1);
	close(fd);
	return true;
}

static struct sockaddr_in address(const char *text, int port)
{
	struct sockaddr_in made = { .sin_family = AF_INET, .sin_port = htons(port) };

	inet_pton(AF_INET, text, &made.sin_addr);
	return made;
}

static int connect_to(const char *text, int port)
{
	struct sockaddr_in to = address(text, port);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	return connect(fd, (void *)&to, sizeof(to)) ? -errno : fd;
}

static int connect_mapped(const char *text, int port)
{
	struct sockaddr_in6 to = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	char mapped[64];
	int fd = socket(AF_INET6, SOCK_STREAM, 0);

	snprintf(mapped, sizeof(mapped), "::ffff:%s", text);
	inet_pton(AF_INET6, mapped, &to.sin6_addr);
	return connect(fd, (void *)&to, sizeof(to)) ? -errno : fd;
}

/* Runs what an ordinary user does; it answers 0, or the errno that it met. */
static pid_t as_user(int (*what)(void))
{
	pid_t child = fork();

	if (child == 0) {
		if (!enter(USERS) || setresgid(GID, GID, GID) || setresuid(UID, UID, UID))
			_exit(255);
		_exit(what());
	}
	return child;
}

static int answer_of(pid_t child)
{
	int status = 0;

	return waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : 254;
}

/* The record of the next connection; it must wait already. */
static bool accepted(struct gpa_ident *who)
{
	socklen_t length = sizeof(*who);
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	memset(who, 0, sizeof(*who));
	MUST(fd >= 0);
	MUST(!getsockopt(fd, GPA_SOL, GPA_SO_IDENT, who, &length));
	close(fd);
	MUST(who->abi == GPA_ABI);
	MUST(who->flags & GPA_ACCEPTED);
	return true;
}

static bool is_user(const struct gpa_ident *who, pid_t pid)
{
	MUST(who->uid == UID && who->euid == UID && who->gid == GID && who->egid == GID);
	MUST(who->tgid == (__u32)pid && who->tid == (__u32)pid && who->ppid == 1);
	MUST(who->start_boottime && who->connect_ns > 0 && who->cgroup_id);
	MUST(!strcmp(who->comm, "init") && (who->flags & GPA_EXE_KNOWN) && !strcmp(who->exe_name, "init"));
	return true;
}

/* --- the checks ----------------------------------------------------------------------------------------------- */

static int map(const char *name)
{
	return bpf_object__find_map_fd_by_name(object, name);
}

static bool attach(const char *name, const char *cgroup)
{
	struct bpf_program *program = bpf_object__find_program_by_name(object, name);
	int fd = open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	MUST(fd >= 0);
	MUST(program);
	MUST(bpf_program__attach_cgroup(program, fd));
	close(fd);
	return true;
}

/* The order of gpa.agent.interception. */
static bool programs_load_and_attach(void)
{
	struct gpa_target imds = { .ip4 = inet_addr("169.254.169.254"), .port = 80 };
	struct gpa_policy enforced = { .mode = GPA_MODE_ENFORCE };
	struct gpa_agent control = { .nonce = 4711 };
	struct sockaddr_in own = address("127.0.0.1", 0);
	__u32 zero = 0, port = PORT, mark = MARK_LISTENER;
	__u64 nonce = 4711;
	int probe;

	object = bpf_object__open_file("/gpa.bpf.o", NULL);
	MUST(object);
	MUST(!bpf_object__load(object));
	MUST(enter(AGENT));
	MUST(attach("gpa_setsockopt", AGENT) && attach("gpa_getsockopt", AGENT));
	MUST(!bpf_map_update_elem(map("agent"), &zero, &control, BPF_ANY));
	probe = socket(AF_INET, SOCK_STREAM, 0);
	MUST(!setsockopt(probe, GPA_SOL, GPA_SO_CLAIM, &nonce, sizeof(nonce)));
	MUST(attach("gpa_bind4", VM) && attach("gpa_bind6", VM) && attach("gpa_post_bind4", VM));
	MUST(!bind(probe, (void *)&own, sizeof(own)));
	close(probe);
	MUST(!bpf_map_lookup_elem(map("agent"), &zero, &control));
	MUST(control.bound_netns);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	own.sin_port = htons(PORT);
	MUST(!bind(listener, (void *)&own, sizeof(own)) && !listen(listener, 64));
	MUST(!bpf_map_update_elem(map("marks"), &listener, &mark, BPF_ANY));
	MUST(!bpf_map_update_elem(map("targets"), &imds, &enforced, BPF_ANY));
	MUST(!bpf_map_update_elem(map("netns_port"), &control.bound_netns, &port, BPF_ANY));
	MUST(attach("gpa_sockops", VM) && attach("gpa_getpeername4", VM) && attach("gpa_getpeername6", VM));
	MUST(attach("gpa_connect6", VM) && attach("gpa_connect4", VM));
	return true;
}

static int connects(void)
{
	struct sockaddr_in peer;
	socklen_t length = sizeof(peer);
	int fd = connect_to("169.254.169.254", 80);

	if (fd < 0)
		return -fd;
	if (getpeername(fd, (void *)&peer, &length) || peer.sin_addr.s_addr != inet_addr("169.254.169.254"))
		return EADDRNOTAVAIL;
	return 0;
}

static bool connect_is_redirected_with_the_identity(void)
{
	struct gpa_ident who;
	pid_t child = as_user(connects);

	errno = answer_of(child);
	MUST(!errno);
	MUST(accepted(&who) && is_user(&who, child));
	MUST(who.family == AF_INET && who.dst_port == 80 && !(who.flags & GPA_DIRECT));
	return true;
}

static int connects_mapped(void)
{
	int fd = connect_mapped("169.254.169.254", 80);

	return fd < 0 ? -fd : 0;
}

static bool mapped_connect_is_redirected(void)
{
	struct gpa_ident who;
	pid_t child = as_user(connects_mapped);

	errno = answer_of(child);
	MUST(!errno);
	MUST(accepted(&who) && is_user(&who, child));
	MUST(who.family == AF_INET6 && !(who.flags & GPA_DIRECT));
	return true;
}

static int connects_directly(void)
{
	int fd = connect_to("127.0.0.1", PORT);

	return fd < 0 ? -fd : 0;
}

static bool direct_connect_is_marked(void)
{
	struct gpa_ident who;
	pid_t child = as_user(connects_directly);

	errno = answer_of(child);
	MUST(!errno);
	MUST(accepted(&who) && is_user(&who, child));
	MUST(who.flags & GPA_DIRECT);
	return true;
}

static int binds(void)
{
	struct sockaddr_in own = address("127.0.0.2", PORT);
	int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	return bind(fd, (void *)&own, sizeof(own)) ? errno : 0;
}

static bool port_is_refused_to_others(void)
{
	errno = answer_of(as_user(binds));
	MUST(errno == EPERM);
	return true;
}

static int asks(void)
{
	char record[sizeof(struct gpa_ident)];
	socklen_t length = sizeof(record);
	__u64 value = 1;
	int fd = connect_to("169.254.169.254", 80);

	for (int option = GPA_SO_EXEMPT; option <= GPA_SO_CLAIM; option++)
		if (!setsockopt(fd, GPA_SOL, option, &value, sizeof(value)) || errno != ENOPROTOOPT)
			return 253;
	return getsockopt(fd, GPA_SOL, GPA_SO_IDENT, record, &length) ? 0 : 252;
}

static bool private_options_are_refused_to_others(void)
{
	struct gpa_ident who;
	pid_t child = as_user(asks);

	errno = answer_of(child);
	MUST(!errno);
	return accepted(&who) && is_user(&who, child);
}

static bool without_a_listener_connects_are_refused(void)
{
	close(listener);
	errno = answer_of(as_user(connects));
	MUST(errno == ECONNREFUSED || errno == EPERM);
	return true;
}

/* --- PID 1 ---------------------------------------------------------------------------------------------------- */

static bool guest_is_set_up(void)
{
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	MUST(!ioctl(fd, SIOCSIFFLAGS, &lo));
	close(fd);
	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	MUST(!mount("proc", "/proc", "proc", 0, NULL) && !mount("sysfs", "/sys", "sysfs", 0, NULL));
	MUST(!mount("cgroup2", CGROUPS, "cgroup2", 0, NULL));
	MUST(!mkdir(VM, 0755) && !mkdir(AGENT, 0755) && !mkdir(USERS, 0755));
	return true;
}

static const struct {
	const char *name;
	bool (*check)(void);
} CHECKS[] = {
#define CHECK(name) { #name, name }
	CHECK(guest_is_set_up),
	CHECK(programs_load_and_attach),
	CHECK(connect_is_redirected_with_the_identity),
	CHECK(mapped_connect_is_redirected),
	CHECK(direct_connect_is_marked),
	CHECK(port_is_refused_to_others),
	CHECK(private_options_are_refused_to_others),
	CHECK(without_a_listener_connects_are_refused),
};

int main(void)
{
	for (size_t i = 0; i < sizeof(CHECKS) / sizeof(CHECKS[0]); i++) {
		bool good;

		why[0] = 0;
		good = CHECKS[i].check();

		printf("gpa: {\"test\": \"tests/matrix/runner.c::%s\", \"outcome\": \"%s\", \"seconds\": 0, "
		       "\"said\": \"%s\"}\n",
		       CHECKS[i].name, good ? "passed" : "failed", good ? "" : why);
		fflush(stdout);
	}
	printf("gpa: {\"ended\": 0}\n");
	fflush(stdout);
	reboot(RB_POWER_OFF);
	return 0;
}
