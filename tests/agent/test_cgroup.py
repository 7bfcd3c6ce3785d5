import os
from dataclasses import replace
from pathlib import Path

import pytest

from gpa.agent.cgroup import (
    Leaf,
    Paths,
    find_default_root,
    find_leaf,
    folder_in,
    path_of,
    place_leaf,
)
from gpa.agent.mounts import Mount, mounts
from gpa.errors import InterceptionError


@pytest.mark.parametrize(
    ("own", "leaf"),
    [
        ("root/a/service", "root/a/service/gpa.agent"),
        ("root", "root/gpa.agent"),
        ("elsewhere", "root/gpa.agent"),
        ("root/a/gpa.agent", "root/a/gpa.agent"),
    ],
)
def test_where_the_leaf_lies(own: str, leaf: str, tmp_path: Path) -> None:
    found = place_leaf(tmp_path / "root", tmp_path / own)
    assert found.path == tmp_path / leaf
    assert found.start != found.path


def test_leaf_of_a_process_whose_cgroup_is_not_seen(tmp_path: Path) -> None:
    assert place_leaf(tmp_path, None) == Leaf(tmp_path / "gpa.agent", tmp_path)


@pytest.mark.parametrize(
    ("root", "own", "folder"),
    [
        ("/", "/", "/mnt"),
        ("/", "/a/b", "/mnt/a/b"),
        ("/a", "/a/b", "/mnt/b"),  # a part of the hierarchy, as a container is given it
        ("/a", "/ab", None),
        ("/../..", "/", None),  # all of it, seen from a cgroup namespace
        ("/", "/../b", None),  # outside of the namespace's own root
    ],
)
def test_where_a_cgroup_stands(root: str, own: str, folder: str | None) -> None:
    mount = Mount(point=Path("/mnt"), root=root, kind="cgroup2", device=0)
    assert folder_in(mount, own) == (folder and Path(folder))


def test_a_root_that_is_not_on_cgroup_v2_is_named(tmp_path: Path) -> None:
    with pytest.raises(InterceptionError, match="not on cgroup v2"):
        find_leaf(tmp_path)
    with pytest.raises(InterceptionError, match="is not there"):
        find_leaf(tmp_path / "none")


def cgroup2(point: Path) -> Mount:
    return Mount(point, "/", "cgroup2", point.stat().st_dev)


# Its root has inode 1, as that of cgroup v2.
ROOT = cgroup2(Path("/proc"))


def test_default_root_is_found_wherever_it_is(tmp_path: Path) -> None:
    found = [cgroup2(tmp_path), ROOT]
    assert find_default_root(tmp_path, found) == ROOT.point
    assert find_default_root(tmp_path / "none", found) == ROOT.point


def test_usual_place_comes_first() -> None:
    again = replace(ROOT, point=Path("/proc/../proc"))
    assert find_default_root(again.point, [ROOT, again]) == again.point


def test_default_root_that_is_a_part_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InterceptionError, match=f"{tmp_path} is not the root of cgroup v2 but"):
        find_default_root(tmp_path, [cgroup2(tmp_path)])


def test_default_root_needs_cgroup_v2() -> None:
    with pytest.raises(InterceptionError, match="cgroup v2 is not mounted"):
        find_default_root(Path("/sys/fs/cgroup"), [])


def test_a_mount_that_another_hides_is_no_root() -> None:
    with pytest.raises(InterceptionError, match="a part of it"):
        find_default_root(ROOT.point, [replace(ROOT, device=ROOT.device + 1)])


def test_mounts_are_told_as_they_are() -> None:
    proc = next(mount for mount in mounts() if mount.point == Path("/proc"))
    assert (proc.kind, proc.root, proc.device) == ("proc", "/", Path("/proc").stat().st_dev)


def test_a_leaf_that_cannot_be_entered_leaves_nothing(tmp_path: Path) -> None:
    leaf = Leaf(path=tmp_path / "gpa.agent", start=tmp_path)
    with pytest.raises(InterceptionError, match="cannot move into"):
        leaf.enter()
    assert not leaf.path.exists()
    leaf.go_back()
    leaf.remove()


@pytest.mark.parametrize("path", ["/", "/vm", "/.hidden/x"])
def test_a_folder_is_named_as_the_kernel_does(path: str) -> None:
    mount = Mount(Path("/sys/fs/cgroup"), "/", "cgroup2", 1)
    assert path_of(mount, Path(f"{mount.point}{path}")) == path


@pytest.mark.skipif(os.geteuid() != 0, reason="only root owns what root owns")
def test_a_name_counts_when_only_root_could_have_given_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = Mount(point=tmp_path, root="/", kind="cgroup2", device=0)
    names = ("a.slice", "user@1.service", "x.service", "y")
    folders = [tmp_path.joinpath(*names[:n]) for n in range(5)]
    for folder in folders:
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        (folder / "cgroup.procs").touch(0o644)
    paths = Paths()
    monkeypatch.setattr(paths, "_folder", lambda _: (mount, folders[-1]))
    number = folders[-1].stat().st_ino
    assert paths.place(number) == "/a.slice/user@1.service/x.service/y"
    assert paths.place(number + 1) == "", "made again by that name"
    os.chown(folders[3], 1, 1)
    assert paths.place(number) == "/a.slice/user@1.service/x.service"
    folders[2].chmod(0o775)
    assert paths.place(number) == "/a.slice/user@1.service"
    os.chown(folders[1] / "cgroup.procs", 1, 1)
    assert paths.place(number) == "/a.slice"
    folders[0].chmod(0o757)
    assert paths.place(number) == "/"
    monkeypatch.setattr(paths, "_folder", lambda _: None)
    assert paths.place(number) == ""
