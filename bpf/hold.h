/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * A connect() that comes before the agent's listener of its namespace waits for it as it would for a lost packet:
 * nobody spins, and a non-blocking one goes on. Its SYN carries an MD5 option (RFC 2385), to which the kernel answers
 * nothing: not where no listener stands (tcp_v4_send_reset), nor where one stands that has no such key. The next SYN
 * goes out some ticks later, without the option as soon as netns_port has the namespace. So whoever took the port
 * there before us gets nothing either. Where the option does not fit (TCP Fast Open, MPTCP) the SYN goes out bare and
 * is refused. User space allows waiting only on kernels that know the option (CONFIG_TCP_MD5SIG).
 */
#ifndef GPA_HOLD_H
#define GPA_HOLD_H

#include "agent.h"

/* First time until a SYN is sent again, in ticks of 1 to 10 ms, and doubled then: with the usual number of tries a
 * starved agent has half a second and more. */
#define SYN_TICKS 4

#define TCPOPT_MD5SIG 19
#define TCPOLEN_MD5SIG 18

/* What tells most sockets apart at once: few want to write options. */
static __always_inline bool may_be_held(struct bpf_sock_ops *ctx)
{
	return ctx->bpf_sock_ops_cb_flags & BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG;
}

/* The record of a socket that was redirected to a listener which is to come. */
static __always_inline struct gpa_ident *held(struct bpf_sock *sk)
{
	struct gpa_ident *id = bpf_sk_storage_get(&idents, sk, 0, 0);

	return id && (id->flags & GPA_HELD) ? id : 0;
}

static __always_inline void hold_back(struct bpf_sock_ops *ctx, struct gpa_ident *id)
{
	if (listener_port(id->netns_cookie))
		return;
	id->flags |= GPA_HELD;
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
}

static __always_inline void let_go(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct gpa_ident *id = held(sk);

	if (!id)
		return;
	id->flags &= ~GPA_HELD;
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags & ~BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
}

static __always_inline bool is_unserved(struct bpf_sock *sk)
{
	struct gpa_ident *id = held(sk);

	return id && !listener_port(id->netns_cookie);
}

/* What is reserved and not written the kernel fills with no-operations. */
static __always_inline void write_option(struct bpf_sock_ops *ctx)
{
	struct {
		__u8 kind, length, digest[16];
	} option;

	__builtin_memset(&option, 0, sizeof(option));
	option.kind = TCPOPT_MD5SIG;
	option.length = sizeof(option);
	bpf_store_hdr_opt(ctx, &option, sizeof(option), 0);
}

#endif
