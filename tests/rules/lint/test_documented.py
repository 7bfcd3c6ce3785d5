"""docs/lint.md has each code, and each of its examples shows what it says."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.rules.lint.pretend import PretendMachine

from gpa.endpoints import Endpoint
from gpa.rules.lint.codes import all_codes
from gpa.rules.lint.examine import Examined, examine

if TYPE_CHECKING:
    from gpa.rules.lint.finding import Code

NOW = datetime(2026, 2, 1, tzinfo=UTC)
PAGE = (Path(__file__).resolve().parents[3] / "docs/lint.md").read_text()
CODES = {code.number: code for code in all_codes()}
SECTIONS = {
    section.split(" ", 1)[0]: section for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
}
EXAMPLE = re.compile(r"```json\n(.*?)\n```", re.DOTALL)
SOUND = EXAMPLE.findall(PAGE)[0]


def examined(folder: Path, text: str, endpoint: Endpoint = Endpoint.IMDS) -> Examined:
    path = folder / "rules.json"
    path.write_text(text)
    return examine(path, endpoint=endpoint, machine=PretendMachine(), now=NOW)


def test_each_code_has_its_section_and_each_section_its_code() -> None:
    assert list(SECTIONS) == list(CODES)
    assert [code.number for code in all_codes()] == sorted(CODES)


@pytest.mark.parametrize("code", all_codes(), ids=lambda code: code.number)
def test_a_section_has_the_title_and_the_severity(code: Code) -> None:
    section = SECTIONS[code.number]
    assert section.startswith(f"{code.heading}\n\n*{code.severity.value.capitalize()}.* ")
    slug = re.sub(r"[^\w -]", "", section.splitlines()[0].lower()).replace(" ", "-")
    assert code.page == f"docs/lint.md#{slug}"


@pytest.mark.parametrize("code", all_codes(), ids=lambda code: code.number)
def test_the_example_of_a_section_is_found_so(code: Code, tmp_path: Path) -> None:
    (text,) = EXAMPLE.findall(SECTIONS[code.number])
    if text.startswith('{"name"'):
        document = json.loads(SOUND)
        document["rules"]["identities"] = [json.loads(text)]
        document["rules"]["roleAssignments"][0]["identities"] = [json.loads(text)["name"]]
        text = json.dumps(document)
    endpoint = Endpoint.WIRESERVER if code.number == "R405" else Endpoint.IMDS
    found = {one.finding.code.number for one in examined(tmp_path, text, endpoint).found}
    assert code.number in found
    # An example shows one thing; a few cannot be shown alone.
    beside = {"R602": {"R603"}, "R603": {"R602"}, "R601": {"R603"}}
    assert found <= {code.number} | beside.get(code.number, set())


def test_nothing_is_wrong_with_the_sound_example(tmp_path: Path) -> None:
    assert examined(tmp_path, SOUND).found == []
