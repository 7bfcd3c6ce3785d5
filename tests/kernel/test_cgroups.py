"""Which cgroup is meant: namespaces, a part of the hierarchy, v1 beside v2."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.kernel.conftest import PYTHON

from gpa.agent.cgroup import REAL_ROOT, find_default_root
from gpa.agent.libbpf import attached_programs
from gpa.demo.cgroups import hierarchy
from gpa.demo.lab import SERVICE, Place
from gpa.demo.services import START_SECONDS, gpa_command, gpa_environment, wait_until
from gpa.errors import EXIT_UNAVAILABLE, InterceptionError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kernel.conftest import Interceptor

pytestmark = pytest.mark.kernel

IMDS = ("169.254.169.254", 80)

# Takes the machine's mounts of cgroup v2 out of sight and mounts the namespace's view of it.
OWN_VIEW = """
point=$1; shift
while read -r _ where kind _; do
    if [ "$kind" = cgroup2 ]; then umount -l "$where"; fi
done </proc/self/mounts
mount -t cgroup2 none "$point"
exec "$@"
"""

# Runs the words in a cgroup of net_cls that gives their sockets a class.
IN_A_CLASS = """
folder=$1; shift
mount -t cgroup -o net_cls none "$folder"
mkdir "$folder/gpa-test"
echo 0x10001 >"$folder/gpa-test/net_cls.classid"
echo $$ >"$folder/gpa-test/cgroup.procs"
"$@"
echo $$ >"$folder/cgroup.procs"
rmdir "$folder/gpa-test"
umount "$folder"
"""


def in_namespace(*argv: str, own_view: Path | None = None) -> list[str]:
    """Run it in a cgroup namespace, with the machine's mounts or with the namespace's own view."""
    view = [] if own_view is None else ["sh", "-ec", OWN_VIEW, "sh", str(own_view)]
    return ["unshare", "--cgroup", "--mount", *view, *argv]


def configure(interceptor: Interceptor, cgroup_root: Path | None) -> Path:
    """The laboratory's configuration with another `cgroupRoot`, or none."""
    settings = json.loads(interceptor.config.read_text())
    del settings["cgroupRoot"]
    if cgroup_root is not None:
        settings["cgroupRoot"] = str(cgroup_root)
    path = interceptor.lab.folder / "other.json"
    path.write_text(json.dumps(settings))
    return path


def is_attached(cgroup: Path) -> bool:
    fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return "gpa_connect4" in {program.name for program in attached_programs(fd, "connect4")}
    finally:
        os.close(fd)


def test_default_root_of_this_machine() -> None:
    """Looked for only: nothing is attached there."""
    if hierarchy().stat().st_ino == REAL_ROOT:
        assert find_default_root(Path("/sys/fs/cgroup")) == hierarchy()
    else:
        with pytest.raises(InterceptionError):
            find_default_root(Path("/sys/fs/cgroup"))


def test_default_root_is_not_a_part_of_the_hierarchy(
    interceptor: Interceptor, without_agent: None
) -> None:
    view = hierarchy()
    command = gpa_command("run", "--config", str(configure(interceptor, None)))
    argv = in_namespace(*command, own_view=view)
    done = interceptor.lab.run_as(0, 0, argv, place=SERVICE, env=gpa_environment())
    assert done.stderr == (
        f"gpa: {view} is not the root of cgroup v2 but a part of it (is this a container or a"
        " cgroup namespace?): who is outside would not be intercepted; run the agent where the root"
        " is mounted, or name the folder that is meant as cgroupRoot\n"
    )
    assert done.returncode == EXIT_UNAVAILABLE
    assert not (interceptor.lab.pins / "gpa").exists()
    assert not is_attached(interceptor.lab.attach_point / "service")


@pytest.mark.parametrize("own_view", [True, False])
def test_explicit_root_in_a_cgroup_namespace_is_meant(
    interceptor: Interceptor, without_agent: None, own_view: bool
) -> None:
    """The root of the namespace, which is the service's cgroup, or the machine's own folder."""
    lab = interceptor.lab
    service = lab.cgroup / SERVICE.cgroup
    view = hierarchy() if own_view else None
    config = configure(interceptor, view or service)
    argv = in_namespace(*gpa_command("run", "--config", str(config)), own_view=view)
    agent = lab.spawn(0, 0, argv, place=SERVICE, env=gpa_environment(), stderr=subprocess.PIPE)
    try:
        wait_until(lambda: is_attached(service), START_SECONDS, "attaching")
        inside = Place(SERVICE.netns, SERVICE.cgroup + "/inside")
        assert interceptor.call("plain", *IMDS, place=inside)["local"][0] == "127.0.0.1"
        assert "error" in interceptor.call("plain", *IMDS)
        agent.terminate()
        _, said = agent.communicate(timeout=START_SECONDS)
        assert agent.returncode == 0, said
    finally:
        agent.kill()
        agent.wait()
        argv = in_namespace(*gpa_command("detach", "--config", str(config)), own_view=view)
        done = lab.run_as(0, 0, argv, place=SERVICE, env=gpa_environment())
    assert done.returncode == 0, done.stderr
    assert not is_attached(service)
    assert not (service / "gpa.agent").exists()


@pytest.fixture
def net_cls(interceptor: Interceptor) -> Iterator[Path]:
    """Where the v1 hierarchy of that controller can be mounted."""
    if "net_cls" not in Path("/proc/cgroups").read_text():
        pytest.skip("net_cls is not in this kernel")
    folder = interceptor.lab.make_folder("net_cls")
    yield folder
    folder.rmdir()


def test_class_of_v1_does_not_hide_the_cgroup_of_v2(
    interceptor: Interceptor, net_cls: Path
) -> None:
    caller = [PYTHON, "-I", "-S", str(interceptor.caller), "plain", *map(str, IMDS)]
    argv = ["unshare", "--mount", "sh", "-ec", IN_A_CLASS, "sh", str(net_cls), *caller]
    done = interceptor.lab.run_as(0, 0, argv)
    assert done.returncode == 0, done.stderr
    assert interceptor.accepted(json.loads(done.stdout)["pid"])["uid"] == 0
    # Once used it was used for good: sockets made later lost their cgroup everywhere.
    interceptor.kill()
    interceptor.start()
    assert interceptor.who("plain", *IMDS, uid=1234)["uid"] == 1234
