"""Whatever bytes a caller sends: the answer is that of the oracle, and the host gets what it says.

The host must see exactly the requests that the oracle lets through, each once, each signed.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from tests.messages.cases import CASES, SMUGGLED, WAIT, body, mutations
from tests.messages.conftest import say
from tests.messages.oracle import Sent, outcomes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.messages.conftest import Heard
    from tests.messages.oracle import Outcome

    from gpa.demo.lab import Lab

pytestmark = pytest.mark.kernel

MUTATIONS = int(os.environ.get("GPA_MUTATIONS", "1500"))
SILENCE = 0.3
"""Seconds without an answer that show that the agent waits for more."""
SLOW_BYTES = 200
"""Only shorter messages are sent byte by byte."""


def kind(outcome: Outcome) -> int | str:
    return "sent" if isinstance(outcome, Sent) else outcome


def own(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the secure channel."""
    return [r for r in records if not r["target"].startswith("/secure-channel/")]


def judge(
    lab: Lab, messages: Sequence[bytes], *, endpoint: str = "imds", slow: bool = False
) -> list[str]:
    """Say each message on a connection of its own; what differs from the oracle."""
    expected = [outcomes(message, endpoint) for message in messages]
    before = len(own(lab.records()))
    jobs = []
    for message, outcome in zip(messages, expected, strict=True):
        said = [message[i : i + 1] for i in range(len(message))] if slow else message
        methods = [o.method.decode() if isinstance(o, Sent) else "" for o in outcome]
        waits = outcome[-1] == "wait"
        jobs.append(
            {
                "endpoint": endpoint,
                "said": said,
                "pause": 0.001,
                "methods": methods,
                "wait": SILENCE if waits else 20,
            }
        )
    heard = say(lab, jobs)
    wrong = [  # at most some of it: messages may be long
        f"{message[:300]!r}: {heard.data[:300]!r} {heard.end}, not {list(map(kind, outcome))}"
        for message, outcome, heard in zip(messages, expected, heard, strict=True)
        if not fits(outcome, heard)
    ]
    sent = Counter(
        (
            o.method.decode(),
            o.target.decode(),
            len(o.body),
            hashlib.sha256(o.body).hexdigest() if o.body else None,
        )
        for outcome in expected
        for o in outcome
        if isinstance(o, Sent)
    )
    arrived = own(lab.records())[before:]
    seen = Counter((r["method"], r["target"], r["body"], r["digest"]) for r in arrived)
    wrong += [f"only at the host: {request}" for request in (seen - sent)]
    wrong += [f"never at the host: {request}" for request in (sent - seen)]
    wrong += [f"not signed: {r}" for r in arrived if r["signature"] not in {"valid", "exempt"}]
    return wrong


def fits(expected: Sequence[Outcome], heard: Heard) -> bool:
    """Whether the answers are those: the host's for what is sent, ours for what is refused."""
    answered = [outcome for outcome in expected if outcome != "wait"]
    refused = [outcome for outcome in answered if isinstance(outcome, int)]
    if len(heard.statuses) != len(answered) or heard.passed_on != len(answered) - len(refused):
        return False
    return not refused or (heard.statuses[-1] == refused[0] and heard.end == "closed")


@pytest.mark.parametrize(("name", "expected", "message"), CASES, ids=[c[0] for c in CASES])
def test_oracle_agrees_with_the_table(name: str, expected: int | str, message: bytes) -> None:
    found = outcomes(message, "imds")
    assert kind(found[0]) == expected, name


def test_whole(lab: Lab) -> None:
    assert not judge(lab, [message for _, _, message in CASES])


def test_followed_by_another_request(lab: Lab) -> None:
    """What follows a refused request is never one; behind a good one it is the next."""
    messages = [m + SMUGGLED for _, expected, m in CASES if expected != WAIT and len(m) < 1 << 17]
    assert not judge(lab, messages)


def test_byte_by_byte(lab: Lab) -> None:
    assert not judge(lab, [m for _, _, m in CASES if len(m) < SLOW_BYTES], slow=True)


def test_mutations(lab: Lab) -> None:
    assert not judge(lab, list(mutations(MUTATIONS, seed=1)))


def test_pipelined(lab: Lab) -> None:
    message = b"".join(
        f"GET /metadata/versions?{n} HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n".encode()
        for n in range(50)
    )
    assert not judge(lab, [message] * 5)


