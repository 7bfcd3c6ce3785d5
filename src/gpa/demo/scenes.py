"""The scenes, in the order in which they are played. To add one, append to `SCENES`.

The host's rules are those of `host.py`: everybody may read the instance's metadata, one program of
one user may have a token. WireServer and HostGAPlugin are root's, whatever the rules say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gpa.demo.host import OTHER_PROGRAM, TOKEN_PROGRAM, TOKEN_USER
from gpa.demo.lab import AROUND, CONTAINER, GUEST
from gpa.demo.stage import (
    GOAL_STATE,
    INSTANCE,
    LISTENER,
    TOKEN,
    VERSIONS,
    Expected,
    Request,
    Stage,
    Who,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpa.demo.stage import Answer

USER: Final = "nobody"
"""An ordinary user, whom every Linux has."""


@dataclass(frozen=True)
class Scene:
    """One thing that happens, and what should come of it.

    Attributes:
        name: two or three words with hyphens, for `--json` and for people who talk about it.
        story: one sentence: what it shows.
        who: who asks.
        what: what for.
        expected: what should come of it.
        play: does it; `Stage.ask` unless told otherwise.
        needs: a program without which it is left out.
    """

    name: str
    story: str
    who: Who
    what: Request
    expected: Expected
    play: Callable[[Stage, Who, Request], Answer] = Stage.ask
    needs: str = ""


AS_ROOT: Final = Expected(200, "allow", "default_allow", "valid", root=True)
AS_USER: Final = Expected(200, "allow", "default_allow", "valid", root=False)
NOT_ROOT: Final = Expected(403, "deny", "not_root", "nothing")
NOT_THE_PROGRAM: Final = Expected(403, "deny", "no_identity_matched", "nothing")
MISDIRECTED: Final = Expected(421, "refuse", "misdirected", "nothing")
UNSIGNED: Final = Expected(401, "none", None, "unsigned")

SCENES: list[Scene] = [
    Scene(
        "root-imds",
        "root reads the metadata of the instance: signed on the way, verified by the host",
        Who("root"),
        INSTANCE,
        AS_ROOT,
    ),
    Scene(
        "user-imds",
        "so does an ordinary user",
        Who(USER),
        INSTANCE,
        AS_USER,
    ),
    Scene(
        "user-curl",
        "and so does any program, unchanged",
        Who(USER, program="curl"),
        INSTANCE,
        AS_USER,
        play=Stage.curl,
        needs="curl",
    ),
    Scene(
        "mapped-address",
        "a v4-mapped address on an IPv6 socket, as Java and .NET connect, is no way around",
        Who(USER, family="inet6", note="AF_INET6"),
        INSTANCE,
        AS_USER,
    ),
    Scene(
        "root-wireserver",
        "root reads the goal state",
        Who("root"),
        GOAL_STATE,
        AS_ROOT,
    ),
    Scene(
        "root-hostga",
        "and asks the host's plugin",
        Who("root"),
        VERSIONS,
        AS_ROOT,
    ),
    Scene(
        "user-wireserver",
        "an ordinary user does not get the goal state",
        Who(USER),
        GOAL_STATE,
        NOT_ROOT,
    ),
    Scene(
        "group-zero",
        "nor does he with root's group: root is uid 0",
        Who(USER, gid=0, note="gid 0"),
        GOAL_STATE,
        NOT_ROOT,
    ),
    Scene(
        "group-zero-imds",
        "and it is not root's claim that goes to the host for him",
        Who(USER, gid=0, note="gid 0"),
        INSTANCE,
        AS_USER,
    ),
    Scene(
        "around-the-agent",
        "sent around the agent the same request has no signature, and the host refuses it",
        Who(USER, place=AROUND, note="around"),
        GOAL_STATE,
        UNSIGNED,
    ),
    Scene(
        "nested-guest",
        "so it does for the root of a guest whose packets the VM only routes",
        Who("root", place=GUEST, note="nested guest"),
        GOAL_STATE,
        UNSIGNED,
    ),
    Scene(
        "container",
        "a container's own network is no way around and no wall: its first connect is seen",
        Who(USER, place=CONTAINER, note="own network"),
        INSTANCE,
        AS_USER,
        play=Stage.ask_from_new_network,
    ),
    Scene(
        "dropped-root",
        "who connects as root and becomes another then is judged as who connected",
        Who(USER, drop="after", note="connected as root"),
        GOAL_STATE,
        AS_ROOT,
    ),
    Scene(
        "one-program",
        "a rule lets one program of one user have a token",
        Who(TOKEN_USER, program=TOKEN_PROGRAM),
        TOKEN,
        Expected(200, "allow", "rule_matched", "valid", root=False),
    ),
    Scene(
        "other-program",
        "another program of the same user gets none",
        Who(TOKEN_USER, program=OTHER_PROGRAM),
        TOKEN,
        NOT_THE_PROGRAM,
    ),
    Scene(
        "exec-race",
        "nor when it connects and then executes the one that may: captured is who connected",
        Who(TOKEN_USER, program=OTHER_PROGRAM, note="exec"),
        TOKEN,
        NOT_THE_PROGRAM,
        play=Stage.race,
    ),
    Scene(
        "bind-mount",
        "nor when it is mounted over the one that may: the file counts, not the path",
        Who(TOKEN_USER, program=OTHER_PROGRAM, note="mount"),
        TOKEN,
        NOT_THE_PROGRAM,
        play=Stage.cover,
    ),
    Scene(
        "straight-to-the-port",
        "who connects to the agent itself was not redirected: nobody can say what he wants",
        Who("root"),
        Request(LISTENER, "instance", INSTANCE.target),
        MISDIRECTED,
    ),
    Scene(
        "laundering",
        "nor does a socket help that root had connected: each connect() is captured anew",
        Who(USER, note="root's socket"),
        Request(LISTENER, "goal state", GOAL_STATE.target),
        MISDIRECTED,
        play=Stage.launder,
    ),
    Scene(
        "agent-killed",
        "the agent is killed among many requests: who connects meanwhile waits, and is known",
        Who(USER, note="agent killed"),
        INSTANCE,
        AS_USER,
        play=Stage.ask_a_dead_agent,
    ),
]
"""Played in this order."""
