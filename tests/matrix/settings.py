"""What a machine's settings do to the interception: tests that only a guest of the matrix may run.

They change the kernel for good: unprivileged eBPF cannot be allowed again once it is off, and a
lockdown cannot be lowered. Not called `test_…`, so that no other run of pytest collects them.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.kernel.conftest import Interceptor

from gpa.demo.lab import Lab
from gpa.errors import EXIT_UNAVAILABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.kernel

IMDS = ("169.254.169.254", 80)
UNPRIVILEGED = Path("/proc/sys/kernel/unprivileged_bpf_disabled")
LOCKDOWN = Path("/sys/kernel/security/lockdown")
BTF = Path("/sys/kernel/btf")


@pytest.fixture(autouse=True)
def only_in_a_guest() -> None:
    words = Path("/proc/cmdline").read_text().split()
    assert "gpa.matrix" in words, "changes the kernel's settings: `make test-kernels` runs it"


def refusal() -> str:
    """What `gpa run` says when it cannot intercept; it must end, and with the documented code."""
    with Lab() as lab:
        agent = lab.start_agent(wait=False)
        assert agent.process is not None
        assert agent.process.wait(timeout=120) == EXIT_UNAVAILABLE
        return agent.output.read_text()


# Always off (1) is the last: nothing leads back.
@pytest.mark.parametrize("setting", [0, 2, 1])
def test_unprivileged_bpf_makes_no_difference(setting: int) -> None:
    UNPRIVILEGED.write_text(str(setting))
    with Lab() as lab:
        interceptor = Interceptor(lab)
        assert interceptor.who("plain", *IMDS, uid=1234, gid=1235)["uid"] == 1234
        # The private options answer nobody else, whoever may load programs.
        assert interceptor.who("forge", *IMDS, uid=1234, gid=1235)["uid"] == 1234
        interceptor.ask("release")


@pytest.fixture
def no_btf() -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", BTF], check=True)
    yield
    subprocess.run(["umount", BTF], check=True)


def test_a_kernel_without_btf_is_refused_with_the_remedy(no_btf: None) -> None:
    said = refusal()
    assert "no BTF" in said
    assert "CONFIG_DEBUG_INFO_BTF" in said


def test_lockdown_that_hides_the_kernel_is_refused_with_the_remedy() -> None:
    LOCKDOWN.write_text("confidentiality")
    said = refusal()
    assert "lockdown=confidentiality" in said
    assert "lockdown=integrity" in said
