from pathlib import Path

import pytest

from gpa.agent.files import RotatingFile
from gpa.agent.log import LINE_LIMIT, Level, Log, one_line, timestamp


def test_foreign_text_stays_on_its_line() -> None:
    assert one_line("a\nb\r\x1b[31m\u2028é\x00\ud800") == ("a\\nb\\r\\x1b[31m\\u2028é\\x00\\ud800")
    assert len(one_line("x" * 100_000)) < LINE_LIMIT + 40


def test_levels_and_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = RotatingFile(tmp_path / "l")
    log = Log(file, Level.WARN)
    log.info("quiet")
    log.warn("two\nlines")
    file.close()
    line = (tmp_path / "l").read_text()
    assert line.endswith("Z [WARN] two\\nlines\n")
    assert line.count("\n") == 1
    assert capsys.readouterr().err == "gpa: two\\nlines\n"


def test_the_journal_gets_priorities(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    Log(None).error("bad")
    assert capsys.readouterr().err == "<3>bad\n"


def test_a_file_that_cannot_be_written_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = Log(RotatingFile(tmp_path / "none" / "l"))
    log.info("one")
    log.info("two")
    assert capsys.readouterr().err.count("cannot write") == 1
    assert "No such file" in log.file_trouble


def test_timestamps() -> None:
    assert timestamp(1_767_225_600_123_456_789) == "2026-01-01T00:00:00.123Z"
    assert timestamp(2**99).startswith("0000")
