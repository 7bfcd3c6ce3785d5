/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Every map, with its bound and the reason for it. All are pinned, so that identities outlive the agent. */
#ifndef GPA_MAPS_H
#define GPA_MAPS_H

#include "kernel.h"
#include "record.h"

/* Half-open connections at one time. A client that never finishes its handshake holds an entry until its socket
 * closes; the quotas below keep one user from holding them all. Twice as many would take 5 MiB. */
#define MAX_FLOWS 8192
/* Of these, one uid may hold an eighth, and all but root together seven eighths. */
#define MAX_FLOWS_OF_UID (MAX_FLOWS / 8)
#define MAX_FLOWS_NOT_ROOT (MAX_FLOWS - MAX_FLOWS / 8)
/* Uids counted apart, as many as can wait; those beyond share the counter of UID_OTHERS. */
#define MAX_UIDS MAX_FLOWS
#define UID_OTHERS 0xffffffffU
#define MAX_NAMESPACES 256
#define MAX_TARGETS 8

/* The record of a caller, on the client's socket from connect() on, on the accepted socket from the handshake on. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct gpa_ident);
} idents SEC(".maps");

/* Marks of the agent's own sockets: of exempt ones by their option, of listeners by user space, which writes here by
 * descriptor since a listener that was taken over may be of a cgroup that answers no option. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u32);
} marks SEC(".maps");

/* Not an LRU: a flood must not evict another's flow. Allocated beforehand: nobody loses his for want of memory. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_FLOWS);
	__type(key, struct gpa_flow);
	__type(value, struct gpa_ident);
} flows SEC(".maps");

/* How many flows a uid has that were not handed over yet. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_UIDS);
	__type(key, __u32);
	__type(value, __s64);
} pending SEC(".maps");

/* The sum over all uids but root. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __s64);
} pending_in_all SEC(".maps");

/* Network namespace cookie to the port of the agent's listener there, host byte order. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_NAMESPACES);
	__type(key, __u64);
	__type(value, __u32);
} netns_port SEC(".maps");

/* What is reported of namespaces that are not in netns_port. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct gpa_watch);
} watch SEC(".maps");

/* Some 300 reports: more wait only where nobody reads. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16384);
} reports SEC(".maps");

/* When something was last done for a namespace without a listener. An entry that is evicted costs a report more. */
struct gpa_done {
	__u64 netns_cookie;
	__u64 what;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4 * MAX_NAMESPACES);
	__type(key, struct gpa_done);
	__type(value, __u64);
} done SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_TARGETS);
	__type(key, struct gpa_target);
	__type(value, struct gpa_policy);
} targets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct gpa_agent);
} agent SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, GPA_COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/* The guard of the interfaces, or nothing (guard.h). */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} guards SEC(".maps");

static __always_inline void count(__u32 which)
{
	__u64 *n = bpf_map_lookup_elem(&counters, &which);

	if (n)
		__sync_fetch_and_add(n, 1);
}

/* The port on which the agent listens in this namespace, 0 for none. */
static __always_inline __u16 listener_port(__u64 netns_cookie)
{
	__u32 *port = bpf_map_lookup_elem(&netns_port, &netns_cookie);

	return port ? *port : 0;
}

#endif
