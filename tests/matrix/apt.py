"""apt with a configuration of its own: packages of other suites; the machine's stays as it is.

The machine's sources say where Debian is; only the suite is changed. apt checks the archive's
signatures, and here each package's hash is checked against its list.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

SUITES: Final = ("bullseye", "bookworm", "bookworm-backports", "trixie", "trixie-backports", "sid")
SECURITY: Final = ("bullseye-security", "bookworm-security", "trixie-security")
"""Newer builds of the same packages."""

KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
FRESH_SECONDS: Final = 6 * 3600
"""Lists that are not older are believed."""


class FetchError(Exception):
    """A kernel cannot be had; says why."""


class Apt:
    """apt with a configuration of its own."""

    def __init__(self, folder: Path, architecture: str) -> None:
        self._folder = folder
        self._architecture = architecture
        self._config = folder / "apt.conf"

    def update(self) -> None:
        """Get the lists, unless they are fresh. A suite that is gone is no trouble here.

        Raises:
            FetchError: this machine has no sources of Debian, or no apt.
        """
        stamp = self._folder / "updated"
        if stamp.exists() and time.time() - stamp.stat().st_mtime < FRESH_SECONDS:
            return
        for name in ("empty", "state/lists/partial", "cache/archives/partial"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        self._config.write_text(_configuration(self._folder, self._architecture))
        (self._folder / "debian.sources").write_text(_sources())
        if not run(["apt-get", "update", "--quiet"], self._env, check=False).returncode:
            stamp.touch()

    @property
    def _env(self) -> dict[str, str]:
        return {"APT_CONFIG": str(self._config)}

    def versions(self, package: str) -> list[str]:
        """The versions in reach, the newest first."""
        said = run(["apt-cache", "madison", package], self._env).stdout
        return [line.split("|")[1].strip() for line in said.splitlines()]

    def fields(self, package: str, version: str) -> dict[str, str]:
        """What the list says of a package."""
        said = run(["apt-cache", "show", f"{package}={version}"], self._env).stdout
        lines = said.partition("\n\n")[0].splitlines()
        pairs = (line.partition(": ") for line in lines if not line.startswith(" "))
        return {name: value for name, _, value in pairs}

    def download(self, package: str, version: str, to: Path) -> Path:
        """The package's file below `to`, checked.

        Raises:
            FetchError: apt cannot get it, or its hash is not that of the list.
        """
        fields = self.fields(package, version)
        name = f"{package}_{fields['Version'].replace(':', '%3a')}_{fields['Architecture']}.deb"
        file = to / name
        if not _is_whole(file, fields["SHA256"]):
            file.unlink(missing_ok=True)
            run(["apt-get", "download", "--quiet", f"{package}={version}"], self._env, cwd=to)
            if not _is_whole(file, fields["SHA256"]):
                raise FetchError(f"{name} is not what its list says")
        return file


def _is_whole(file: Path, sha256: str) -> bool:
    return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == sha256


def run(
    words: Sequence[str],
    env: Mapping[str, str] | None = None,
    *,
    cwd: Path | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """A tool of Debian, to its end.

    Raises:
        FetchError: it is not there, or failed.
    """
    # depmod is in a folder that is on root's PATH only.
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    whole = {**os.environ, "LC_ALL": "C", "PATH": path, **(env or {})}
    try:
        done = subprocess.run(
            words, env=whole, cwd=cwd, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise FetchError(f"cannot run {words[0]}: {error.strerror}: this needs a Debian") from error
    if check and done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise FetchError(f"{' '.join(words)}: {last}")
    return done


def _configuration(folder: Path, architecture: str) -> str:
    # How this machine reaches its mirror (proxies and the like), but none of its hooks.
    reached = [
        line
        for line in run(["apt-config", "dump", "Acquire"]).stdout.splitlines()
        if not line.startswith("Acquire::IndexTargets")
    ]
    ours = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Sandbox::User": "root",  # another user could not write here
        "Acquire::Languages": "none",
        "Dir::Cache": folder / "cache",
        "Dir::Etc::Main": "/dev/null",
        "Dir::Etc::Parts": folder / "empty",
        "Dir::Etc::Preferences": "/dev/null",
        "Dir::Etc::PreferencesParts": folder / "empty",
        "Dir::Etc::SourceList": folder / "debian.sources",
        "Dir::Etc::SourceParts": folder / "empty",
        "Dir::State": folder / "state",
        "Dir::State::Status": "/dev/null",
    }
    return "\n".join([*reached, *(f'{key} "{value}";' for key, value in ours.items()), ""])


def _sources() -> str:
    said = run(
        ["apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Created-By: Packages"]
    ).stdout
    return sources_like(line.split(None, 1) for line in said.splitlines())


def sources_like(own: Iterable[list[str]]) -> str:
    """Sources of all suites in the places where this machine's suites come from.

    Args:
        own: suite and address of each source of this machine.

    Raises:
        FetchError: none is Debian's.
    """
    plain = security = ""
    for suite, address in own:
        if suite in SECURITY:
            security = security or address
        elif suite.removesuffix("-updates") in SUITES:
            plain = plain or address
    if not plain:
        raise FetchError("this machine's apt sources are not those of Debian")
    blocks = [(plain, SUITES), *([(security, SECURITY)] if security else [])]
    return "\n".join(
        f"Types: deb\nURIs: {address}\nSuites: {' '.join(suites)}\nComponents: main\n"
        f"Signed-By: {KEYRING}\n"
        for address, suites in blocks
    )
