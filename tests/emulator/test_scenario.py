"""Scenario files: what they mean, and what is said about those that mean nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.emulator.guest import request

from gpa.emulator import scenario, scenario_file
from gpa.emulator.faults import FaultBook, StatusFault
from gpa.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "s.toml is not TOML: Expected '='"),
        ("[channel]\nversion = 2.0.0\n", "s.toml:2:14: not TOML"),
        ("[chanel]\n", "s.toml:1: chanel: nobody knows this key"),
        ("[channel]\nversion = '3.0'\n", "s.toml:2: channel.version: '3.0' is not known here"),
        ("[channel]\n\nincarnation = true\n", "s.toml:3: channel.incarnation: this must be"),
        ("[latency]\nimds = -1\n", "s.toml:2: latency.imds: this must be float >= 0.0"),
        ("latency = { imds = 'x' }\n", "s.toml:1: latency.imds: this must be float, got str"),
        ("latency.imds = 'x'\n", "s.toml:1: latency.imds: this must be float, got str"),
        ("[rules.imds]\nmode = 'x'\n", "s.toml:2: rules.imds.mode: this must match"),
        ("[rules.imds]\nraw = '{'\n", "s.toml:1: rules.imds: raw is not JSON"),
        (
            "[[faults]]\nkind = 'reset'\n\n[[faults]]\nkind = 'latency'\n",
            "s.toml:4: faults[1]: the key 'seconds' is missing",
        ),
        ("[[faults]]\nkind = 'boo'\n", "s.toml:2: faults[0].kind: 'boo' is not known here"),
        ("[[faults]]\nstatus = 500\n", "s.toml:1: faults[0]: the key 'kind' is missing"),
        (
            "[[faults]]\nkind = 'status'\nstatus = 100\n",
            "s.toml:3: faults[0].status: this must be int >= 200",
        ),
        (
            "[rules.imds]\n[[rules.imds.rules.roles]]\nname = 'a'\nprivileges = ['p']\n",
            "s.toml:1: rules.imds: role 'a' names the privilege 'p', which is not defined",
        ),
        (
            "[[rules.imds.rules.privileges]]\nname = 'a'\npath = '/a'\n"
            "[[rules.imds.rules.privileges]]\nname = 'b'\n",
            "s.toml:4: rules.imds.rules.privileges[1]: the key 'path' is missing",
        ),
        (
            "[[rules.imds.rules.roleAssignments]]\nrole = 'r'\nidentities = []\n",
            "an assignment names the role 'r', which is not defined",
        ),
    ],
)
def test_a_mistake_is_told_with_line_and_key(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        scenario_file.parse(text.encode(), "s.toml")
    assert str(caught.value).startswith(message) or message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_told_with_their_line() -> None:
    with pytest.raises(ConfigError, match=r"s.toml:2: not UTF-8"):
        scenario_file.parse(b"# \n# \xff", "s.toml")


def test_a_file_that_is_missing_or_too_large(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no .*see docs/emulator.md"):
        scenario_file.load(tmp_path / "none.toml")
    large = tmp_path / "large.toml"
    large.write_bytes(b"#" * (scenario_file.MAX_FILE_BYTES + 1))
    with pytest.raises(ConfigError, match="is larger than"):
        scenario_file.load(large)
    with pytest.raises(ConfigError, match="cannot read"):
        scenario_file.load(tmp_path)


def test_the_manuals_examples_are_valid() -> None:
    examples = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/emulator.md").read_text(), re.DOTALL)
    assert examples
    for example in examples:
        scenario_file.parse(example.encode(), "docs/emulator.md")


def test_the_manual_names_every_key_and_every_fault() -> None:
    text = (ROOT / "docs/emulator.md").read_text()
    document = scenario.to_document(scenario.Scenario())
    for part in ("channel", "latency", "machine", "identity"):
        for key in document[part]:
            assert f"`{key}`" in text, f"{part}.{key}"
    for name in re.findall(r'tag="(\w+)"', (ROOT / "src/gpa/emulator/faults.py").read_text()):
        assert f"`{name}`" in text, name


def test_what_the_api_shows_is_a_scenario_again() -> None:
    text = "[[faults]]\nkind = 'status'\nstatus = 503\ntimes = 2\n[rules.imds]\nmode = 'audit'\n"
    first = scenario_file.parse(text.encode(), "s.toml")
    assert scenario.from_document(scenario.to_document(first)) == first


def test_a_patch_merges_objects_and_null_removes() -> None:
    before = {"a": {"b": 1, "c": [1]}, "d": 2}
    assert scenario.merged(before, {"a": {"b": None, "c": [2]}, "e": {"f": None, "g": 3}}) == {
        "a": {"c": [2]},
        "d": 2,
        "e": {"g": 3},
    }
    assert before == {"a": {"b": 1, "c": [1]}, "d": 2}


def test_a_fault_hits_what_it_names_and_is_used_up() -> None:
    fault = StatusFault(status=503, endpoint="imds", method="get", path="/Metadata", times=2)
    book = FaultBook([fault])
    hit = request("imds", "GET", "/metadata/instance")
    for other in (
        request("wireserver", "GET", "/metadata/instance"),
        request("imds", "PUT", "/metadata/instance"),
        request("imds", "GET", "/other/metadata"),
    ):
        assert book.take(other) == []
    assert book.take(hit) == [fault]
    assert book.document()[0]["times"] == 1
    assert book.take(hit) == [fault]
    assert book.take(hit) == []
    assert book.document() == []
