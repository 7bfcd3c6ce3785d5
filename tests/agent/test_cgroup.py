from pathlib import Path

import pytest

from gpa.agent.cgroup import Leaf, check_default_root, find_leaf
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
    (tmp_path / "root").mkdir()
    found = find_leaf(tmp_path / "root", mount=tmp_path, own=tmp_path / own)
    assert found.path == tmp_path / leaf
    assert found.start != found.path


def test_a_root_that_is_not_on_cgroup_v2_is_named(tmp_path: Path) -> None:
    with pytest.raises(InterceptionError, match="not on cgroup v2"):
        find_leaf(tmp_path)
    with pytest.raises(InterceptionError, match="is not there"):
        find_leaf(tmp_path / "none")
    with pytest.raises(InterceptionError, match="not the root of cgroup v2"):
        check_default_root(tmp_path)


def test_a_leaf_that_cannot_be_entered_leaves_nothing(tmp_path: Path) -> None:
    leaf = Leaf(path=tmp_path / "gpa.agent", start=tmp_path)
    with pytest.raises(InterceptionError, match="cannot move into"):
        leaf.enter()
    assert not leaf.path.exists()
    leaf.go_back()
    leaf.remove()
