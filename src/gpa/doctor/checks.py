"""Every check by its name, in the order of the report, and the examination as a whole."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from gpa import config as configuration
from gpa.agent.cgroup import find_default_root
from gpa.agent.lock import holder_pid
from gpa.doctor import (
    capture,
    cgroups,
    clock,
    door,
    folders,
    kernel,
    network,
    others,
    pinned,
    process,
    programs,
)
from gpa.doctor.finding import Finding, failure, ok, warning
from gpa.errors import ConfigError, GpaError, InterceptionError, UntrustedPathError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from gpa.config import Config
    from gpa.doctor.machine import Machine

    Check = Callable[[Machine, Config], Iterable[Finding]]

CONFIG: Final = "config"
"""The check that comes before the others: it gives them the configuration."""


def _programs(machine: Machine, config: Config) -> Iterator[Finding]:
    root = config.cgroup_root
    if not cgroups.is_v2(machine, root):
        yield from programs.judge_programs(door.try_programs(None))
    else:
        try:
            with door.Trial(root) as trial:
                verdicts = door.try_programs(trial.cgroup)
        except OSError as error:
            yield programs.no_trial("program", root, error)
            return
        yield from programs.judge_programs(verdicts)


def _neighbours(machine: Machine, config: Config) -> Iterator[Finding]:
    root = config.cgroup_root
    if not cgroups.is_v2(machine, root):
        yield warning(
            "neighbours", "not asked: cgroupRoot is not on cgroup v2", "mend cgroup-root first"
        )
    else:
        yield from programs.check_neighbours(root, cgroups.above(machine, root), door.neighbours)


def _capture(machine: Machine, config: Config) -> Iterator[Finding]:
    root = config.cgroup_root
    if not cgroups.is_v2(machine, root):
        yield warning(
            "capture", "not tried: cgroupRoot is not on cgroup v2", "mend cgroup-root first"
        )
        return
    try:
        with door.Trial(root) as trial:
            yield capture.check_capture(machine, trial.folder, trial.cgroup)
    except OSError as error:
        yield programs.no_trial("capture", root, error)


def _pins(machine: Machine, config: Config) -> Iterator[Finding]:
    del machine
    running = holder_pid(config.run_folder) is not None
    yield from pinned.check_pins(config, running=running, cgroup_of=door.cgroup_of_pin)


def _listener(machine: Machine, config: Config) -> Iterator[Finding]:
    yield network.check_listener(machine, holder_pid(config.run_folder))


CHECKS: Final[Mapping[str, Check]] = {
    "root": process.check_root,
    "capabilities": process.check_capabilities,
    "namespace": process.check_namespaces,
    "kernel": kernel.check_kernel,
    "btf": kernel.check_btf,
    "lockdown": kernel.check_lockdown,
    "settings": kernel.check_settings,
    "cgroup-v2": cgroups.check_hierarchy,
    "cgroup-root": cgroups.check_root,
    "pin-folder": pinned.check_folder,
    "program": _programs,
    "neighbours": _neighbours,
    "capture": _capture,
    "agent": pinned.check_agent,
    "pins": _pins,
    "other-agent": others.check_other_agent,
    "service": others.check_service,
    "listener": _listener,
    "loopback": network.check_loopback,
    "firewall": network.check_firewall,
    "clock": clock.check_clock,
    "folder": folders.check_folders,
}
"""Findings of a check bear its name as their first word; docs/doctor.md tells of each."""

FOR_ANYBODY: Final = frozenset(
    {"root", "kernel", "btf", "lockdown", "settings", "cgroup-v2", "cgroup-root"}
    | {"other-agent", "service", "loopback", "clock"}
)
"""What an ordinary user can judge as well; the others are left out for him."""


def examine(machine: Machine, path: Path) -> Iterator[Finding]:
    """Every finding, as soon as it is there.

    Args:
        machine: where to look.
        path: the configuration; where it is missing or wrong, the defaults are checked.
    """
    config, finding = read_config(path)
    yield finding
    if not config.cgroup_root_is_explicit:
        with contextlib.suppress(InterceptionError):  # "cgroup-root" says why
            config = replace(config, cgroup_root=find_default_root(config.cgroup_root))
    for name, check in CHECKS.items():
        if not machine.root and name not in FOR_ANYBODY:
            continue
        try:
            yield from check(machine, config)
        except (OSError, GpaError) as error:
            words = (error.strerror if isinstance(error, OSError) else None) or str(error)
            yield failure(name, f"cannot be checked: {words}", "mend what fails above, then again")


def read_config(path: Path) -> tuple[Config, Finding]:
    """The configuration, and what is to be said about it."""
    try:
        path.lstat()
    except FileNotFoundError:
        return configuration.Config(), warning(
            CONFIG,
            f"there is no {path}: the defaults are checked",
            "write one ({} will do, see docs/configuration.md), or name another with --config",
        )
    except OSError:
        pass  # load() says why
    try:
        config = configuration.load(path)
    except (ConfigError, UntrustedPathError) as error:
        return configuration.Config(), failure(
            CONFIG, f"{error}; the defaults are checked", f"correct {path}"
        )
    if config.warnings:
        return config, warning(CONFIG, "; ".join(config.warnings), f"correct {path}")
    return config, ok(CONFIG, f"{path}")
