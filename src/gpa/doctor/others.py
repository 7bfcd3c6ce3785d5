"""Who else would do this work: another make of the agent, and what the service manager runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from gpa.doctor.finding import Finding, failure, ok, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpa.config import Config
    from gpa.doctor.machine import Machine

VENDORS_NAME: Final = "azure-proxy-agent"
"""Of the vendor's program and unit; ours answers to it as well, but is a script."""

UNIT: Final = f"{VENDORS_NAME}.service"

COMM_LENGTH: Final = 15
"""What the kernel keeps of a program's name."""


def check_other_agent(machine: Machine, config: Config) -> Iterator[Finding]:
    """Two agents would redirect the same connects and want the same port."""
    del config
    running = list(_running(machine))
    installed = machine.find_tool(VENDORS_NAME)
    if running:
        yield failure(
            "other-agent",
            f"another make of {VENDORS_NAME} runs: {', '.join(running)}",
            f"systemctl disable --now {UNIT}, then look again",
        )
    elif installed is not None and _is_binary(Path(installed)):
        yield warning(
            "other-agent",
            f"another make of {VENDORS_NAME} is installed as {installed}; it does not run now",
            f"systemctl disable {UNIT}, or remove its package, so that it does not start at boot",
        )
    else:
        yield ok("other-agent", "none is installed or runs")


def _running(machine: Machine) -> Iterator[str]:
    for process in machine.proc.iterdir():
        if not process.name.isdecimal():
            continue
        if machine.read(process / "comm") != VENDORS_NAME[:COMM_LENGTH]:
            continue
        try:
            program = (process / "exe").readlink()
        except OSError:
            continue  # gone, or not ours to see
        if program.name.startswith(VENDORS_NAME):  # ours is python3
            yield f"pid {process.name} ({program})"


def _is_binary(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return False


def check_service(machine: Machine, config: Config) -> Iterator[Finding]:
    """What systemd says of the unit, where systemd runs."""
    del config
    if not (machine.run / "systemd/system").is_dir():
        yield ok("service", "systemd does not run here: start gpa run by other means")
        return
    said = machine.ask_tool(
        "systemctl", "show", UNIT, "--property=LoadState,ActiveState,UnitFileState,ExecStart"
    )
    if said is None:
        yield warning("service", "systemd does not answer", f"try systemctl status {UNIT}")
        return
    state = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    active, file = state.get("ActiveState", ""), state.get("UnitFileState", "")
    if state.get("LoadState") == "not-found":
        yield ok("service", f"there is no {UNIT}")
    elif active == "failed":
        yield warning(
            "service", f"{UNIT} has failed", f"journalctl -u {UNIT}, then systemctl restart {UNIT}"
        )
    else:
        yield ok("service", f"{UNIT} is {active or 'unknown'}, {file or 'without a unit file'}")
