"""What the emulated host of the demo wants: everything enforced, and one rule."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gpa.demo.lab import Lab

TOKEN_USER: Final = "daemon"  # noqa: S105 - a user, whom every Linux has
TOKEN_PROGRAM: Final = "backup-tool"  # noqa: S105 - a program
OTHER_PROGRAM: Final = "other-tool"
PROGRAMS: Final = (TOKEN_PROGRAM, OTHER_PROGRAM, "client")
"""Each a file of its own."""

SCENARIO: Final = """\
# Everybody may read the metadata of the instance; one program of one user may have a token.
[rules.imds]
id = "demo"
mode = "enforce"
defaultAccess = "allow"

[[rules.imds.rules.privileges]]
name = "token"
path = "/metadata/identity/oauth2/token"

[[rules.imds.rules.roles]]
name = "token-reader"
privileges = ["token"]

[[rules.imds.rules.identities]]
name = "backup"
userName = {user}
exePath = {program}

[[rules.imds.rules.roleAssignments]]
role = "token-reader"
identities = ["backup"]

# Root's, whatever the rules say.
[rules.wireserver]
id = "demo"
mode = "enforce"
defaultAccess = "allow"
"""


def scenario(lab: Lab) -> str:
    """The scenario file, TOML, in the sense of docs/emulator.md."""
    # A JSON string is a TOML string, too.
    program = json.dumps(str(lab.programs / TOKEN_PROGRAM))
    return SCENARIO.format(user=json.dumps(TOKEN_USER), program=program)
