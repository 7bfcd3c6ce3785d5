"""`gpa demo`: set the stage, play the scenes, say what was seen, leave no trace."""

from __future__ import annotations

import contextlib
import shutil
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpa.demo import enter, machine
from gpa.demo.host import scenario
from gpa.demo.lab import Lab
from gpa.demo.scenes import SCENES, Scene
from gpa.demo.signals import interruptible
from gpa.demo.stage import Stage
from gpa.errors import CannotCreateError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpa.demo.report import Report
    from gpa.demo.stage import Answer, Seen


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
            stage_seconds = time.monotonic() - start
            if keep:
                enter.write(lab)
                report.keep(lab)
                wait_for_the_end()
            end(stage, outcomes)
        # All witnesses have gone home: what they wrote late was read, and nothing is left.
        report.end(outcomes, stage_seconds)
    return not any(outcome.misses for outcome in outcomes)


def set_stage(lab: Lab) -> Stage:
    """Start the host and the agent, and wait until requests are served.

    Raises:
        UnavailableError: one of them does not start.
    """
    emulator = lab.start_emulator(scenario(lab))
    agent = lab.start_agent()
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


def end(stage: Stage, outcomes: list[Outcome]) -> None:
    """Stop the agent, take it out of the kernel, and read once more what the witnesses wrote."""
    stage.agent.stop()
    done = stage.agent.detach()
    left = sorted(path.name for path in stage.lab.pins.rglob("*"))
    if done.returncode or left:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        code = done.returncode
        raise CannotCreateError(f"gpa detach: exit code {code}, left {left or 'nothing'}: {said}")
    for outcome in outcomes:
        outcome.seen = stage.hear(outcome.answer, outcome.scene.expected)
        outcome.misses = outcome.seen.misses(outcome.scene.expected)


def wait_for_the_end() -> None:
    """Until Ctrl-C, SIGTERM or SIGHUP, each of which is the wish to end in order here."""
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            signal.pause()
