"""The canonical form as tools on rules get it: the one that requests are judged by."""

from __future__ import annotations

import pytest

from gpa._native import canonical_request, canonical_rule
from gpa.errors import RequestFormError


def test_rules_and_requests_come_to_one_form() -> None:
    form = (["metadata", "instance"], [("api-version", "2021-02-01"), ("a b", "ä")])
    target = "http://169.254.169.254/Metadata/%69nstance/?API-version=2021-02-01&a%20b=%c3%84"
    assert canonical_request("GET", target) == form
    rule = [("Api-Version", "2021%2d02-01"), ("a b", "Ä")]
    assert canonical_rule("/metadata/instance", rule) == form


def test_bytes_that_are_no_text_are_kept_apart() -> None:
    _, pairs = canonical_request("GET", "/?a=%ff&a=%fe")
    assert pairs == [("a", "\udcff"), ("a", "\udcfe")]
    assert canonical_rule("/", [("a", "%FF")]) == ([], pairs[:1])


@pytest.mark.parametrize(
    ("method", "target", "status", "reason"),
    [
        ("GET", "/a%2fb", 400, "ambiguous_path"),
        ("GET", "/a b", 400, "bad_target"),
        ("G E T", "/", 400, "bad_request_line"),
        ("BREW", "/", 405, "method_not_allowed"),
        ("GET", "/a/../b", 403, "path_traversal"),
        ("GET", "/" + "a" * 8192, 414, "target_too_long"),
        ("GET", "/ä", 400, "bad_target"),
    ],
)
def test_what_the_agent_refuses_for_its_form_says_how(
    method: str, target: str, status: int, reason: str
) -> None:
    with pytest.raises(RequestFormError) as caught:
        canonical_request(method, target)
    assert (caught.value.status, caught.value.reason) == (status, reason)


def test_a_path_in_a_rule_that_no_request_can_have_is_refused() -> None:
    with pytest.raises(RequestFormError, match="dot segments"):
        canonical_rule("/a/../b", [])
