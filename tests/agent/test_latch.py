"""The latch as tables of what happens and what follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpa.agent.channel import ALL_DISABLED, ALL_UNKNOWN, ChannelStatus, from_document
from gpa.agent.latch import Acquire, Action, Attest, Latch, Load, Publish, Remember, Report
from gpa.endpoints import Endpoint, Mode

G1 = "11111111-1111-1111-1111-111111111111"
G2 = "22222222-2222-2222-2222-222222222222"


@dataclass(frozen=True)
class FakeKey:
    guid: str
    incarnation: int | None = None

    def authorization(
        self,
        method: str,
        target: str,
        fields: list[tuple[str, str]],
        body: bytes,
    ) -> str:
        return f"Azure-HMAC-SHA256 {self.guid} 00"


def status(guid: str | None = None, incarnation: int | None = None, **more: Any) -> ChannelStatus:
    document = {
        "version": "1.0",
        "secureChannelState": "WireserverAndImds",
        "keyGuid": guid,
        "keyIncarnationId": incarnation,
    }
    return from_document(document | more)


def kinds(actions: list[Action]) -> list[type[Action]]:
    return [type(action) for action in actions if not isinstance(action, Report)]


def words(actions: list[Action]) -> str:
    return " | ".join(action.words for action in actions if isinstance(action, Report))


def latched(key: FakeKey) -> Latch:
    latch = Latch()
    latch.status(status(key.guid, key.incarnation))
    latch.key_loaded(key)
    assert latch.key is key
    return latch


def test_before_anything_nothing_is_known() -> None:
    latch = Latch()
    assert latch.modes == ALL_UNKNOWN
    assert latch.state == "unknown"
    assert not latch.ready


def test_a_first_start_acquires_attests_and_only_then_uses() -> None:
    latch = Latch()
    assert kinds(latch.status(status())) == [Publish, Remember, Acquire]
    assert latch.key is None
    assert not latch.ready
    key = FakeKey(G1)
    assert latch.acquired(key) == [Attest(key)]
    assert latch.key is None
    assert kinds(latch.attested()) == [Publish, Remember]
    assert latch.key is key
    assert latch.ready
    assert kinds(latch.status(status(G1))) == [Publish, Remember]
    assert kinds(latch.status(status(G1))) == []


def test_a_key_on_disk_that_the_status_names_is_used_without_attestation() -> None:
    latch = Latch()
    assert latch.status(status(G1))[-1] == Load(G1)
    assert kinds(latch.key_loaded(FakeKey(G1))) == [Publish, Remember]
    assert latch.ready


def test_the_guid_is_compared_in_any_case() -> None:
    guid = "AAAAAAAA-1111-1111-1111-111111111111"
    latch = Latch()
    assert latch.status(status(guid))[-1] == Load(guid.lower())
    latch.key_loaded(FakeKey(guid))
    assert kinds(latch.status(status(guid))) == []


def test_a_key_that_is_not_on_disk_is_asked_for() -> None:
    latch = Latch()
    latch.status(status(G1))
    assert kinds(latch.key_not_loaded(None)) == [Acquire]
    assert "torn" in words(latch.key_not_loaded("the file is torn"))


def test_a_lost_answer_to_the_attestation_does_no_harm() -> None:
    latch = Latch()
    latch.status(status())
    key = FakeKey(G1)
    latch.acquired(key)
    latch.attest_failed("no answer", rejected=False)
    assert latch.key is None
    assert Publish in kinds(latch.status(status(G1)))
    assert latch.key is key


def test_a_failed_attestation_is_tried_again_with_the_same_key() -> None:
    latch = Latch()
    latch.status(status())
    key = FakeKey(G1)
    latch.acquired(key)
    latch.attest_failed("no answer", rejected=False)
    assert latch.status(status()) == [Attest(key)]


def test_a_key_that_the_host_keeps_rejecting_is_replaced() -> None:
    latch = Latch()
    latch.status(status())
    latch.acquired(FakeKey(G1))
    for _ in range(2):
        latch.attest_failed("403", rejected=True)
        assert kinds(latch.status(status())) == [Attest]
    assert "asking for a new key" in words(latch.attest_failed("403", rejected=True))
    assert latch.status(status()) == [Acquire()]


def test_a_key_that_cannot_be_stored_is_not_attested_and_asked_for_again() -> None:
    latch = Latch()
    latch.status(status())
    assert words(latch.acquire_failed("no space left")) == "no space left"
    assert latch.key is None
    assert latch.message == "no space left"
    assert latch.status(status()) == [Acquire()]
    assert words(latch.acquire_failed("no space left")) == "", "said once, not at each poll"


def test_a_reset_drops_the_key_at_once() -> None:
    latch = latched(FakeKey(G1, 1))
    actions = latch.status(status(None, 2))
    assert kinds(actions) == [Publish, Remember, Publish, Acquire]
    assert "reset" in words(actions)
    assert latch.key is None
    assert not latch.ready


def test_another_key_named_drops_the_one_in_force_and_looks_on_disk() -> None:
    latch = latched(FakeKey(G1, 1))
    actions = latch.status(status(G2, 2))
    assert actions[-1] == Load(G2)
    assert latch.key is None


def test_an_older_incarnation_is_never_used_again() -> None:
    latch = latched(FakeKey(G2, 2))
    latch.status(status(G1, None))
    assert kinds(latch.key_loaded(FakeKey(G1, 1))) == [Acquire]
    assert latch.key is None
    assert "older incarnation" in words(latch.acquired(FakeKey(G1, 1)))
    assert latch.key is None


def test_an_older_incarnation_is_not_used_after_a_restart_either() -> None:
    latch = Latch(newest=5)
    latch.status(status(G1))
    assert kinds(latch.key_loaded(FakeKey(G1, 4))) == [Acquire]
    assert Latch(newest=5).newest_incarnation == 5


def test_a_restored_disk_has_a_key_older_than_the_status() -> None:
    latch = Latch()
    latch.status(status(G1, 3))
    assert kinds(latch.key_loaded(FakeKey(G1, 2))) == [Acquire]


def test_disabled_needs_no_key() -> None:
    latch = latched(FakeKey(G1))
    actions = latch.status(status(G1, secureChannelState="disabled"))
    assert kinds(actions) == [Publish, Remember, Publish]
    assert latch.key is None
    assert latch.ready
    assert latch.modes == ALL_DISABLED


def test_one_404_changes_nothing_two_in_a_row_are_a_host_without_the_protocol() -> None:
    latch = latched(FakeKey(G1))
    assert kinds(latch.status_missing()) == []
    assert latch.key is not None
    latch.status_failed("reset")
    latch.status_missing()
    assert not latch.absent
    actions = latch.status_missing()
    assert Publish in kinds(actions)
    assert Remember in kinds(actions)
    assert latch.absent
    assert latch.ready
    assert latch.modes == ALL_DISABLED
    assert latch.state == "disabled"
    assert latch.key is None
    assert latch.status_missing() == []
    assert Publish in kinds(latch.status(status(G1)))
    assert latch.modes[Endpoint.IMDS] is Mode.ENFORCE


def test_trouble_keeps_what_is_in_force_and_is_said_once() -> None:
    latch = latched(FakeKey(G1))
    assert words(latch.status_failed("no answer")) == "no answer"
    assert latch.status_failed("no answer") == []
    assert words(latch.status_failed("garbage")) == "garbage"
    assert latch.latched
    assert latch.modes[Endpoint.IMDS] is Mode.ENFORCE


def test_the_last_modes_known_hold_until_the_host_answers() -> None:
    latch = Latch(status(G1))
    assert latch.modes[Endpoint.IMDS] is Mode.ENFORCE
    assert not latch.ready
    assert latch.key is None
    assert Publish in kinds(latch.status(status(G1)))
    absent = Latch(absent=True)
    assert absent.modes == ALL_DISABLED
    assert not absent.ready


def test_a_vtpm_key_is_not_guessed() -> None:
    latch = Latch()
    actions = latch.status(status(keyDeliveryMethod="vtpm"))
    assert kinds(actions) == [Publish, Remember]
    assert "not supported" in words(actions)
    assert not latch.ready


events = st.lists(
    st.one_of(
        st.builds(
            lambda guid, n, state: ("status", status(guid, n, secureChannelState=state)),
            st.sampled_from([None, G1, G2]),
            st.sampled_from([None, 1, 2, 3]),
            st.sampled_from(["Disabled", "Audit", "WireserverAndImds"]),
        ),
        st.just(("status_missing", None)),
        st.just(("status_failed", "x")),
        st.builds(
            lambda guid, n: ("key", FakeKey(guid, n)),
            st.sampled_from([G1, G2]),
            st.sampled_from([None, 1, 2, 3]),
        ),
        st.sampled_from([("lost", None), ("rejected", None)]),
    ),
    max_size=30,
)


@given(events)
def test_whatever_happens_a_key_in_force_is_latched_and_no_older(
    happenings: list[tuple[str, Any]],
) -> None:
    latch = Latch()
    newest = -1
    confirmed: set[str] = set()
    for kind, value in happenings:
        match kind:
            case "status":
                if value.key_guid:
                    confirmed.add(value.key_guid)
                actions = latch.status(value)
            case "status_missing" | "status_failed":
                actions = getattr(latch, kind)(*([value] if value else []))
            case _:
                continue
        for _ in range(8):
            following = [a for a in actions if isinstance(a, Load | Acquire | Attest)]
            if not following:
                break
            assert len(following) == 1
            index = happenings.index((kind, value))
            nothing: tuple[str, Any] = ("lost", None)
            how, what = next(
                (h for h in happenings[index:] if h[0] in ("key", "lost", "rejected")), nothing
            )
            match following[0], how:
                case Load(guid), "key" if what.guid == guid:
                    actions = latch.key_loaded(what)
                case Load(), _:
                    actions = latch.key_not_loaded(None)
                case Acquire(), "key":
                    actions = latch.acquired(what)
                case Acquire(), _:
                    actions = latch.acquire_failed("x")
                case Attest(key), "key":
                    confirmed.add(key.guid)
                    actions = latch.attested()
                case _:
                    actions = latch.attest_failed("x", rejected=how == "rejected")
        else:
            pytest.fail("a round does not end")
        if latch.key is not None:
            assert latch.key.guid in confirmed
            assert latch.modes != ALL_DISABLED
            if latch.key.incarnation is not None:
                assert latch.key.incarnation >= newest
                newest = latch.key.incarnation
