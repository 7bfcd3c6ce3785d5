"""`gpa demo` from the outside: its scenes, its exit codes, and that nothing is left of it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gpa.__main__ import main
from gpa.demo import cgroups, machine, registry
from gpa.demo.scenes import SCENES
from gpa.errors import EXIT_INTERRUPTED, EXIT_NO_PERMISSION, EXIT_OK

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 10
"""The promise for a quiet machine; tests may share theirs."""


def left(folder: Path) -> list[str]:
    """What is still there of the laboratory in `folder`."""
    found = [str(p) for p in (folder, cgroups.hierarchy() / folder.name) if p.exists()]
    found += [str(m.point) for m in machine.mounts() if m.point.is_relative_to(folder)]
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if folder.name in (process / "cgroup").read_text():
                found.append(str(process))
            if str(folder) in (process / "cmdline").read_text():
                found.append(str(process))
    return found


@contextlib.contextmanager
def demo(*options: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "gpa", "demo", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """What it says up to a line with `words`, bounded in time."""
    assert process.stdout is not None
    text, deadline = b"", time.monotonic() + 4 * SECONDS
    while words.encode() not in text:
        assert time.monotonic() < deadline, text
        if select.select([process.stdout], [], [], 0.1)[0]:
            more = os.read(process.stdout.fileno(), 65536)
            assert more, text
            text += more
    return text.decode()


def folder_in(text: str) -> Path:
    found = re.search(rf"{registry.HOME}/gpa-[0-9a-f]+", text)
    assert found, text
    return Path(found[0])


def test_an_ordinary_user_is_told_so_before_anything_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["demo"]) == EXIT_NO_PERMISSION
    told = capsys.readouterr()
    assert told.out == ""
    assert "needs root: try it with sudo" in told.err
    assert told.err.count("\n") == 1


@pytest.mark.kernel
def test_every_scene_comes_out_as_it_should() -> None:
    with demo("--json") as process:
        out, err = process.communicate(timeout=6 * SECONDS)
        told = json.loads(out)
        assert process.returncode == EXIT_OK, (told, err)
        assert err == ""
        assert told["ok"] is True
        assert told["strays"] == []
        assert [s["name"] for s in told["scenes"] if not s["ok"]] == []
        wanted = {scene.name for scene in SCENES if not scene.needs}
        assert wanted <= {scene["name"] for scene in told["scenes"]}
        assert told["seconds"] < SECONDS


@pytest.mark.kernel
def test_people_get_a_line_a_scene_and_a_table_without_colour_in_a_pipe() -> None:
    with demo() as process:
        out, err = process.communicate(timeout=6 * SECONDS)
        assert process.returncode == EXIT_OK, out + err
        lines = [line for line in out.splitlines() if line.startswith("ok ")]
        assert len(lines) >= len([scene for scene in SCENES if not scene.needs])
        assert "\x1b" not in out
        assert "scenes came out as they should" in out
        assert left(folder_in(out)) == []


@pytest.mark.kernel
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("words", ["below", "ok "])
def test_interrupted_it_leaves_nothing(number: signal.Signals, words: str) -> None:
    with demo() as process:
        folder = folder_in(read_until(process, words))
        process.send_signal(number)
        _, err = process.communicate(timeout=3 * SECONDS)
        assert process.returncode == EXIT_INTERRUPTED
        assert err == ""
        assert left(folder) == []


@pytest.mark.kernel
def test_the_next_run_takes_away_what_a_killed_one_left() -> None:
    with demo() as process:
        folder = folder_in(read_until(process, "ok "))
        process.kill()
        process.wait()
        # Not asserted that something is left, nor that it is ours to sweep: another laboratory of
        # this machine may have begun meanwhile, and done it.
        registry.sweep()
        deadline = time.monotonic() + 5  # PID 1 has inherited them, and takes its time to bury them
        while left(folder) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert left(folder) == []


@pytest.mark.kernel
def test_kept_it_can_be_entered_and_ends_in_order() -> None:
    with demo("--keep") as process:
        text = read_until(process, "curl -s ")
        folder = folder_in(text)
        ask = (
            "import urllib.request as r;"
            "u = 'http://169.254.169.254/metadata/versions';"
            "q = r.Request(u, headers={'Metadata': 'true'});"
            "print(r.urlopen(q, timeout=10).headers['x-ms-azure-host-authorization'])"
        )
        done = subprocess.run(
            [folder / "enter", "root", sys.executable, "-I", "-c", ask],
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * SECONDS,
        )
        assert done.stdout == "value\n", done.stderr
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=3 * SECONDS)
        assert process.returncode == EXIT_OK, err
        assert "nothing is left" in out
        assert left(folder) == []
