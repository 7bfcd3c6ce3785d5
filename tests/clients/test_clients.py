"""Real clients see the same through the agent as without it: output, status and exit code.

Each runs twice for each user: in the VM, and beside it, where nothing is intercepted.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gpa.demo import emulator
from gpa.demo.lab import AROUND, HOST, VM, Lab
from gpa.demo.machine import PATH

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.kernel

HERE = Path(__file__).parent
URL = "http://169.254.169.254"
CURL = ["curl", "-sS", "-w", "\n%{http_code}", "--max-time", "9"]
LARGE = "{folder}/large"

COMMANDS: dict[str, list[str]] = {
    "curl": [*CURL, "-H", "Metadata: true", f"{URL}/get?a=b", f"{URL}/missing"],
    "curl, 1.0": [*CURL, "-0", f"{URL}/get"],
    "curl, h2c upgrade": [*CURL, "--http2", f"{URL}/get"],
    "curl, HEAD": [*CURL, "-o", "/dev/null", "-I", f"{URL}/head"],
    "curl, Expect": [*CURL, "--data-binary", f"@{LARGE}", f"{URL}/post"],
    "curl, chunked": [*CURL, "-T", "-", "-H", "Expect: 100-continue", f"{URL}/put"],
    "python": ["/usr/bin/python3", "-I", "{folder}/client.py"],
    "wget": ["wget", "-qO-", "-t", "1", f"{URL}/get"],
    "node": ["node", "{folder}/client.js"],
    "java": ["java", "-XX:TieredStopAtLevel=1", "-cp", "{folder}", "Client"],
    "go": ["{folder}/client"],
}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with pytest.MonkeyPatch.context() as patch, Lab() as made:
        patch.setattr(emulator, "PLACES", {**emulator.PLACES, "imds": "192.0.2.1:8080"})
        made.start_emulator()
        echo = ["/usr/bin/python3", "-I", "-S", str(HERE / "echo.py"), "169.254.169.254", "80"]
        made.spawn(0, 0, echo, place=HOST, stdout=subprocess.DEVNULL, stderr=None)
        made.start_agent().wait_provisioned()
        (made.programs / "large").write_bytes(bytes(range(256)) * (5 << 12))
        for name in ("client.py", "client.js"):
            made.add_program(name, HERE / name)
        yield made


def prepare(lab: Lab, name: str) -> None:
    """Compile what has to be, and skip what is not installed."""
    program = COMMANDS[name][0]
    if name == "go":
        if not (go := shutil.which("go", path=f"{PATH}:/usr/local/go/bin")):
            pytest.skip("go is not installed")
        env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-p=2"}
        built = [go, "build", "-o", str(lab.programs / "client"), str(HERE / "client.go")]
        subprocess.run(built, check=True, env=env)
    elif name == "java":
        if not shutil.which("javac", path=PATH):
            pytest.skip("java is not installed")
        built = ["javac", "-d", str(lab.programs), str(HERE / "Client.java")]
        subprocess.run(built, check=True, stderr=subprocess.DEVNULL)
    elif not shutil.which(program, path=PATH):
        pytest.skip(f"{program} is not installed")


@pytest.mark.parametrize("name", COMMANDS)
def test_same_as_without_the_agent(lab: Lab, name: str) -> None:
    prepare(lab, name)
    command = [word.format(folder=lab.programs) if "{folder}" in word else word
               for word in COMMANDS[name]]  # fmt: skip
    direct = lab.run_as(0, 0, command, place=AROUND)
    assert direct.returncode == 0, direct
    assert "method" in direct.stdout or name == "curl, HEAD"
    for uid in (0, 65534):
        through = lab.run_as(uid, uid, command, place=VM)
        assert (through.returncode, through.stdout) == (0, direct.stdout), through
