"""The product's own processes in a laboratory, started as a service manager would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from gpa.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from gpa.demo.lab import Lab, Place

START_SECONDS: Final = 15.0
"""A service that is not ready by then is broken, even on a machine that is busy."""

STOP_SECONDS: Final = 8.0
"""From SIGTERM to the end: the agent drains for up to 5 s (`drainTimeoutInSeconds`)."""

POLL_SECONDS: Final = 0.01
"""Between two looks at a file that another process writes."""


def gpa_command(*words: str | os.PathLike[str]) -> list[str]:
    """`gpa …` of this installation, whatever stands in the current folder."""
    return [sys.executable, "-P", "-m", "gpa", *(os.fspath(word) for word in words)]


def gpa_environment() -> dict[str, str]:
    """What of our environment decides which `gpa` runs and how it reports its defects."""
    env = {k: v for k, v in os.environ.items() if k.startswith("PYTHON") or k == "GPA_TRACEBACK"}
    if path := env.get("PYTHONPATH"):  # its processes run in another folder
        env["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, path.split(os.pathsep)))
    return env


def wait_until(done: Callable[[], bool], seconds: float, what: str) -> None:
    """Look every `POLL_SECONDS`.

    Raises:
        UnavailableError: not within `seconds`; `what` says what was waited for.
    """
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise UnavailableError(f"{what} took longer than {seconds:g} s")
        time.sleep(POLL_SECONDS)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a file that another process appends to; a half-written last one is left
    out."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in data.split(b"\n")[:-1] if line]


class Service:
    """A long-running verb of `gpa`, which can be stopped and started again.

    Attributes:
        name: of its folder and in messages.
        folder: what it reads and writes.
        output: what it says on stdout and stderr.
        program: the command line of `gpa` without its words; from the next start on.
        process: the latest start; None before the first.
    """

    def __init__(self, lab: Lab, name: str, place: Place) -> None:
        self.name = name
        self.folder = lab.make_folder(name, 0o755)
        self.output = self.folder / "output.log"
        self.program = gpa_command()
        self.process: subprocess.Popen[str] | None = None
        self._lab = lab
        self._place = place

    @property
    def pid(self) -> int:
        """Its pid, also after its end; 0 before the first start."""
        return self.process.pid if self.process else 0

    def is_running(self) -> bool:
        """Started, and not ended yet."""
        return self.process is not None and self.process.poll() is None

    def said(self) -> str:
        """The last line it said, for messages."""
        try:
            lines = self.output.read_text("utf-8", "replace").strip().splitlines()
        except OSError:
            lines = []
        return lines[-1] if lines else "it said nothing"

    def stop(self, seconds: float = STOP_SECONDS) -> int:
        """SIGTERM, and its exit code; after `seconds` SIGKILL.

        Raises:
            UnavailableError: it had to be killed.
        """
        process = self._started()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise UnavailableError(f"the {self.name} did not end within {seconds:g} s") from error

    def kill(self) -> None:
        """SIGKILL, as a crash would end it."""
        process = self._started()
        process.kill()
        process.wait()

    def close(self) -> None:
        """The end of the laboratory: stop it, without a word about how that went."""
        if self.is_running():
            process = self._started()
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()

    def _spawn(
        self,
        *words: str | os.PathLike[str],
        env: Mapping[str, str],
        kept: Mapping[str, int] | None = None,
    ) -> None:
        if self.is_running():
            raise RuntimeError(f"the {self.name} runs already")
        # Appended to, so that what came before a restart can still be read.
        output = os.open(self.output, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self.process = self._lab.spawn(
                0,
                0,
                [*self.program, *(os.fspath(word) for word in words)],
                place=self._place,
                env={**gpa_environment(), **env},
                kept=kept,
                stdout=output,
                stderr=output,
            )
        finally:
            os.close(output)

    def _started(self) -> subprocess.Popen[str]:
        if self.process is None:
            raise RuntimeError(f"the {self.name} was never started")
        return self.process

    def _check_alive(self) -> None:
        if not self.is_running():
            code = self._started().returncode
            raise UnavailableError(f"the {self.name} ended with exit code {code}: {self.said()}")
