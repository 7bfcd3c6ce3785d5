"""Verdicts on programs, and who shares a hook with whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gpa.doctor import programs
from gpa.doctor.door import Neighbour, Sharing, Verdict
from gpa.doctor.finding import State

if TYPE_CHECKING:
    from pathlib import Path

    from gpa.doctor.finding import Finding


def test_verdicts() -> None:
    found = programs.judge_programs(
        {
            "connect4": Verdict(),
            "connect6": Verdict(load="loading: Permission denied: R1 invalid mem access"),
            "sockops": Verdict(attach="attaching sockops: Operation not permitted"),
            "bind4": Verdict(attach=None),
        }
    )
    taken, refused, kept_off, loaded = found
    assert (taken.name, taken.state) == ("program connect4", State.OK)
    assert (refused.name, refused.state) == ("program connect6", State.FAILURE)
    assert "R1 invalid mem access" in refused.words
    assert (kept_off.name, kept_off.state) == ("program sockops", State.FAILURE)
    assert "Operation not permitted" in kept_off.words
    assert (loaded.state, loaded.words) == (State.OK, "loaded for real, and taken away again")


def test_nowhere_to_attach_is_said_once() -> None:
    (finding,) = programs.judge_programs(dict.fromkeys(("bind4", "bind6"), Verdict(attach=None)))
    assert (finding.name, finding.state) == ("program", State.WARNING)
    assert finding.remedy == "mend cgroup-root first"


def test_the_same_of_all_is_said_once() -> None:
    verdict = Verdict(load="loading: Operation not permitted")
    (finding,) = programs.judge_programs({"connect4": verdict, "connect6": verdict})
    assert (finding.name, finding.state) == ("program", State.FAILURE)
    assert finding.words == "the kernel refuses every program: loading: Operation not permitted"
    taken = list(programs.judge_programs({"connect4": Verdict(), "connect6": Verdict()}))
    assert [f.state for f in taken] == [State.OK, State.OK]


def test_no_trial(tmp_path: Path) -> None:
    finding = programs.no_trial("program", tmp_path, OSError(30, "Read-only file system"))
    assert finding.state is State.FAILURE
    assert "Read-only file system" in finding.words


class Tree:
    """root/mine/below, and who is attached to each."""

    def __init__(self, folder: Path) -> None:
        self.top = folder
        self.mine = folder / "mine"
        self.below = self.mine / "below"
        self.below.mkdir(parents=True)
        self.there: list[Neighbour] = []

    def attach(
        self, where: Path, sharing: Sharing, hook: str = "connect4", *, ours: bool = False
    ) -> None:
        self.there.append(Neighbour(hook, where, sharing, ("foreign (id 7)",), ours))

    def check(self) -> list[Finding]:
        return list(
            programs.check_neighbours(
                self.mine, [self.top], lambda folder: [n for n in self.there if n.folder == folder]
            )
        )


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_nobody_else(tree: Tree) -> None:
    (finding,) = tree.check()
    assert (finding.state, "no program of others" in finding.words) == (State.OK, True)


def test_others_who_share(tree: Tree) -> None:
    tree.attach(tree.top, Sharing.MULTI)
    tree.attach(tree.below, Sharing.MULTI, "sockops")
    tree.attach(tree.mine, Sharing.MULTI, ours=True)
    (finding,) = tree.check()
    assert finding.state is State.OK
    assert f"connect4: foreign (id 7) at {tree.top}; sockops:" in finding.words
    assert finding.words.count("foreign") == 2


@pytest.mark.parametrize("sharing", [Sharing.EXCLUSIVE, Sharing.OVERRIDE])
def test_at_the_root_only_multi_will_do(tree: Tree, sharing: Sharing) -> None:
    tree.attach(tree.mine, sharing)
    (finding,) = tree.check()
    assert (finding.name, finding.state) == ("neighbours connect4", State.FAILURE)
    assert "BPF_F_ALLOW_MULTI" in finding.remedy


def test_above_the_nearest_decides(tree: Tree) -> None:
    tree.attach(tree.top, Sharing.EXCLUSIVE)
    (finding,) = tree.check()
    assert finding.state is State.FAILURE
    tree.attach(tree.mine, Sharing.MULTI)
    (finding,) = tree.check()
    assert finding.state is State.OK


def test_above_an_overridable_one_is_overridden(tree: Tree) -> None:
    tree.attach(tree.top, Sharing.OVERRIDE)
    (finding,) = tree.check()
    assert finding.state is State.WARNING
    assert "no longer runs once" in finding.words


def test_socket_options_are_attached_further_down(tree: Tree) -> None:
    tree.attach(tree.mine, Sharing.OVERRIDE, "getsockopt")
    (finding,) = tree.check()
    assert finding.state is State.OK
    tree.attach(tree.below, Sharing.EXCLUSIVE, "getsockopt")
    (finding,) = tree.check()
    assert (finding.name, finding.state) == ("neighbours getsockopt", State.WARNING)
    assert "cannot be started in that cgroup" in finding.words


def test_below_ours_run_beside_anything(tree: Tree) -> None:
    tree.attach(tree.below, Sharing.EXCLUSIVE)
    (finding,) = tree.check()
    assert finding.state is State.OK


def test_a_cgroup_that_ends_meanwhile(tree: Tree) -> None:
    def ask(folder: Path) -> list[Neighbour]:
        if folder == tree.below:
            raise FileNotFoundError(folder)
        return []

    (finding,) = programs.check_neighbours(tree.mine, [tree.top], ask)
    assert finding.state is State.OK


def test_too_many_cgroups_are_said(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    (finding,) = tree.check()
    assert "were asked" not in finding.words
    monkeypatch.setattr(programs, "MOST_CGROUPS", 0)
    (finding,) = tree.check()
    assert finding.words.endswith("only 0 were asked")
