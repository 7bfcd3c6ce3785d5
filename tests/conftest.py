"""What holds for every test: when the real kernel is asked for, and which skips are allowed.

`@pytest.mark.kernel` marks a test that needs root, cgroup v2 and a kernel with BTF. Where those are
missing it is skipped with the reason; with `GPA_REQUIRE_KERNEL=1` it runs anyway and fails. With
`CI` set, every skip that `tests/skips.toml` does not list becomes a failure.
"""

from __future__ import annotations

import fnmatch
import functools
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

pytest_plugins = ["pytester"]

# A shared machine may stall a single example for long; the test's own timeout stands.
hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")


@functools.cache
def missing_for_kernel_tests() -> str | None:
    """Say what a real-kernel test would miss here, or None."""
    if os.geteuid() != 0:
        return "needs root (sudo make test)"
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    if not any(line.split()[2] == "cgroup2" for line in mounts):
        return "needs a mounted cgroup v2 hierarchy"
    if not Path("/sys/kernel/btf/vmlinux").exists():
        return "needs a kernel with BTF (CONFIG_DEBUG_INFO_BTF)"
    return None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a real-kernel test that cannot run, unless it must."""
    if item.get_closest_marker("kernel") is None or os.environ.get("GPA_REQUIRE_KERNEL"):
        return
    if missing := missing_for_kernel_tests():
        pytest.skip(missing)


@dataclass(frozen=True)
class AllowedSkip:
    """One entry of skips.toml."""

    test: str
    because: str
    why: str

    def covers(self, nodeid: str, reason: str) -> bool:
        return fnmatch.fnmatchcase(nodeid, self.test) and self.because in reason


@functools.cache
def allowed_skips() -> tuple[AllowedSkip, ...]:
    listed = tomllib.loads(Path(__file__).with_name("skips.toml").read_text())["skip"]
    return tuple(AllowedSkip(**entry) for entry in listed)


def fail_unlisted_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn the report of a skip that is not listed into a failure; only in CI."""
    if not os.environ.get("CI") or report.outcome != "skipped" or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if any(skip.covers(report.nodeid, reason) for skip in allowed_skips()):
        return
    report.outcome = "failed"
    report.longrepr = f"skipped in CI and not listed in tests/skips.toml: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Look at the report of each phase of a test."""
    report = yield
    fail_unlisted_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Look at the report of each collected file: `importorskip` skips there."""
    report = yield
    fail_unlisted_skip(report)
    return report
