"""A laboratory: a host, a VM and a nested guest on one machine, and processes of anybody in them.

    with Lab() as lab:
        emulator = lab.start_emulator()
        agent = lab.start_agent()
        answer = lab.run_as(65534, 65534, ["curl", "http://169.254.169.254/metadata/versions"])

The VM is a network namespace and the cgroup `lab.attach_point`; the agent attaches its programs
there, and what runs elsewhere does not exist for it. Everything that is made lies in `lab.folder`
and `lab.cgroup`, and is taken away at the end, after an exception or a signal as well; what a
SIGKILL leaves is taken away by the next laboratory, or `registry.sweep`.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from gpa.demo import cgroups, machine, network, registry
from gpa.demo.agent import AgentProcess
from gpa.demo.emulator import EmulatorProcess
from gpa.demo.services import Service, gpa_command, gpa_environment
from gpa.demo.signals import shielded
from gpa.errors import GpaError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType

T = TypeVar("T", bound=Service)

LAUNCHER: Final = Path(__file__).with_name("launch.py")

RUN_SECONDS: Final = 15.0
"""A client that takes longer hangs: the agent holds a request for 8 s while it cannot serve it."""


@dataclass(frozen=True)
class Place:
    """Where a process runs.

    Attributes:
        netns: name of a network namespace of the laboratory.
        cgroup: folder below the laboratory's cgroup; made when missing.
    """

    netns: str
    cgroup: str


VM: Final = Place(network.VM, "vm/users")
"""In the VM: connects are seen by the agent's programs."""

AROUND: Final = Place(network.VM, "around")
"""On the VM's network, outside `attach_point`: as if nothing were attached."""

GUEST: Final = Place(network.GUEST, "guest")
"""In the nested guest: another kernel as far as the VM is concerned, only its packets are seen."""

CONTAINER: Final = Place("container", "vm/users")
"""As VM, in a network namespace of its own without a wire; made by who wants it (`add_netns`)."""

HOST: Final = Place(network.HOST, "host")

SERVICE: Final = Place(network.VM, "vm/service")
"""Where the agent is started."""


