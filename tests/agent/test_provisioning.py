from gpa.agent.provisioning import LIMIT, Provisioning


def test_it_finishes_once_nothing_is_missing() -> None:
    state = Provisioning(0.0)
    assert not state.update(1.0, 10, ["no key"])
    assert state.answer(0, latched=False) == {"finished": False, "errorMessage": ""}
    assert state.update(2.0, 20, [])
    assert not state.update(3.0, 30, [])
    assert state.answer(20, latched=True) == {"finished": True, "errorMessage": ""}


def test_a_caller_of_a_later_tick_is_told_yes_only_when_latched() -> None:
    state = Provisioning(0.0)
    state.update(1.0, 20, [])
    assert state.answer(21, latched=False)["finished"] is False
    assert state.answer(21, latched=True)["finished"] is True


def test_after_the_limit_it_has_finished_with_an_error_that_a_success_replaces() -> None:
    state = Provisioning(5.0)
    assert not state.update(LIMIT + 4.9, 1, ["no key", "no listener"])
    assert state.update(LIMIT + 5.0, 2, ["no key", "no listener"])
    assert not state.update(LIMIT + 6.0, 3, ["no key"])
    assert state.answer(0, latched=False) == {
        "finished": True,
        "errorMessage": "no key; no listener",
    }
    assert state.update(LIMIT + 7.0, 4, [])
    assert state.answer(4, latched=True) == {"finished": True, "errorMessage": ""}


def test_trouble_after_success_does_not_unfinish() -> None:
    state = Provisioning(0.0)
    state.update(1.0, 20, [])
    assert not state.update(LIMIT * 2, 30, ["host gone"])
    assert state.answer(0, latched=False)["finished"] is True
