"""`provisioned.tag` and `status.tag`: what `--status` reads. Standard library only, it is polled at
boot.

docs/protocol.md, "Files". `status.tag` holds the error, nothing on success. `provisioned.tag`
exists once provisioning has finished, and names the boot that it finished in: a tag of an earlier
boot, or one that came with a disk image, says nothing about this one.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gpa.agent.files import read_small, write_atomically
from gpa.agent.log import timestamp

PROVISIONED: Final = "provisioned.tag"
STATUS: Final = "status.tag"
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

LIMIT: Final = 4096
"""Bytes of a tag; an error is one line."""


@dataclass(frozen=True)
class Finished:
    """Provisioning has finished in this boot; `error` is empty on success."""

    error: str


def write(folder: Path, unix_ns: int, error: str) -> None:
    """Say that provisioning has finished; raises `OSError`."""
    # In this order: who sees the first tag can read the second.
    write_atomically(folder / STATUS, error.encode()[:LIMIT], 0o600)
    text = f"{timestamp(unix_ns)} {_boot_id()}\n"
    write_atomically(folder / PROVISIONED, text.encode(), 0o600)


def read(folder: Path) -> Finished | None:
    """How provisioning of this boot ended, None while it has not; raises `OSError`."""
    tag = read_small(folder / PROVISIONED, LIMIT)
    if tag is None or _boot_id() not in tag.decode("utf-8", "replace").split():
        return None
    error = read_small(folder / STATUS, LIMIT) or b""
    return Finished(error.decode("utf-8", "replace").strip())


def clear_old(folder: Path) -> None:
    """Remove tags of an earlier boot; best effort."""
    with contextlib.suppress(OSError):
        if read(folder) is None:
            (folder / PROVISIONED).unlink(missing_ok=True)
            (folder / STATUS).unlink(missing_ok=True)


def _boot_id() -> str:
    return BOOT_ID.read_text().strip()
