"""A laboratory with the agent and the emulated host, and somebody who says bytes in it."""

from __future__ import annotations

import base64
import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gpa.demo.lab import Lab
from gpa.demo.machine import PATH

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

HERE = Path(__file__).parent
PYTHON = shutil.which("python3", path=PATH) or sys.executable
PLACES = {
    "imds": ("169.254.169.254", 80),
    "wireserver": ("168.63.129.16", 80),
    "hostga": ("168.63.129.16", 32526),
}


@dataclass(frozen=True)
class Heard:
    """What came back on one connection."""

    data: bytes
    end: str
    seconds: float

    @property
    def statuses(self) -> list[int]:
        """Of the final answers, in order."""
        found = re.findall(rb"(?:\A|(?<=\r\n\r\n)|(?<=[}\n]))HTTP/1\.[01] ([2-5]\d\d)\b", self.data)
        return [int(status) for status in found]

    @property
    def passed_on(self) -> int:
        """How many answers are the host's."""
        return self.data.count(b"\r\nx-ms-azure-host-authorization: value\r\n")


def say(lab: Lab, jobs: Iterable[dict[str, Any]], uid: int = 0) -> list[Heard]:
    """Do the jobs of speaker.py as this user of the VM; `endpoint` and `said` stand for theirs."""
    plain = []
    for job in jobs:
        said: bytes | Sequence[bytes] = job.pop("said")
        pieces = [said] if isinstance(said, bytes) else said
        place = PLACES[job.pop("endpoint", "imds")]
        plain.append({**job, "to": place, "pieces": [base64.b64encode(p).decode() for p in pieces]})
    work = lab.folder / "jobs.json"
    work.write_text(json.dumps(plain))
    speaker = lab.programs / "speaker.py"
    if not speaker.exists():
        lab.add_program("speaker.py", HERE / "speaker.py")
    with work.open() as jobs_file:
        process = lab.spawn(uid, uid, [PYTHON, "-I", "-S", speaker], stdin=jobs_file.fileno())
        out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    return [
        Heard(base64.b64decode(told["heard"]), told["end"], told["seconds"])
        for told in json.loads(out)
    ]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as made:
        made.start_emulator()
        made.start_agent().wait_provisioned()
        yield made
