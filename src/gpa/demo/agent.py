"""The agent in a laboratory."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from gpa.demo.manager import Manager
from gpa.demo.services import START_SECONDS, Service, read_lines, wait_until
from gpa.errors import UnavailableError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping
    from pathlib import Path

    from gpa.demo.lab import Lab, Place


class AgentProcess(Service):
    """`gpa run`, with a configuration of the laboratory's.

    Attributes:
        config: the file; `settings` is what it holds.
        manager: its service manager.
    """

    def __init__(self, lab: Lab, place: Place, overrides: Mapping[str, object]) -> None:
        super().__init__(lab, "agent", place)
        folders = {
            "logFolder": self.folder / "log",
            "eventFolder": self.folder / "events",
            "latchKeyFolder": self.folder / "keys",
            "rulesFolder": self.folder / "rules",
            "runFolder": self.folder / "run",
            "pinFolder": lab.pins / "gpa",
            "cgroupRoot": lab.attach_point,
        }
        self.settings: dict[str, object] = {
            **{key: str(path) for key, path in folders.items()},
            "pollKeyStatusIntervalInSeconds": 1,
            "monitorIntervalInSeconds": 1,
            **overrides,
        }
        self.config = self.folder / "proxy-agent.json"
        self.config.write_text(json.dumps(self.settings, indent=2) + "\n")
        self.config.chmod(0o644)
        lab.make_folder("agent/rules")
        self.manager = Manager(self.folder / "notify")

    @property
    def log_folder(self) -> Path:
        """Logs, `status.json`, `audit.jsonl`."""
        return self._path("logFolder")

    @property
    def key_folder(self) -> Path:
        """Latched keys and the tags of provisioning."""
        return self._path("latchKeyFolder")

    @property
    def rules_folder(self) -> Path:
        """Local rules."""
        return self._path("rulesFolder")

    def start(self, *, wait: bool = True) -> None:
        """Start it and wait until it says that listeners are owned and eBPF is attached.

        Raises:
            UnavailableError: it ended, or was not ready within `START_SECONDS`.
        """
        self.manager.listen()
        self._spawn(
            "run",
            "--config",
            self.config,
            env=self.manager.environment,
            kept=self.manager.kept,
        )
        if wait:
            self.wait_ready()

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Wait for READY=1.

        Raises:
            UnavailableError: it ended, or did not say so in time.
        """
        deadline = time.monotonic() + seconds
        while not self.manager.has_heard("READY=1", 0.05):
            self._check_alive()
            if time.monotonic() > deadline:
                raise UnavailableError(f"the agent was not ready within {seconds:g} s")

    def wait_provisioned(self, seconds: float = START_SECONDS) -> None:
        """Wait until the key is latched and everything runs (`provisioned.tag`).

        Raises:
            UnavailableError: it ended, took too long, or finished with an error.
        """

        def finished() -> bool:
            self._check_alive()
            return (self.key_folder / "provisioned.tag").exists()

        wait_until(finished, seconds, "provisioning of the VM")
        tag = self.key_folder / "status.tag"
        if tag.exists() and (trouble := tag.read_text().strip()):
            raise UnavailableError(f"the agent could not provision the VM: {trouble}")

    def set_rules(self, name: str, rules: Mapping[str, object] | bytes | None) -> None:
        """Write a local rules file as an operator would, at once; None removes it.

        Args:
            name: `IMDS` or `WireServer`.
            rules: its content, bytes as they are.
        """
        path = self.rules_folder / f"{name}_Rules.json"
        if rules is None:
            path.unlink(missing_ok=True)
            return
        draft = path.with_suffix(".new")
        draft.write_bytes(rules if isinstance(rules, bytes) else json.dumps(rules).encode())
        draft.chmod(0o600)
        draft.rename(path)

    def audit(self) -> list[dict[str, Any]]:
        """The audit records so far."""
        return read_lines(self.log_folder / "audit.jsonl")

    def detach(self) -> subprocess.CompletedProcess[str]:
        """`gpa detach`: takes away what a stopped agent leaves in the kernel."""
        return self._lab.gpa("detach", "--config", self.config, place=self._place)

    def close(self) -> None:
        """Stop it, and take its programs away."""
        super().close()
        self.manager.close()

    def _path(self, key: str) -> Path:
        return self.folder.joinpath(str(self.settings[key]))  # absolute: it replaces the folder
