/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The guard, when it is switched on: to a protected address and port that is enforced, packets leave only from the
 * agent's own sockets. At the cgroups it stops connections that are older than the interception, and raw sockets; at
 * the interfaces also AF_PACKET and what is forwarded for containers and nested guests. docs/guard.md says what neither
 * of them sees.
 */
#ifndef GPA_GUARD_H
#define GPA_GUARD_H

#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>

#include "agent.h"

#define IPPROTO_TCP 6
/* frag_off of the IPv4 header: more fragments follow; where this one belongs. */
#define IP_MF bpf_htons(0x2000)
#define IP_OFFSET bpf_htons(0x1fff)
/* Tags before a frame's type that we look behind: one of the customer, one of the provider (802.1ad). */
#define MAX_TAGS 2

/* Nearly every packet of the machine is to somebody else, and is not looked up. A test compares with gpa.endpoints. */
static __always_inline bool is_host(__be32 ip4)
{
	return ip4 == bpf_htonl(0xa9fea9fe) /* 169.254.169.254 */ ||
	       ip4 == bpf_htonl(0xa83f8110) /* 168.63.129.16 */;
}

static __always_inline bool is_guarded(__be32 ip4, __be16 port)
{
	struct gpa_target target = { .ip4 = ip4, .port = bpf_ntohs(port) };
	struct gpa_policy *policy = bpf_map_lookup_elem(&targets, &target);

	return policy && (policy->mode == GPA_MODE_ENFORCE || policy->mode == GPA_MODE_UNKNOWN);
}

/* Neither a request socket nor one in TIME_WAIT has storage. What they send is without content, see below. */
static __always_inline bool is_sent_by_agent(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk)
		return false;
	sk = bpf_sk_fullsock(sk);
	return sk && has_mark(sk, MARK_EXEMPT);
}

/* Can this segment open a connection, or does it carry something? Others (ACK, FIN, RST) may pass: the kernel sends
 * them from its own sockets, also for connections of ours that have ended, and no request can be made of them. */
static __always_inline bool has_content(struct __sk_buff *skb, __u32 at)
{
	struct tcphdr tcp;

	if (bpf_skb_load_bytes(skb, at, &tcp, sizeof(tcp)))
		return true;
	if (tcp.syn && !tcp.ack)
		return true;
	return at + tcp.doff * 4 < skb->len;
}

/* Is this packet, whose IPv4 header is at `at`, to be stopped? */
static __always_inline bool goes_around(struct __sk_buff *skb, __u32 at)
{
	struct {
		__be16 source, dest;
	} ports;
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) || ip.protocol != IPPROTO_TCP || !is_host(ip.daddr))
		return false;
	/* The ports are in the first fragment, which is at least eight bytes long, and nowhere else: no later fragment
	 * can replace them, and without the first one the host has nothing to put the others to. */
	if (ip.frag_off & IP_OFFSET)
		return false;
	at += ip.ihl * 4;
	if (bpf_skb_load_bytes(skb, at, &ports, sizeof(ports)) || !is_guarded(ip.daddr, ports.dest))
		return false;
	if (is_sent_by_agent(skb))
		return false;
	/* The flags of a first fragment may be in the second: no TCP sends such. */
	if (!(ip.frag_off & IP_MF) && !has_content(skb, at))
		return false;
	count(GPA_DROPPED_AROUND);
	return true;
}

#define DROP 0
#define PASS 1

/* v4-mapped sockets send IPv4, too. */
SEC("cgroup_skb/egress")
int gpa_egress(struct __sk_buff *skb)
{
	return skb->protocol == bpf_htons(ETH_P_IP) && goes_around(skb, 0) ? DROP : PASS;
}

/* At an interface skb->protocol is what the sender of a packet socket said it was: only the frame itself tells. */
SEC("tc")
int gpa_guard(struct __sk_buff *skb)
{
	__u32 at = ETH_HLEN;
	__be16 type;

	for (int tags = 0; tags <= MAX_TAGS; tags++) {
		if (bpf_skb_load_bytes(skb, at - sizeof(type), &type, sizeof(type)))
			break;
		if (type == bpf_htons(ETH_P_IP))
			return goes_around(skb, at) ? TC_ACT_SHOT : TC_ACT_UNSPEC;
		if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD))
			break;
		at += 4;
	}
	return TC_ACT_UNSPEC;
}

/* What stands at the interfaces: whoever is in `guards`, and nobody when the pins are gone. The kernel empties such a
 * map with its last pin and descriptor, so removing the pins is enough to be rid of the guard, and one write swaps it
 * at all interfaces. UNSPEC: the filters of others are asked, too. */
SEC("tc")
int gpa_guard_stub(struct __sk_buff *skb)
{
	bpf_tail_call(skb, &guards, 0);
	return TC_ACT_UNSPEC;
}

#endif
