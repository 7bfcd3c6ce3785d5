"""The kernel: its type information, and what it was told to refuse. Whether it takes the programs
is tried in `programs.py`; no version is read to decide.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Final

from gpa.doctor.finding import Finding, failure, ok, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpa.config import Config
    from gpa.doctor.machine import Machine

BTF_MAGIC: Final = {b"\x9f\xeb", b"\xeb\x9f"}
"""How BTF begins, in either byte order (include/uapi/linux/btf.h)."""


def check_kernel(machine: Machine, config: Config) -> Iterator[Finding]:
    """Which it is, for whoever reads the report elsewhere."""
    del machine, config
    yield ok("kernel", f"{platform.system()} {platform.release()}, {platform.machine()}")


def check_btf(machine: Machine, config: Config) -> Iterator[Finding]:
    """The programs find the kernel's structures by it."""
    del config
    path = machine.sys / "kernel/btf/vmlinux"
    try:
        with path.open("rb") as file:
            start = file.read(2)
    except FileNotFoundError:
        if not (machine.sys / "kernel").is_dir():
            yield failure(
                "btf", f"{machine.sys} is not mounted", "mount -t sysfs sysfs /sys, and look again"
            )
            return
        yield failure(
            "btf",
            f"this kernel does not describe its structures: there is no {path}",
            "boot a kernel with CONFIG_DEBUG_INFO_BTF=y, as the distributions' from Linux 5.10 on"
            " are",
        )
    except OSError as error:
        yield failure(
            "btf", f"cannot read {path}: {error.strerror}", "look at who may read it, as root"
        )
    else:
        if start in BTF_MAGIC:
            yield ok("btf", f"{path}")
        else:
            yield failure(
                "btf", f"{path} is no BTF", "take away what is mounted over it, or boot anew"
            )


def check_lockdown(machine: Machine, config: Config) -> Iterator[Finding]:
    """The stricter of the two levels takes reading kernel memory away from eBPF."""
    del config
    text = machine.read(machine.sys / "kernel/security/lockdown")
    if text is None:
        yield ok("lockdown", "not seen: the kernel has none, or securityfs is not mounted")
        return
    level = text.partition("[")[2].partition("]")[0] or text
    if level == "confidentiality":
        yield warning(
            "lockdown",
            "the level is confidentiality, under which eBPF may not read who calls",
            "boot with lockdown=integrity when a program below is refused",
        )
    else:
        yield ok("lockdown", f"the level is {level}")


def check_settings(machine: Machine, config: Config) -> Iterator[Finding]:
    """Two settings that let it work, but slower or less safe than it should."""
    del config
    troubles = []
    remedies = []
    if machine.sysctl("kernel.unprivileged_bpf_disabled") == "0":
        troubles.append(
            "any user may load eBPF programs, by which kernels have been made to tell memory of"
            " others, the agent's key among it"
        )
        remedies.append("sysctl -w kernel.unprivileged_bpf_disabled=1")
    if machine.sysctl("net.core.bpf_jit_enable") == "0":
        troubles.append("programs are interpreted: each connect() on the machine costs more")
        remedies.append("sysctl -w net.core.bpf_jit_enable=1")
    if troubles:
        yield warning("settings", "; ".join(troubles), ", ".join(remedies))
    else:
        yield ok("settings", "nothing is set that makes eBPF slow or unsafe")
