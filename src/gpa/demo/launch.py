"""Becomes somebody, somewhere, then a program: `launch.py ROLE PROGRAM [ARGUMENT…]`.

ROLE is JSON: `cgroup` (folder to enter), `uid`, `euid`, `gid`, `egid`, `groups`, and `kept`: name
to descriptor of the sockets to hand on as a service manager does (sd_listen_fds(3)). Started as
root in the right network namespace. Standard library only and no import of gpa: it runs with
`-I -S`.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys


def main(words: list[str]) -> None:
    """Enter the cgroup before anything else, give up root last, and never return."""
    role = json.loads(words[0])
    hand_on(role["kept"])
    # One write moves the whole process; every socket it makes later belongs to this cgroup.
    with open(role["cgroup"] + "/cgroup.procs", "wb", buffering=0) as procs:  # noqa: PTH123 - fast
        procs.write(b"0")
    os.setgroups(role["groups"])
    os.setresgid(role["gid"], role["egid"], role["egid"])
    os.setresuid(role["uid"], role["euid"], role["euid"])
    # Not execvp(): it would import more, and who we are now may not be able to read that.
    os.execv(words[1], words[1:])  # noqa: S606 - no shell is the point


def hand_on(kept: dict[str, int]) -> None:
    """Number the descriptors from 3 on, and say so in the environment."""
    if not kept:
        return
    # Out of the way first: one may have the number that another is to get.
    away = [fcntl.fcntl(number, fcntl.F_DUPFD, 100) for number in kept.values()]
    for position, number in enumerate(away):
        os.dup2(number, 3 + position)
        os.close(number)
    os.environ["LISTEN_FDS"] = str(len(kept))
    os.environ["LISTEN_FDNAMES"] = ":".join(kept)
    os.environ["LISTEN_PID"] = str(os.getpid())


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as error:
        sys.exit(f"launch: {sys.argv[2:3]}: {error}")
