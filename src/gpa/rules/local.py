"""The operator's rules file of an endpoint, read so that nobody else can slip one in.

docs/protocol.md, "Ids and local rules". A file that is not ours, not a plain file, too large, not
JSON or not valid closes the endpoint, and the trouble says what to mend. Nothing is written here.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from typing import TYPE_CHECKING, Final

import msgspec

from gpa.endpoints import Endpoint
from gpa.errors import RulesError, UntrustedPathError
from gpa.rules.model import LocalFile
from gpa.rules.validate import read_local_rules
from gpa.trust import check_file

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from gpa.rules.model import Rules

FILE_NAMES: Final = {
    Endpoint.IMDS: "IMDS_Rules.json",
    Endpoint.WIRESERVER: "WireServer_Rules.json",
    # It has no file of its own and takes WireServer's rules.
    Endpoint.HOSTGA: "WireServer_Rules.json",
}

MAX_BYTES: Final = 1 << 20
"""Ten thousand privileges fit; a larger file is a mistake, and is not read into memory."""

TRIES: Final = 3
PAUSE: Final = 0.05
"""Seconds between tries: an editor that writes in place is done by then."""

MAX_PLACED: Final = 64 << 10
"""Bytes of a file whose places are looked for: that takes seconds a megabyte, in which the agent
would do nothing else. `gpa rules lint` finds them in any."""

_BOM: Final = b"\xef\xbb\xbf"


async def read_local_file(
    path: Path,
    sleep: Callable[[float], Awaitable[object]],
    check: Callable[[Rules], object] | None = None,
) -> LocalFile:
    """Read and check the file; never raises for what is in it or in its place.

    Args:
        path: the file; nothing there is not a trouble.
        sleep: waits so many seconds.
        check: what else must hold of its rules (`compile.table_check`); raises `RulesError`.
    """
    trouble = ""
    for attempt in range(TRIES):
        if attempt:
            await sleep(PAUSE)
        try:
            data = _read(path)
            document = _parse(data)
        except FileNotFoundError:
            return LocalFile()
        except (UntrustedPathError, RulesError) as error:
            return LocalFile(trouble=str(error))
        except OSError as error:
            return LocalFile(trouble=f"{path} cannot be read: {error.strerror}")
        except _NotYetError as error:
            trouble = f"{path}{error}"
            continue
        try:
            local = read_local_rules(document)
            if check is not None and local.rules is not None:
                check(local.rules)
        except RulesError as error:
            return LocalFile(trouble=_with_place(path, data, error))
        return LocalFile(local)
    return LocalFile(trouble=trouble)


class _NotYetError(Exception):
    """The file may just be being written; worth another try. Its words go behind the path."""


def _read(path: Path) -> bytes:
    """The bytes of a file that only root or we can have written.

    Raises:
        UntrustedPathError: a link, or another's, or not a plain file.
        RulesError: too large.
        OSError: not there, or cannot be read.
    """
    if stat.S_ISLNK(path.lstat().st_mode):
        raise UntrustedPathError(f"{path} is a link: put the file itself there")
    # Without O_NONBLOCK the open of a FIFO waits for somebody to write; without O_NOFOLLOW a link
    # could take the file's place after the look above.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    fd = os.open(path, flags)
    try:
        before = os.fstat(fd)
        check_file(path, before)
        if before.st_size > MAX_BYTES:
            raise _too_large(path)
        data = _read_up_to(fd, MAX_BYTES + 1)
        after = os.fstat(fd)
    finally:
        os.close(fd)
    if len(data) > MAX_BYTES:
        raise _too_large(path)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise _NotYetError(" was changed while it was read")
    return data


def _too_large(path: Path) -> RulesError:
    return RulesError(f"{path} is larger than {MAX_BYTES} bytes")


def _read_up_to(fd: int, limit: int) -> bytes:
    parts = []
    while limit and (part := os.read(fd, limit)):
        parts.append(part)
        limit -= len(part)
    return b"".join(parts)


def _parse(data: bytes) -> object:
    """JSON, the last of a repeated key; a byte order mark may stand before it."""
    text = data.removeprefix(_BOM)
    try:
        return msgspec.json.decode(text)
    except RecursionError:
        raise _NotYetError(" is not JSON: nested too deeply") from None
    except (UnicodeDecodeError, msgspec.MsgspecError) as error:
        raise _NotYetError(_with_line(str(error), text)) from None


def _with_line(message: str, text: bytes) -> str:
    """The parser's words, with line and column for its byte."""
    message = message.removeprefix("JSON is malformed: ")
    found = re.search(r" \(byte (\d+)\)$", message)
    if found is None:
        return f" is not JSON: {message}"
    before = text[: int(found[1])]
    line, start = before.count(b"\n") + 1, before.rfind(b"\n") + 1
    column = len(before[start:].decode(errors="replace")) + 1
    return f":{line}:{column}: is not JSON: {message[: found.start()]}"


def _with_place(path: Path, data: bytes, error: RulesError) -> str:
    """The first trouble, its line and column; an editor that is given the words goes there."""
    from gpa.rules.source import Source  # only for who has written something wrong

    if not error.problems:
        return f"{path}: {error}"
    (place, message), *others = error.problems
    where = str(path)
    # What is deeper than a source may be the parser allows where nothing counts.
    with contextlib.suppress(RulesError):
        if len(data) <= MAX_PLACED:
            where = f"{path}:{Source.parse(data, str(path)).at(place)}"
    more = f" (and {len(others)} more)" if others else ""
    return f"{where}: {place}: {message}{more}" if place else f"{where}: {message}{more}"
