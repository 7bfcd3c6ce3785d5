/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What the kernel half and the native half say to each other: the record of a caller, the key of a flow, the
 * control block. Fixed width, no padding that is not named, sizes asserted here and in ext/caller.rs.
 *
 * An upgrade finds records of the agent before it on sockets that wait, and a rollback finds newer ones. So a record
 * only grows, into its reserve, and says by GPA_ABI which fields it has: every agent reads every record of its
 * GPA_PINS. Any other change of a map's key or value is a new GPA_PINS: maps live in a folder of that number, and what
 * waits during that one upgrade is not known to the new agent.
 */
#ifndef GPA_RECORD_H
#define GPA_RECORD_H

#ifndef __bpf__
#include <linux/types.h>
#endif

#define GPA_PINS 2 /* shape of the maps */
#define GPA_ABI 1  /* fields of struct gpa_ident; 0 is no record */

/* The private socket level ("gp") and its options. Only the agent is answered, see bpf/handover.h. */
#define GPA_SOL 0x6770
#define GPA_SO_IDENT 1    /* get: struct gpa_ident of an accepted socket */
#define GPA_SO_EXEMPT 2   /* set: this socket's connect() is not redirected */
#define GPA_SO_CLAIM 3    /* set, u64 nonce: the caller is the agent from now on */

/* Values of the map `marks`: the agent's own sockets. */
#define MARK_EXEMPT 1   /* its connect() is not redirected */
#define MARK_LISTENER 2 /* written by user space */

/* gpa_ident.flags */
#define GPA_DIRECT (1U << 0)    /* connected to the listener itself, was not redirected */
#define GPA_ACCEPTED (1U << 1)  /* this copy rides on the accepting side */
#define GPA_EXE_KNOWN (1U << 2) /* the exe_* fields hold */
#define GPA_EXE_NAME (1U << 3)  /* exe_name holds the whole name */
#define GPA_HELD (1U << 4)      /* of a client's socket: its SYN waits for a listener */

#define GPA_COMM_LEN 16
#define GPA_EXE_NAME_LEN 64

/* Who called connect(), read in the kernel at that moment. */
struct gpa_ident {
	__u64 start_boottime; /* of the thread group leader, ns since boot */
	__u64 connect_ns;     /* CLOCK_MONOTONIC */
	__u64 cgroup_id;
	__u64 netns_cookie;
	__u64 sock_cookie;
	__u64 exe_ino;
	__s64 exe_ctime_s;
	__u32 exe_ctime_ns;
	__u32 exe_dev;     /* major << 20 | minor, as the kernel keeps s_dev */
	__u32 exe_gen;
	__u32 exe_sbmagic; /* s_magic of the executable's filesystem, statfs(2) */
	__u32 tgid;        /* in the initial pid namespace, as every id here is the initial namespace's */
	__u32 tid;
	__u32 ppid;
	__u32 pf_flags;
	__u32 uid; /* real */
	__u32 gid; /* real */
	__u32 euid;
	__u32 egid;
	__u32 loginuid; /* 0xffffffff: none */
	__u32 userns_inum;
	__u32 mntns_inum;
	__u32 exe_mntns_inum;
	__u32 dst_ip4;  /* asked for, network byte order */
	__u16 dst_port; /* asked for, host byte order */
	__u16 family;   /* of the caller's socket */
	__u32 mark;
	__u32 bound_if;
	char comm[GPA_COMM_LEN];
	char gl_comm[GPA_COMM_LEN]; /* of the thread group leader */
	__u32 abi;
	__u32 flags;
	char exe_name[GPA_EXE_NAME_LEN]; /* last component by dentry, not by mount */
	__u32 reserve[4]; /* zero; for fields to come */
};

/* One connection between connect() and the end of its handshake. */
struct gpa_flow {
	__u64 netns;
	__u32 client_ip4; /* network byte order */
	__u32 server_ip4; /* network byte order */
	__u16 client_port; /* host byte order */
	__u16 server_port; /* host byte order */
	__u32 pad;
};

