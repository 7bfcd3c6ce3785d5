"""The host as a whole: its scenario, channel, judge, faults and records, and which service answers.

No I/O: a request and what is known of its body go in, an answer comes out.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio

from gpa.emulator import hostga, imds, playground, wireserver
from gpa.emulator.channel import Channel, ChannelError
from gpa.emulator.dates import http_date
from gpa.emulator.faults import FaultBook, GarbledStatusFault, StatusFault
from gpa.emulator.garbled import garbled
from gpa.emulator.judge import Judge, Verdict, attested_guid
from gpa.emulator.message import Answer, error_answer
from gpa.emulator.records import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gpa.emulator.faults import Fault
    from gpa.emulator.judge import Judgement
    from gpa.emulator.key import KeyFile
    from gpa.emulator.message import EndpointName, Request
    from gpa.emulator.scenario import Scenario

KEPT_BODY: Final = 64 << 10
"""Bytes of a body that services get to see; all that they read are small JSON documents."""

SERVERS: Final[dict[EndpointName, str]] = {
    "imds": imds.SERVER,
    "wireserver": wireserver.SERVER,
    "hostga": hostga.SERVER,
}


@dataclass(slots=True)
class Body:
    """What is known of a request's body: its first `KEPT_BODY` bytes, size and SHA-256."""

    kept: bytes = b""
    size: int = 0
    digest: str | None = None


class Host:
    """State of the emulated host.

    Attributes:
        held: requests that wait to be released.
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        key_file: KeyFile | None = None,
        recorder: Recorder | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._scenario = scenario
        self.channel = Channel(scenario, self.now, key_file)
        self.judge = Judge(self.channel, self.now)
        self.faults = FaultBook(scenario.faults)
        self.recorder = recorder or Recorder()
        self.held = 0
        self._released = trio.Event()

    @property
    def scenario(self) -> Scenario:
        """How the host behaves now."""
        return self._scenario

    @scenario.setter
    def scenario(self, scenario: Scenario) -> None:
        """Behave otherwise from now on; faults begin anew only when they are others."""
        if scenario.faults != self._scenario.faults:
            self.faults.replace(scenario.faults)
        self._scenario = self.channel.scenario = scenario

    def now(self) -> float:
        """The host's clock, unix seconds."""
        return self._clock() + self._scenario.channel.clock_offset

    def latency(self, endpoint: EndpointName) -> float:
        """Seconds before each answer of the endpoint."""
        return float(getattr(self._scenario.latency, endpoint))

    def release(self) -> int:
        """Let go of what is held, and hold nothing more; gives how many went."""
        self.faults.remove_kind("hold")
        self._released.set()
        self._released = trio.Event()
        return self.held

    async def hold(self) -> None:
        """Until `release`."""
        self.held += 1
        try:
            await self._released.wait()
        finally:
            self.held -= 1

    def refuses(self, request: Request, judgement: Judgement) -> bool:
        """True when an enforcing host does not serve it."""
        if attested_guid(request) is not None:
            return False  # judged by the channel, whatever the mode
        enforced = self.channel.mode(request.endpoint) == "enforce"
        return enforced and not judgement.verdict.is_fine

    def answer(
        self, request: Request, body: Body, judgement: Judgement, faults: Iterable[Fault] = ()
    ) -> Answer:
        """What the host answers; refused requests get a `401`."""
        for fault in faults:
            if isinstance(fault, StatusFault):
                return _spoiled(fault)
            if isinstance(fault, GarbledStatusFault) and _asks_status(request):
                try:
                    return garbled(self.channel.status(), fault.variant)
                except ChannelError:
                    continue
        if not request.target.startswith(b"/"):
            return error_answer(400, "BadRequest", "the target must be a path")
        if self.refuses(request, judgement):
            return error_answer(401, "Unauthorized", judgement.words)
        return self._serve(request, body, judgement)

    def _serve(self, request: Request, body: Body, judgement: Judgement) -> Answer:
        if request.path.startswith(playground.PREFIX):
            return playground.answer(request, body.size, body.digest)
        if request.endpoint == "imds":
            return imds.answer(request, body.kept, self._scenario, self.now())
        if request.endpoint == "hostga":
            return hostga.answer(request, self._scenario.machine)
        if not request.path.startswith("/secure-channel/"):
            return wireserver.answer(request, self._scenario.machine)
        guid = attested_guid(request)
        attested = judgement.verdict is Verdict.VALID and guid == judgement.key
        answer = wireserver.channel_answer(request, body.kept, self.channel, attested=attested)
        if not _asks_status(request):
            return answer
        date = ("x-ms-azure-host-date", http_date(self.now()))
        return Answer(answer.status, answer.body, answer.content_type, (*answer.fields, date))


def _asks_status(request: Request) -> bool:
    return request.endpoint == "wireserver" and request.path == "/secure-channel/status"


def _spoiled(fault: StatusFault) -> Answer:
    fields = (("Retry-After", str(fault.retry_after)),) if fault.retry_after is not None else ()
    if fault.body is None:
        return error_answer(fault.status, "Emulated", "the host is told to answer this", fields)
    return Answer(fault.status, fault.body.encode(), "text/plain; charset=utf-8", fields)
