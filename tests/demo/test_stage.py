"""The scenes' clients and the emulated host, without an agent in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from gpa.demo import enter
from gpa.demo.host import PROGRAMS
from gpa.demo.lab import CONTAINER, Lab
from gpa.demo.scenes import SCENES
from gpa.demo.stage import GOAL_STATE, INSTANCE, INTERPRETER, LISTENER, Expected, Stage, Who
from gpa.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpa.demo.agent import AgentProcess

pytestmark = pytest.mark.kernel


class NoAgent:
    def audit(self) -> list[dict[str, Any]]:
        return []

    def kill(self) -> None:
        """It was never there."""

    def start(self) -> None:
        """Nor is it now."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as made:
        for program in PROGRAMS:
            made.add_program(program, INTERPRETER)
        made.start_emulator()
        yield made


@pytest.fixture(scope="module")
def stage(lab: Lab) -> Stage:
    emulator = next(s for s in lab._services if s.name == "emulator")
    return Stage(lab, cast("AgentProcess", NoAgent()), cast("Any", emulator))


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_without_the_agent_the_host_refuses_every_scene(stage: Stage, scene: Any) -> None:
    if scene.what.service is LISTENER or scene.who.place is CONTAINER:  # no way leads there
        answer = scene.play(stage, scene.who, scene.what)
        assert answer.error is not None
        return
    answer = scene.play(stage, scene.who, scene.what)
    seen = stage.hear(answer, Expected(401, "none", None, "unsigned"))
    assert (seen.status, seen.host) == (401, "unsigned")
    assert "not signed" in seen.why
    assert seen.microseconds > 0


def test_a_host_that_does_not_enforce_serves_the_clients(lab: Lab, stage: Stage) -> None:
    lab.control("PUT", "/mode", {"imds": "disabled", "wireserver": "disabled"})
    try:
        for request in (INSTANCE, GOAL_STATE):
            answer = stage.ask(Who("nobody"), request)
            assert answer.status == 200, answer
            assert answer.body
    finally:
        lab.control("PUT", "/mode", {"imds": "enforce", "wireserver": "enforce"})


def test_the_control_of_the_host_says_why_it_refuses(lab: Lab) -> None:
    with pytest.raises(UnavailableError, match="there is no endpoint 'moon'"):
        lab.control("PUT", "/mode", {"moon": "audit"})


def test_people_enter_as_whom_they_like(lab: Lab) -> None:
    script = enter.write(lab)
    done = lab.run_as(0, 0, [script, "daemon", "sh", "-c", "id -un; cat /proc/self/cgroup"])
    assert done.stdout.startswith("daemon\n")
    assert f"0::/{lab.cgroup.name}/vm/users" in done.stdout
    routes = lab.run_as(0, 0, [script, "root", "ip", "route", "get", "169.254.169.254"])
    assert "192.0.2.1" in routes.stdout
    nobody = lab.run_as(0, 0, [script, "no-such-user", "true"])
    assert nobody.returncode != 0
    assert "no-such-user" in nobody.stderr


def test_an_emulator_that_cannot_start_says_why() -> None:
    with (
        Lab() as lab,
        pytest.raises(UnavailableError, match=r"exit code 78: gpa: .*scenario\.toml.*not TOML"),
    ):
        lab.start_emulator("this is not a scenario")


def test_a_restarted_emulator_knows_its_records(lab: Lab) -> None:
    before = len(lab.records())
    emulator = next(s for s in lab._services if s.name == "emulator")
    assert emulator.stop() == 0
    cast("Any", emulator).start()
    assert len(lab.records()) == before
