"""The corpus, read by our code, by the oracle, and by the engine where it is built."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.rules import corpus, oracle
from tests.rules.native import NativeSnapshot

SETS = [
    pytest.param(*rule_set, id=f"{path.stem}: {rule_set[2]['name']}")
    for path in corpus.files()
    for rule_set in corpus.rule_sets(path)
]


def expected(case: oracle.Json) -> oracle.Outcome:
    return oracle.Outcome(
        case["decision"],
        case["reason"],
        case.get("privilege"),
        case.get("role"),
        case.get("identity"),
    )


@pytest.mark.parametrize(("machine", "callers", "rule_set"), SETS)
def test_the_oracle_agrees(
    machine: oracle.Machine, callers: oracle.Json, rule_set: oracle.Json
) -> None:
    ours = corpus.effective_of(rule_set)
    broken = ours is not None and ours.broken is not None
    rules = None if broken else oracle.effective(rule_set["item"], rule_set.get("local"))
    assert (rules or {}).get("id", rule_set.get("id")) == rule_set.get("id")
    for case in rule_set["cases"]:
        caller = oracle.Caller.of(callers[case["caller"]])
        mode, endpoint = rule_set["mode"], rule_set["endpoint"]
        outcome = oracle.decide(
            machine,
            mode,
            endpoint,
            rules,
            caller,
            case["request"],
            broken=broken,
            now=rule_set.get("now", 0),
        )
        assert outcome == expected(case), case


@pytest.mark.parametrize(("machine", "callers", "rule_set"), SETS)
def test_the_compiled_part_is_fresh(
    machine: oracle.Machine, callers: oracle.Json, rule_set: oracle.Json
) -> None:
    ours = corpus.effective_of(rule_set)
    assert (ours.id if ours else None) == rule_set.get("id")
    stale = "write it anew: PYTHONPATH=src python -m tests.rules.corpus"
    fresh = json.loads(json.dumps(corpus.compiled(machine, rule_set)))
    assert rule_set["compiled"] == fresh, stale


@pytest.mark.parametrize(("machine", "callers", "rule_set"), SETS)
def test_the_engine_agrees(
    machine: oracle.Machine, callers: oracle.Json, rule_set: oracle.Json
) -> None:
    snapshot = NativeSnapshot(corpus.effective_of(rule_set), corpus.table_of(machine, rule_set))
    for case in rule_set["cases"]:
        caller = oracle.Caller.of(callers[case["caller"]])
        outcome = snapshot.decide(rule_set["endpoint"], caller, case["request"])
        assert outcome == expected(case), case


def test_the_corpus_is_not_small() -> None:
    cases = [
        case for path in corpus.files() for *_, s in corpus.rule_sets(path) for case in s["cases"]
    ]
    assert len(cases) >= 100
    assert {case["reason"] for case in cases} >= {
        "rule_matched",
        "default_allow",
        "no_rules",
        "disabled",
        "not_root",
        "no_identity_matched",
        "default_deny",
        "rules_broken",
        "ambiguous_query",
    }


def test_each_file_is_laid_out_as_the_tool_writes_it() -> None:
    for path in corpus.files():
        document = json.loads(Path(path).read_text())
        assert corpus.layout(document) == path.read_text(), path.name
