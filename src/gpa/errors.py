"""Every exception of the product, each with the exit code that a command ends with.

Rust declares none of its own: `gpa._native` raises these. A message is one line, lower case, says
what to do, and names the cause last. The codes are those of sysexits.h where one fits:

===== ============================================================
code  meaning
===== ============================================================
0     done
1     the command ran and the answer is "no" (a scene failed, not provisioned yet, a finding of the
      doctor fails)
2     wrong usage (argparse's own code), or provisioning finished with an error
69    the kernel, cgroup v2 or eBPF cannot do what is needed, or the host does not answer
70    a defect of this program
73    a file, folder or cgroup cannot be made or written
75    another agent is running
76    the host answered something that is not the protocol
77    not root, or a file that somebody else could have written
78    a configuration, scenario or rules file is missing or wrong
130   interrupted
===== ============================================================
"""

from __future__ import annotations

from typing import ClassVar, Final

EXIT_OK: Final = 0
EXIT_NO: Final = 1
EXIT_USAGE: Final = 2
EXIT_UNAVAILABLE: Final = 69
EXIT_SOFTWARE: Final = 70
EXIT_CANNOT_CREATE: Final = 73
EXIT_ALREADY_RUNNING: Final = 75
EXIT_PROTOCOL: Final = 76
EXIT_NO_PERMISSION: Final = 77
EXIT_CONFIG: Final = 78
EXIT_INTERRUPTED: Final = 130


class GpaError(Exception):
    """Base of all: a trouble with one line for people and a documented exit code."""

    exit_code: ClassVar[int] = EXIT_SOFTWARE


class UsageError(GpaError):
    """The command line cannot be understood."""

    exit_code = EXIT_USAGE


class UnavailableError(GpaError):
    """The machine lacks something that cannot be done without."""

    exit_code = EXIT_UNAVAILABLE


class InterceptionError(UnavailableError):
    """cgroup v2, BTF or eBPF is missing, too old or refused."""


class CannotCreateError(GpaError):
    """A file, folder or cgroup cannot be made or written."""

    exit_code = EXIT_CANNOT_CREATE


class PortTakenError(CannotCreateError):
    """Somebody else listens where the agent must; the service tries again."""


class AlreadyRunningError(GpaError):
    """Another agent holds the lock of this run folder."""

    exit_code = EXIT_ALREADY_RUNNING


class NotRootError(GpaError):
    """The command needs root."""

    exit_code = EXIT_NO_PERMISSION


class UntrustedPathError(GpaError):
    """Somebody but root (or the agent's own user) could have written this file or folder, or it is
    a link."""

    exit_code = EXIT_NO_PERMISSION


class ConfigError(GpaError):
    """A file that people write is missing, unreadable or wrong."""

    exit_code = EXIT_CONFIG


class RulesError(ConfigError):
    """Rules of the host or of a local file do not parse or validate.

    Attributes:
        problems: each trouble, its place (`rules.roles[1].privileges[0]`) and words.
    """

    def __init__(self, message: str, problems: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems


class SourceError(RulesError):
    """A file of rules cannot be read, or is not JSON.

    Attributes:
        words: the message without file and place.
        position: line and column, both from 1; None where the file itself is the trouble.
        excerpt: the line, quoted, and a caret below it; empty without a position.
    """

    def __init__(
        self,
        message: str,
        words: str = "",
        position: tuple[int, int] | None = None,
        excerpt: str = "",
    ) -> None:
        super().__init__(message)
        self.words = words or message
        self.position = position
        self.excerpt = excerpt


class RequestFormError(GpaError):
    """A request that the agent answers itself because of its form, whatever the rules say.

    Attributes:
        status: the HTTP status of that answer.
        reason: the code of an audit record (docs/audit.md, "Reasons").
    """

    exit_code = EXIT_NO

    def __init__(self, message: str, status: int, reason: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class HostError(GpaError):
    """The host's secure channel could not be used; the agent keeps what is in force and tries
    again."""

    exit_code = EXIT_PROTOCOL


class HostUnreachableError(HostError):
    """Refused, reset, or no answer in time."""

    exit_code = EXIT_UNAVAILABLE


class HostAnswerError(HostError):
    """The answer is not what the protocol says."""


class HostStatusError(HostAnswerError):
    """The answer has another HTTP status than the one that was needed.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class KeyFileError(CannotCreateError):
    """A latched key cannot be stored, read back, or trusted. Never holds any of its bytes."""


class KeyMissingError(KeyFileError):
    """There is no key file of that name."""
