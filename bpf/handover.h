/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The record's way from the client's socket to the accepted one. TCP_CONNECT_CB (the local port is bound by then)
 * publishes it under netns and 4-tuple; the accepting side takes it at the end of the handshake, from when on it rides
 * on the socket and dies with it. A client's socket that closes before takes its flow along.
 */
#ifndef GPA_HANDOVER_H
#define GPA_HANDOVER_H

#include "agent.h"
#include "hold.h"

static __always_inline __u64 flow_netns(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct sock *kernel_sk;

	if (!before_5_15)
		return bpf_get_netns_cookie(ctx);
	kernel_sk = (void *)bpf_skc_to_tcp_sock(sk);
	return kernel_sk ? READ(kernel_sk, __sk_common.skc_net.net, ns.inum) : 0;
}

static __always_inline void client_flow(struct bpf_sock_ops *ctx, struct bpf_sock *sk, struct gpa_flow *flow)
{
	flow->netns = flow_netns(ctx, sk);
	flow->client_ip4 = ctx->local_ip4;
	flow->server_ip4 = ctx->remote_ip4;
	flow->client_port = ctx->local_port;
	flow->server_port = bpf_ntohl(ctx->remote_port);
	flow->pad = 0;
}

static __always_inline void add_pending(__u32 uid, __s64 n)
{
	__u32 others = UID_OTHERS, key = uid;
	__s64 zero = 0, *p = bpf_map_lookup_elem(&pending, &key);

	if (!p) {
		bpf_map_update_elem(&pending, &key, &zero, BPF_NOEXIST);
		p = bpf_map_lookup_elem(&pending, &key);
	}
	if (!p) {
		bpf_map_update_elem(&pending, &others, &zero, BPF_NOEXIST);
		p = bpf_map_lookup_elem(&pending, &others);
	}
	if (p)
		__sync_fetch_and_add(p, n);
}

static __always_inline void count_pending(__u32 uid, __s64 n)
{
	__u32 zero = 0;
	__s64 *all;

	if (uid == 0)
		return;
	add_pending(uid, n);
	all = bpf_map_lookup_elem(&pending_in_all, &zero);
	if (all)
		__sync_fetch_and_add(all, n);
}

static __always_inline void publish(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct gpa_ident *id = bpf_sk_storage_get(&idents, sk, 0, 0);
	struct gpa_flow flow;

	if (!id || (id->flags & GPA_ACCEPTED))
		return;
	client_flow(ctx, sk, &flow);
	/* A full map: the connection arrives without a record and is refused. The quotas at connect() prevent it. */
	if (bpf_map_update_elem(&flows, &flow, id, BPF_ANY))
		return;
	count_pending(id->uid, 1);
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
	hold_back(ctx, id);
}

static __always_inline void take(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct gpa_flow flow = {
		.netns = flow_netns(ctx, sk),
		.client_ip4 = ctx->remote_ip4,
		.server_ip4 = ctx->local_ip4,
		.client_port = bpf_ntohl(ctx->remote_port),
		.server_port = ctx->local_port,
	};
	struct gpa_ident *from, *to;
	__u32 uid;

	/* Most connections are accepted elsewhere, and a table of a few rows says so sooner. It knows no inode numbers. */
	if (!before_5_15 && flow.server_port != listener_port(flow.netns))
		return;
	from = bpf_map_lookup_elem(&flows, &flow);
	if (!from) {
		/* Not redirected (from outside our cgroup), or the map was full. */
		if (!before_5_15)
			count(GPA_LOST);
		return;
	}
	uid = from->uid;
	to = bpf_sk_storage_get(&idents, sk, from, BPF_SK_STORAGE_GET_F_CREATE);
	/* An entry is another flow's as soon as it is deleted. When the client's end withdrew it just now, on another CPU,
	 * what was copied may be another's record. */
	if (bpf_map_delete_elem(&flows, &flow)) {
		bpf_sk_storage_delete(&idents, sk);
		count(GPA_LOST);
		return;
	}
	count_pending(uid, -1);
	if (to) {
		to->flags |= GPA_ACCEPTED;
		count(GPA_HANDED_OVER);
	}
}

