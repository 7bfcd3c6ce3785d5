import json
import re
from importlib import resources
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gpa.__main__ import main
from gpa.errors import RulesError
from gpa.rules import schema
from gpa.rules.extensions import MAX_UID
from gpa.rules.schema import errors, host_schema, local_schema, text_of
from gpa.rules.schema_parts import Schema
from gpa.rules.validate import read_host_item, read_local_rules

BOTH = [local_schema(), host_schema()]

# What no schema can say, by the words of `validate`.
ACROSS = re.compile(r"is not defined|inside the base64|is no time: day|is not after notBefore")
NAME_TWICE = re.compile(r"rules\.\w+\[\d+\]\.name")


@pytest.mark.parametrize("made", BOTH, ids=["local", "host"])
def test_the_schema_is_a_schema_and_its_examples_are_valid(made: Schema) -> None:
    jsonschema.Draft202012Validator.check_schema(made)
    checked = 0

    def visit(part: object) -> None:
        nonlocal checked
        if isinstance(part, dict):
            for sample in part.get("examples", []) if "title" in part else []:
                jsonschema.Draft202012Validator(part).validate(sample)
                checked += 1
            for below in part.values():
                visit(below)
        elif isinstance(part, list):
            for below in part:
                visit(below)

    visit(made)
    assert checked > 20


def described(part: Schema, place: str) -> None:
    assert {"title", "description", "examples"} <= part.keys(), place
    for key, below in part.get("properties", {}).items():
        described(below, f"{place}.{key}")
    for keyword in ("items", "additionalProperties"):
        if isinstance(part.get(keyword), dict):
            described(part[keyword], f"{place}.{keyword}")


@pytest.mark.parametrize("made", BOTH, ids=["local", "host"])
def test_everything_has_a_title_a_description_and_an_example(made: Schema) -> None:
    described(made, "")


