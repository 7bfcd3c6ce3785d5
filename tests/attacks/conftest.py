"""Attackers meet the whole product: the real kernel half, the real relay, the emulated host.

`interceptor` is the kernel half alone, as in tests/kernel.
"""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.kernel.conftest import PYTHON, build, interceptor

from gpa.agent.interception import COUNTERS
from gpa.agent.libbpf import Map, pinned_map
from gpa.agent.pins import Pins
from gpa.demo.lab import VM, Lab, Place

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

__all__ = ["interceptor"]

HERE = Path(__file__).parent
ALLOWED = "allowed-tool"
TOKEN = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=x"
NAMED = "/metadata/attested/document?api-version=2020-09-01"
INSTANCE = "/metadata/instance?api-version=2021-02-01"

SCENARIO = """
[rules.imds]
id = "attacks"
mode = "enforce"
defaultAccess = "allow"

[[rules.imds.rules.privileges]]
name = "token"
path = "/metadata/identity/oauth2/token"
[[rules.imds.rules.privileges]]
name = "named"
path = "/metadata/attested/document"
[[rules.imds.rules.privileges]]
name = "root-user"
path = "/metadata/versions"

[[rules.imds.rules.roles]]
name = "token"
privileges = ["token"]
[[rules.imds.rules.roles]]
name = "named"
privileges = ["named"]
[[rules.imds.rules.roles]]
name = "root-user"
privileges = ["root-user"]

[[rules.imds.rules.identities]]
name = "tool"
exePath = PROGRAM
[[rules.imds.rules.identities]]
name = "tool-by-name"
processName = "allowed-tool"
[[rules.imds.rules.identities]]
name = "root-user"
userName = "root"
[[rules.imds.rules.identities]]
name = "root-group"
groupName = "root"

[[rules.imds.rules.roleAssignments]]
role = "token"
identities = ["tool"]
[[rules.imds.rules.roleAssignments]]
role = "named"
identities = ["tool-by-name"]
[[rules.imds.rules.roleAssignments]]
role = "root-user"
identities = ["root-user", "root-group"]

[rules.wireserver]
id = "attacks"
mode = "enforce"
defaultAccess = "allow"
"""

PRELUDE = "import sys; sys.path.insert(0, {folder!r}); from attacker import *\n"


class Stand:
    """A laboratory with everything in it, and who attacks there."""

    def __init__(self, lab: Lab, scenario: str = SCENARIO) -> None:
        self.lab = lab
        self.allowed = lab.add_program(ALLOWED, Path(PYTHON).resolve())
        lab.add_program("attacker.py", HERE / "attacker.py")
        self.emulator = lab.start_emulator(
            scenario.replace("PROGRAM", json.dumps(str(self.allowed)))
        )
        self.agent = lab.start_agent()
        self.agent.wait_provisioned()

    def code(self, code: str) -> str:
        """An attacker's program."""
        return PRELUDE.format(folder=str(self.lab.programs)) + code

    def argv(self, code: str, *words: object, program: str | Path = PYTHON) -> list[str]:
        """The command line of an attacker's program."""
        return [str(program), "-I", "-S", "-c", self.code(code), *map(str, words)]

    def attack(
        self,
        uid: int,
        code: str,
        *words: object,
        gid: int | None = None,
        program: str | Path = PYTHON,
        place: Place = VM,
        **role: Any,
    ) -> Any:
        """What the program told, run as that user."""
        argv = self.argv(code, *words, program=program)
        done = self.lab.run_as(
            uid, uid if gid is None else gid, argv, place=place, timeout=40, **role
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def spawn(self, uid: int, code: str, *words: object, **role: Any) -> subprocess.Popen[str]:
        """Start the program as that user."""
        return self.lab.spawn(uid, uid, self.argv(code, *words), **role)

    def build(self, source: str) -> Path:
        """A program in C, for everybody to run."""
        return build(self.lab, HERE / source)

    def flows(self) -> int:
        """How many connections wait for their hand-over."""
        return len(list(self._map("flows", 24, 256).keys()))

    def pending(self) -> dict[int, int]:
        """The same by uid, as counted for the quotas; those that are zero left out."""
        table = self._map("pending", 4, 8)
        keys = list(table.keys())
        pairs = ((key, table.get(key) or bytes(8)) for key in keys)
        counts = {struct.unpack("=I", k)[0]: struct.unpack("=q", v)[0] for k, v in pairs}
        return {uid: count for uid, count in counts.items() if count}

    def counters(self) -> dict[str, int]:
        """What the kernel half counted."""
        table = self._map("counters", 4, 8)
        rows = ((name, table.get(struct.pack("=I", i))) for i, name in enumerate(COUNTERS))
        return {name: struct.unpack("=Q", value or bytes(8))[0] for name, value in rows}

    def _map(self, name: str, key_size: int, value_size: int) -> Map:
        table = pinned_map(Pins(self.lab.pins / "gpa").maps / name, key_size, value_size)
        assert table is not None
        return table

    def arrived(self, mark: str) -> list[dict[str, Any]]:
        """What the host saw of the requests whose target contains the mark."""
        return [r for r in self.emulator.records() if mark in r["target"]]

    def audited(self, mark: str) -> list[dict[str, Any]]:
        """Audit records that name the mark."""
        return [r for r in self.agent.audit() if mark in json.dumps(r)]


def eventually(check: Callable[[], Any], seconds: float = 5.0) -> Any:
    """The first true value; the last one after `seconds`."""
    end = time.monotonic() + seconds
    while not (value := check()) and time.monotonic() < end:
        time.sleep(0.02)
    return value


@pytest.fixture(scope="session")
def stand() -> Iterator[Stand]:
    with Lab() as lab:
        yield Stand(lab)