EXEMPT = {
    "wireserver": (b"POST", b"/machine/?comp=telemetrydata"),
    "hostga": (b"PUT", b"/vmAgentLog"),
}
NEAR = (
    ("wireserver", b"POST", b"/machine?comp=telemetrydata"),
    ("wireserver", b"POST", b"/machine/?comp=telemetrydata&a"),
    ("wireserver", b"POST", b"/machine/?comp=telemetry%64ata"),
    ("wireserver", b"PUT", b"/machine/?comp=telemetrydata"),
    ("wireserver", b"PUT", b"/vmAgentLog"),
    ("hostga", b"PUT", b"/vmAgentLog/"),
    ("hostga", b"PUT", b"/vmAgentLog?"),
    ("hostga", b"POST", b"/vmAgentLog"),
    ("hostga", b"POST", b"/machine/?comp=telemetrydata"),
    ("imds", b"PUT", b"/vmAgentLog"),
)
HELD, STREAMED = 8 << 20, 100 << 20


def upload(endpoint: str, method: bytes, target: bytes, length: int, sent: int) -> dict[str, Any]:
    """A job that announces `length` bytes and says `sent` of them."""
    host = b"169.254.169.254" if endpoint == "imds" else b"168.63.129.16"
    head = b"%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n"
    return {
        "endpoint": endpoint,
        "said": head % (method, target, host, length) + b"x" * sent,
        "methods": [method.decode()],
        "wait": 30,
    }


def test_exempt(lab: Lab) -> None:
    """In any case of letters, up to 100 MiB, and for root alone; its bytes arrive unsigned."""
    jobs = [
        upload(endpoint, method, target, size, size)
        for endpoint, (method, plain) in EXEMPT.items()
        for target, size in ((plain, HELD + 1), (plain.upper(), 10), (plain.lower(), HELD + 1))
    ]
    endpoint, (method, target) = "hostga", EXEMPT["hostga"]
    jobs.append(upload(endpoint, method, target, STREAMED, STREAMED))
    before = len(own(lab.records()))
    for heard in say(lab, jobs):
        assert heard.passed_on == 1, heard
    arrived = own(lab.records())[before:]
    assert {r["signature"] for r in arrived} == {"exempt"}
    assert sorted(r["body"] for r in arrived) == [10, 10, *[HELD + 1] * 4, STREAMED]
    for uid, status, size in ((0, 413, STREAMED + 1), (65534, 403, 10)):
        jobs = [upload(name, m, t, size, 10) for name, (m, t) in EXEMPT.items()]
        for heard in say(lab, jobs, uid):
            assert heard.statuses == [status], heard
            assert not heard.passed_on
    assert len(own(lab.records())) == before + len(arrived)


def test_nearly_exempt(lab: Lab) -> None:
    """Held like any other: refused beyond 8 MiB, signed below."""
    before = len(own(lab.records()))
    for heard in say(lab, [upload(*near, HELD + 1, 10) for near in NEAR]):
        assert heard.statuses == [413], heard
    assert len(own(lab.records())) == before
    for heard in say(lab, [upload(*near, 10, 10) for near in NEAR]):
        assert heard.passed_on == 1, heard
    assert {r["signature"] for r in own(lab.records())[before:]} == {"valid"}


def test_expect_is_answered_after_the_decision(lab: Lab) -> None:
    """A 100 before the body is asked for, in any case of letters; none for a refused request."""
    head = b"POST %s HTTP/1.1\r\nHost: 169.254.169.254\r\nExpect: 100-CONTINUE\r\n%s\r\n\r\n"
    framings = {
        b"Content-Length: 5": b"hello",
        b"Transfer-Encoding: chunked": b"1\r\nx\r\n0\r\n\r\n",
    }
    jobs = [
        {"said": [head % (path, framing), data], "pause": 0.2, "methods": ["POST"]}
        for path in (b"/metadata/versions", b"/../x")
        for framing, data in framings.items()
    ]
    heard = say(lab, jobs)
    for good in heard[:2]:
        assert good.data.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 "), good
        assert good.passed_on == 1
    for refused in heard[2:]:
        assert refused.data.startswith(b"HTTP/1.1 403 "), refused


def test_left_early(lab: Lab) -> None:
    """Who leaves before its request is whole has asked nothing; who stops sending is answered."""
    before = len(own(lab.records()))
    whole = body(b"Content-Length: 3", data=b"abc")
    say(lab, [{"said": whole[:n], "methods": []} for n in range(len(whole))])
    say(lab, [{"said": whole[:n], "shut": True, "wait": 2} for n in range(len(whole))])
    assert len(own(lab.records())) == before
    for heard in say(lab, [{"said": whole, "shut": True} for _ in range(5)]):
        assert heard.passed_on == 1, heard