@pytest.mark.parametrize(
    ("file", "words"),
    [(schema.LOCAL_FILE, ["rules", "schema"]), (schema.HOST_FILE, ["rules", "schema", "--host"])],
)
def test_what_is_shipped_is_what_is_printed(
    file: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 0
    shipped = resources.files("gpa.rules").joinpath(file).read_text()
    assert capsys.readouterr().out == shipped, f"gpa {' '.join(words)} > src/gpa/rules/{file}"
    assert shipped == text_of(json.loads(shipped))


JUNK: Any = st.sampled_from(
    [None, True, 0, 1.5, "", " ", "\t\x1c\x85\u2003", "\ufeff", "a", [], ["a"], ["a", "a"], {}]
)


def sometimes(usual: Any) -> Any:
    return st.integers(0, 19).flatmap(lambda n: usual if n else JUNK)


def member(**members: Any) -> Any:
    """Each member may be missing or junk; seldom one is there that nobody knows."""
    optional = {key: sometimes(value) for key, value in members.items()}
    there = st.fixed_dictionaries(optional) | st.fixed_dictionaries({}, optional=optional)
    return st.integers(0, 19).flatmap(
        lambda n: there if n else there.map(lambda m: m | {"unknown": 1})
    )


def with_path(document: dict[str, Any], path: object) -> dict[str, Any]:
    return document if path is ... else document | {"path": path}


NAMES = st.sampled_from(["a", "b"])
# That a path begins with a slash is a matter of the schema and of the engine, not of `validate`.
PATHS: Any = st.sampled_from(["/m"] * 20 + ["/", "", " ", None, 5, [], ...])
LISTS = st.lists(sometimes(NAMES), min_size=1, max_size=2, unique_by=repr)
QUERY = st.dictionaries(st.sampled_from(["k", "k ", "", " "]), sometimes(NAMES), max_size=2)
VALUES: dict[str, list[Any]] = {
    "uid": [0, 1000, MAX_UID, MAX_UID + 1, -1, "0"],
    "exeSha256": ["0a" * 32, "0A" * 32, "0a" * 31, "0g" * 32, "0a" * 32 + "\n"],
    "systemdUnit": ["a@1.service", "a.scope", "a.slice", "a", "a.service\n", "\xe9.scope"],
    "cgroup": ["/a/b", "/a", "/", "/a/", "//a", "/a/..", "/..a", "/a/.", "a", "/a\n", "/\0"],
    "containerId": ["0a" * 32, "0a" * 6, "0a" * 5, "a-b", "a/b", "a\0", "0a" * 6 + "\n"],
}
WRITTEN = """2026-01-31T08:00:00Z 2027-01-31T08:00:00.5+00:00 2026-02-30T08:00:00Z 2026-01-31
    2026-13-01T08:00:00Z 2026-01-31T08:00:00 2026-01-31T24:00:01Z 2026-01-31T08:00:60Z
    2026-01-31T08:00:00+01:00 \u0662026-01-31T08:00:00Z"""
TIMES = [*WRITTEN.split(), "2026-01-31T08:00:00Z\n"]
OURS = {key: st.sampled_from(values) for key, values in VALUES.items()}
MOMENTS = st.sampled_from(TIMES)
METHOD_LISTS = st.lists(st.sampled_from(["GET", "PUT", "get", "TRACE", ""]), max_size=2)


def with_ours(document: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    return document | ours


def seldom(**members: Any) -> Any:
    """What only a local file may say."""
    some = st.fixed_dictionaries({}, optional=members)
    return st.integers(0, 3).flatmap(lambda n: some if n == 0 else st.just({}))


RULES = member(
    privileges=st.lists(
        sometimes(
            st.builds(
                with_ours,
                st.builds(with_path, member(name=NAMES, queryParameters=QUERY), PATHS),
                seldom(methods=sometimes(METHOD_LISTS)),
            )
        ),
        max_size=2,
    ),
    roles=st.lists(sometimes(member(name=NAMES, privileges=LISTS)), max_size=2),
    identities=st.lists(
        sometimes(
            st.builds(
                with_ours,
                member(
                    name=NAMES, userName=NAMES, groupName=NAMES, exePath=NAMES, processName=NAMES
                ),
                seldom(**{key: sometimes(values) for key, values in OURS.items()}),
            )
        ),
        max_size=2,
    ),
    roleAssignments=st.lists(
        sometimes(
            st.builds(
                with_ours,
                member(role=NAMES, identities=LISTS),
                seldom(notBefore=sometimes(MOMENTS), notAfter=sometimes(MOMENTS)),
            )
        ),
        max_size=2,
    ),
)
ACCESS = st.sampled_from(["allow", "DENY", "Allow", "deny\n", "allow ", "denied", "xallow"])
DOCUMENTS = sometimes(member(id=st.just("x"), defaultAccess=ACCESS, rules=RULES))


def validate_says(document: object, *, host: bool) -> bool:
    """Whether `validate` finds nothing that a schema could find, too."""
    try:
        read_host_item(document) if host else read_local_rules(document)
    except RulesError as error:
        return all(
            ACROSS.search(message) or ("there twice" in message and NAME_TWICE.fullmatch(place))
            for place, message in error.problems
        )
    return True


@settings(max_examples=300, deadline=None)
@given(DOCUMENTS, st.booleans())
@example({"id": "x", "defaultAccess": "deny\n"}, True)
@example({"rules": {"identities": [{"name": "i", "userName": None}]}}, False)
@example({"rules": {"identities": [{"name": "i", "userName": None, "exePath": "/x"}]}}, False)
@example({"rules": None, "defaultAccess": None, "id": None}, False)
@example({"rules": None, "defaultAccess": None, "id": None}, True)
def test_the_schema_and_the_validation_agree(document: object, host: bool) -> None:
    found = list(errors(document, host=host))
    assert (not found) == validate_says(document, host=host), found


@pytest.mark.parametrize("member", sorted(VALUES))
def test_each_of_our_selectors_agrees_with_the_validation(member: str) -> None:
    for value in VALUES[member]:
        document = {"rules": {"identities": [{"name": "i", member: value}]}}
        assert (not list(errors(document))) == validate_says(document, host=False), value
        assert list(errors(document | {"id": "x", "defaultAccess": "deny"}, host=True)) != []


@pytest.mark.parametrize("member", ["notBefore", "notAfter"])
def test_each_time_agrees_with_the_validation(member: str) -> None:
    for value in TIMES:
        grant = {"role": "r", "identities": ["i"], member: value}
        document = {"rules": {"roleAssignments": [grant]}}
        assert (not list(errors(document))) == validate_says(document, host=False), value


def test_what_is_wrong_is_told_by_its_place() -> None:
    query = {"a b": ""}
    privileges = [{"name": "p", "path": "m", "queryParameters": query, "x": 1, "y\n": 2}]
    document = {"rules": {"privileges": privileges}, "defaultAccess": "maybe"}
    found = {error.place: error for error in errors(document)}
    assert set(found) == {
        "defaultAccess",
        "rules.privileges[0]",
        "rules.privileges[0].path",
        "rules.privileges[0].queryParameters['a b']",
    }
    assert found["rules.privileges[0]"].unknown == ("x", "y\n")


def test_what_is_told_is_bounded() -> None:
    many = [{"name": " " * 10_000} for _ in range(1000)]
    found = list(errors({"rules": {"privileges": many}}))
    assert len(found) == schema.MAX_ERRORS
    assert max(len(error.message) for error in found) < 250
