"""Callers' programs and cgroups, looked at once each for rules that ask for more than the kernel's
record says: `exeSha256`, `systemdUnit`, `cgroup`, `containerId`.

The relay holds the first request of a caller that the snapshot does not know (`strangers.rs`)
and names the caller here. What is found is kept, and published with all that was found before.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gpa.agent.cgroup import Paths
from gpa.agent.identity import is_same
from gpa.rules.compile import ExeId, Known
from gpa.rules.contents import Contents, NotNowError
from gpa.rules.executables import read_mounts
from gpa.rules.places import Place
from gpa.rules.shares import Shares

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from gpa._native.records import CallerFields
    from gpa.rules.executables import Executables
    from gpa.rules.resolve import Resolution, WantedNames


class Callers:
    """What has been looked at. Blocking methods say so."""

    def __init__(
        self,
        files: Executables,
        paths: Paths | None = None,
        contents: Contents | None = None,
        proc: Path = Path("/proc"),
    ) -> None:
        self._files = files
        self._paths = paths or Paths()
        self._contents = contents or Contents()
        self._proc = proc
        self._places: Shares[int, Place] = Shares()

    def look(self, callers: Sequence[CallerFields]) -> None:
        """Learn where these are and what they run; blocking."""
        for caller in callers:  # quick, so first
            number, uid = caller["cgroup_id"], caller["uid"]
            if self._places.get(uid, number) is None:
                self._places.put(uid, number, Place.of(self._paths.place(number)))
        for caller in callers:
            if caller["exe"] is not None:
                self._look_at_program(caller, ExeId(*caller["exe"]))

    def look_at_files(self, paths: Collection[str]) -> dict[str, str]:
        """Learn what is in files that rules name; blocking.

        Returns:
            by selector why a content is not known.
        """
        unmatched = {}
        for path in sorted(paths):
            for fd in self._files.opened(path):
                try:
                    self._contents.look(fd, self._files.mounts(), uid=0)
                except (NotNowError, OSError) as error:
                    unmatched[f"exeSha256 beside exePath {path}"] = str(error)
                finally:
                    os.close(fd)
        return unmatched

    def add_to(self, resolution: Resolution, wanted: WantedNames) -> Resolution:
        """The same with what is known here for these names."""
        known, places = self._contents.known(), self._places.all()
        return replace(
            resolution,
            contents={
                digest: frozenset(file for file, has in known.items() if digest in has)
                for digest in sorted(wanted.contents)
            },
            places={
                (selector, value): frozenset(
                    number for number, place in places.items() if place.meets(selector, value)
                )
                for selector, value in sorted(wanted.places)
            },
            known=Known(frozenset(known), frozenset(places)),
        )

    def forget(self) -> None:
        """No rule asks any more."""
        self._contents.clear()
        self._places.clear()

    def _look_at_program(self, caller: CallerFields, exe: ExeId) -> None:
        folder = self._proc / str(caller["tgid"])
        try:
            if not is_same(folder, caller["start_boottime"]):
                return
            mounts = read_mounts((folder / "mountinfo").read_text(errors="surrogateescape"))
            fd = os.open(folder / "exe", os.O_PATH | os.O_CLOEXEC)
            try:
                # Whatever the process has become by now, it must be that file.
                self._contents.look(fd, mounts, caller["uid"], wanted=exe)
            finally:
                os.close(fd)
        except (NotNowError, OSError):
            return  # the next request asks again
