"""All that the agent writes while it runs: status, rules, tags, audit lines. None of it may stop
it.

A file that cannot be written is one line in the log when it begins, and one when it is over.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import trio

from gpa.agent import memory, tags
from gpa.agent.files import RotatingFile, keep_newest, write_atomically
from gpa.agent.log import timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from gpa.agent.audit import Auditor, Pieces
    from gpa.agent.latch import Latch
    from gpa.agent.log import Log
    from gpa.config import Config

STATUS_NAME: Final = "status.json"
AUDIT_NAME: Final = "audit.jsonl"
CONNECTION_NAME: Final = "ProxyAgent.Connection.log"
RULES_KEPT: Final = 5

BATCHES: Final = 64
"""Of records in a row: a relay that is always ahead of us does not keep a stop waiting."""

_RULES: Final = re.compile(r"AuthorizationRules_[0-9TZ.-]+\.json")


class Reports:
    """The files."""

    def __init__(self, config: Config, log: Log) -> None:
        self._config = config
        self._log = log
        self._audit = RotatingFile(config.log_folder / AUDIT_NAME)
        self._connections = RotatingFile(config.log_folder / CONNECTION_NAME)
        self._broken: set[str] = set()
        self._started = timestamp()

    async def audit(self, auditor: Auditor, batches: Iterator[Pieces]) -> None:
        """Rows of the relay to the two files, one write a batch."""

        def work() -> None:
            for pieces in islice(batches, BATCHES):
                audit, connections = auditor.lines(*pieces)
                for file, lines in ((self._audit, audit), (self._connections, connections)):
                    if lines:
                        self._try(file.path.name, partial(file.write, lines))

        await trio.to_thread.run_sync(work)

    async def status(self, document: Mapping[str, Any]) -> None:
        """status.json."""
        data = json.dumps(document, indent=2).encode() + b"\n"
        path = self._config.log_folder / STATUS_NAME
        await self._in_thread(STATUS_NAME, lambda: write_atomically(path, data, 0o640))

    async def rules(self, document: Mapping[str, Any], epoch: int) -> None:
        """AuthorizationRules_{time}.json, the newest five kept; in force from `epoch` on."""
        told = {"started": self._started, "epoch": epoch, **document}
        data = json.dumps(told, indent=2).encode() + b"\n"
        now = time.time_ns()
        stamp = time.strftime("%Y-%m-%dT%H-%M-%S", time.gmtime(now // 1_000_000_000))
        name = f"AuthorizationRules_{stamp}.{now // 1_000_000 % 1000:03d}Z.json"
        folder = self._config.log_folder

        def work() -> None:
            write_atomically(folder / name, data, 0o640)
            keep_newest(folder, _RULES, RULES_KEPT)

        await self._in_thread("AuthorizationRules", work)

    async def tags(self, unix_ns: int, error: str) -> None:
        """provisioned.tag and status.tag."""
        folder = self._config.latch_key_folder
        await self._in_thread(tags.PROVISIONED, lambda: tags.write(folder, unix_ns, error))

    async def remember(self, latch: Latch) -> None:
        """channel.json."""
        folder = self._config.latch_key_folder
        await self._in_thread(memory.NAME, lambda: memory.remember(folder, latch))

    @staticmethod
    def clear_wake(fd: int) -> None:
        """Read the relay's eventfd empty."""
        with contextlib.suppress(BlockingIOError):
            os.read(fd, 8)

    def close(self) -> None:
        """Close the logs."""
        self._audit.close()
        self._connections.close()

    async def _in_thread(self, name: str, work: Callable[[], None]) -> None:
        await trio.to_thread.run_sync(self._try, name, work)

    def _try(self, name: str, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError as error:
            if name not in self._broken:
                self._broken.add(name)
                self._log.error(f"cannot write {name}: {error.strerror or error}; going on")
        else:
            if name in self._broken:
                self._broken.remove(name)
                self._log.info(f"{name} can be written again")
