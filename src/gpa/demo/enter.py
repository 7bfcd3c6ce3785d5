"""The door for people: a script in the laboratory's folder that leads into its VM."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from gpa.demo.lab import VM

if TYPE_CHECKING:
    from pathlib import Path

    from gpa.demo.lab import Lab

SCRIPT: Final = """\
#!/bin/sh
# enter [USER [COMMAND…]]: a shell, or COMMAND, of USER (root) in the VM of this laboratory.
# What runs there is seen by the agent. It ends with the laboratory.
set -eu
user=${{1:-root}}
if [ $# -gt 0 ]; then shift; fi
if [ $# -eq 0 ]; then set -- sh; fi
uid=$(id -u "$user")
gid=$(id -g "$user")
cd /
echo $$ > {procs}
exec nsenter --net={netns} --setuid "$uid" --setgid "$gid" -- "$@"
"""


def write(lab: Lab) -> Path:
    """Write the script `enter` and return its path."""
    procs = lab.cgroup / VM.cgroup / "cgroup.procs"
    path = lab.folder / "enter"
    text = SCRIPT.format(procs=shlex.quote(str(procs)), netns=shlex.quote(str(lab.netns(VM.netns))))
    path.write_text(text)
    path.chmod(0o755)
    return path
