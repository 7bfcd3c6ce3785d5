"""Whatever the host answers: the caller gets a whole answer, 502, or half of one and the end.

IMDS is played by host.py; the emulated host keeps the secure channel.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.messages.conftest import HERE, PYTHON, say

from gpa.demo import emulator
from gpa.demo.lab import HOST, Lab

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.messages.conftest import Heard

pytestmark = pytest.mark.kernel

OK = b"HTTP/1.1 200 OK\r\n"
GOOD = OK + b"Content-Length: 5\r\n\r\nhello"
CHUNKS = OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n"
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"

BROKEN = {
    "nothing": b"",
    "garbage": b"\x00\xff\x16garbage without end" * 10,
    "another protocol": b"SSH-2.0-x\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "a long status": b"HTTP/1.1 2000 OK\r\n\r\n",
    "status 0": b"HTTP/1.1 099 x\r\n\r\n",
    "status 600": b"HTTP/1.1 600 x\r\n\r\n",
    "HTTP/2": b"HTTP/2.0 200 OK\r\n\r\n",
    "HTTP/0.9": b"<html>hello</html>",
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "equal lengths": OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "a list of lengths": OK + b"Content-Length: 5, 5\r\n\r\nhello",
    "a signed length": OK + b"Content-Length: +5\r\n\r\nhello",
    "a length that overflows": OK + b"Content-Length: 18446744073709551621\r\n\r\nhello",
    "length and chunks": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "another coding": OK + b"Transfer-Encoding: gzip\r\n\r\nhello",
    "chunked is not last": OK + b"Transfer-Encoding: chunked, gzip\r\n\r\nhello",
    "chunks in 1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an upgrade": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",
    "obs-fold": OK + b"A: b\r\n c\r\nContent-Length: 5\r\n\r\nhello",
    "bare LF": GOOD.replace(b"\r\n", b"\n"),
    "bare CR": OK + b"A: b\rc\r\nContent-Length: 5\r\n\r\nhello",
    "space before colon": OK + b"Content-Length : 5\r\n\r\nhello",
    "NUL": OK + b"A: \x00\r\nContent-Length: 5\r\n\r\nhello",
    "a head of 1 MiB": OK + b"A: " + b"x" * (1 << 20) + b"\r\n\r\n",
    "fields without end": OK + b"A: b\r\n" * 5000,
    "interim answers without end": b"HTTP/1.1 100 Continue\r\n\r\n" * 5000,
}
"""Never whole: 502."""


def steps(data: bytes, pause: float, *, close: bool) -> list[object]:
    """Three pieces."""
    third = len(data) // 3
    return [[third, pause], [third, pause], [len(data), 0.0], *(["close"] if close else [])]


class Imds:
    """What the host has to say, by the name of a file."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.folder = lab.make_folder("answers")
        self.heard = lab.folder / "heard"
        command: list[str | Path] = [PYTHON, "-I", "-S", HERE / "host.py", "169.254.169.254", "80"]
        with self.heard.open("w") as out:
            lab.spawn(0, 0, [*command, self.folder], place=HOST, stdout=out.fileno(), stderr=None)

    def add(self, name: str, answer: bytes, plan: list[object]) -> None:
        (self.folder / name).write_bytes(answer)
        (self.folder / f"{name}.json").write_text(json.dumps(plan))

    def requests(self, name: str) -> list[tuple[int, int]]:
        """Connection and number on it of each request for this answer."""
        told = [json.loads(line) for line in self.heard.read_text().splitlines()[1:]]
        return [(c, r) for c, r, target in told if target[1:].partition("?")[0] == name]


@pytest.fixture(scope="module")
def imds() -> Iterator[Imds]:
    with pytest.MonkeyPatch.context() as patch, Lab() as lab:
        patch.setattr(emulator, "PLACES", {**emulator.PLACES, "imds": "192.0.2.1:8080"})
        lab.start_emulator()
        host = Imds(lab)
        lab.start_agent().wait_provisioned()
        yield host


def get(name: str, version: bytes = b"1.1", method: bytes = b"GET") -> bytes:
    return b"%s /%s HTTP/%s\r\nHost: 169.254.169.254\r\n\r\n" % (method, name.encode(), version)


def ask(imds: Imds, *messages: bytes, uid: int = 0, wait: float = 10) -> list[Heard]:
    return say(imds.lab, [{"said": m, "wait": wait, "methods": ["GET"] * m.count(b"\r\n\r\n")}
                          for m in messages], uid)  # fmt: skip


@pytest.mark.parametrize("close", [True, False], ids=["closed", "left open"])
def test_broken(imds: Imds, *, close: bool) -> None:
    names = {}
    for number, (why, answer) in enumerate(BROKEN.items()):
        if why in {"nothing", "fields without end"} and not close:
            continue  # more could come
        name = f"broken{number}-{close}"
        names[name] = why
        imds.add(name, answer, steps(answer, 0.0, close=close))
    for name, heard in zip(names, ask(imds, *map(get, names)), strict=True):
        assert heard.statuses == [502], (names[name], heard)
        assert heard.data.count(b"HTTP/1.") == 1, (names[name], heard)
        assert heard.end == "closed", names[name]


