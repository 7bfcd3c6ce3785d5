/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The listener's port belongs to the agent, also while it is down: in the namespaces that it serves nobody else binds
 * it, on any address, by either family. Otherwise whoever came first after a crash would receive root's requests.
 */
#ifndef GPA_BIND_H
#define GPA_BIND_H

#include "agent.h"

static __always_inline bool is_the_agents(__u64 netns_cookie, __u16 port)
{
	return port && port == listener_port(netns_cookie);
}

static __always_inline int refuse_bind(void)
{
	count(GPA_REFUSED_BIND);
	return 0;
}

static __always_inline int judge_bind(__u64 netns_cookie, __u16 port)
{
	struct gpa_agent *a = the_agent();

	if (a) {
		/* How user space learns a namespace's cookie where SO_NETNS_COOKIE (5.14) is missing. */
		a->bound_netns = netns_cookie;
		return 1;
	}
	return is_the_agents(netns_cookie, port) ? refuse_bind() : 1;
}

SEC("cgroup/bind4")
int gpa_bind4(struct bpf_sock_addr *ctx)
{
	if (ctx->type != SOCK_STREAM)
		return 1;
	return judge_bind(bpf_get_netns_cookie(ctx), bpf_ntohs(ctx->user_port));
}

SEC("cgroup/bind6")
int gpa_bind6(struct bpf_sock_addr *ctx)
{
	if (ctx->type != SOCK_STREAM)
		return 1;
	return judge_bind(bpf_get_netns_cookie(ctx), bpf_ntohs(ctx->user_port));
}

/* A port that the kernel chose. Who has another is not asked who he is. */
SEC("cgroup/post_bind4")
int gpa_post_bind4(struct bpf_sock *ctx)
{
	if (ctx->type != SOCK_STREAM)
		return 1;
	if (!is_the_agents(bpf_get_netns_cookie(ctx), ctx->src_port) || is_agent())
		return 1;
	return refuse_bind();
}

#endif
