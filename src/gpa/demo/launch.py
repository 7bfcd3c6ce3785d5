"""Becomes somebody, somewhere, then a program: `launch.py ROLE PROGRAM [ARGUMENT…]`.

ROLE is JSON: `cgroup` (folder to enter), `uid`, `euid`, `gid`, `egid`, `groups`. Started as root in
the right network namespace. Standard library only and no import of gpa: it runs with `-I -S`.
"""

from __future__ import annotations

import json
import os
import sys


def main(words: list[str]) -> None:
    """Enter the cgroup before anything else, give up root last, and never return."""
    role = json.loads(words[0])
    # One write moves the whole process; every socket it makes later belongs to this cgroup.
    with open(role["cgroup"] + "/cgroup.procs", "wb", buffering=0) as procs:  # noqa: PTH123 - fast
        procs.write(b"0")
    os.setgroups(role["groups"])
    os.setresgid(role["gid"], role["egid"], role["egid"])
    os.setresuid(role["uid"], role["euid"], role["euid"])
    # Not execvp(): it would import more, and who we are now may not be able to read that.
    os.execv(words[1], words[1:])  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as error:
        sys.exit(f"launch: {sys.argv[2:3]}: {error}")
