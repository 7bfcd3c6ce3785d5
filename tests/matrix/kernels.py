"""Debian's kernels: which there are, fetched by name, unpacked for QEMU, kept in `cache()`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.matrix.apt import Apt, FetchError, run
from tests.matrix.cpio import Archive

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NEWEST: Final = "newest"
SERIES: Final = ("5.10", "6.1", "6.12", NEWEST)
"""What is asked for by default: the oldest we promise, two of long life, the newest in reach."""

FLAVOUR: Final = {"amd64": "cloud-amd64", "arm64": "cloud-arm64"}
"""The kernels of cloud images, where the agent is at home. They are the smallest, too."""


@dataclass(frozen=True)
class Kernel:
    """A kernel that is here.

    Attributes:
        release: as `uname -r` says it.
        version: of Debian's package.
        image: what QEMU boots.
        modules: its modules, an archive for the initramfs.
    """

    release: str
    version: str
    image: Path
    modules: Path


def cache() -> Path:
    """Where all of it is kept, outside the tree."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "gpa" / "kernels"


def choose(series: str, versions: Iterable[str]) -> str:
    """The newest version of a series, of versions in apt's order.

    Raises:
        FetchError: there is none.
    """
    for version in versions:
        if series == NEWEST or re.match(re.escape(series) + r"\.\d", version):
            return version
    raise FetchError(f"no suite of Debian in reach has a kernel {series}")


def fetch(series: str, architecture: str = "amd64") -> Kernel:
    """Have the newest kernel of a series here.

    Raises:
        FetchError: it cannot be had.
    """
    folder = cache() / architecture
    apt = Apt(folder / "apt", architecture)
    apt.update()
    # The package without a number in its name depends on the kernel of its suite.
    pointer = f"linux-image-{FLAVOUR[architecture]}"
    version = choose(series, apt.versions(pointer))
    depends = apt.fields(pointer, version)["Depends"]
    found = re.search(rf"linux-image-(\S+-{FLAVOUR[architecture]})", depends)
    if not found:
        raise FetchError(f"{pointer} {version} names no kernel")
    release = found[1]
    place = folder / version
    kernel = Kernel(release, version, place / "vmlinuz", place / "modules.cpio")
    if not kernel.modules.exists():
        place.mkdir(exist_ok=True)
        names = [f"linux-image-{release}"]
        # Newer ones come in parts.
        depends = apt.fields(names[0], version).get("Depends", "")
        names += re.findall(rf"linux-(?:binary|modules)-{re.escape(release)}", depends)
        _unpack(kernel, [apt.download(name, version, place) for name in names], place)
    return kernel


def _unpack(kernel: Kernel, packages: list[Path], place: Path) -> None:
    """The image, and its modules as an archive, which is there only when it is whole."""
    tree = place / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    inside = tree / "lib" / "modules" / kernel.release
    inside.mkdir(parents=True)
    modules = re.compile(r"(?:usr/)?lib/modules/[^/]+/((?:kernel/|modules\.).*)")
    for package in packages:
        for name, content in _files(package):
            if found := modules.fullmatch(name):
                (inside / found[1]).parent.mkdir(parents=True, exist_ok=True)
                (inside / found[1]).write_bytes(content)
            elif "/vmlinuz" in name:
                kernel.image.write_bytes(content)
    run(["depmod", "-b", str(tree), kernel.release])
    part = kernel.modules.with_suffix(".part")
    with part.open("wb") as file, Archive(file) as archive:
        home = "/usr/lib/modules" if Path("/lib").is_symlink() else "/lib/modules"
        archive.folder(home)
        for path in (inside, *sorted(inside.rglob("*"))):
            name = f"{home}/{path.relative_to(inside.parent)}"
            if path.is_dir():
                archive.folder(name)
            else:
                archive.copy(name, path)
    shutil.rmtree(tree)
    for package in packages:
        package.unlink()
    part.rename(kernel.modules)


def _files(package: Path) -> Iterator[tuple[str, bytes]]:
    """The regular files of a package: path without a leading slash, content."""
    with (
        subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE
        ) as unpacking,
        tarfile.open(fileobj=unpacking.stdout, mode="r|") as files,
    ):
        for file in files:
            if file.isreg() and (content := files.extractfile(file)):
                yield file.name.removeprefix("./"), content.read()
    if unpacking.returncode:
        raise FetchError(f"dpkg-deb cannot unpack {package.name}")
