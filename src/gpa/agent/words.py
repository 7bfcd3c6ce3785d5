"""Words for the numbers in an audit record. The numbers are ext/error.rs's and ext/audit.h's; a
test compares.
"""

from __future__ import annotations

from typing import Final

from gpa.endpoints import Endpoint

REASONS: Final[dict[int, str]] = {
    0: "rule_matched",
    1: "default_allow",
    2: "no_rules",
    3: "disabled",
    4: "exempt",
    5: "local",
    20: "not_root",
    21: "no_identity_matched",
    22: "default_deny",
    23: "rules_broken",
    24: "path_traversal",
    40: "bad_request_line",
    41: "bad_version",
    42: "bad_field",
    43: "field_imitates_ours",
    44: "bad_host",
    45: "bad_framing",
    46: "bad_chunk",
    47: "bad_target",
    48: "ambiguous_path",
    49: "ambiguous_query",
    50: "missing_metadata",
    51: "method_not_allowed",
    52: "body_too_large",
    53: "target_too_long",
    54: "head_too_large",
    55: "misdirected",
    56: "request_timeout",
    57: "not_found",
    80: "not_ready",
    81: "identity_lost",
    82: "over_budget",
    83: "host_unreachable",
    84: "host_broken",
    85: "host_timeout",
    86: "host_down",
}
"""Reason's number to its stable word."""

DECISIONS: Final = ("allow", "audit-allow", "deny", "refuse", "fail")
"""`gpa_audit.decision`: refused before judging, failed after."""

ENDPOINTS: Final[dict[int, str]] = {
    **{number: endpoint.value for number, endpoint in enumerate(Endpoint)},
    3: "local",
}

MODES: Final = ("unknown", "disabled", "audit", "enforce")
"""`GPA_MODE_*` of bpf/record.h."""


def reason(number: int) -> str:
    """The word, or the number where a newer relay has a new one."""
    return REASONS.get(number, f"reason_{number}")


def decision(number: int) -> str:
    """The word for `gpa_audit.decision`."""
    return DECISIONS[number] if number < len(DECISIONS) else f"decision_{number}"


def endpoint(number: int) -> str | None:
    """The endpoint's word; None when the request did not get so far."""
    return ENDPOINTS.get(number)


def mode(number: int) -> str:
    """The word for `GPA_MODE_*`."""
    return MODES[number] if number < len(MODES) else f"mode_{number}"
