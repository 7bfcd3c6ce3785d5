"""Identities as they are written, whatever the machine."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from gpa.endpoints import Endpoint
from gpa.rules.lint import codes
from gpa.rules.lint.finding import Finding
from gpa.rules.lint.subject import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpa.rules.lint.subject import Subject

_VERSION: Final = r"[0-9]*(?:[.-][0-9]+)*[a-z]?"

INTERPRETERS: Final = re.compile(
    r"(?:python|pypy|perl|ruby|node|nodejs|php|lua|luajit|tclsh|guile|java|dotnet|mono|pwsh|deno|bun"
    rf"|awk|gawk|mawk|bash|dash|sh|ash|zsh|ksh|mksh|fish|csh|tcsh|busybox|toybox|R|Rscript){_VERSION}"
    r"|ld-linux.*\.so.*|ld-musl.*\.so.*|ld\.so|ld-[0-9.]+\.so"
)
"""Programs that do what a text tells them; the dynamic loader and busybox run anything, too."""

LAUNCHERS: Final = frozenset(
    {"sudo", "su", "doas", "runuser", "setpriv", "env", "nohup", "nice", "ionice", "timeout"}
    | {"stdbuf", "setsid", "chroot", "unshare", "nsenter", "xargs", "time", "chrt", "taskset"}
    | {"flock", "systemd-run", "docker", "podman", "runc", "crun"}
)
"""Programs that execute another one, which is then the caller."""


def names_alone(subject: Subject) -> Iterator[Finding]:
    """A process name without anything that a user cannot choose."""
    for i, identity in enumerate(subject.rules.identities):
        if [selector for selector, _ in identity.selectors()] == ["processName"]:
            name = identity.process_name or ""
            yield Finding(
                codes.NAME_ALONE,
                f"rules.identities[{i}].processName",
                f"anybody can call a program {quoted(name)}",
                "add exePath or userName",
            )


def interpreters(subject: Subject) -> Iterator[Finding]:
    """A program that does what its caller wants is no identity."""
    for i, identity in enumerate(subject.rules.identities):
        path = identity.exe_path
        if path is None:
            continue
        facts = subject.machine.program(path) if subject.machine else None
        names = {path, facts.real if facts and facts.real else path}
        if any(INTERPRETERS.fullmatch(name.rpartition("/")[2]) for name in names):
            who = "" if _names_people(subject, i) else ", and anybody can start it"
            yield Finding(
                codes.INTERPRETER,
                f"rules.identities[{i}].exePath",
                f"{quoted(path)} runs whatever it is given: each of its scripts is meant{who}",
                "give the service a user of its own and name that, or a program that does one"
                " thing",
            )


def launchers(subject: Subject) -> Iterator[Finding]:
    """A program that gives way to another one never connects."""
    for i, identity in enumerate(subject.rules.identities):
        path = identity.exe_path
        if path is not None and path.rpartition("/")[2] in LAUNCHERS:
            yield Finding(
                codes.LAUNCHER,
                f"rules.identities[{i}].exePath",
                f"{quoted(path)} executes another program, and that is the one that asks",
                "name the program that asks",
            )


def paths_that_are_not_full(subject: Subject) -> Iterator[Finding]:
    """A relative path, or one with dots, names no file."""
    for i, identity in enumerate(subject.rules.identities):
        path = identity.exe_path
        if path is None:
            continue
        parts = path.split("/")
        if parts[0] or len(parts) < 2 or any(part in ("", ".", "..") for part in parts[1:]):
            yield Finding(
                codes.NOT_FULL_PATH,
                f"rules.identities[{i}].exePath",
                f"{quoted(path)} is not the full path of a file, so that it matches nobody",
                "begin with a slash, without . or .. and without a slash at the end",
            )


def names_that_disagree(subject: Subject) -> Iterator[Finding]:
    """A process name other than the last component of the path beside it."""
    for i, identity in enumerate(subject.rules.identities):
        path, name = identity.exe_path, identity.process_name
        if path is not None and name is not None and path.rpartition("/")[2] != name:
            yield Finding(
                codes.NAMES_DISAGREE,
                f"rules.identities[{i}].processName",
                f"{quoted(name)} is not the last component of {quoted(path)}: both hold only for"
                " another name of that file (a hard link)",
                "leave processName out: the path says it all",
            )


def users_who_never_get_there(subject: Subject) -> Iterator[Finding]:
    """WireServer and HostGAPlugin are for root, whatever the rules."""
    if subject.endpoint is Endpoint.IMDS:
        return
    for i, identity in enumerate(subject.rules.identities):
        if identity.uid:
            yield Finding(
                codes.ROOT_ONLY,
                f"rules.identities[{i}].uid",
                f"{subject.endpoint.label} is for root alone: uid {identity.uid} is refused"
                " whatever the rules say",
                "name root's program, or remove the identity",
            )
        user = identity.user_name
        if user is None:
            continue
        uid = subject.machine.user(user) if subject.machine else None
        if user != "root" and uid != 0:
            yield Finding(
                codes.ROOT_ONLY,
                f"rules.identities[{i}].userName",
                f"{subject.endpoint.label} is for root alone: {quoted(user)} is refused whatever"
                " the rules say",
                "name root's program, or remove the identity",
            )


def _names_people(subject: Subject, i: int) -> bool:
    identity = subject.rules.identities[i]
    named = {"userName", "groupName", "uid"}
    return any(selector in named for selector, _ in identity.selectors())
