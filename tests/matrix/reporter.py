"""A plugin of pytest: says of each test how it came out, at once, on the line of the results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.matrix.guest import RESULTS

if TYPE_CHECKING:
    import pytest

LONGEST: Final = 4000
"""Characters of a failure's text that are kept: its end, where the reason is."""


class Reporter:
    """One line a test: `{"test", "outcome", "seconds", "said"}`."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._outcome = "passed"
        self._said = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds += report.duration
        if report.outcome != "passed" and self._outcome != "failed":
            self._outcome, self._said = report.outcome, _words(report)
        if report.when == "teardown":
            _say(report.nodeid, self._outcome, self._seconds, self._said)
            self._seconds, self._outcome, self._said = 0.0, "passed", ""

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be read, or that skips itself as a whole."""
        if report.outcome != "passed":
            _say(report.nodeid, report.outcome, 0.0, _words(report))


def _words(report: pytest.TestReport | pytest.CollectReport) -> str:
    if isinstance(report.longrepr, tuple):  # of a skip: file, line, reason
        return str(report.longrepr[2])
    return report.longreprtext[-LONGEST:]


def _say(test: str, outcome: str, seconds: float, said: str) -> None:
    line = {"test": test, "outcome": outcome, "seconds": round(seconds, 1), "said": said}
    with Path(RESULTS).open("a") as results:
        results.write(json.dumps(line) + "\n")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Reporter(), "matrix")
