"""`gpa demo`: set the stage, play the scenes, say what was seen, leave no trace."""

from __future__ import annotations

import contextlib
import shutil
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gpa.demo import enter, machine
from gpa.demo.host import PROGRAMS, scenario
from gpa.demo.lab import Lab
from gpa.demo.scenes import SCENES, Scene
from gpa.demo.signals import interruptible
from gpa.demo.stage import INTERPRETER, Stage
from gpa.errors import CannotCreateError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpa.demo.report import Report
    from gpa.demo.stage import Answer, Seen


FINE: Final = frozenset({"valid", "exempt"})
"""Verdicts of the host on what an agent should send (docs/emulator.md)."""


@dataclass
class Outcome:
    """A scene that was played.

    Attributes:
        misses: in words, what was not as expected.
    """

    scene: Scene
    answer: Answer
    seen: Seen
    misses: list[str]


def demo(report: Report, *, keep: bool, scenes: Sequence[Scene] = tuple(SCENES)) -> bool:
    """Play the scenes; True when each came out as it should and nothing is left.

    Args:
        report: is told everything as it happens.
        keep: leave everything running until interrupted.
        scenes: which.

    Raises:
        NotRootError, UnavailableError: it cannot be done here.
        CannotCreateError: something cannot be made, or taken away again.
        KeyboardInterrupt: Ctrl-C, SIGTERM, SIGHUP; nothing is left.
    """
    machine.check_ready()
    start = time.monotonic()
    with interruptible():
        with Lab() as lab:
            report.begin(lab)
            stage = set_stage(lab)
            outcomes = []
            for outcome in play(stage, scenes):
                outcomes.append(outcome)
                report.scene(outcome)
            seconds = time.monotonic() - start
            if keep:
                enter.write(lab)
                report.keep(lab)
                wait_for_the_end()
            strays = end(stage, outcomes)
        # All witnesses have gone home: what they wrote late was read, and nothing is left.
        report.end(outcomes, strays, seconds)
    return not strays and not any(outcome.misses for outcome in outcomes)


def set_stage(lab: Lab) -> Stage:
    """Start the host and the agent, and wait until requests are served.

    Raises:
        UnavailableError: one of them does not start.
    """
    for program in PROGRAMS:
        # Before the agent: it looks for a program that a rule names when it reads the rule.
        lab.add_program(program, INTERPRETER)
    emulator = lab.start_emulator(scenario(lab))
    agent = lab.start_agent(keeps=True)
    agent.wait_provisioned()
    return Stage(lab, agent, emulator)


def play(stage: Stage, scenes: Sequence[Scene]) -> Iterator[Outcome]:
    """One after the other."""
    for scene in scenes:
        if scene.needs and shutil.which(scene.needs, path=machine.PATH) is None:
            continue
        answer = scene.play(stage, scene.who, scene.what)
        seen = stage.hear(answer, scene.expected)
        yield Outcome(scene, answer, seen, seen.misses(scene.expected))


def end(stage: Stage, outcomes: list[Outcome]) -> list[str]:
    """Stop the agent, take it out of the kernel, and read once more what the witnesses wrote.

    Returns:
        Targets of requests that arrived without a valid signature and belong to no scene that is
        about that.

    Raises:
        UnavailableError: the agent does not end in order.
        CannotCreateError: `gpa detach` leaves something.
    """
    if code := stage.agent.stop():
        raise UnavailableError(f"the agent ended with exit code {code}: {stage.agent.said()}")
    done = stage.agent.detach()
    left = sorted(path.name for path in (stage.lab.pins / "gpa").rglob("*"))
    if done.returncode or left:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        code = done.returncode
        raise CannotCreateError(f"gpa detach: exit code {code}, left {left or 'nothing'}: {said}")
    for outcome in outcomes:
        outcome.seen = stage.hear(outcome.answer, outcome.scene.expected)
        outcome.misses = outcome.seen.misses(outcome.scene.expected)
    mine = {outcome.answer.target for outcome in outcomes}
    return [
        f"{record['method']} {record['target']} ({record['signature']})"
        for record in stage.emulator.records()
        if record["signature"] not in FINE and record["target"] not in mine
    ]


def wait_for_the_end() -> None:
    """Until Ctrl-C, SIGTERM or SIGHUP, each of which is the wish to end in order here."""
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            signal.pause()
