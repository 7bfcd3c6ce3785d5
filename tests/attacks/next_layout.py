"""Agents of another time: the eBPF object with one more field in its record, or with other maps.

`python next_layout.py OBJECT LAYOUT VERB…` is `gpa VERB…` with that object and that folder of pins.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

CHANGES = {
    "record.h": (
        ("#define GPA_ABI 1 ", "#define GPA_ABI 2 "),
        ("__u32 reserve[4];", "__u64 parent_start; __u32 reserve[2];"),
    ),
    "capture.h": (
        (
            "id->pf_flags = ",
            "id->parent_start = READ(task, real_parent, start_boottime); id->pf_flags = ",
        ),
    ),
}
"""What the next agent has: a field more, in the reserve."""


def build(folder: Path) -> Path:
    """Compile the next agent's kernel half below `folder`."""
    sources = folder / "bpf"
    shutil.copytree(ROOT / "bpf", sources)
    for name, changes in CHANGES.items():
        text = (sources / name).read_text()
        for before, after in changes:
            assert text.count(before) == 1, f"{name} has no {before!r} any more"
            text = text.replace(before, after)
        (sources / name).write_text(text)
    target = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
    headers = next(target.glob("*/build/libbpf-sys-*/out/include"))
    machine = platform.machine()
    define = {"x86_64": "x86", "aarch64": "arm64"}[machine]
    made = folder / "next.bpf.o"
    flags = ["-O2", "-g", "-target", "bpf", "-mcpu=v3", f"-D__TARGET_ARCH_{define}"]
    flags += ["-I", str(headers), "-idirafter", f"/usr/include/{machine}-linux-gnu"]
    clang = os.environ.get("CLANG", "clang")
    subprocess.run([clang, *flags, "-c", sources / "main.bpf.c", "-o", made], check=True)
    return made


def main(image: str, layout: str, words: list[str]) -> int:
    """Be that agent."""
    from gpa import _native
    from gpa.__main__ import main as gpa
    from gpa.agent import pins

    data = Path(image).read_bytes()
    _native.bpf_object = lambda: data
    pins.LAYOUT = int(layout)  # type: ignore[misc]  # it is another agent's
    return gpa(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
