"""Cgroup programs of other tools: which of them keeps ours out, said so that it can be mended.

The kernel lets the nearest program at or above a cgroup decide. One that was attached with
BPF_F_ALLOW_MULTI suffers ours beside it and below it; one with BPF_F_ALLOW_OVERRIDE below it only;
one with neither nowhere. Ours suffers all.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from gpa.agent import libbpf

if TYPE_CHECKING:
    from pathlib import Path


def why_refused(cgroup: Path, hook: str, error: libbpf.BpfError) -> str:
    """Why the kernel would not attach our program, and what to do."""
    refused = f"cannot attach {hook} to {cgroup}"
    cause = os.strerror(error.errno)
    if error.errno == errno.E2BIG:
        return (
            f"{refused}: {libbpf.MOST_ATTACHED} programs are attached there, and the kernel takes"
            f" no more: detach what is not needed ({cause})"
        )
    found = _forbidding(cgroup, hook) if error.errno == errno.EPERM else None
    if found is None:
        return f"{refused}: {cause}"
    where, program = found
    name = program.name or "without a name"
    how = "with BPF_F_ALLOW_OVERRIDE" if program.allows_override else "exclusively"
    return (
        f"{refused}: program {program.id} ({name}) is attached {how} to {where} and forbids it:"
        f" stop the tool that it belongs to, or have it attached with BPF_F_ALLOW_MULTI ({cause})"
    )


def _forbidding(cgroup: Path, hook: str) -> tuple[Path, libbpf.Attached] | None:
    """The program that forbids ours, and its cgroup; None when none that can be seen from here."""
    for folder in (cgroup, *cgroup.parents):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            programs = libbpf.attached_programs(fd, hook)
        except libbpf.BpfError:  # above the mount of cgroup v2
            return None
        finally:
            os.close(fd)
        if programs:
            nearest = programs[0]
            below = nearest.allows_override and folder != cgroup
            return None if nearest.allows_multi or below else (folder, nearest)
    return None