/* Modes, as bpf/ and ext/ number them. UNKNOWN is enforced, and waits in the agent. */
#define GPA_MODE_UNKNOWN 0
#define GPA_MODE_DISABLED 1
#define GPA_MODE_AUDIT 2
#define GPA_MODE_ENFORCE 3

/* A protected address; key of the map `targets`. */
struct gpa_target {
	__u32 ip4;  /* network byte order */
	__u16 port; /* host byte order */
	__u16 pad;
};

/* What holds for a protected address; value of `targets`. */
struct gpa_policy {
	__u32 mode;
	__u32 root_only; /* others are refused already at connect() while no agent listens */
};

/* Who the agent is; written by GPA_SO_CLAIM, nonce by user space. */
struct gpa_agent {
	__u64 nonce; /* zero: nothing to claim */
	__u64 start_boottime;
	__u64 bound_netns; /* cookie of the namespace in which the agent last bound a socket */
	__u64 served_ns;   /* CLOCK_MONOTONIC when it last asked who is calling */
	__u64 idle_ns;     /* CLOCK_MONOTONIC when a connect() last found nobody waiting */
	__u32 tgid;
	__u32 pad;
};

/* Somebody in a network namespace where the agent has no listener; in the ring `reports`. */
enum gpa_report_kind {
	GPA_SEEN = 0,    /* a socket was made: a listener is wanted */
	GPA_REFUSED = 1, /* a connect() to a protected address was refused because of that */
	GPA_PASSED = 2,  /* or left alone, in audit mode */
	GPA_WAITS = 3,   /* or waits for the listener */
};

struct gpa_report {
	__u64 netns_cookie; /* of the socket, which may have left its process's namespace */
	__u32 kind;
	__u32 tgid;
	__u32 tid;
	__u32 uid;
	char comm[GPA_COMM_LEN];
};

/* What is reported; the one value of the map `watch`. */
struct gpa_watch {
	__u32 what;
	__u32 port; /* where a listener is to be expected in a moment, 0 when nobody may wait for it */
};

#define GPA_WATCH_NOTHING 0
#define GPA_WATCH_CONNECTS 1 /* GPA_REFUSED and GPA_PASSED */
#define GPA_WATCH_SOCKETS 2  /* all */

/* Counters, array map `counters`, one u64 a row. */
enum gpa_counter {
	GPA_REDIRECTED = 0,
	GPA_EXEMPTED = 1,
	GPA_DIRECT_CONNECTS = 2,
	GPA_REFUSED_NO_LISTENER = 3, /* no listener of the agent in this namespace */
	GPA_REFUSED_NAMESPACE = 4,   /* a namespace that the agent does not serve */
	GPA_REFUSED_QUOTA = 5,       /* too many of this uid's flows wait for their hand-over */
	GPA_HANDED_OVER = 6,
	GPA_LOST = 7, /* arrived at the listener without a flow */
	GPA_PASSED_AUDIT = 8, /* audit mode and nobody serves: left alone */
	GPA_REFUSED_BIND = 9,
	GPA_REFUSED_OTHER = 10,
	GPA_DROPPED_AROUND = 11, /* packets that the guard stopped */
	GPA_COUNTERS = 12,
};

_Static_assert(sizeof(struct gpa_ident) == 256, "gpa_ident");
_Static_assert(sizeof(struct gpa_flow) == 24, "gpa_flow");
_Static_assert(sizeof(struct gpa_target) == 8, "gpa_target");
_Static_assert(sizeof(struct gpa_policy) == 8, "gpa_policy");
_Static_assert(sizeof(struct gpa_agent) == 48, "gpa_agent");
_Static_assert(sizeof(struct gpa_report) == 40, "gpa_report");
_Static_assert(sizeof(struct gpa_watch) == 8, "gpa_watch");

#endif
