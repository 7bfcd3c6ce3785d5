"""What the manual says is what the code does: keys, exit codes, reasons, threats, links."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gpa import config, errors

ROOT = Path(__file__).resolve().parent.parent
CONFIG = "docs/configuration.md"
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "benches").glob("*.md")]
)


def rows(page: str, heading: str) -> list[list[str]]:
    """Cells of the first table below a heading."""
    text = (ROOT / page).read_text()
    section = text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_every_config_key_is_documented_with_its_default() -> None:
    documented = {r[0].strip("`"): json.loads(r[2].strip("`")) for r in rows(CONFIG, "Keys")}
    defaults = config.Config()
    actual = {key: getattr(defaults, name) for key, name in config.KEYS.items()}
    assert documented == {k: str(v) if isinstance(v, Path) else v for k, v in actual.items()}


def test_the_example_config_is_valid() -> None:
    example = (ROOT / CONFIG).read_text().split("```json", 1)[1].split("```", 1)[0]
    assert config.parse(example.encode(), "example").warnings == ()


def test_the_literal_status_is_json() -> None:
    example = (ROOT / CONFIG).read_text().rsplit("```json", 1)[1].split("```", 1)[0]
    assert json.loads(example)["proxyAgentStatus"]["status"] == "SUCCESS"


def test_every_exit_code_is_documented() -> None:
    documented = {int(row[0]) for row in rows(CONFIG, "Exit codes")}
    assert documented == {v for k, v in vars(errors).items() if k.startswith("EXIT_")}


def test_every_reason_is_documented_with_its_number_and_words() -> None:
    source = (ROOT / "ext/error.rs").read_text()
    numbers = dict(re.findall(r"^    (\w+) = (\d+),", source, re.MULTILINE))
    texts: dict[str, list[str]] = {}
    for variant, text in re.findall(r'R::(\w+) => \{?\s*"([^"]+)"', source):
        texts.setdefault(variant, []).append(text)
    actual = {(f"`{texts[v][0]}`", number, texts[v][1]) for v, number in numbers.items()}
    assert {(r[0], r[1], r[3]) for r in rows("docs/audit.md", "Reasons")} == actual


def test_every_threat_names_a_test_that_exists_or_is_open() -> None:
    for line in (ROOT / "THREATS.md").read_text().splitlines():
        if not line.startswith("|") or line.startswith("|---"):
            continue
        cell = line.strip("|").split("|")[-1].strip()
        if cell in {"test", "open"}:
            continue
        named = re.findall(r"`([^`]+)`", cell)
        assert named, f"neither a test nor open: {line}"
        for path in named:
            assert (ROOT / path).is_file(), f"there is no {path}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.is_file(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
            assert anchor in slugs, f"{page.name} links to {target}"


def test_code_cites_sections_of_the_protocol_that_exist() -> None:
    headings = set(re.findall(r"^##+ (.*)$", (ROOT / "docs/protocol.md").read_text(), re.MULTILINE))
    sources = [p for f in ("src", "ext", "bpf") for p in (ROOT / f).rglob("*") if p.is_file()]
    for source in sources:
        if source.suffix not in {".py", ".pyi", ".rs", ".h", ".c", ".pyx"}:
            continue
        for found in re.findall(r'protocol\.md, "([^"]+)"', source.read_text()):
            cited = " ".join(re.sub(r"\n\s*(//[/!]?|\*|#)?", " ", found).split())
            assert cited in headings, f"{source.relative_to(ROOT)} cites {cited!r}"
