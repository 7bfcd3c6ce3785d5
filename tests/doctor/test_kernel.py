"""BTF, lockdown, settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gpa.config import Config
from gpa.doctor import kernel
from gpa.doctor.finding import State

if TYPE_CHECKING:
    from tests.doctor.conftest import Fake


def test_kernel_is_named(fake: Fake) -> None:
    (finding,) = kernel.check_kernel(fake.machine, Config())
    assert finding.words.startswith("Linux ")


@pytest.mark.parametrize(
    ("data", "state", "words"),
    [
        (b"\x9f\xeb\x01\x00", State.OK, "vmlinux"),
        (b"\xeb\x9f\x01\x00", State.OK, "vmlinux"),
        (b"", State.FAILURE, "is no BTF"),
        (None, State.FAILURE, "there is no"),
    ],
)
def test_btf(fake: Fake, data: bytes | None, state: State, words: str) -> None:
    if data is not None:
        fake.write("sys/kernel/btf/vmlinux", data)
    (finding,) = kernel.check_btf(fake.machine, Config())
    assert finding.state is state
    assert words in finding.words


def test_btf_without_sysfs(fake: Fake) -> None:
    (fake.folder / "sys/kernel/btf").rmdir()
    (fake.folder / "sys/kernel").rmdir()
    (finding,) = kernel.check_btf(fake.machine, Config())
    assert finding.state is State.FAILURE
    assert "mount -t sysfs" in finding.remedy


@pytest.mark.parametrize(
    ("text", "state", "words"),
    [
        ("[none] integrity confidentiality\n", State.OK, "none"),
        ("none [integrity] confidentiality\n", State.OK, "integrity"),
        ("none integrity [confidentiality]\n", State.WARNING, "confidentiality"),
        (None, State.OK, "not seen"),
    ],
)
def test_lockdown(fake: Fake, text: str | None, state: State, words: str) -> None:
    if text is not None:
        fake.write("sys/kernel/security/lockdown", text)
    (finding,) = kernel.check_lockdown(fake.machine, Config())
    assert finding.state is state
    assert words in finding.words


def test_settings(fake: Fake) -> None:
    (finding,) = kernel.check_settings(fake.machine, Config())
    assert finding.state is State.OK
    fake.write("proc/sys/kernel/unprivileged_bpf_disabled", "2\n")
    fake.write("proc/sys/net/core/bpf_jit_enable", "1\n")
    (finding,) = kernel.check_settings(fake.machine, Config())
    assert finding.state is State.OK
    fake.write("proc/sys/kernel/unprivileged_bpf_disabled", "0\n")
    fake.write("proc/sys/net/core/bpf_jit_enable", "0\n")
    (finding,) = kernel.check_settings(fake.machine, Config())
    assert finding.state is State.WARNING
    assert "any user" in finding.words
    assert "interpreted" in finding.words
    assert "unprivileged_bpf_disabled=1, sysctl -w net.core.bpf_jit_enable=1" in finding.remedy
