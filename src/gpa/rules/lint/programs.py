"""Programs that rules name, on the machine."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from gpa.rules.lint import codes
from gpa.rules.lint.finding import Finding
from gpa.rules.lint.subject import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpa.rules.lint.finding import Code
    from gpa.rules.lint.machine import Machine, Program, Writer
    from gpa.rules.lint.subject import Subject
    from gpa.rules.model import Identity


def paths_that_match_nobody(subject: Subject) -> Iterator[Finding]:
    """A path at which there is no program that a rule can name."""
    for place, path, program in _programs(subject):
        found = _why_nobody(path, program)
        if found is not None:
            code, words, remedy = found
            yield Finding(code, place, words, remedy)


def _why_nobody(path: str, program: Program) -> tuple[Code, str, str] | None:
    if program.hidden:
        return (
            codes.NOT_SEEN,
            f"{quoted(path)} cannot be looked at: {program.hidden}",
            "run it as root (sudo), or with --no-machine",
        )
    if program.foreign:
        return (
            codes.FOREIGN_FILES,
            f"{quoted(path)} is on {program.foreign}: rules on executables hold on local file"
            " systems only, since elsewhere somebody else decides what is in a file",
            "copy the program to a local disk, or name its user",
        )
    if program.trouble:
        return (
            codes.NO_PROGRAM,
            f"no program is at {quoted(path)}: {program.trouble}",
            "correct the path, or install the program",
        )
    if program.link:
        return (
            codes.THROUGH_LINK,
            f"{quoted(program.link)} is a link, and a path through a link matches nobody",
            f"write {quoted(program.real)}",
        )
    if program.script:
        return (
            codes.SCRIPT,
            f"{quoted(path)} is a script: its interpreter is the program that asks",
            "give the service a user of its own and name that",
        )
    return None


def programs_that_others_can_replace(subject: Subject) -> Iterator[Finding]:
    """A file that somebody can write is whatever they want; so is one in a folder of theirs."""
    machine = subject.machine
    if machine is None:
        return
    for i, identity in enumerate(subject.rules.identities):
        if identity.exe_path is None or identity.exe_sha256 is not None:
            continue  # with its digest, another program at the path is not the one that is meant
        place = f"rules.identities[{i}].exePath"
        writers = machine.program(identity.exe_path).writers
        own = [w for w in writers if _is_named(w, identity, machine)]
        if own:
            yield Finding(
                codes.OWN_PROGRAM,
                place,
                f"{_who(own[0], machine)} can write {quoted(own[0].path)}: the very callers that"
                " this identity names can put any program there",
                f"make it root's (chown root {quoted(own[0].path)}; chmod go-w)",
            )
        elif writers:
            yield Finding(
                codes.OTHERS_PROGRAM,
                place,
                f"{_who(writers[0], machine)} can write {quoted(writers[0].path)}, and so decide"
                " what this program is",
                f"make it root's (chown root {quoted(writers[0].path)}; chmod go-w)",
            )


def setuid_programs(subject: Subject) -> Iterator[Finding]:
    """A program that runs as somebody else."""
    for place, path, program in _programs(subject):
        if program.mode & (stat.S_ISUID | stat.S_ISGID) and not program.trouble:
            yield Finding(
                codes.SETUID,
                place,
                f"{quoted(path)} is setuid or setgid: started by another user it matches no"
                " userName and no groupName, but anybody can start it",
                "name a program without these bits (chmod ug-s), or its user",
            )


def _programs(subject: Subject) -> Iterator[tuple[str, str, Program]]:
    """Place, path and what is there, for each identity with a full path."""
    if subject.machine is None:
        return
    for i, identity in enumerate(subject.rules.identities):
        path = identity.exe_path
        if path is not None and path.startswith("/"):
            yield f"rules.identities[{i}].exePath", path, subject.machine.program(path)


def _is_named(writer: Writer, identity: Identity, machine: Machine) -> bool:
    """Whether some caller that the identity means is the writer; it names no user: anybody is."""
    if writer.uid is None and writer.gid is None:
        return True
    named: frozenset[int] | None = None
    if identity.uid is not None:
        named = frozenset({identity.uid})
    elif identity.user_name is not None:
        uid = machine.user(identity.user_name)
        named = frozenset() if uid is None else frozenset({uid})
    elif identity.group_name is not None:
        group = machine.group(identity.group_name)
        named = group.members if group else frozenset()
    if named is None:
        return False
    if writer.uid is not None:
        return writer.uid in named
    return writer.gid is not None and bool(machine.members(writer.gid) & named)


def _who(writer: Writer, machine: Machine) -> str:
    if writer.uid is not None:
        return quoted(machine.user_name(writer.uid))
    if writer.gid is not None:
        return f"group {writer.gid}"
    return "anybody"
