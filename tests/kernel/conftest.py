"""A laboratory with the kernel half alone in it: who connects, and whom the kernel names."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.kernel.program import build as compiled

from gpa.demo.lab import HOST, SERVICE, VM, Lab, Place
from gpa.demo.machine import PATH

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
PYTHON = shutil.which("python3", path=PATH) or sys.executable
"""One that every user may run, unlike that of a virtual environment in somebody's home."""
SECONDS = 10
WAYS_IN_C = ("inline", "async", "sqpoll", "vfork", "files")


def build(lab: Lab, source: Path) -> Path:
    """A program in C, for everybody in the laboratory to run."""
    program = lab.programs / source.stem
    if not program.exists():
        compiled(source, program)
    return program


class Interceptor:
    """interceptor.py in the laboratory."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        names = ("log", "event", "latchKey", "rules", "run")
        folders = {name: lab.make_folder(name) for name in names}
        config = {f"{name}Folder": str(folder) for name, folder in folders.items()}
        config |= {"pinFolder": str(lab.pins / "gpa"), "cgroupRoot": str(lab.attach_point)}
        self.config = lab.folder / "config.json"
        self.config.write_text(json.dumps(config))
        self.caller = lab.programs / "caller.py"
        self.caller.write_bytes((HERE / "caller.py").read_bytes())
        self.caller.chmod(0o644)
        self.start()

    def start(self) -> None:
        """Start it; what is pinned is taken over."""
        self.process = self.lab.spawn(
            0,
            0,
            [sys.executable, HERE / "interceptor.py", self.config, self.lab.attach_point],
            place=SERVICE,
            stdin=subprocess.PIPE,
            stderr=None,
            env={"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )
        assert self.process.stdout is not None
        self.output = self.process.stdout.fileno()
        self.heard = b""
        assert "ready" in self.next()

    def kill(self) -> None:
        """As a crash: nothing is undone."""
        self.process.kill()
        self.process.wait()

    def release(self) -> None:
        """As a clean end: everything is undone."""
        self.ask("release")
        self.process.wait()

    def next(self, seconds: float = SECONDS) -> dict[str, Any]:
        """The next thing it says; fails after some seconds."""
        while b"\n" not in self.heard:
            assert self.readable(seconds), "the interceptor says nothing"
            more = os.read(self.output, 65536)
            assert more, "the interceptor ended"
            self.heard += more
        line, _, self.heard = self.heard.partition(b"\n")
        told: dict[str, Any] = json.loads(line)
        return told

    def readable(self, seconds: float) -> bool:
        return bool(select.select([self.output], [], [], seconds)[0])

    def silent(self) -> bool:
        """Nobody was accepted that was not asked about."""
        return not self.heard and not self.readable(0.2)

    def ask(self, word: str, seconds: float = SECONDS) -> dict[str, Any]:
        """Give a command and return what it says."""
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        while "accepted" in (told := self.next(seconds)):
            pass
        return told

    def counters(self) -> dict[str, int]:
        """What the kernel half counted so far."""
        counted: dict[str, int] = self.ask("counters")["counters"]
        return counted

    def call(
        self,
        way: str,
        address: str,
        port: int,
        *arguments: object,
        uid: int = 65534,
        gid: int = 65534,
        place: Place = VM,
        **role: Any,
    ) -> dict[str, Any]:
        """What caller.py, or ways.c, says after it connected in that way as that user."""
        program = [PYTHON, "-I", "-S", self.caller]
        if way in WAYS_IN_C:
            program = [build(self.lab, HERE / "ways.c")]
        argv = [*map(str, program), way, address, str(port), *map(str, arguments)]
        done = self.lab.run_as(uid, gid, argv, place=place, **role)
        assert done.returncode == 0, done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    def who(self, way: str, address: str, port: int, *arguments: object, **role: Any) -> Any:
        """The record the kernel handed over for a connect that must succeed."""
        told = self.call(way, address, port, *arguments, **role)
        assert "error" not in told, told
        return self.accepted(told["pid"])

    def accepted(self, pid: int) -> dict[str, Any]:
        """The record of the next connection of this process; others before it are passed over."""
        while True:
            record: dict[str, Any] | None = self.next()["accepted"]
            assert record is not None, "accepted without an identity"
            if record["tgid"] == pid:
                return record


@pytest.fixture(scope="module")
def interceptor() -> Iterator[Interceptor]:
    with Lab() as lab:
        made = Interceptor(lab)
        yield made
        if made.process.poll() is None:
            made.release()


@pytest.fixture
def without_agent(interceptor: Interceptor) -> Iterator[None]:
    """Nothing of ours is attached at first; afterwards it is again."""
    interceptor.release()
    yield
    if interceptor.process.poll() is not None:
        interceptor.start()


@pytest.fixture
def host(interceptor: Interceptor) -> Iterator[None]:
    """Who answers at the protected addresses, as the host would."""
    argv = [PYTHON, "-I", "-S", str(HERE / "echo.py")]
    process = interceptor.lab.spawn(0, 0, argv, place=HOST)
    assert process.stdout is not None
    assert process.stdout.readline() == "listening\n"
    yield
    process.kill()
    process.wait()