class Lab:
    """The laboratory, from `with` to its end. For one thread."""

    def __init__(self, home: Path = registry.HOME) -> None:
        self._home = home
        self._claim: registry.Claim | None = None
        self._processes: list[subprocess.Popen[Any]] = []
        self._services: list[Service] = []

    def __enter__(self) -> Self:
        """Make it, after what others left behind is taken away.

        Raises:
            NotRootError, UnavailableError: nothing was done.
            CannotCreateError: what was made is gone again.
        """
        machine.check_ready()
        registry.sweep(self._home)
        with shielded():
            self._claim = registry.claim(self._home)
            atexit.register(self.close)
        try:
            self._furnish()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except GpaError as trouble:
            if error is None:
                raise
            error.add_note(str(trouble))

    @property
    def folder(self) -> Path:
        """Everything on disk; root's, 0755."""
        return self._mine.folder

    @property
    def cgroup(self) -> Path:
        """Every process is in it or below it."""
        return self._mine.cgroup

    @property
    def attach_point(self) -> Path:
        """`cgroupRoot` of the agent."""
        return self.cgroup / "vm"

    @property
    def pins(self) -> Path:
        """A BPF filesystem of its own, 0700."""
        return self.folder / "pins"

    @property
    def programs(self) -> Path:
        """Programs that everybody may run, on a local filesystem."""
        return self.folder / "bin"

    @property
    def _mine(self) -> registry.Claim:
        if self._claim is None:
            raise RuntimeError("the laboratory is closed")
        return self._claim

    def _furnish(self) -> None:
        for name, mode in (("net", 0o700), ("pins", 0o700), ("bin", 0o755)):
            self.make_folder(name, mode)
        network.wire(self.folder / "net")
        machine.tool(["mount", "-t", "bpf", "-o", "mode=0700", "bpf", self.pins])
        for place in (VM, AROUND, GUEST, HOST, SERVICE):
            cgroups.make(self.cgroup / place.cgroup)

    def close(self) -> None:
        """End the services in order, then take everything away; done once.

        Raises:
            CannotCreateError: something could not be removed.
        """
        with shielded():
            mine, self._claim = self._claim, None
            if mine is None:
                return
            atexit.unregister(self.close)
            try:
                for service in reversed(self._services):
                    service.close()
            finally:
                cgroups.kill(mine.cgroup)
                for process in self._processes:
                    _reap(process)
                registry.release(mine, self._home)

    # --- places, folders, programs ----------------------------------------------------------------

    def netns(self, name: str) -> Path:
        """The file that keeps a network namespace: for `nsenter --net=…`."""
        return self.folder / "net" / name

    def add_netns(self, name: str) -> Path:
        """One more network namespace, without wires."""
        return network.add(self.folder / "net", name)

    def make_folder(self, name: str, mode: int = 0o700) -> Path:
        """A folder below `folder` with exactly this mode."""
        folder = self.folder / name
        folder.mkdir()
        folder.chmod(mode)
        return folder

    def add_program(self, name: str, source: Path) -> Path:
        """Copy an executable: same bytes, another file and another path, for everybody to run."""
        copy = self.programs / name
        shutil.copyfile(source, copy)
        copy.chmod(0o755)
        return copy

    # --- processes --------------------------------------------------------------------------------

    def command(
        self,
        uid: int,
        gid: int,
        argv: Sequence[str | os.PathLike[str]],
        *,
        place: Place = VM,
        groups: Iterable[int] = (),
        euid: int | None = None,
        egid: int | None = None,
        kept: Mapping[str, int] | None = None,
    ) -> list[str]:
        """The command line by which root runs `argv` as somebody, somewhere."""
        role = {
            "cgroup": str(cgroups.make(self.cgroup / place.cgroup)),
            "uid": uid,
            "euid": uid if euid is None else euid,
            "gid": gid,
            "egid": gid if egid is None else egid,
            "groups": list(groups),
            "kept": dict(kept or {}),
        }
        launcher = [sys.executable, "-I", "-S", str(LAUNCHER), json.dumps(role)]
        words = [os.fspath(word) for word in argv]
        words[0] = shutil.which(words[0], path=machine.PATH) or words[0]
        return network.enter(self.netns(place.netns), *launcher, *words)

    def spawn(
        self,
        uid: int,
        gid: int,
        argv: Sequence[str | os.PathLike[str]],
        *,
        place: Place = VM,
        groups: Iterable[int] = (),
        euid: int | None = None,
        egid: int | None = None,
        env: Mapping[str, str] | None = None,
        kept: Mapping[str, int] | None = None,
        stdin: int | None = subprocess.DEVNULL,
        stdout: int | None = subprocess.PIPE,
        stderr: int | None = subprocess.PIPE,
    ) -> subprocess.Popen[str]:
        """Start `argv` as somebody, somewhere; its pid is that of the process, no shell between.

        Its exit code is 1 with `launch: …` on stderr when it could not be started. The program must
        be readable for that user. It dies with the laboratory.

        Args:
            uid: real uid, and the effective one without `euid`; gid likewise.
            groups: supplementary groups, none by default.
            env: added to a PATH and LC_ALL.
            kept: name to descriptor, handed on as a service manager does (sd_listen_fds(3)).
        """
        command = self.command(
            uid, gid, argv, place=place, groups=groups, euid=euid, egid=egid, kept=kept
        )
        with shielded():  # a process that was started is known
            process = subprocess.Popen(
                command,
                env={"PATH": machine.PATH, "LC_ALL": "C.UTF-8", **(env or {})},
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                text=True,
                cwd="/",
                pass_fds=tuple((kept or {}).values()),
                start_new_session=True,  # Ctrl-C is for us: we end the others in order
            )
            self._processes.append(process)
        return process

    def run_as(
        self,
        uid: int,
        gid: int,
        argv: Sequence[str | os.PathLike[str]],
        *,
        place: Place = VM,
        groups: Iterable[int] = (),
        euid: int | None = None,
        egid: int | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = RUN_SECONDS,
    ) -> subprocess.CompletedProcess[str]:
        """`spawn`, and wait for its end.

        Raises:
            subprocess.TimeoutExpired: it took longer than `timeout` seconds, and was killed.
        """
        process = self.spawn(
            uid, gid, argv, place=place, groups=groups, euid=euid, egid=egid, env=env
        )
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            _reap(process)
            self._processes.remove(process)
        return subprocess.CompletedProcess(list(argv), process.returncode, out, err)

    def gpa(
        self, *words: str | os.PathLike[str], place: Place = SERVICE, timeout: float = RUN_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Run `gpa …` as root to its end."""
        command = gpa_command(*words)
        env = gpa_environment()
        return self.run_as(0, 0, command, place=place, env=env, timeout=timeout)

    # --- services ---------------------------------------------------------------------------------

    def start_emulator(self, scenario: str = "") -> EmulatorProcess:
        """Start the emulated host, and wait until it listens.

        Args:
            scenario: TOML in the sense of docs/emulator.md; empty: everything is enforced.

        Raises:
            UnavailableError: it ended or did not listen in time.
        """
        emulator = EmulatorProcess(self, HOST, scenario)
        self._services.append(emulator)
        emulator.start()
        return emulator

    def start_agent(
        self,
        overrides: Mapping[str, object] | None = None,
        *,
        wait: bool = True,
        keeps: bool = False,
    ) -> AgentProcess:
        """Start the agent in the VM, and wait until it is ready.

        Args:
            overrides: keys of the configuration file to set.
            wait: False returns at once; `AgentProcess.wait_ready` waits later.
            keeps: its service manager keeps its listeners while it is down.

        Raises:
            UnavailableError: it ended or was not ready in time.
        """
        agent = AgentProcess(self, SERVICE, overrides or {})
        agent.manager.keeps = keeps
        self._services.append(agent)
        agent.start(wait=wait)
        return agent

    def records(self) -> list[dict[str, Any]]:
        """What arrived at the host (docs/emulator.md)."""
        return self._only(EmulatorProcess).records()

    def control(self, method: str, path: str, document: object = None) -> Any:
        """One call of the host's control API (docs/emulator.md)."""
        return self._only(EmulatorProcess).control(method, path, document)

    def set_rules(self, name: str, rules: Mapping[str, object] | bytes | None) -> None:
        """Write the agent's local rules file `IMDS` or `WireServer`; None removes it."""
        self._only(AgentProcess).set_rules(name, rules)

    def _only(self, kind: type[T]) -> T:
        """The service of that kind; there is one, since its addresses can be taken once."""
        return next(service for service in self._services if isinstance(service, kind))


def _reap(process: subprocess.Popen[Any]) -> None:
    """End the process if it lives, and forget it: no zombie, no open pipe."""
    if process.poll() is None:
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
