"""The kernel matrix: the interception tests on Debian's kernels, each booted in QEMU without KVM.

    make test-kernels                          # 5.10, 6.1, 6.12, the newest in reach, and arm64
    make test-kernels KERNELS="5.10 7.3"       # these
    .venv/bin/python -m tests.matrix --json 6.1 tests/kernel/test_capture.py

For each kernel: fetch Debian's package by name (`apt.py`, `kernels.py`), make an initramfs of this
machine's own Python, this tree and the kernel's modules (`image.py`, `cpio.py`), boot it
(`machine.py`), run pytest inside (`guest.py` is PID 1, `reporter.py` a plugin that reports), and
judge what came out (`verdict.py`; `lacking.toml` lists what a kernel lacks). Two boots a kernel:

- *locked*: `lockdown=integrity` on the command line, as with secure boot: all of `tests/kernel`,
  then `settings.py`: unprivileged eBPF allowed and not, no BTF, and a lockdown that hides the
  kernel, which must be refused with the remedy.
- *plain*: `test_capture.py` without any lockdown.

`--quick` boots once, locked, and runs the files that meet the most of the kernel.

`arm64` is the kernel 6.12 of that architecture with a small program in C instead of Python
(`arm64.py`, `runner.c`), which tries the essence.

It needs a Debian or Ubuntu with apt sources of Debian, QEMU, kmod and 2 GiB of memory a guest; root
only to install what is missing. Guests have no network device and no disk. Kernels are kept in
`${XDG_CACHE_HOME:-~/.cache}/gpa/kernels`; what is there may be removed at any time.

`--json` prints `{"good", "rows"}`; a row has `kernel`, `boot`, `passed`, `failed`, `lacking`,
`seconds`, `verdict`, `good`, `trouble` (with the console's end), and `outcomes`, one a test:
`test`, `outcome`, `seconds` of the guest's clock, `said`.

The exit status is 0 when every test passed on every kernel, or is listed as lacking; a kernel that
cannot be had is a failure.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.kernel.program import BUILT
from tests.matrix import arm64, image, kernels, machine, verdict
from tests.matrix.apt import FetchError

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE: Final = Path(__file__).parent

OPTIONS: Final = ("-p", "no:cacheprovider", "--color=no")


ARM64: Final = "arm64"
ALL: Final = (*kernels.SERIES, ARM64)
WORDS: Final = (
    f"a series such as 5.10, {kernels.NEWEST} or {ARM64}; files of tests, to run these alone"
    f" (without: {' '.join(ALL)}, all tests)"
)


@dataclass(frozen=True)
class Boot:
    """One way to boot a kernel, and what to run then."""

    name: str
    words: str
    tests: tuple[str, ...]


LOCKED: Final = Boot("locked", "lockdown=integrity", ("tests/kernel", "tests/matrix/settings.py"))
PLAIN: Final = Boot("plain", "", ("tests/kernel/test_capture.py",))
QUICK: Final = Boot(
    "locked",
    "lockdown=integrity",
    (
        "tests/kernel/test_capture.py",
        "tests/kernel/test_life_cycle.py",
        "tests/kernel/test_namespaces.py",
        "tests/matrix/settings.py",
    ),
)


def run(boot: Boot, kernel: kernels.Kernel, files: Path) -> verdict.Row:
    """Boot a kernel and judge what it tells."""
    task = {
        "root": str(image.ROOT),
        "python": sys.executable,
        "pytest": [*OPTIONS, *boot.tests],
        "env": {
            "PATH": image.PATH,
            "LC_ALL": "C.UTF-8",
            "GPA_REQUIRE_KERNEL": "1",
            BUILT: image.PROGRAMS,
        },
    }
    with tempfile.TemporaryDirectory(prefix="gpa-matrix-") as folder:
        told = machine.boot(kernel, [files], Path(folder), task=task, words=boot.words)
    return verdict.judge(kernel.version, boot.name, told)


def run_arm64() -> verdict.Row:
    """Build the guest of arm64, boot it and judge what it tells."""
    try:
        kernel = kernels.fetch(arm64.SERIES, ARM64)
        with tempfile.TemporaryDirectory(prefix="gpa-matrix-") as folder:
            files = Path(folder) / "files.cpio"
            arm64.write(files, Path(folder))
            told = machine.boot(kernel, [files], Path(folder), architecture=ARM64)
    except (FetchError, OSError) as trouble:
        return _not_had(ARM64, str(trouble))
    return verdict.judge(kernel.version, ARM64, told)


def run_all(chosen: Sequence[str], boots: Sequence[Boot]) -> list[verdict.Row]:
    """Every boot of every kernel, as many at once as this machine has processors."""
    with (
        tempfile.TemporaryDirectory(prefix="gpa-matrix-") as folder,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        series = [name for name in chosen if name != ARM64]
        files = Path(folder) / "files.cpio"
        if series:
            bytecode = Path(folder) / "bytecode"
            image.compile_all(bytecode, [test for boot in boots for test in boot.tests])
            with files.open("wb") as to:
                programs = Path(folder) / "programs"
                programs.mkdir()
                image.write(to, HERE / "guest.py", bytecode, programs)
        waiting = []
        for name in series:
            try:
                kernel = kernels.fetch(name)
            except (FetchError, OSError) as trouble:
                waiting.append(pool.submit(_not_had, name, str(trouble)))
                continue
            waiting += [pool.submit(run, boot, kernel, files) for boot in boots]
        if ARM64 in chosen:
            waiting.append(pool.submit(run_arm64))
        rows = []
        for number, future in enumerate(waiting, 1):
            row = future.result()
            say(f"{number} of {len(waiting)}: {row.kernel} {row.boot}: {row.verdict}")
            rows.append(row)
        return rows


def _not_had(name: str, why: str) -> verdict.Row:
    return verdict.Row(name, "-", (), 0.0, f"not to be had: {why}")


def say(words: str) -> None:
    """To people, while it runs."""
    print(words, file=sys.stderr, flush=True)


def main() -> int:
    """Read the command line, run, tell."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.matrix", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("words", nargs="*", metavar="KERNEL|TEST", help=WORDS)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--quick", action="store_true", help="one boot a kernel, some of the tests")
    args = parser.parse_args()
    series = [
        word for word in args.words if re.fullmatch(rf"\d+\.\d+|{kernels.NEWEST}|{ARM64}", word)
    ]
    tests = tuple(word for word in args.words if word not in series)
    boots = [QUICK] if args.quick else [LOCKED, PLAIN]
    if tests:
        boots = [Boot("chosen", "", tests)]
    rows = run_all(series or ALL, boots)
    good = all(row.good for row in rows)
    if args.json:
        print(json.dumps({"good": good, "rows": [row.document() for row in rows]}, indent=1))
    else:
        print("\n".join(part for part in (verdict.reasons(rows), verdict.table(rows)) if part))
    return not good


if __name__ == "__main__":
    sys.exit(main())
