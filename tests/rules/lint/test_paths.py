import pytest
from tests.rules.lint.made import found, granted, of, privilege

from gpa.endpoints import Endpoint

P0, P1 = "rules.privileges[0].path", "rules.privileges[1].path"


@pytest.mark.parametrize(
    ("wide", "narrow", "holders", "expected"),
    [
        # Who has the wider one only gets the narrower one, too.
        ("/m", "/m/a", ("x", "y"), [("R302", P1)]),
        ("/m", "/m/a", ("xy", "y"), [("R302", P1)]),
        ("/m", "/m/a", ("xy", "xy"), [("R301", P1)]),
        # More have the narrower one: that is what narrower ones are for.
        ("/m", "/m/a", ("x", "xy"), []),
        ("/M/", "/m/%61/b", ("x", "y"), [("R302", P1), ("R307", P0)]),
        ("/", "/m", ("x", "y"), [("R302", P1)]),
        # Whole segments.
        ("/m", "/ma", ("x", "y"), [("R304", P0)]),
        ("/m", "/ma/b", ("x", "y"), [("R304", P0)]),
        ("/m/a", "/m/b", ("x", "y"), []),
        ("/m/a", "/n/ab", ("x", "y"), []),
        ("/m", "/m", ("x", "y"), [("R303", P1)]),
    ],
)
def test_paths_beside_paths(
    wide: str, narrow: str, holders: tuple[str, str], expected: list[tuple[str, str]]
) -> None:
    rules = granted(privilege("p", wide), privilege("q", narrow), p=holders[0], q=holders[1])
    codes = {"R301", "R302", "R303", "R304", "R307"}
    assert sorted(one for one in found(rules) if one[0] in codes) == expected


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        ({}, {"a": "1"}, ["R302"]),
        ({"a": "1"}, {"a": "1", "b": "2"}, ["R302"]),
        ({"A": "%31"}, {"a": "1", "b": "2"}, ["R302"]),
        ({"a": "1"}, {}, []),
        ({"a": "1"}, {"a": "2"}, []),
        ({}, {f"k{n}": "1" for n in range(20)}, ["R302"]),
    ],
)
def test_parameters_narrow_a_privilege(
    wide: dict[str, str], narrow: dict[str, str], expected: list[str]
) -> None:
    rules = granted(privilege("p", "/m", **wide), privilege("q", "/m/a", **narrow), p="x", q="y")
    assert [code for code, place in found(rules) if place == P1] == expected


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        ([], ["GET"], ["R302"]),
        (["GET"], ["GET"], ["R302"]),
        (["GET"], ["PUT"], []),
        (["GET"], [], []),
    ],
)
def test_methods_narrow_a_privilege(
    wide: list[str], narrow: list[str], expected: list[str]
) -> None:
    pairs = [("p", "/m", wide), ("q", "/m/a", narrow)]
    privileges = [
        privilege(name, path) | ({"methods": methods} if methods else {})
        for name, path, methods in pairs
    ]
    rules = granted(*privileges, p="x", q="y")
    assert [code for code, place in found(rules) if place == P1] == expected


def test_what_nobody_has_is_told_once_and_takes_nothing_from_others() -> None:
    rules = granted(privilege("p", "/m"), privilege("q", "/m/a"), p="x", q="")
    assert found(rules) == [("R201", "rules.privileges[1]"), ("R202", "rules.roles[1]")]


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/", 1), ("/metadata", 1), ("/METADATA/", 1), ("/metadata/identity", 0), ("/other", 0)],
)
def test_a_wide_path_covers_tokens(path: str, expected: int) -> None:
    rules = granted(privilege("p", path), p="x")
    assert len(of("R305", rules)) == expected
    assert of("R305", rules, endpoint=Endpoint.WIRESERVER) == []
    assert of("R305", granted(privilege("p", path, resource="x"), p="x")) == []


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["/metadata/identity/oauth2/token"], 1),
        (["/metadata/identity/oauth2"], 1),
        (["/metadata/identity/oauth2/token", "/metadata/identity/issuecredential"], 0),
        (["/metadata/identity/oauth2/token", "/metadata"], 0),
        (["/metadata/identity"], 0),
        (["/metadata/instance"], 0),
    ],
)
def test_tokens_have_two_doors(paths: list[str], expected: int) -> None:
    privileges = [privilege(f"p{i}", path) for i, path in enumerate(paths)]
    rules = granted(*privileges, **{p["name"]: "x" for p in privileges})
    assert len(of("R306", rules)) == expected
    assert of("R306", rules, endpoint=Endpoint.WIRESERVER) == []


def test_a_parameter_that_varies_is_told_at_its_key() -> None:
    rules = granted(privilege("p", "/m", **{"API-Version": "1", "resource": "x"}), p="x")
    assert of("R308", rules) == ["rules.privileges[0].queryParameters['API-Version']"]


def test_ten_thousand_privileges_are_looked_at_in_a_moment() -> None:
    privileges = [privilege(f"p{n}", f"/m/{n % 100}/{n}", k=str(n)) for n in range(10_000)]
    rules = {
        "privileges": privileges,
        "roles": [{"name": "r", "privileges": [p["name"] for p in privileges]}],
        "identities": [{"name": f"i{n}", "userName": "alice"} for n in range(1000)],
        "roleAssignments": [{"role": "r", "identities": [f"i{n}" for n in range(1000)]}],
    }
    assert of("R302", rules) == []
