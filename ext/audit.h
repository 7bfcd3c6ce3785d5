/* SPDX-License-Identifier: MIT */
/*
 * One judged request, as the relay hands it to Python: fixed width, written by ext/relay/records.rs (size and
 * offsets asserted there), read by ext/records.pyx. What the numbers mean stands in docs/audit.md.
 */
#ifndef GPA_AUDIT_H
#define GPA_AUDIT_H

#include "../bpf/record.h"

#define GPA_AUDIT_METHOD_LEN 8
#define GPA_AUDIT_TARGET_LEN 288

struct gpa_audit {
	struct gpa_ident caller; /* all zero when unknown */
	__u64 unix_ns;     /* CLOCK_REALTIME when the head was complete */
	__u64 decision_id; /* unique in this run of the agent */
	__u64 epoch;       /* of the snapshot that judged */
	__u64 request_bytes;  /* body */
	__u64 response_bytes; /* body */
	__u32 duration_us;    /* head complete to last byte written */
	__u16 status;         /* answered to the caller */
	__u8 endpoint;        /* 0 imds, 1 wireserver, 2 hostga, 3 local, 255 none */
	__u8 decision;        /* 0 allow, 1 audit-allow, 2 deny, 3 refused before judging, 4 failed after */
	__u16 reason;         /* ext/error.rs, Reason */
	__u16 privilege;      /* index in the endpoint's table, 0xffff none */
	__u16 role;           /* the same */
	__u16 identity;       /* the same */
	__u8 signed_;         /* 1: sent on with a signature */
	__u8 mode;            /* GPA_MODE_* */
	__u16 target_len;     /* bytes used in target */
	__u32 pad;
	char method[GPA_AUDIT_METHOD_LEN];
	char target[GPA_AUDIT_TARGET_LEN]; /* as on the wire, cut; a value in a query is cut out (`?sig=…`) by the reader */
};

_Static_assert(sizeof(struct gpa_audit) == 256 + 40 + 4 + 4 + 8 + 4 + 4 + 8 + 288, "gpa_audit");

#endif