static __always_inline void withdraw(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct gpa_ident *mine = bpf_sk_storage_get(&idents, sk, 0, 0), *theirs;
	struct gpa_flow flow;

	if (!mine || (mine->flags & GPA_ACCEPTED))
		return;
	if (mine->flags & GPA_HELD)
		count(GPA_REFUSED_NAMESPACE);
	client_flow(ctx, sk, &flow);
	theirs = bpf_map_lookup_elem(&flows, &flow);
	if (theirs && theirs->sock_cookie == mine->sock_cookie && !bpf_map_delete_elem(&flows, &flow))
		count_pending(mine->uid, -1);
}

SEC("sockops")
int gpa_sockops(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk;

	/* Each read of ctx->sk is a new pointer that may be null to the verifier: read once. */
	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		sk = ctx->sk;
		if (sk)
			publish(ctx, sk);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		sk = ctx->sk;
		if (sk)
			take(ctx, sk);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		if (!may_be_held(ctx))
			break;
		sk = ctx->sk;
		if (sk)
			let_go(ctx, sk);
		break;
	case BPF_SOCK_OPS_TIMEOUT_INIT:
		if (!may_be_held(ctx))
			break;
		sk = ctx->sk;
		if (sk && held(sk))
			ctx->reply = SYN_TICKS;
		break;
	case BPF_SOCK_OPS_HDR_OPT_LEN_CB:
		sk = ctx->sk;
		if (sk && is_unserved(sk))
			bpf_reserve_hdr_opt(ctx, TCPOLEN_MD5SIG, 0);
		break;
	case BPF_SOCK_OPS_WRITE_HDR_OPT_CB:
		sk = ctx->sk;
		if (sk && is_unserved(sk))
			write_option(ctx);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		sk = ctx->sk;
		if (sk && ctx->args[1] == BPF_TCP_CLOSE)
			withdraw(ctx, sk);
		break;
	}
	return 1;
}

/* An option the kernel does not know: it has said so before we are asked, and that stays for all but the agent. */
#define NOT_OURS 1
#define DONE 1

SEC("cgroup/getsockopt")
int gpa_getsockopt(struct bpf_sockopt *ctx)
{
	struct gpa_ident *to = ctx->optval, *id;
	struct gpa_agent *a;

	if (ctx->level != GPA_SOL || ctx->optname != GPA_SO_IDENT || !ctx->sk)
		return NOT_OURS;
	if ((void *)(to + 1) > ctx->optval_end)
		return NOT_OURS;
	a = the_agent();
	if (!a)
		return NOT_OURS;
	a->served_ns = bpf_ktime_get_ns();
	id = bpf_sk_storage_get(&idents, ctx->sk, 0, 0);
	if (!id || !(id->flags & GPA_ACCEPTED))
		return NOT_OURS;
	*to = *id;
	ctx->optlen = sizeof(*to);
	/* clang 19 would join the two stores into one of eight bytes, which the verifier refuses. */
	asm volatile("" ::: "memory");
	ctx->retval = 0;
	return DONE;
}

/* optlen -1: the kernel does not look at the option itself. */
#define SKIP_KERNEL (-1)

SEC("cgroup/setsockopt")
int gpa_setsockopt(struct bpf_sockopt *ctx)
{
	__u64 *nonce = ctx->optval;
	__u32 *m;

	if (ctx->level != GPA_SOL || !ctx->sk)
		return NOT_OURS;
	if (ctx->optname == GPA_SO_CLAIM) {
		if ((void *)(nonce + 1) > ctx->optval_end || !claim_agent(*nonce))
			return NOT_OURS;
		ctx->optlen = SKIP_KERNEL;
		return DONE;
	}
	if (ctx->optname != GPA_SO_EXEMPT || !is_agent())
		return NOT_OURS;
	m = bpf_sk_storage_get(&marks, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!m)
		return NOT_OURS;
	*m = MARK_EXEMPT;
	ctx->optlen = SKIP_KERNEL;
	return DONE;
}

#endif
