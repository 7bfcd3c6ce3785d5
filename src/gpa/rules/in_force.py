"""Rules files as tools take them: a local file, a host's item, or what the agent wrote about the
rules in force (`AuthorizationRules_*.json`), and which of the latter a record was judged by.

docs/protocol.md, "Files". The agent's own reading of a local file, which asks whose it is, stands
in `local`.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from gpa.endpoints import Endpoint, Mode
from gpa.errors import ConfigError, NotRootError, RulesError
from gpa.rules.merge import merge
from gpa.rules.model import EffectiveRules, Rules
from gpa.rules.validate import read_host_item, read_local_rules
from gpa.rules.validity import split

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

MAX_BYTES: Final = 64 << 20
"""Of a file that a tool reads: what the agent writes about rules of 1 MiB is some times larger."""

_NAME: Final = re.compile(r"AuthorizationRules_[0-9TZ.-]+\.json")


class EndpointRules(NamedTuple):
    """What a file says about one endpoint.

    Attributes:
        effective: the rules; None where the host sent none.
        mode: None where the file does not say, as a local file.
        uses_local: whether the host asks for the local file; None where the file does not say.
        default_told: the file says what happens where no privilege matches.
    """

    effective: EffectiveRules | None
    mode: Mode | None = None
    uses_local: bool | None = None
    default_told: bool = True

    def at(self, when: datetime) -> EndpointRules:
        """The same without the assignments that do not hold then."""
        if self.effective is None:
            return self
        return self._replace(effective=split(self.effective, when)[0])


@dataclass(frozen=True, slots=True)
class RulesFile:
    """A file that was read.

    Attributes:
        path: where it lies.
        endpoints: what it says about each; a local file or a host's item says the same of all.
        started: when the run of the agent began that wrote it; empty for other files.
        epoch: the first in which it was in force.
    """

    path: Path
    endpoints: Mapping[Endpoint, EndpointRules]
    started: str = ""
    epoch: int = 0

    @property
    def written_by_agent(self) -> bool:
        """Whether it tells what was in force."""
        return bool(self.started)

    def at(self, when: datetime) -> RulesFile:
        """The same without the assignments that do not hold then."""
        return replace(self, endpoints={e: rules.at(when) for e, rules in self.endpoints.items()})


def read_rules_file(path: Path) -> RulesFile:
    """Read a file of any of the three kinds.

    Raises:
        ConfigError: it cannot be read or is none of them; `RulesError` where rules are not valid.
        NotRootError: we may not read it.
    """
    document = _json(path)
    if not isinstance(document, dict):
        raise RulesError(f"{path} does not hold rules: a JSON object is needed")
    try:
        if "computedRules" in document:
            return _computed_file(path, document)
        rules = _host_item(document) if "mode" in document else _local(document)
    except RulesError as error:
        raise RulesError(f"{path}: {error}", error.problems) from None
    return RulesFile(path, dict.fromkeys(Endpoint, rules))


def rules_files(folder: Path) -> list[Path]:
    """The files that the agent wrote there, newest first.

    Raises:
        ConfigError: the folder cannot be read; `NotRootError` where we may not.
    """
    try:
        names = sorted(filter(_NAME.fullmatch, os.listdir(folder)), reverse=True)  # noqa: PTH208 - names are compared
    except OSError as error:
        raise _unreadable(folder, error) from None
    return [folder / name for name in names]


def judged_by(files: Sequence[RulesFile], time: str, epoch: int) -> RulesFile | None:
    """The file with the rules by which a record was judged; None where it is not there any more.

    Args:
        files: of the agent.
        time: of the record.
        epoch: of the record; epochs are counted anew in each run of the agent.
    """
    begun = [file for file in files if file.written_by_agent and file.started <= time]
    run = max((file.started for file in begun), default=None)
    fitting = [file for file in begun if file.started == run and file.epoch <= epoch]
    return max(fitting, key=lambda file: file.epoch, default=None)


def _json(path: Path) -> object:
    try:
        # Without O_NONBLOCK the open of a FIFO waits for somebody to write.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise _unreadable(path, error) from None
    with os.fdopen(fd, "rb") as file:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise ConfigError(f"{path} is not a plain file")
        if info.st_size > MAX_BYTES:
            raise ConfigError(f"{path} is larger than {MAX_BYTES >> 20} MiB")
        data = file.read(MAX_BYTES)
    try:
        return msgspec.json.decode(data.removeprefix(b"\xef\xbb\xbf"))
    except (UnicodeDecodeError, msgspec.MsgspecError, RecursionError) as error:
        raise RulesError(f"{path} is not JSON: {error}") from None


def _unreadable(path: Path, error: OSError) -> ConfigError | NotRootError:
    if isinstance(error, PermissionError):
        return NotRootError(f"{path} cannot be read: only root may (sudo)")
    return ConfigError(f"{path} cannot be read: {error.strerror}")


def _local(document: dict[str, object]) -> EndpointRules:
    local = read_local_rules(document)
    effective = EffectiveRules(
        local.id or "", default_allowed=local.default_allowed is True, rules=local.rules or Rules()
    )
    told = local.default_allowed is not None
    return EndpointRules(effective, uses_local=True, default_told=told)


def _host_item(document: dict[str, object]) -> EndpointRules:
    item = read_host_item(document)
    return EndpointRules(merge(item), _mode(document["mode"]), uses_local=item.use_local is True)


def _mode(word: object) -> Mode:
    try:
        return Mode(str(word).lower())
    except ValueError:
        raise RulesError(f"mode: must be disabled, audit or enforce, not {word!a:.64}") from None


def _computed_file(path: Path, document: dict[str, object]) -> RulesFile:
    computed = document["computedRules"]
    started, epoch = document.get("started", ""), document.get("epoch", 0)
    if not (isinstance(computed, dict) and isinstance(started, str) and isinstance(epoch, int)):
        raise RulesError("computedRules, started or epoch are not what the agent writes")
    endpoints = {}
    for endpoint in Endpoint:
        entry = computed.get(endpoint.value)
        if entry is not None and not isinstance(entry, dict):
            raise RulesError(f"computedRules.{endpoint.value}: must be an object")
        endpoints[endpoint] = EndpointRules(None) if entry is None else _computed(endpoint, entry)
    return RulesFile(path, endpoints, started, epoch)


def _computed(endpoint: Endpoint, entry: dict[str, object]) -> EndpointRules:
    place = f"computedRules.{endpoint.value}"
    if "roles" not in entry:
        raise RulesError(f"{place}: has no roles; an agent of an older version wrote this file")
    lists = {"roles": entry["roles"], "roleAssignments": entry.get("roleAssignments")}
    for kind in ("privileges", "identities"):
        named = entry.get(kind)
        if not isinstance(named, dict):
            raise RulesError(f"{place}.{kind}: must be an object")
        lists[kind] = list(named.values())
    shown = str(entry.get("id", ""))
    local = read_local_rules({"rules": lists})
    broken = entry.get("broken")
    effective = EffectiveRules(
        shown,
        default_allowed=entry.get("defaultAllowed") is True,
        rules=local.rules or Rules(),
    )
    if broken is not None:
        effective = replace(effective, broken=str(broken))
    uses = bool(re.search(r"-useLocalFileRules-true(_|$)", shown))
    return EndpointRules(effective, _mode(entry.get("mode")), uses)
