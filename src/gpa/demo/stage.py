"""What a scene is made of: who asks for what, from where, and what the three witnesses tell: the
client, the agent's audit record, the host's record."""

from __future__ import annotations

import json
import pwd
import secrets
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gpa.demo.host import TOKEN_PROGRAM
from gpa.demo.lab import VM, Place
from gpa.demo.services import POLL_SECONDS
from gpa.errors import UnavailableError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence

    from gpa.demo.agent import AgentProcess
    from gpa.demo.emulator import EmulatorProcess
    from gpa.demo.lab import Lab

CLIENT: Final = Path(__file__).with_name("client.py")
ATTACK: Final = Path(__file__).with_name("attack.py")

INTERPRETER: Final = Path("/proc/self/exe").readlink()
"""The client's program is a copy of it."""

CLIENT_SECONDS: Final = 10
"""Longer than the agent holds a request (8 s), so that its answer is seen, whatever it is."""

WITNESS_SECONDS: Final = 2.0
"""Records are written after the answer; so long they may take on a busy machine."""

CROWD: Final = 8
"""Requests that are under way when the agent is killed."""

MARK: Final = "demo"
"""Query parameter that makes each target unique: the host's record is found by it."""


@dataclass(frozen=True)
class Service:
    """A service of the host.

    Attributes:
        name: its word in scenes.
        address: where the host offers it.
    """

    name: str
    address: str
    port: int


IMDS: Final = Service("IMDS", "169.254.169.254", 80)
WIRESERVER: Final = Service("WireServer", "168.63.129.16", 80)
HOSTGA: Final = Service("HostGAPlugin", "168.63.129.16", 32526)
LISTENER: Final = Service("agent's port,", "127.0.0.1", 3080)


@dataclass(frozen=True)
class Request:
    """A GET.

    Attributes:
        name: what it asks for, as shown.
    """

    service: Service
    name: str
    target: str
    fields: tuple[tuple[str, str], ...] = (("Metadata", "true"),)

    def __str__(self) -> str:
        return f"{self.service.name} {self.name}"


INSTANCE: Final = Request(IMDS, "instance", "/metadata/instance?api-version=2021-02-01")
TOKEN: Final = Request(
    IMDS,
    "token",
    "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net",
)
GOAL_STATE: Final = Request(
    WIRESERVER, "goal state", "/machine/?comp=goalstate", (("x-ms-version", "2012-11-30"),)
)
VERSIONS: Final = Request(HOSTGA, "versions", "/versions", ())


@dataclass(frozen=True)
class Who:
    """Who asks, and how.

    Attributes:
        user: name in the user database.
        gid: the user's own group when None.
        program: name of the executable.
        place: where it runs.
        family: `inet`, or `inet6` for a v4-mapped address.
        drop: gives up root `before` or `after` connect().
        note: what is special, for the reader.
    """

    user: str
    gid: int | None = None
    program: str = "client"
    place: Place = VM
    family: str = "inet"
    drop: str = "before"
    note: str = ""

    def __str__(self) -> str:
        words = [self.user]
        if self.program != "client":
            words.append(self.program)
        if self.note:
            words.append(f"({self.note})")
        return " ".join(words)


@dataclass(frozen=True)
class Expected:
    """What should come of it; None: not asked for.

    Attributes:
        status: HTTP status that the client gets.
        decision: of the agent; `none` when it must not have been asked.
        reason: code of docs/audit.md.
        host: what the host made of it: `valid`, `unsigned`, or `nothing` when it must not
            have arrived.
        root: what the agent told the host about who asks; None: nothing.
    """

    status: int
    decision: str
    reason: str | None
    host: str
    root: bool | None = None


@dataclass
class Seen:
    """What came of it, by the words of `Expected`."""

    status: int | None = None
    decision: str = "none"
    reason: str = ""
    why: str = ""
    host: str = "nothing"
    root: bool | None = None
    microseconds: int = 0
    error: str | None = None

    def misses(self, expected: Expected) -> list[str]:
        """In words, each way in which it is not as expected."""
        pairs = [
            ("status", expected.status, self.status),
            ("decision", expected.decision, self.decision),
            ("reason", expected.reason, self.reason),
            ("host", expected.host, self.host),
        ]
        misses = [
            f"{name} should be {wanted}, is {got}"
            for name, wanted, got in pairs
            if wanted is not None and wanted != got
        ]
        if expected.root is not self.root:
            misses.append(f"the claim to be root should be {expected.root}, is {self.root}")
        return misses


@dataclass(frozen=True)
class Answer:
    """What the client got, and by which names the witnesses know it.

    Attributes:
        pid: of the client.
        target: that it asked for, unlike any other.
        microseconds: from connect() to the last byte.
        error: instead of an answer.
    """

    pid: int
    target: str
    status: int | None
    body: str
    microseconds: int
    error: str | None = None


