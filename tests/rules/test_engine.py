"""The engine against the oracle, on generated rule sets and requests."""

from __future__ import annotations

import os
from random import Random

import pytest
from tests.rules import corpus, generate, oracle
from tests.rules.native import NativeSnapshot, ident, load

from gpa.endpoints import Endpoint, Mode
from gpa.errors import RulesError
from gpa.rules.compile import compile_table, table_check
from gpa.rules.model import Privilege, Rules

BATCHES = 20
SETS = 50 if os.environ.get("CI") else 10
REQUESTS = 100


@pytest.mark.parametrize("seed", range(BATCHES))
def test_the_engine_decides_as_the_oracle(seed: int) -> None:
    random = Random(seed)  # noqa: S311 - to be repeatable
    for _ in range(SETS):
        rule_set, machine = rule_set_of(random), generate.machine(random)
        ours = corpus.effective_of(rule_set)
        rules = oracle.effective(rule_set["item"], rule_set["local"])
        assert (ours.id if ours else None) == (rules["id"] if rules else None)
        snapshot = NativeSnapshot(ours, corpus.table_of(machine, rule_set))
        known = rules["privileges"] if rules else []
        for _ in range(REQUESTS):
            caller, target = generate.caller(random), generate.request(random, known)
            mode, endpoint = rule_set["mode"], rule_set["endpoint"]
            now = rule_set["now"]
            wanted = oracle.decide(machine, mode, endpoint, rules, caller, target, now=now)
            assert snapshot.decide(endpoint, caller, target) == wanted, (rule_set, caller, target)


def rule_set_of(random: Random) -> oracle.Json:
    use_local = random.random() < 0.5
    return {
        "endpoint": random.choice(("imds", "imds", "imds", "wireserver", "hostga")),
        "mode": random.choice(("enforce",) * 6 + ("audit", "audit", "unknown", "disabled")),
        "item": generate.item(random, use_local=use_local) if random.random() < 0.97 else None,
        "local": generate.local(random) if random.random() < 0.6 else None,
        "now": generate.NOW + random.randrange(8) / 2,
    }


def test_one_snapshot_holds_all_endpoints() -> None:
    random = Random(7)  # noqa: S311 - the same
    sets = {endpoint: rule_set_of(random) | {"endpoint": endpoint.value} for endpoint in Endpoint}
    machine = generate.machine(random)
    effective = {endpoint: corpus.effective_of(rule_set) for endpoint, rule_set in sets.items()}
    modes = {endpoint: Mode(rule_set["mode"]) for endpoint, rule_set in sets.items()}
    table = compile_table(effective, modes, corpus.MachineResolver(machine))
    for endpoint, rule_set in sets.items():
        rules = oracle.effective(rule_set["item"], rule_set["local"])
        snapshot = NativeSnapshot(effective[endpoint], table)
        for _ in range(REQUESTS):
            caller = generate.caller(random)
            target = generate.request(random, rules["privileges"] if rules else [])
            wanted = oracle.decide(
                machine, modes[endpoint], endpoint, rules, caller, target, now=sets[endpoint]["now"]
            )
            assert snapshot.decide(endpoint, caller, target) == wanted


@pytest.mark.parametrize("path", ["/a/../b", "/a//b", "/%2E/a", "/a%2fb", "/a;b", "/%252e", "a"])
def test_a_path_that_no_request_can_have_is_found_by_the_engine(path: str) -> None:
    check = table_check(load)
    good = Privilege("good", "/metadata/%69nstance", (("100%", "a=b&c"),))
    check(Rules(privileges=(good,)))
    with pytest.raises(RulesError) as caught:
        check(Rules(privileges=(good, Privilege("bad", path))))
    assert caught.value.problems[0][0] == "rules.privileges[1].path"


def test_the_callers_record_has_the_size_that_the_kernel_writes() -> None:
    assert len(ident(generate.caller(Random(1)), "imds")) == 256  # noqa: S311 - the same