def test_cut_at_each_byte(imds: Imds) -> None:
    """Before its head is whole: 502. Behind it: what came, and the end of the connection."""
    cuts = {}
    for kind, answer in (("length", GOOD), ("chunks", CHUNKS), ("early", EARLY + GOOD)):
        for cut in range(len(answer)):
            name = f"cut-{kind}-{cut}"
            cuts[name] = (answer, cut)
            imds.add(name, answer[:cut], [[cut, 0.0], "close"])
    for (name, (answer, cut)), heard in zip(cuts.items(), ask(imds, *map(get, cuts)), strict=True):
        head = answer.index(b"\r\n\r\n", answer.index(b"200 OK")) + 4
        assert heard.end == "closed", name
        if cut < head:
            assert heard.statuses == [502], (name, heard)
        else:
            assert heard.statuses == [200], (name, heard)
            assert heard.data.endswith(b"\r\n\r\n" + answer[head:cut]), (name, heard)


def test_passed_on(imds: Imds) -> None:
    """Unchanged, in pieces of a byte too; for callers of 1.0 in a form that they can read."""
    good = {
        "length": GOOD,
        "chunks": CHUNKS,
        "early": EARLY + GOOD,
        "continue": b"HTTP/1.1 100 Continue\r\n\r\n" + GOOD,
        "reason": b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello",
    }
    for name, answer in good.items():
        imds.add(name, answer, [[len(answer), 0.0]])
        imds.add(f"slow-{name}", answer, [[1, 0.002]] * len(answer))
    imds.add("until", b"HTTP/1.0 200 OK\r\n\r\nhello", [[100, 0.0], "close"])
    names = [*good, *(f"slow-{name}" for name in good)]
    for name, heard in zip(names, ask(imds, *map(get, names), wait=1), strict=True):
        answer = good[name.removeprefix("slow-")]
        assert heard.statuses == [200], (name, heard)
        assert (
            heard.data.partition(b"200")[2].partition(b"\r\n\r\n")[2]
            == (answer.partition(b"200")[2].partition(b"\r\n\r\n")[2])
        ), (name, heard)
        assert (b"103 Early" in heard.data) == name.endswith("early")
        assert b"100 Continue" not in heard.data
    for name, heard in zip(
        [*names, "until"], ask(imds, *(get(n, b"1.0") for n in [*names, "until"])), strict=True
    ):
        assert heard.statuses == [200], (name, heard)
        assert heard.data.endswith(b"\r\n\r\nhello"), (name, heard)
        assert heard.data.count(b"HTTP/1.") == 1, (name, heard)


def test_surplus_is_nobodys(imds: Imds) -> None:
    """Bytes behind an answer reach neither its caller nor the next; the connection is closed."""
    evil = OK + b"Content-Length: 4\r\n\r\nevil"
    imds.add("surplus", GOOD + evil, [[len(GOOD + evil), 0.0]])
    imds.add("later", GOOD + evil, [[len(GOOD), 0.05], [len(evil), 0.0]])
    imds.add("head", GOOD, [[len(GOOD), 0.0]])
    imds.add("empty", b"HTTP/1.1 304 x\r\nContent-Length: 5\r\n\r\nhello", [[100, 0.0]])
    imds.add("good", GOOD, [[len(GOOD), 0.0]])
    for uid in (0, 65534):
        for name in ("surplus", "later", "empty"):
            before = imds.requests("good")
            (first,) = ask(imds, get(name), uid=uid)
            assert len(first.statuses) == 1, first
            assert b"evil" not in first.data, first
            for heard in ask(imds, *[get("good")] * 8, uid=uid):
                assert heard.statuses == [200], heard
                assert heard.data.endswith(b"hello"), heard
            spoiled = imds.requests(name)[-1][0]
            assert spoiled not in {c for c, _ in imds.requests("good")[len(before) :]}
        before = imds.requests("head")
        (first,) = ask(imds, get("head", method=b"HEAD"), uid=uid, wait=0.2)
        assert first.statuses == [200], first
        assert b"hello" not in first.data, first
        for heard in ask(imds, *[get("good")] * 8, uid=uid):
            assert heard.statuses == [200], heard
            assert heard.data.endswith(b"hello"), heard


def test_each_user_has_its_own_connections(imds: Imds) -> None:
    imds.add("mine", GOOD, [[len(GOOD), 0.0]])
    for uid in (0, 65534, 0, 65534):
        before = {c for c, _ in imds.requests("mine")}
        ask(imds, get("mine"), uid=uid)
        used = imds.requests("mine")[-1][0]
        if uid == 0 and not before:
            first = used
        if uid != 0:
            assert used != first