class Stage:
    """A laboratory with everything running in it."""

    def __init__(self, lab: Lab, agent: AgentProcess, emulator: EmulatorProcess) -> None:
        self.lab = lab
        self.agent = agent
        self.emulator = emulator

    def ask(self, who: Who, request: Request) -> Answer:
        """Send the request by the demo's own client."""
        return self._client(who, request, [str(CLIENT)])

    def race(self, who: Who, request: Request) -> Answer:
        """Connect by the user's program, then execute the one that a rule lets in."""
        return self._attack("exec", who, request)

    def cover(self, who: Who, request: Request) -> Answer:
        """Mount the user's program over the one that a rule lets in."""
        return self._attack("mount", who, request)

    def launder(self, who: Who, request: Request) -> Answer:
        """Use a socket again that root had connected."""
        return self._attack("launder", who, request)

    def _attack(self, name: str, who: Who, request: Request) -> Answer:
        """One of the tricks of attack.py, then the client."""
        programs = {
            "mine": str(self.lab.programs / who.program),
            "allowed": str(self.lab.programs / TOKEN_PROGRAM),
        }
        return self._client(who, request, [str(ATTACK), json.dumps({"name": name, **programs})])

    def ask_a_dead_agent(self, who: Who, request: Request) -> Answer:
        """Kill the agent while a crowd asks, send the request to the dead, and start it again."""
        crowd = [self._begin(who, request, [str(CLIENT)]) for _ in range(CROWD)]
        self.agent.kill()
        waiting = self._begin(who, request, [str(CLIENT)])
        self.agent.start()
        for one in crowd:
            self._end(*one)
        return self._end(*waiting)

    def _client(self, who: Who, request: Request, script: Sequence[str]) -> Answer:
        return self._end(*self._begin(who, request, script))

    def _begin(
        self, who: Who, request: Request, script: Sequence[str]
    ) -> tuple[subprocess.Popen[str], str]:
        user = pwd.getpwnam(who.user)
        target = _unique(request.target)
        spec = {
            "uid": user.pw_uid,
            "gid": user.pw_gid if who.gid is None else who.gid,
            "groups": [],
            "drop": who.drop,
            "family": who.family,
            "address": request.service.address,
            "port": request.service.port,
            "method": "GET",
            "target": target,
            "fields": dict(request.fields),
            "timeout": CLIENT_SECONDS,
        }
        program = str(self.lab.programs / who.program)
        words = [program, "-S", "-s", "-P", *script, json.dumps(spec)]
        process = self.lab.spawn(0, 0, words, place=who.place, env=_python_home())
        return process, target

    def _end(self, process: subprocess.Popen[str], target: str) -> Answer:
        got = json.loads(_said(process))
        return Answer(
            process.pid, target, got["status"], got["body"], got["microseconds"], got["error"]
        )

    def ask_from_new_network(self, who: Who, request: Request) -> Answer:
        """Send the request by the first socket of a network namespace that is made for it."""
        self.lab.add_netns(who.place.netns)
        return self.ask(who, request)

    def curl(self, who: Who, request: Request) -> Answer:
        """Send the request by curl, started as that user."""
        user = pwd.getpwnam(who.user)
        target = _unique(request.target)
        fields = [f"{name}: {value}" for name, value in request.fields]
        url = f"http://{request.service.address}:{request.service.port}{target}"
        words = ["curl", "--silent", "--max-time", str(CLIENT_SECONDS), "--noproxy", "*"]
        words += [word for line in fields for word in ("--header", line)]
        words += ["--write-out", "\n%{http_code} %{time_total}", url]
        process = self.lab.spawn(user.pw_uid, user.pw_gid, words, place=who.place)
        body, _, last = _said(process).rpartition("\n")
        status, seconds = last.split()
        # curl writes 000 where there was no answer.
        microseconds = round(float(seconds) * 1e6)
        return Answer(process.pid, target, int(status) or None, body, microseconds)

    def hear(self, answer: Answer, expected: Expected) -> Seen:
        """Put together what the witnesses tell.

        Waits for those that should have something to tell, `WITNESS_SECONDS` at most.
        """
        deadline = time.monotonic() + WITNESS_SECONDS
        while True:
            audit = next((r for r in self.agent.audit() if r.get("pid") == answer.pid), None)
            arrival = self.emulator.arrival(answer.target)
            complete = (audit or expected.decision == "none") and (
                arrival or expected.host == "nothing"
            )
            if complete or time.monotonic() > deadline:
                break
            time.sleep(POLL_SECONDS)
        seen = Seen(answer.status, microseconds=answer.microseconds, error=answer.error)
        if audit:
            seen.decision, seen.reason = audit["decision"], audit["reason"]
        if arrival:
            seen.host, seen.root = arrival["signature"], arrival["is_root"]
        seen.why = answer.error or _description(answer.body) or seen.reason
        return seen


def _said(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=CLIENT_SECONDS + 10)
    if not out:
        last = (err.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
        raise UnavailableError(f"the client could not be run: {last}")
    return out


def _unique(target: str) -> str:
    separator = "&" if "?" in target else "?"
    return f"{target}{separator}{MARK}={secrets.token_hex(6)}"


def _python_home() -> dict[str, str]:
    """A copy of the interpreter does not find its library by where it lies."""
    return {"PYTHONHOME": f"{sys.base_prefix}:{sys.base_exec_prefix}"}


def _description(body: str) -> str:
    """`error_description` of a refusal, the host's or the agent's."""
    try:
        value = json.loads(body)
    except ValueError:
        return ""
    return str(value.get("error_description", "")) if isinstance(value, dict) else ""
