import grp
import os
import pwd
import threading
from collections.abc import Collection

import pytest

from gpa.rules.compile import ExeId, GroupIds
from gpa.rules.model import EffectiveRules, Identity, Rules
from gpa.rules.resolve import PENDING, Lookup, NoMatchError, Resolution, SystemUsers, WantedNames

WANTED = WantedNames(
    frozenset({"alice", "bob"}), frozenset({"ops"}), frozenset({"/bin/x", "/bin/y"})
)


class Directory:
    """Users, groups and files on paper; names in `hanging` block until released."""

    def __init__(self, hanging: Collection[str] = ()) -> None:
        self.hanging = set(hanging)
        self.asked: list[str] = []
        self.reached, self.released = threading.Event(), threading.Event()

    def _ask(self, name: str) -> None:
        self.asked.append(name)
        if name in self.hanging:
            self.reached.set()
            assert self.released.wait(10)

    def user(self, name: str) -> frozenset[int]:
        self._ask(name)
        if name != "alice":
            raise NoMatchError("no such user")
        return frozenset({1000})

    def group(self, name: str, seen: Collection[int]) -> GroupIds:
        self._ask(name)
        return GroupIds(frozenset({200}), frozenset({1000}) | frozenset(seen))

    def find(self, path: str) -> frozenset[ExeId]:
        self._ask(path)
        if path != "/bin/x":
            raise NoMatchError("is a link")
        return frozenset({ExeId(1, 2, 3, 4)})


def test_names_are_collected_from_all_endpoints() -> None:
    def rules(*identities: Identity) -> EffectiveRules:
        return EffectiveRules("x", True, Rules(identities=identities))

    imds = rules(Identity("i", user_name="alice"), Identity("j", group_name="ops"))
    other = rules(Identity("i", user_name="bob", exe_path="/bin/x", process_name="x"))
    wanted = WantedNames.of([imds, None, other])
    assert wanted == WantedNames(
        frozenset({"alice", "bob"}), frozenset({"ops"}), frozenset({"/bin/x"})
    )


def test_each_name_is_answered_or_said_to_match_nobody() -> None:
    directory = Directory()
    lookup = Lookup(WANTED, directory, directory, seen=[1003])
    lookup.run()
    found = lookup.result()
    assert found.user("alice") == {1000}
    assert found.group("ops") == GroupIds(frozenset({200}), frozenset({1000, 1003}))
    assert found.executable("/bin/x") == {ExeId(1, 2, 3, 4)}
    assert found.unmatched == {"userName bob": "no such user", "exePath /bin/y": "is a link"}
    assert (list(found.user("bob")), list(found.executable("/bin/y"))) == ([], [])
    assert (list(found.user("zoe")), found.group("zoe")) == ([], GroupIds())


def test_a_name_that_hangs_holds_up_the_rest_only_once() -> None:
    directory = Directory(hanging={"alice"})
    first = Lookup(WANTED, directory, directory)
    thread = threading.Thread(target=first.run)
    thread.start()
    assert directory.reached.wait(10)
    pending = first.result()
    assert pending.unmatched["userName alice"] == PENDING
    assert pending.unmatched["exePath /bin/x"] == PENDING
    assert list(pending.user("alice")) == []
    directory.released.set()
    thread.join(10)

    healthy = Directory()
    before = Resolution(unmatched={"userName alice": PENDING})
    again = Lookup(WANTED, healthy, healthy, previous=before)
    again.run()
    assert healthy.asked[-1] == "alice"
    assert again.result().user("alice") == {1000}


def test_an_answer_that_does_not_come_is_the_one_of_the_time_before() -> None:
    directory = Directory()
    first = Lookup(WANTED, directory, directory)
    first.run()
    later = Lookup(WANTED, directory, directory, previous=first.result()).result()
    assert later.user("alice") == {1000}
    assert later.group("ops") == first.result().group("ops")
    assert later.unmatched["userName alice"] == PENDING


def test_a_user_who_is_gone_matches_nobody_at_once() -> None:
    directory = Directory()
    previous = Resolution(users={"bob": frozenset({1001})})
    lookup = Lookup(WANTED, directory, directory, previous=previous)
    lookup.run()
    assert list(lookup.result().user("bob")) == []


# The machine's own database.


def test_root_is_found_by_name_and_by_letter() -> None:
    assert SystemUsers().user("root") == {0}
    for name in ("ROOT", "no such user", "0", "ro\0ot", "\ud800", ""):
        with pytest.raises(NoMatchError):
            SystemUsers().user(name)


def test_a_group_has_its_primary_members_and_its_listed_ones() -> None:
    me = pwd.getpwuid(os.geteuid())
    ids = SystemUsers().group(grp.getgrgid(me.pw_gid).gr_name, seen=())
    assert ids.gids == {me.pw_gid}
    assert me.pw_uid in ids.uids
    listed = next((g for g in grp.getgrall() if g.gr_mem), None)
    if listed is not None:
        members = SystemUsers().group(listed.gr_name, seen=()).uids
        assert pwd.getpwnam(listed.gr_mem[0]).pw_uid in members


def test_callers_who_were_seen_are_asked_for_their_groups() -> None:
    me = pwd.getpwuid(os.geteuid())
    name = grp.getgrgid(me.pw_gid).gr_name
    assert 4_000_000_000 not in SystemUsers().group(name, seen=[me.pw_uid, 4_000_000_000]).uids


@pytest.mark.parametrize("name", ["no such group", "ROOT", "ro\0ot", "\ud800"])
def test_a_group_that_is_not_there_matches_nobody(name: str) -> None:
    with pytest.raises(NoMatchError):
        SystemUsers().group(name, seen=())
