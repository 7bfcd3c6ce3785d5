"""What is made of the trial's last words; the trial itself is in test_doctor.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gpa.doctor import capture
from gpa.doctor.finding import State

if TYPE_CHECKING:
    from tests.doctor.conftest import Fake


@pytest.mark.parametrize(
    ("code", "said", "state"),
    [
        (0, "it says nothing", State.OK),
        (capture.UNTRIED, "mount: permission denied", State.WARNING),
        (1, "unshare: unshare failed: Operation not permitted", State.WARNING),
        (1, "ImportError: no such thing", State.FAILURE),
        (69, "attaching connect4: Operation not permitted", State.FAILURE),
        (None, "it took longer than 30 s", State.FAILURE),
    ],
)
def test_judge(code: int | None, said: str, state: State) -> None:
    finding = capture.judge(code, said)
    assert finding.state is state
    assert state is State.OK or said in finding.words


def test_without_the_tool(fake: Fake) -> None:
    finding = capture.check_capture(fake.machine, Path("/none"), 2)
    assert (finding.state, finding.remedy) == (State.WARNING, "install util-linux")


def test_last_words_are_taken(fake: Fake) -> None:
    machine = replace(fake.machine, path=f"{fake.folder}/bin:/usr/bin:/bin")
    script = fake.folder / "bin/unshare"
    script.write_text("#!/bin/sh\necho first >&2\necho last >&2\nexit 69\n")
    script.chmod(0o755)
    finding = capture.check_capture(machine, Path("/none"), 2)
    assert finding.state is State.FAILURE
    assert finding.words.endswith(": last")
