/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Network namespaces in which the agent has no listener yet. The first socket made in one is reported, so that the
 * agent opens its listener there. Who connects before that is held back (hold.h) for a moment, once for a namespace.
 */
#ifndef GPA_NAMESPACES_H
#define GPA_NAMESPACES_H

#include "agent.h"

/* The same is not reported again sooner. */
#define REPORT_EVERY_NS 1000000000ULL

/* Beside the kinds of reports, in `done`: until when connects of that namespace may wait. */
#define WAIT_UNTIL 100

/* The agent needs half a millisecond. Where it has not come after this long it cannot, and connects are refused at
 * once. */
#define WAIT_NS 1000000000ULL

/* As long as so many bytes of reports are unread, nobody reads them: an agent that is there takes them at once. */
#define UNREAD (64 * sizeof(struct gpa_report))

static __always_inline struct gpa_watch *watching(__u32 what)
{
	__u32 zero = 0;
	struct gpa_watch *w = bpf_map_lookup_elem(&watch, &zero);

	return w && w->what >= what ? w : 0;
}

static __always_inline void report(__u64 netns_cookie, __u32 kind)
{
	struct gpa_done key = { .netns_cookie = netns_cookie, .what = kind };
	struct gpa_report *told;
	struct task_struct *task;
	__u64 now, *last;

	if (!watching(kind == GPA_REFUSED || kind == GPA_PASSED ? GPA_WATCH_CONNECTS : GPA_WATCH_SOCKETS))
		return;
	now = bpf_ktime_get_ns();
	last = bpf_map_lookup_elem(&done, &key);
	if (last && now < *last + REPORT_EVERY_NS)
		return;
	bpf_map_update_elem(&done, &key, &now, BPF_ANY);
	told = bpf_ringbuf_reserve(&reports, sizeof(*told), 0);
	if (!told)
		return;
	task = current_task();
	told->netns_cookie = netns_cookie;
	told->kind = kind;
	told->tgid = READ(task, tgid);
	told->tid = READ(task, pid);
	told->uid = bpf_get_current_uid_gid();
	BPF_CORE_READ_STR_INTO(&told->comm, task, comm);
	bpf_ringbuf_submit(told, 0);
}

/* The port at which the agent's listener is about to stand in this namespace; 0 when none is to be expected. */
static __always_inline __u16 port_to_come(__u64 netns_cookie)
{
	struct gpa_done key = { .netns_cookie = netns_cookie, .what = WAIT_UNTIL };
	struct gpa_watch *w = watching(GPA_WATCH_SOCKETS);
	__u64 now = bpf_ktime_get_ns(), until, *known;

	if (!w || !w->port)
		return 0;
	known = bpf_map_lookup_elem(&done, &key);
	until = known ? *known : now + WAIT_NS;
	if (!known)
		bpf_map_update_elem(&done, &key, &until, BPF_ANY);
	if (now >= until || bpf_ringbuf_query(&reports, BPF_RB_AVAIL_DATA) > UNREAD)
		return 0;
	report(netns_cookie, GPA_WAITS);
	return w->port;
}

SEC("cgroup/sock_create")
int gpa_sock_create(struct bpf_sock *ctx)
{
	__u64 netns_cookie;

	if (ctx->type != SOCK_STREAM)
		return 1;
	netns_cookie = bpf_get_netns_cookie(ctx);
	if (!listener_port(netns_cookie))
		report(netns_cookie, GPA_SEEN);
	return 1;
}

#endif
