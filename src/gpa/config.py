"""The configuration file: JSON, the vendor's keys and ours beside them in the same style, to one
frozen value.

docs/configuration.md lists every key. An unknown or repeated key is reported and ignored (the last
of a repeated one counts); a key of the wrong type, or a file that is missing, unreadable, not JSON
or writable by others, is one clear error. Starts fast: imports nothing outside the standard
library.
"""

# ruff: noqa: RUF009 - _key() is dataclasses.field() with our metadata
from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gpa.errors import ConfigError
from gpa.trust import check_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DEFAULT_PATH: Final = Path("/etc/azure/proxy-agent.json")

MAX_FILE_BYTES: Final = 1 << 20
"""No configuration is larger; a larger file is a mistake, and is not read into memory."""

LOG_LEVELS: Final = ("Trace", "Debug", "Info", "Warn", "Error")

GUARDS: Final = ("off", "cgroup", "interfaces")
"""Where packets that go around the agent are dropped; the last includes the one before."""


def _absolute_path(value: object) -> Path:
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise ValueError("an absolute path")
    return Path(os.path.normpath(value))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a string")  # noqa: TRY004 - one kind of error for all checks
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")  # noqa: TRY004 - the same
    return value


def _level(value: object) -> str:
    for level in LOG_LEVELS:
        if isinstance(value, str) and value.lower() == level.lower():
            return level
    raise ValueError("one of " + ", ".join(LOG_LEVELS))


def _one_of(*words: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if not isinstance(value, str) or value not in words:
            raise ValueError(" or ".join(map(json.dumps, words)))
        return value

    return check


def _integer(low: int, high: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return value

    return check


def _key(name: str, default: Any, check: Callable[[object], Any]) -> Any:
    return field(default=default, metadata={"key": name, "check": check})


@dataclass(frozen=True, slots=True)
class Config:
    """Checked configuration; times in seconds, sizes in bytes."""

    log_folder: Path = _key("logFolder", Path("/var/log/azure-proxy-agent"), _absolute_path)
    event_folder: Path = _key(
        "eventFolder", Path("/var/log/azure-proxy-agent/events"), _absolute_path
    )
    latch_key_folder: Path = _key(
        "latchKeyFolder", Path("/var/lib/azure-proxy-agent/keys"), _absolute_path
    )
    rules_folder: Path = _key(
        "rulesFolder", Path("/var/lib/azure-proxy-agent/rules"), _absolute_path
    )
    pin_folder: Path = _key("pinFolder", Path("/sys/fs/bpf/gpa"), _absolute_path)
    run_folder: Path = _key("runFolder", Path("/run/gpa"), _absolute_path)
    cgroup_root: Path = _key("cgroupRoot", Path("/sys/fs/cgroup"), _absolute_path)
    guard: str = _key("guard", "off", _one_of(*GUARDS))
    network_namespaces: str = _key("networkNamespaces", "all", _one_of("all", "host"))
    monitor_interval: int = _key("monitorIntervalInSeconds", 60, _integer(1, 86_400))
    poll_key_status_interval: int = _key("pollKeyStatusIntervalInSeconds", 15, _integer(1, 3_600))
    max_event_file_count: int = _key("maxEventFileCount", 30, _integer(0, 10_000))
    host_ga_plugin_support: int = _key("hostGAPluginSupport", 1, _integer(0, 2))
    ebpf_program_name: str = _key("ebpfProgramName", "", _text)
    ebpf_file_full_path: str = _key("ebpfFileFullPath", "", _text)
    file_log_level: str = _key("fileLogLevel", "Info", _level)
    file_log_level_for_events: str = _key("fileLogLevelForEvents", "Info", _level)
    file_log_level_for_system_events: str = _key("fileLogLevelForSystemEvents", "Info", _level)
    enable_http_proxy_trace: bool = _key("enableHttpProxyTrace", False, _flag)
    canonical_request_mode: str = _key("canonicalRequestMode", "", _text)
    relay_threads: int = _key("relayThreads", 2, _integer(1, 16))
    request_body_limit: int = _key("requestBodyLimitInBytes", 8 << 20, _integer(1 << 16, 100 << 20))
    request_body_budget: int = _key(
        "requestBodyBudgetInBytes", 64 << 20, _integer(1 << 20, 4 << 30)
    )
    drain_timeout: int = _key("drainTimeoutInSeconds", 5, _integer(0, 300))
    cgroup_root_is_explicit: bool = False
    warnings: tuple[str, ...] = ()


KEYS: Final[Mapping[str, str]] = {
    f.metadata["key"]: f.name for f in fields(Config) if "key" in f.metadata
}
"""Key in the file to field of `Config`."""

IGNORED_KEYS: Final = frozenset({"ebpfProgramName", "ebpfFileFullPath", "canonicalRequestMode"})
"""Accepted because the vendor's files have them, without effect: the eBPF object is inside the
library, and there is one canonical form."""


def load(path: Path) -> Config:
    """Read and check the file.

    Raises:
        ConfigError: missing, unreadable, too large, not JSON, wrong types.
        UntrustedPathError: a link, or writable by others.
    """
    return parse(_read(path), str(path))


def parse(data: bytes, name: str) -> Config:
    """Check the bytes of a configuration file; `name` stands in messages.

    Raises:
        ConfigError: not JSON, or a key of the wrong type.
    """
    warnings: list[str] = []

    def merge(pairs: list[tuple[str, object]]) -> dict[str, object]:
        merged = dict(pairs)
        if len(merged) < len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    warnings.append(f"{name}: key {key!r} is repeated, the last one counts")
                seen.add(key)
        return merged

    def refuse(word: str) -> object:
        raise ValueError(f"{word} is not JSON")

    try:
        document = json.loads(
            data.removeprefix(b"\xef\xbb\xbf").decode("utf-8"),
            object_pairs_hook=merge,
            parse_constant=refuse,
        )
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{name} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{name} must be a JSON object, not {_kind(document)}")

    known = {f.metadata["key"]: f for f in fields(Config) if "key" in f.metadata}
    values: dict[str, Any] = {}
    for key, value in document.items():
        if key not in known:
            warnings.append(f"{name}: unknown key {key!r} is ignored")
            continue
        try:
            values[known[key].name] = known[key].metadata["check"](value)
        except ValueError as error:
            raise ConfigError(f"{name}: {key} must be {error}, not {_kind(value)}") from error
        if key in IGNORED_KEYS and value:
            warnings.append(f"{name}: {key} is accepted and has no effect")
    config = Config(
        **values, cgroup_root_is_explicit="cgroupRoot" in document, warnings=tuple(warnings)
    )
    if config.request_body_budget < config.request_body_limit:
        raise ConfigError(
            f"{name}: requestBodyBudgetInBytes is smaller than requestBodyLimitInBytes"
        )
    return config


def _read(path: Path) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise ConfigError(f"there is no {path}: write one (see docs/configuration.md)") from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    try:
        check_file(path, os.fstat(fd))
        data = os.read(fd, MAX_FILE_BYTES + 1)  # whole: a plain file, and Linux reads up to 2 GiB
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    finally:
        os.close(fd)
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_FILE_BYTES} bytes")
    return data


def _kind(value: object) -> str:
    """What a JSON value is, for messages: short values as they are, others by type."""
    if (
        value is None
        or isinstance(value, bool | int | float)
        or (isinstance(value, str) and len(value) <= 64)
    ):
        return json.dumps(value)
    return "a long string" if isinstance(value, str) else "a list or an object"
