/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Where a connect() goes. To a protected address: to the agent's listener of this namespace, with the caller's
 * record on the socket; refused where the agent cannot serve and the address is enforced. To the listener itself: on
 * its way, with a record that says so. Anywhere else: untouched, and any record of an earlier connect is taken off,
 * so that nobody launders an identity through a socket that is connected twice.
 */
#ifndef GPA_REDIRECT_H
#define GPA_REDIRECT_H

#include "agent.h"
#include "capture.h"
#include "namespaces.h"

#define LOOPBACK_IP4 bpf_htonl(0x7f000001)

enum connect_answer { REFUSE = 0, PROCEED = 1 };

#define ECONNREFUSED 111

/* A refused connect() fails as if nobody listened, which every client knows how to take; before b44123b4a3dc (5.18)
 * a program cannot choose and the caller sees EPERM. */
static __always_inline int refuse(__u32 counter)
{
	count(counter);
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_set_retval))
		bpf_set_retval(-ECONNREFUSED);
	return REFUSE;
}

static __always_inline bool is_loopback(__u32 ip4)
{
	/* 0.0.0.0 is this host, too. */
	return ip4 == 0 || (ip4 & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
}

enum listener { ABSENT, STALLED, SERVING };

/* In audit mode nobody waits longer than this for an agent that makes no progress. */
#define STALL_NS 2000000000ULL

/* Did somebody wait in the accept queue all the time since the agent last took a connection? A connect() that finds the
 * queue empty notes the time, so an agent that merely had nothing to do is not called stalled. */
static __always_inline bool is_stalled(struct bpf_sock *listener)
{
	struct sock *kernel_sk = (void *)bpf_skc_to_tcp_sock(listener);
	__u64 now = bpf_ktime_get_ns();
	struct gpa_agent *a;
	__u32 zero = 0;

	a = bpf_map_lookup_elem(&agent, &zero);
	if (!a || !kernel_sk)
		return false;
	if (!READ(kernel_sk, sk_ack_backlog)) {
		a->idle_ns = now;
		return false;
	}
	return now > a->idle_ns + STALL_NS && now > a->served_ns + STALL_NS;
}

static __always_inline struct bpf_sock *look_up_listener(struct bpf_sock_addr *ctx, __u16 port)
{
	struct bpf_sock_tuple to = {};

	to.ipv4.daddr = LOOPBACK_IP4;
	to.ipv4.dport = bpf_htons(port);
	return bpf_sk_lookup_tcp(ctx, &to, sizeof(to.ipv4), BPF_F_CURRENT_NETNS, 0);
}

/* Does a listener of ours stand at that port here and now, and does it serve? A pinned redirect must not lead to
 * whoever took the port after the agent's death. */
static __always_inline enum listener find_listener(struct bpf_sock_addr *ctx, __u16 port)
{
	struct bpf_sock *sk = look_up_listener(ctx, port);
	enum listener found = ABSENT;

	if (!sk)
		return ABSENT;
	if (has_mark(sk, MARK_LISTENER))
		found = is_stalled(sk) ? STALLED : SERVING;
	bpf_sk_release(sk);
	return found;
}

/* Does somebody else listen at that port here? */
static __always_inline bool is_taken(struct bpf_sock_addr *ctx, __u16 port)
{
	struct bpf_sock *sk = look_up_listener(ctx, port);
	bool taken;

	if (!sk)
		return false;
	taken = !has_mark(sk, MARK_LISTENER);
	bpf_sk_release(sk);
	return taken;
}

static __always_inline bool over_quota(__u32 uid)
{
	__u32 zero = 0;
	__s64 *n;

	if (uid == 0)
		return false;
	n = bpf_map_lookup_elem(&pending_in_all, &zero);
	if (n && *n >= MAX_FLOWS_NOT_ROOT)
		return true;
	n = bpf_map_lookup_elem(&pending, &uid);
	return n && *n >= MAX_FLOWS_OF_UID;
}

static __always_inline bool caller_is_root(void)
{
	const struct cred *cred = READ(current_task(), cred);

	return cred && READ(cred, uid.val) == 0 && READ(cred, euid.val) == 0;
}

/* Takes a record of an earlier connect() off. Most sockets have none, and looking is cheaper than deleting. */
static __always_inline void forget_record(struct bpf_sock *sk)
{
	struct mptcp_sock *above;

	if (!bpf_sk_storage_get(&idents, sk, 0, 0))
		return;
	above = mptcp_of(sk);
	bpf_sk_storage_delete(&idents, sk);
	if (above)
		bpf_sk_storage_delete(&idents, above);
}

/* Puts the caller's record on the socket; true when it stands. A copy on MPTCP's own socket is for getpeername() alone:
 * only the connection below it is handed over. */
static __always_inline bool put_record(struct bpf_sock_addr *ctx, __u32 dst_ip4, __u32 flags)
{
	struct gpa_ident *id = bpf_sk_storage_get(&idents, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	struct mptcp_sock *above;

	if (!id)
		return false;
	capture(id, ctx, dst_ip4, flags);
	above = mptcp_of(ctx->sk);
	if (above)
		bpf_sk_storage_get(&idents, above, id, BPF_SK_STORAGE_GET_F_CREATE);
	return true;
}

/* A SYN to the loopback listener must not leave by the device that the socket is bound to. False when it would: the
 * kernel asks the caller for CAP_NET_RAW to take a binding off, also when we do it. */
static __always_inline bool unbind_device(struct bpf_sock_addr *ctx)
{
	char none[16] = {};

	if (ctx->sk->bound_dev_if <= LOOPBACK_IFINDEX)
		return true;
	return !bpf_setsockopt(ctx, SOL_SOCKET, SO_BINDTODEVICE, none, sizeof(none));
}

/* Nobody serves here: what is enforced is refused, what is audited goes where it went before, but never a user who is
 * not root to an address that is for root only. */
static __always_inline int unserved(const struct gpa_policy *policy, __u32 counter)
{
	if (policy->mode == GPA_MODE_AUDIT && !(policy->root_only && !caller_is_root())) {
		count(GPA_PASSED_AUDIT);
		return PROCEED;
	}
	return refuse(counter);
}

/* The same where the agent has no listener in the socket's namespace, told to the agent. */
static __always_inline int unserved_namespace(const struct gpa_policy *policy, __u64 netns_cookie)
{
	int answer = unserved(policy, GPA_REFUSED_NAMESPACE);

	report(netns_cookie, answer == PROCEED ? GPA_PASSED : GPA_REFUSED);
	return answer;
}

/* Is it our listener that is asked for, by its own address? */
static __always_inline bool is_direct(struct bpf_sock_addr *ctx, const struct gpa_target *target)
{
	return is_loopback(target->ip4) && target->port == listener_port(bpf_get_netns_cookie(ctx));
}

/* Where a connect() to a protected address goes: *port, or, where that is 0, nowhere else than the answer says. */
static __always_inline int find_way(struct bpf_sock_addr *ctx, const struct gpa_policy *policy, __u16 *port)
{
	__u64 netns_cookie = bpf_get_netns_cookie(ctx);
	__u16 served = listener_port(netns_cookie), to_come;
	enum listener listener;

	if (served) {
		listener = find_listener(ctx, served);
		/* Who is enforced waits for a stalled agent; who is audited goes where he went before. */
		if (listener == ABSENT || (listener == STALLED && policy->mode == GPA_MODE_AUDIT))
			return unserved(policy, GPA_REFUSED_NO_LISTENER);
		*port = served;
		return PROCEED;
	}
	/* Who is enforced may wait for a listener. */
	to_come = policy->mode == GPA_MODE_AUDIT ? 0 : port_to_come(netns_cookie);
	if (!to_come || is_taken(ctx, to_come))
		return unserved_namespace(policy, netns_cookie);
	*port = to_come;
	return PROCEED;
}

/* The decision for one connect(); *redirect is the port to go to, or 0. */
static __always_inline int judge_connect(struct bpf_sock_addr *ctx, __u32 dst_ip4, __u16 *redirect)
{
	struct gpa_target target = { .ip4 = dst_ip4, .port = bpf_ntohs(ctx->user_port) };
	struct gpa_policy *policy;
	__u32 flags = 0;
	__u16 port = 0;
	int answer;

	*redirect = 0;
	if (!ctx->sk || ctx->type != SOCK_STREAM)
		return PROCEED;
	forget_record(ctx->sk);
	policy = bpf_map_lookup_elem(&targets, &target);
	if (!policy || policy->mode == GPA_MODE_DISABLED) {
		if (!is_direct(ctx, &target))
			return PROCEED;
		flags = GPA_DIRECT;
	} else {
		if (has_mark(ctx->sk, MARK_EXEMPT)) {
			count(GPA_EXEMPTED);
			return PROCEED;
		}
		answer = find_way(ctx, policy, &port);
		if (!port)
			return answer;
	}
	/* Both wait for their hand-over in the same table. */
	if (over_quota(current_uid()))
		return refuse(GPA_REFUSED_QUOTA);
	if (!put_record(ctx, dst_ip4, flags))
		return refuse(GPA_REFUSED_OTHER);
	if (!port) {
		count(GPA_DIRECT_CONNECTS);
		return PROCEED;
	}
	if (!unbind_device(ctx)) {
		forget_record(ctx->sk);
		return unserved(policy, GPA_REFUSED_OTHER);
	}
	count(GPA_REDIRECTED);
	*redirect = port;
	return PROCEED;
}

SEC("cgroup/connect4")
int gpa_connect4(struct bpf_sock_addr *ctx)
{
	__u16 port;
	int answer = judge_connect(ctx, ctx->user_ip4, &port);

	if (port) {
		ctx->user_ip4 = LOOPBACK_IP4;
		ctx->user_port = bpf_htons(port);
	}
	return answer;
}

/* Java, .NET and others use AF_INET6 sockets for everything: ::ffff:a.b.c.d comes by here alone. */
SEC("cgroup/connect6")
int gpa_connect6(struct bpf_sock_addr *ctx)
{
	__u16 port;
	int answer;

	if (ctx->user_ip6[0] || ctx->user_ip6[1] || ctx->user_ip6[2] != bpf_htonl(0x0000ffff)) {
		if (ctx->sk)
			forget_record(ctx->sk);
		return PROCEED;
	}
	answer = judge_connect(ctx, ctx->user_ip6[3], &port);
	if (port) {
		ctx->user_ip6[3] = LOOPBACK_IP4;
		ctx->user_port = bpf_htons(port);
	}
	return answer;
}

/* The record of a redirected client socket, to show the address that was asked for. */
static __always_inline struct gpa_ident *redirected(struct bpf_sock_addr *ctx)
{
	struct gpa_ident *id;

	if (!ctx->sk)
		return 0;
	id = bpf_sk_storage_get(&idents, ctx->sk, 0, 0);
	return id && !(id->flags & (GPA_ACCEPTED | GPA_DIRECT)) ? id : 0;
}

SEC("cgroup/getpeername4")
int gpa_getpeername4(struct bpf_sock_addr *ctx)
{
	struct gpa_ident *id = redirected(ctx);

	if (id) {
		ctx->user_ip4 = id->dst_ip4;
		ctx->user_port = bpf_htons(id->dst_port);
	}
	return PROCEED;
}

SEC("cgroup/getpeername6")
int gpa_getpeername6(struct bpf_sock_addr *ctx)
{
	struct gpa_ident *id = redirected(ctx);

	if (id) {
		ctx->user_ip6[3] = id->dst_ip4;
		ctx->user_port = bpf_htons(id->dst_port);
	}
	return PROCEED;
}

#endif
