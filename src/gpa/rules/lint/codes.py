"""Every kind of finding. A number is never used for something else; docs/lint.md explains each."""

from __future__ import annotations

from typing import Final

from gpa.rules.lint.finding import Code, Severity

_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE

# The file and its form.
NOT_JSON: Final = Code("R101", _E, "not JSON")
NOT_VALID: Final = Code("R102", _E, "not valid")
NO_SUCH_PATH: Final = Code("R103", _E, "a path that no request can have")
REPEATED_KEY: Final = Code("R104", _E, "a repeated key")
UNKNOWN_MEMBER: Final = Code("R105", _W, "a member that is ignored")

# Names and references.
NOBODY_HAS: Final = Code("R201", _W, "a privilege that nobody has")
UNUSED_ROLE: Final = Code("R202", _W, "a role that nobody has")
UNUSED_IDENTITY: Final = Code("R203", _W, "an identity without a role")
NAMES_BY_CASE: Final = Code("R204", _W, "names that differ in case only")
PREFIXED_NAME: Final = Code("R205", _W, "a name with the prefix of local rules")
ENDED: Final = Code("R206", _W, "a grant that has ended")

# Paths and queries.
ADDS_NOTHING: Final = Code("R301", _N, "a privilege that adds nothing")
TAKES_NOTHING_AWAY: Final = Code("R302", _W, "a deeper path that takes nothing away")
SAME_TWICE: Final = Code("R303", _W, "the same path and query twice")
HALF_SEGMENT: Final = Code("R304", _N, "a path that ends inside a longer name")
COVERS_TOKENS: Final = Code("R305", _W, "a wide path that covers tokens")
SECOND_DOOR: Final = Code("R306", _W, "a second door to tokens")
SAYS_NOTHING: Final = Code("R307", _N, "letters of a path that say nothing")
PINNED: Final = Code("R308", _W, "a query parameter that varies")

# Identities, whatever the machine.
NAME_ALONE: Final = Code("R401", _W, "a process name alone")
INTERPRETER: Final = Code("R402", _W, "an interpreter as program")
LAUNCHER: Final = Code("R403", _W, "a program that becomes another")
NOT_FULL_PATH: Final = Code("R404", _W, "not a full path")
ROOT_ONLY: Final = Code("R405", _W, "a user who never gets there")
NAMES_DISAGREE: Final = Code("R406", _W, "a process name that is not the program's")

# Identities on this machine.
NO_USER: Final = Code("R501", _W, "no such user")
NO_GROUP: Final = Code("R502", _W, "no such group")
EMPTY_GROUP: Final = Code("R503", _W, "a group without members")
NOT_IN_GROUP: Final = Code("R504", _W, "a user who is not in the group")
NO_PROGRAM: Final = Code("R505", _W, "no such program")
THROUGH_LINK: Final = Code("R506", _W, "a path through a link")
SCRIPT: Final = Code("R507", _W, "a script as program")
FOREIGN_FILES: Final = Code("R508", _W, "a file system on which no rule holds")
OWN_PROGRAM: Final = Code("R509", _E, "a program that its user can replace")
OTHERS_PROGRAM: Final = Code("R510", _W, "a program that others can replace")
SETUID: Final = Code("R511", _W, "a setuid program")
NOT_SEEN: Final = Code("R512", _N, "not to be seen from here")

# Default access.
OPEN_ELSEWHERE: Final = Code("R601", _W, "open wherever no privilege matches")
ALL_CLOSED: Final = Code("R602", _W, "closed for everybody")
OVERRIDES_HOST: Final = Code("R603", _N, "a default that replaces the host's")


def all_codes() -> list[Code]:
    """All of them, by number."""
    return sorted(code for code in globals().values() if isinstance(code, Code))
