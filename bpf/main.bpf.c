/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The kernel half, one object: who connects (capture.h), where to (redirect.h), the identity onto the accepted socket
 * (handover.h), whose port it is (bind.h), what leaves beside the agent (guard.h), where a listener is missing and how
 * one waits for it (namespaces.h, hold.h). Needs Linux 5.10 with BTF and cgroup v2.
 */
#include "redirect.h"
#include "handover.h"
#include "bind.h"
#include "guard.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";
