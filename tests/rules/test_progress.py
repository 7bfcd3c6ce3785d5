"""What is said of progress, and where nothing is."""

from __future__ import annotations

import io
from itertools import count

import pytest

from gpa.rules.progress import MANY, STRIDE, Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at it is half a second later."""
    ticks = count()
    monkeypatch.setattr("gpa.rules.progress.time.monotonic", lambda: next(ticks) / 2)


@pytest.mark.usefixtures("clock")
def test_a_terminal_is_told_after_a_second_and_left_clean() -> None:
    out = Terminal()
    assert list(Progress(out).over(range(4 * STRIDE), "records read")) == list(range(4 * STRIDE))
    assert out.getvalue() == (
        "\r1,024 records read\x1b[K\r2,048 records read\x1b[K\r3,072 records read\x1b[K\r\x1b[K"
    )


@pytest.mark.usefixtures("clock")
def test_a_file_is_told_nothing() -> None:
    out = io.StringIO()
    shown = Progress(out)
    assert sum(1 for _ in shown.over(range(4 * STRIDE), "records read")) == 4 * STRIDE
    shown.judging(MANY)
    shown.clear()
    assert out.getvalue() == ""


def test_few_kinds_are_judged_at_once() -> None:
    out = Terminal()
    Progress(out).judging(MANY - 1)
    assert out.getvalue() == ""
    Progress(out).judging(MANY)
    assert "judging 20,000 kinds" in out.getvalue()
