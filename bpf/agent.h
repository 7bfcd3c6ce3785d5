/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Is it the agent who asks? A process proves it once: as root, inside the agent's cgroup, it names the nonce that
 * was written into the map `agent`, which only root can do. From then on its tgid and start time are the proof; both
 * come from the kernel, so pid namespaces and reuse of pids do not matter.
 */
#ifndef GPA_AGENT_H
#define GPA_AGENT_H

#include "maps.h"

static __always_inline __u64 current_start_boottime(void)
{
	return READ(current_task(), group_leader, start_boottime);
}

/* Read, not asked: bpf_get_current_pid_tgid() came to the socket options only after 5.10. */
static __always_inline __u32 current_tgid(void)
{
	return READ(current_task(), tgid);
}

/* The agent's entry when the current process is the agent, else null. */
static __always_inline struct gpa_agent *the_agent(void)
{
	__u32 zero = 0;
	struct gpa_agent *a = bpf_map_lookup_elem(&agent, &zero);

	if (a && a->tgid && a->tgid == current_tgid() &&
	    a->start_boottime == current_start_boottime())
		return a;
	return 0;
}

static __always_inline bool is_agent(void)
{
	return the_agent();
}

static __always_inline bool claim_agent(__u64 nonce)
{
	__u32 zero = 0;
	struct gpa_agent *a = bpf_map_lookup_elem(&agent, &zero);

	if (!a || !nonce || a->nonce != nonce || (__u32)bpf_get_current_uid_gid() != 0)
		return false;
	a->nonce = 0;
	a->start_boottime = current_start_boottime();
	a->tgid = current_tgid();
	return true;
}

static __always_inline bool has_mark(struct bpf_sock *sk, __u32 mark)
{
	__u32 *m = bpf_sk_storage_get(&marks, sk, 0, 0);

	return m && *m == mark;
}

#endif
