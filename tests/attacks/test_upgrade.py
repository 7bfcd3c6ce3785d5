"""The agent is killed and upgraded again and again while its service manager keeps the listener:
who connects in between waits, and is served as who he is."""

from __future__ import annotations

import secrets
import sys
from typing import TYPE_CHECKING

import pytest
from tests.attacks import next_layout
from tests.attacks.conftest import INSTANCE, eventually
from tests.attacks.test_life_cycle import (
    GOAL_STATE,
    ONE,
    REFUSED,
    USERS,
    finish,
    judge_host,
    set_mode,
)

from gpa.agent.pins import LAYOUT
from gpa.demo.lab import VM, Place
from gpa.demo.services import gpa_command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from subprocess import Popen

    from tests.attacks.conftest import Stand

pytestmark = pytest.mark.kernel

ROUNDS = 20
PAUSE = 0.02
"""Seconds between two requests of each of the four users: 200 connects a second."""

STEADY = """
got, number, mark, over = {}, 0, ARGUMENTS[0], ARGUMENTS[1]
end = time.monotonic() + 180
while not os.path.exists(over) and time.monotonic() < end:
    number += 1
    began = time.monotonic()
    wire = number % 4 == 0
    to, path = (WIRESERVER, ARGUMENTS[3]) if wire else (IMDS, ARGUMENTS[4])
    try:
        status = attempt(f"{path}&m={mark}.{os.getuid()}.{number}", to)
    except TimeoutError:
        status = "timeout"
    word = ("wire " if wire else "imds ") + str(status)
    got[word] = got.get(word, 0) + 1
    time.sleep(max(0.0, float(ARGUMENTS[2]) - (time.monotonic() - began)))
tell(got)
"""

WAIT = """
waiting = connected()
tell(1)
tell(ask(waiting, ARGUMENTS[0]))
"""


@pytest.fixture(scope="module")
def next_object(stand: Stand) -> Path:
    return next_layout.build(stand.lab.make_folder("next"))


@pytest.fixture(autouse=True)
def kept(stand: Stand) -> Iterator[None]:
    """An agent whose listener is kept; afterwards one whose listener is not."""
    stand.agent.manager.keeps = True
    restart(stand)
    set_mode(stand, "enforce")
    yield
    stand.agent.program = gpa_command()
    if not stand.agent.is_running():
        stand.agent.start()
    set_mode(stand, "enforce")
    stand.agent.manager.keeps = False
    stand.agent.stop()
    stand.agent.manager.close()
    stand.agent.start()


def restart(stand: Stand) -> None:
    assert stand.agent.stop() == 0
    stand.agent.start()


def be(stand: Stand, image: Path, layout: int) -> None:
    """The next start is that of another agent."""
    stand.agent.program = [sys.executable, "-P", next_layout.__file__, str(image), str(layout)]


class Crowd:
    """Four users who ask again and again until it is over."""

    def __init__(self, stand: Stand) -> None:
        self.mark = secrets.token_hex(4)
        self._stand = stand
        self._over = stand.lab.programs / f"over-{self.mark}"
        words = (self.mark, self._over, PAUSE, GOAL_STATE, INSTANCE)
        self._users = [stand.spawn(uid, STEADY, *words) for uid in USERS]

    def end(self) -> dict[int, dict[str, int]]:
        """By user: what came of the requests, and how many there were."""
        self._over.touch()
        return finish(self._stand, self._users)

    def ask_for_a_while(self) -> None:
        """Until everybody has been served some more."""
        before = len(self._stand.arrived(self.mark))
        assert eventually(lambda: len(self._stand.arrived(self.mark)) > before + 8, 20)


def waiting(stand: Stand, uid: int, target: str, place: Place = VM) -> Popen[str]:
    """Somebody who has connected and has not asked yet."""
    one = stand.spawn(uid, WAIT, target, place=place)
    assert one.stdout is not None
    assert one.stdout.readline() == "1\n"
    return one


def rest(one: Popen[str]) -> str:
    """What it tells after that; some of it may be read already, which communicate() overlooks."""
    assert one.stdout is not None
    told = one.stdout.read()
    one.wait(20)
    return told


def test_upgrades_to_another_record_and_back_refuse_nobody(stand: Stand, next_object: Path) -> None:
    """Every request is answered, each as its caller's, whatever agent it met."""
    crowd = Crowd(stand)
    for number in range(ROUNDS):
        if number % 2:
            stand.agent.program = gpa_command()
        else:
            be(stand, next_object, LAYOUT)
        restart(stand)
        crowd.ask_for_a_while()
    for uid, got in crowd.end().items():
        assert got.keys() <= {"imds 200", f"wire {403 if uid else 200}"}, got
    assert judge_host(stand, crowd.mark) > 8 * ROUNDS


