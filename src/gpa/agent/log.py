"""The agent's own log: one line a message, whatever is in it, to a file and to stderr.

Foreign text (names, paths, the host's words) arrives in messages, so control characters are
escaped and lines are cut. Secrets never arrive: no caller formats a key, signature or token.
"""

from __future__ import annotations

import contextlib
import enum
import os
import sys
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gpa.agent.files import RotatingFile

LINE_LIMIT: Final = 4096
"""Characters; a longer message is cut, and says so."""


class Level(enum.IntEnum):
    """As in the configuration, `Trace` being the most."""

    TRACE = 0
    DEBUG = 1
    INFO = 2
    WARN = 3
    ERROR = 4


_JOURNAL_PRIORITY: Final = {
    Level.TRACE: 7,
    Level.DEBUG: 7,
    Level.INFO: 6,
    Level.WARN: 4,
    Level.ERROR: 3,
}


def one_line(text: str, limit: int = LINE_LIMIT) -> str:
    """The text on one line: what is not printable is escaped, what is too long is cut."""
    cut = text[:limit]
    if not cut.isprintable():
        cut = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
    return cut if len(text) <= limit else f"{cut}… ({len(text)} characters)"


def timestamp(unix_ns: int | None = None) -> str:
    """RFC 3339, UTC, milliseconds."""
    ns = time.time_ns() if unix_ns is None else unix_ns
    seconds, rest = divmod(ns, 1_000_000_000)
    try:
        whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):
        return "0000-00-00T00:00:00.000Z"
    return f"{whole}.{rest // 1_000_000:03d}Z"


class Log:
    """Where messages go; a file that cannot be written is said once on stderr and tried again."""

    def __init__(
        self, file: RotatingFile | None, level: Level = Level.INFO, *, stderr: bool = True
    ) -> None:
        self._file = file
        self._level = level
        self._stderr = stderr
        # Set by systemd when stderr goes to the journal, which then understands priorities.
        self._journal = bool(os.environ.get("JOURNAL_STREAM"))
        self.file_trouble = ""

    def error(self, text: str) -> None:
        """Something does not work, and somebody should look."""
        self._write(Level.ERROR, text)

    def warn(self, text: str) -> None:
        """Something is not as it should be; the agent goes on."""
        self._write(Level.WARN, text)

    def info(self, text: str) -> None:
        """A step that operators want to see."""
        self._write(Level.INFO, text)

    def _write(self, level: Level, text: str) -> None:
        if level < self._level:
            return
        line = one_line(text)
        if self._stderr:
            prefix = f"<{_JOURNAL_PRIORITY[level]}>" if self._journal else "gpa: "
            with contextlib.suppress(OSError, ValueError):  # nobody reads it
                sys.stderr.write(f"{prefix}{line}\n")
                sys.stderr.flush()
        if self._file is None:
            return
        try:
            record = f"{timestamp()} [{level.name}] {line}\n"
            self._file.write(record.encode("utf-8", "backslashreplace"))
            self.file_trouble = ""
        except OSError as error:
            if not self.file_trouble:
                self.file_trouble = f"cannot write {self._file.path}: {error.strerror}"
                if self._stderr:
                    with contextlib.suppress(OSError, ValueError):
                        sys.stderr.write(f"gpa: {self.file_trouble}\n")
