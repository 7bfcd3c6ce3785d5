"""What the latch should know after a restart: the last valid status and the newest incarnation.

One file beside the keys, `channel.json`. It holds no secret. A file that is torn, foreign or not
ours is as good as none: then modes are unknown, and what is unknown is enforced.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from gpa.agent.channel import ChannelStatus, from_document
from gpa.agent.files import read_small, write_atomically
from gpa.agent.latch import Latch
from gpa.errors import HostAnswerError

if TYPE_CHECKING:
    from pathlib import Path

NAME: Final = "channel.json"
LIMIT: Final = 9 << 20
"""Bytes: the largest status that is accepted, and a little."""


def recall(folder: Path) -> tuple[Latch, str]:
    """A latch that knows what was remembered, and what was wrong with the file, if anything."""
    try:
        data = read_small(folder / NAME, LIMIT)
        if data is None:
            return Latch(), ""
        stored = json.loads(data)
        newest = stored["newestIncarnation"]
        if newest is not None and (not isinstance(newest, int) or isinstance(newest, bool)):
            return Latch(), f"{folder / NAME} is not used: wrong types"
        status: ChannelStatus | None = None
        if stored["status"] is not None:
            status = from_document(stored["status"])
        return Latch(status, absent=stored["absent"] is True, newest=newest), ""
    except OSError as error:
        return Latch(), f"cannot read {folder / NAME}: {error.strerror or error}"
    except (ValueError, KeyError, TypeError, RecursionError, HostAnswerError) as error:
        return Latch(), f"{folder / NAME} is not used: {type(error).__name__}"


def remember(folder: Path, latch: Latch) -> None:
    """Write it down, durably; raises `OSError`."""
    status = latch.status_in_force
    document = {
        "status": dict(status.document) if status else None,
        "absent": latch.absent,
        "newestIncarnation": latch.newest_incarnation,
    }
    write_atomically(folder / NAME, json.dumps(document).encode(), 0o600, durable=True)
