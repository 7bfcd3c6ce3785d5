import os
import stat
from pathlib import Path

import pytest

from gpa.rules.executables import Mount
from gpa.rules.lint.machine import Group, Image, ThisMachine, Writer

PASSWD = """root:x:0:0::/:/bin/sh
alice:x:1000:100::/:/bin/sh
bob:x:1001:1001::/:/bin/sh
torn:x:
odd:x:many:1::/:
"""
GROUP = """root:x:0:
readers:x:100:bob,gone
empty:x:101:
"""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    for folder in ("etc", "usr/bin", "opt"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    (tmp_path / "bin").symlink_to("usr/bin")
    program(tmp_path / "usr/bin/tool")
    return tmp_path


def program(path: Path, content: str = "\x7fELF", mode: int = 0o755) -> None:
    path.write_text(content)
    path.chmod(mode)


def test_users_and_groups_of_an_image_are_its_own(image: Path) -> None:
    machine = Image(image)
    assert machine.user("alice") == 1000
    assert [machine.user(name) for name in ("Alice", "torn", "odd", "")] == [None] * 4
    assert machine.group("readers") == Group(100, frozenset({1000, 1001}))
    assert machine.group("empty") == Group(101, frozenset())
    assert machine.group("wheel") is None
    assert machine.user_name(1001) == "bob"
    assert machine.user_name(7) == "uid 7"


def test_an_image_without_a_database_has_nobody(tmp_path: Path) -> None:
    assert Image(tmp_path).user("root") is None


def test_programs_are_looked_for_below_the_root(image: Path) -> None:
    machine = Image(image)
    tool = machine.program("/usr/bin/tool")
    assert (tool.trouble, tool.link, tool.real, tool.script) == ("", "", "/usr/bin/tool", False)
    assert machine.program("/usr/bin/none").trouble == "there is no such file"
    assert machine.program("/usr/bin").trouble == "it is not a plain file"
    assert machine.program("usr/bin/tool").trouble
    assert machine.program("/usr/bin/\udcff\ud800").trouble == "no file has such a name"
    assert machine.program("/").trouble
    program(image / "opt/data", mode=0o644)
    assert machine.program("/opt/data").trouble == "it is not executable"
    program(image / "opt/script", "#!/bin/sh\n")
    assert machine.program("/opt/script").script
    program(image / "opt/su", mode=0o4755)
    assert machine.program("/opt/su").mode & stat.S_ISUID


@pytest.mark.parametrize(
    ("link", "target", "real"),
    [
        ("opt/a", "/usr/bin/tool", "/usr/bin/tool"),
        ("opt/b", "../../../../usr/bin/tool", "/usr/bin/tool"),
        ("opt/c", "/bin/./tool", "/usr/bin/tool"),
    ],
)
def test_links_are_followed_within_the_root(image: Path, link: str, target: str, real: str) -> None:
    (image / link).symlink_to(target)
    found = Image(image).program(f"/{link}")
    assert (found.trouble, found.link, found.real) == ("", f"/{link}", real)


def test_the_first_link_is_named_and_a_loop_ends(image: Path) -> None:
    assert Image(image).program("/bin/tool").link == "/bin"
    (image / "opt/loop").symlink_to("loop")
    assert Image(image).program("/opt/loop").trouble == "there is no such file"


def test_who_can_write_is_told_of_the_file_and_each_folder_above(image: Path) -> None:
    me = os.geteuid()
    (image / "opt/open").mkdir(mode=0o755)
    (image / "opt/open").chmod(0o777)
    program(image / "opt/open/tool")
    assert Writer("/opt/open") in Image(image).program("/opt/open/tool").writers
    (image / "opt/open").chmod(0o1777)
    assert Writer("/opt/open") not in Image(image).program("/opt/open/tool").writers
    program(image / "opt/tool", mode=0o757)
    writers = Image(image).program("/opt/tool").writers
    assert Writer("/opt/tool") in writers
    assert (Writer("/opt/tool", uid=me) in writers) == (me != 0)


@pytest.mark.kernel  # only root gives files away
def test_another_owner_and_another_group_can_write(image: Path) -> None:
    image.chmod(0o755)
    program(image / "opt/tool", mode=0o775)
    os.chown(image / "opt/tool", 1000, 100)
    os.chown(image / "opt", 0, 101)
    (image / "opt").chmod(0o775)
    assert Image(image).program("/opt/tool").writers == (
        Writer("/opt/tool", uid=1000),
        Writer("/opt/tool", gid=100),
        Writer("/opt", gid=101),
    )


def test_nothing_is_touched_on_a_file_system_of_others(image: Path) -> None:
    machine = Image(image)
    machine._mounts = [Mount(1, 1, "/", "ext4"), Mount(2, 2, "/usr/bin", "nfs4")]
    (image / "usr/bin/tool").unlink()  # a look at it would say so
    assert machine.program("/usr/bin/tool").foreign == "nfs4"
    assert machine.program("/bin/tool").foreign == "nfs4"


def test_this_machine_knows_root() -> None:
    machine = ThisMachine()
    assert machine.user("root") == 0
    assert machine.user("no\0body") is None
    assert machine.user_name(0) == "root"
    assert machine.group("no such group") is None
    root = machine.group("root")
    assert root is not None
    assert 0 in root.members
    assert 0 in machine.members(0)
    assert machine.members(0xFFFF_FFF0) == frozenset()
    assert machine.program("/proc/self/exe").link.startswith("/proc/")
