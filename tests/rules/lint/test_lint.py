import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.rules.lint.made import granted, privilege

from gpa.__main__ import main
from gpa.rules.lint.examine import MAX_PER_CODE, examine
from gpa.rules.lint.report import print_coloured, print_lines

FINE = granted(privilege("p", "/metadata/instance"), p="x")


def write(folder: Path, document: object, name: str = "IMDS_Rules.json") -> str:
    path = folder / name
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return str(path)


def lint(*words: str) -> int:
    return main(["rules", "lint", "--no-machine", *words])


def test_nothing_to_tell_is_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lint(write(tmp_path, {"rules": FINE})) == 0
    assert capsys.readouterr().out == "nothing to tell in 1 file\n"


def test_a_finding_is_told_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, '{\n "id": "a",\n "defaultAcces": "deny"}')
    assert lint(path) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{path}:3:2: warning R105: the member 'defaultAcces' is ignored",
        '     "defaultAcces": "deny"}',
        "     ^",
        "    to do: did you mean 'defaultAccess'?",
        "    see docs/lint.md#r105-a-member-that-is-ignored",
        "",
        "1 warning in 1 file",
    ]


@pytest.mark.parametrize(
    ("document", "codes"),
    [
        ({"defaultAccess": "deny", "rules": FINE}, [0, 0, 1]),  # a note
        ({"x": 1, "rules": FINE}, [0, 1, 1]),  # a warning
        ({"id": 1}, [1, 1, 1]),
        ("{", [1, 1, 1]),
    ],
)
def test_what_counts_for_the_exit_code_can_be_said(
    tmp_path: Path, document: object, codes: list[int]
) -> None:
    path = write(tmp_path, document)
    got = [lint("--fail-on", limit, path) for limit in ("error", "warning", "note")]
    assert got == codes
    assert lint(path) == codes[1]


def test_json_has_every_member(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, '{"id": "a", "id": "b"}')
    fine = write(tmp_path, {"rules": FINE}, "fine.json")
    assert lint("--json", path, fine) == 1
    document = json.loads(capsys.readouterr().out)
    message = document["findings"][0].pop("message")
    assert "first at 1:2" in message
    assert document == {
        "ok": False,
        "errors": 1,
        "warnings": 0,
        "notes": 0,
        "findings": [
            {
                "file": path,
                "line": 1,
                "column": 13,
                "code": "R104",
                "severity": "error",
                "place": "id",
                "remedy": "remove one of them",
                "page": "docs/lint.md#r104-a-repeated-key",
            }
        ],
        "leftOut": {},
    }


def test_a_file_that_cannot_be_read_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "none", tmp_path, tmp_path / "fifo"):
        assert lint(str(path)) == 78
        assert capsys.readouterr().err.count("\n") == 1


def test_what_the_agent_wrote_is_read_by_endpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    item = {"id": "x", "defaultAccess": "deny", "mode": "enforce", "rules": FINE}
    written = {"inputRules": {"imds": item, "wireserver": item | {"rules": {}}, "hostga": None}}
    path = write(tmp_path, json.dumps(written, indent=1), "AuthorizationRules_1.json")
    assert lint(path) == 0
    assert lint("--endpoint", "wireserver", path) == 1
    found = re.search(r":(\d+):\d+: warning R602", capsys.readouterr().out)
    assert found is not None
    lines = Path(path).read_text().splitlines()
    assert int(found[1]) > next(n for n, line in enumerate(lines, 1) if '"wireserver"' in line)
    assert lint("--endpoint", "hostga", path) == 78


def test_the_endpoint_is_that_of_the_files_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lint(write(tmp_path, {"rules": FINE}, "WireServer_Rules.json")) == 1
    assert "R405" in capsys.readouterr().out


def test_an_item_of_the_host_needs_what_the_host_says(tmp_path: Path) -> None:
    assert lint("--host", write(tmp_path, {"rules": FINE})) == 1
    assert lint("--host", write(tmp_path, {"id": "x", "defaultAccess": "deny", "rules": FINE})) == 0


def test_an_image_is_asked_instead_of_this_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("alice:x:5:5::/:\n")
    path = write(tmp_path, {"rules": FINE})
    assert main(["rules", "lint", "--root", str(tmp_path), path]) == 0
    (tmp_path / "etc/passwd").write_text("")
    assert main(["rules", "lint", "--root", str(tmp_path), path]) == 1
    assert "R501" in capsys.readouterr().out
    assert main(["rules", "lint", "--root", str(tmp_path / "none"), path]) == 2


def test_many_of_a_kind_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    privileges = [privilege(f"p{n}", f"/m/{n:04}") for n in range(1000)]
    path = write(tmp_path, {"rules": {"privileges": privileges}})
    assert lint(path) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [f"{path}: {1000 - MAX_PER_CODE} more of R201", "1000 warnings in 1 file"]
    lint("--json", path)
    document = json.loads(capsys.readouterr().out)
    assert document["warnings"] == 1000
    assert document["leftOut"] == {path: {"R201": 1000 - MAX_PER_CODE}}


def test_what_is_foreign_stays_on_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "\n\x1b[31m\u202e"
    rules = granted(privilege(evil, "/m/" + "a" * 9000), p="x")
    path = write(
        tmp_path, json.dumps({evil: 1, "rules": rules}, ensure_ascii=False), f"{evil}.json"
    )
    assert lint(path) == 1
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert max(len(line) for line in out.splitlines()) < 1000


def test_a_terminal_is_told_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, {"x[bold]": 1, "rules": FINE | {"y" * 300: []}}, "[red]a.json")
    results = [examine(Path(path))]
    print_lines(results)
    plain = capsys.readouterr().out
    print_coloured(results)
    assert capsys.readouterr().out == plain
    assert "x[bold]" in plain


def test_no_heavy_library_is_loaded_by_the_agents_reading() -> None:
    code = (
        "import sys, gpa.rules.local, gpa.rules.source, gpa.rules.schema;"
        "sys.exit(any(m in sys.modules for m in ('jsonschema', 'rich')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
