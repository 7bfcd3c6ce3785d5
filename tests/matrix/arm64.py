"""The guest of arm64: a static program instead of Python, which would take an hour to emulate.

`runner.c` and the eBPF object are compiled for it here; libbpf is built from the sources that its
crate brings, libelf and zlib are Debian's packages of arm64, unpacked beside the kernel.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.matrix.apt import Apt, FetchError, run
from tests.matrix.cpio import Archive
from tests.matrix.image import ROOT
from tests.matrix.kernels import cache

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE: Final = Path(__file__).parent
SERIES: Final = "6.12"
TRIPLET: Final = "aarch64-linux-gnu"
STATIC: Final = ("libelf-dev", "zlib1g-dev", "libzstd-dev")
"""Packages with archives to link; newer libelf wants zstd."""


def write(to: Path, folder: Path) -> None:
    """Write the guest's files.

    Args:
        to: the archive.
        folder: an empty one, for what is built.

    Raises:
        FetchError: something it needs cannot be had or built; says what.
    """
    libraries = _libraries(folder / "libraries")
    source = _libbpf()
    headers = folder / "headers"
    headers.mkdir()
    (headers / "bpf").symlink_to(source / "src")
    runner, programs = folder / "runner", folder / "gpa.bpf.o"
    include = ["-I", str(headers), "-I", str(source / "include" / "uapi")]
    _build(
        [
            *("clang", "-O2", "-g", "-target", "bpf", "-mcpu=v3", "-D__TARGET_ARCH_arm64"),
            *(*include, "-idirafter", f"/usr/{TRIPLET}/include"),
            *("-c", str(ROOT / "bpf" / "main.bpf.c"), "-o", str(programs)),
        ]
    )
    _build(
        [
            *(f"{TRIPLET}-gcc", "-O2", "-static", "-D_LARGEFILE64_SOURCE", "-w"),
            *(*include, "-I", str(source / "include"), "-I", str(ROOT / "bpf")),
            *("-I", str(libraries / "usr/include"), "-o", str(runner), str(HERE / "runner.c")),
            *(str(file) for file in sorted((source / "src").glob("*.c"))),
            *("-L", str(libraries / "usr/lib" / TRIPLET), "-lelf", "-lz"),
            *(["-lzstd"] if list(libraries.rglob("libzstd.a")) else []),
        ]
    )
    with to.open("wb") as file, Archive(file) as archive:
        archive.copy("/init", runner)
        archive.copy("/gpa.bpf.o", programs)


def _libraries(to: Path) -> Path:
    """Debian's packages of arm64 of what this machine has, so that they fit its cross compiler."""
    folder = cache() / "arm64"
    apt = Apt(folder / "apt", "arm64")
    apt.update()
    for name in STATIC:
        said = run(["dpkg-query", "--show", "--showformat=${Version}", name], check=False)
        if not said.returncode:
            package = apt.download(name, said.stdout, folder)
            run(["dpkg-deb", "--extract", str(package), str(to)])
    return to


def _libbpf() -> Path:
    """Its sources, in the crate that Cargo.lock names."""
    words = ["cargo", "metadata", "--format-version=1", "--locked", "--all-features"]
    packages = json.loads(run(words, cwd=ROOT).stdout)["packages"]
    crate = next(package for package in packages if package["name"] == "libbpf-sys")
    return Path(crate["manifest_path"]).parent / "libbpf"


def _build(words: Sequence[str]) -> None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as error:
        raise FetchError(f"cannot run {words[0]}: {error.strerror}") from error
    if done.returncode:
        raise FetchError(f"{words[0]} failed: {done.stderr.strip()[-1000:]}")
