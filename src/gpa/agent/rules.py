"""What the agent needs of the rules: from the host's items and the local files to a table.

The work itself is `gpa.rules`; here stands when it is done anew, and what happens when it fails.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpa.agent.audit import RuleNames
    from gpa.endpoints import Endpoint, Mode


@dataclass(frozen=True)
class Compiled:
    """Rules ready to be judged by.

    Attributes:
        table: JSON for the native snapshot.
        names: index in the table to the name that people gave.
        ids: of the rules of each endpoint, as shown to operators.
        document: content of AuthorizationRules_{time}.json.
        troubles: what is wrong with rules, one line each; those endpoints refuse everything.
    """

    table: bytes
    names: RuleNames
    ids: Mapping[Endpoint, str]
    document: Mapping[str, Any]
    troubles: tuple[str, ...] = ()


class Policy(Protocol):
    """Compiles rules."""

    async def compile(
        self,
        modes: Mapping[Endpoint, Mode],
        items: Mapping[Endpoint, Mapping[str, object] | None],
    ) -> Compiled:
        """The table for these modes and host's items, with local files and users as they are now.

        Called at each poll; it looks at files and users, so it may take some milliseconds. Never
        raises for what is in rules: a broken item or file is a trouble and refuses everything.
        """