def test_kills_lose_only_what_was_under_way(stand: Stand) -> None:
    """No connect is refused; what the dead agent had accepted is reset; nobody is misnamed."""
    crowd = Crowd(stand)
    for _ in range(ROUNDS):
        crowd.ask_for_a_while()
        stand.agent.kill()
        stand.agent.start()
    for uid, got in crowd.end().items():
        whole = {"imds 200", f"wire {403 if uid else 200}"}
        assert got.keys() <= whole | {"imds 0", "wire 0"}, got
        assert sum(count for word, count in got.items() if word.endswith(" 0")) <= ROUNDS, got
    assert judge_host(stand, crowd.mark) > 8 * ROUNDS


def test_who_connected_to_a_dead_agent_is_served_as_who_he_is(stand: Stand) -> None:
    """Also by an agent of another record, in the cgroup that the dead one had."""
    mark = secrets.token_hex(4)
    stand.agent.kill()
    crowd = [waiting(stand, uid, f"{INSTANCE}&m={mark}.{uid}.1") for uid in USERS]
    stand.agent.start()
    assert [rest(one) for one in crowd] == ["200\n"] * len(USERS)
    assert judge_host(stand, mark) == len(USERS)


def test_callers_in_other_network_namespaces_wait_as_well(stand: Stand) -> None:
    stand.lab.add_netns("apart")
    place = Place("apart", "vm/users")
    mark = secrets.token_hex(4)
    assert stand.attack(USERS[1], ONE, f"{INSTANCE}&m={mark}.{USERS[1]}.1", place=place) == 200
    for end in (stand.agent.kill, stand.agent.stop):
        end()
        crowd = [waiting(stand, uid, f"{INSTANCE}&m={mark}.{uid}.2", place) for uid in USERS]
        stand.agent.start()
        assert [rest(one) for one in crowd] == ["200\n"] * len(USERS)
    assert judge_host(stand, mark) == 1 + 2 * len(USERS)


def test_a_listener_of_a_cgroup_that_is_gone_still_names_its_callers(stand: Stand) -> None:
    """A service manager removes the cgroups of a service that has stopped."""
    mark = secrets.token_hex(4)
    assert stand.agent.stop() == 0
    crowd = [waiting(stand, uid, f"{INSTANCE}&m={mark}.{uid}.1") for uid in USERS]
    (leaf,) = stand.lab.attach_point.rglob("gpa.agent")
    leaf.rmdir()
    stand.agent.start()
    assert [rest(one) for one in crowd] == ["200\n"] * len(USERS)
    assert judge_host(stand, mark) == len(USERS)


def test_other_maps_never_misname_and_are_never_answered_twice(
    stand: Stand, next_object: Path
) -> None:
    """A new set of maps and back: what waited meanwhile is refused, all else is served."""
    for layout in (LAYOUT + 1, LAYOUT, LAYOUT + 1, LAYOUT):
        crowd = Crowd(stand)
        crowd.ask_for_a_while()
        be(stand, next_object, layout)
        restart(stand)
        crowd.ask_for_a_while()
        for uid, got in crowd.end().items():
            whole = {"imds 200", f"wire {403 if uid else 200}"}
            assert got.keys() <= whole | {"imds 421", "wire 421"}, got
            assert sum(count for word, count in got.items() if word.endswith("421")) <= 2, got
        names = sorted(path.name for path in (stand.lab.pins / "gpa").iterdir())
        assert names == [f"v{layout}"]
        assert judge_host(stand, crowd.mark)


def test_a_stop_in_audit_mode_serves_who_waits_and_keeps_nothing(stand: Stand) -> None:
    set_mode(stand, "audit")
    crowd = [waiting(stand, uid, INSTANCE) for uid in USERS]
    assert stand.agent.stop() == 0
    assert [rest(one) for one in crowd] == ["200\n"] * len(USERS)
    assert eventually(lambda: not stand.agent.manager.kept)
    stand.agent.start()


def test_a_manager_that_forgets_leaves_connects_refused(stand: Stand) -> None:
    assert stand.agent.stop() == 0
    stand.agent.manager.close()
    assert stand.attack(USERS[1], ONE, INSTANCE) in REFUSED
    stand.agent.start()
    assert eventually(lambda: stand.agent.manager.kept)
