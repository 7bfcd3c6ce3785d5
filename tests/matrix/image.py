"""The guest's files: this machine's Python, the environment of this tree, the tests, a few tools.

Each file keeps its path, so that what is compiled in, written in `.pth` files or linked to holds
there as it does here. The kernel's own modules come as a second archive (`kernels.py`).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from tests.kernel.program import build
from tests.matrix.cpio import Archive

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT: Final = Path(__file__).resolve().parents[2]
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

TOOLS: Final = ("ip", "modprobe", "mount", "nsenter", "sh", "tee", "umount", "unshare")
"""What the laboratory calls (src/gpa/demo/machine.py), and what the kernel loads modules with."""

TREE: Final = ("pyproject.toml", "src", "tests", "bpf", "docs")
"""Of the project: what the tests read."""

ONLY_TO_BUILD: Final = frozenset(("Cython", "maturin", "mypy", "mypyc", "pip", "setuptools"))
"""Packages of the environment that no test imports; most of its size."""

NEVER_IMPORTED: Final = frozenset(("ensurepip", "idlelib", "site-packages", "test", "tkinter"))
"""Of Python's own library."""

NOT_FILES: Final = re.compile(r"__mypyc|^_tkinter|^_test|^_ctypes_test|\.opt-[12]\.pyc$|\.a$")
"""Of the same two, single files: some would bring half a desktop's libraries."""

PROGRAMS: Final = "/programs"
"""Those in C, which have no compiler there."""

FOLDERS: Final = {"dev": 0o755, "proc": 0o755, "run": 0o755, "sys": 0o755, "tmp": 0o1777}
USERS: Final = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/sh\n"
GROUPS: Final = "root:x:0:\nnogroup:x:65534:\n"


def compile_all(bytecode: Path, tests: Sequence[str]) -> None:
    """Have Python and pytest compile what these tests import: in the guest that takes a minute.

    Args:
        bytecode: an empty folder.
        tests: as pytest takes them.
    """
    env = {**os.environ, "PYTHONPYCACHEPREFIX": str(bytecode)}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    options = ("-p", "tests.matrix.reporter", "-p", "no:cacheprovider", "--collect-only", "-qq")
    for words in (["pytest", *options, *tests], ["compileall", "-q", "src"]):
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}:\n{done.stdout}{done.stderr}")


def write(to: IO[bytes], init: Path, bytecode: Path, programs: Path) -> None:
    """Write the archive.

    Args:
        to: where.
        init: a program in Python, standard library only, which becomes PID 1.
        bytecode: as `compile_all` left it.
        programs: an empty folder.
    """
    python = Path(sys.executable).resolve()
    files = Files()
    for tool in TOOLS:
        files.add(_tool(tool))
    files.add(Path(sys.executable))
    for folder in (Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("platstdlib"))):
        files.add_tree(folder, NEVER_IMPORTED)
    files.add(Path(sys.prefix) / "pyvenv.cfg")
    files.add_tree(Path(sysconfig.get_path("purelib")), ONLY_TO_BUILD)
    files.add(Path(sys.prefix) / "bin" / "gpa")
    for name in TREE:
        files.add_tree(ROOT / name)
    files.add_libraries()
    for compiled in bytecode.rglob("*.pyc"):
        source = Path("/") / compiled.relative_to(bytecode)
        files.files[str(source.parent / "__pycache__" / source.name)] = compiled
    for source in sorted((ROOT / "tests" / "kernel").glob("*.c")):
        build(source, programs / source.stem)
        files.files[f"{PROGRAMS}/{source.stem}"] = programs / source.stem
    files.folders.add(PROGRAMS)
    # Callers are run by the first python3 on PATH; one is enough.
    if (found := shutil.which("python3", path=PATH)) and Path(found).samefile(python):
        files.add(Path(found))
    else:
        files.links["/usr/bin/python3"] = str(python)
    for other in ("/bin", "/sbin", "/lib", "/lib64"):
        files.add_folder(Path(other))

    with Archive(to) as archive:
        for name, mode in FOLDERS.items():
            archive.folder(name, mode)
        files.write(archive)
        archive.folder("/etc")
        archive.text("/etc/passwd", USERS)
        archive.text("/etc/group", GROUPS)
        archive.text("/init", f"#!{python} -ISu\n{init.read_text()}", 0o755)


class Files:
    """Files of this machine with the folders and links by which they are found."""

    def __init__(self) -> None:
        self.folders: set[str] = set()
        self.links: dict[str, str] = {}
        self.files: dict[str, Path] = {}

    def add(self, path: Path) -> None:
        """A file, and what it is a link to."""
        real = self.add_folder(path.parent) / path.name
        if real.is_symlink():
            self._link(real)
        elif real.is_file():  # not what a link only promises
            self.files[str(real)] = real

    def add_folder(self, path: Path) -> Path:
        """A folder without what is in it; returns where it really is."""
        real = Path("/")
        for part in path.parts[1:]:
            step = real / part
            if step.is_symlink():
                step = self._link(step)
            elif step.is_dir():
                self.folders.add(str(step))
            real = step
        return real

    def _link(self, path: Path) -> Path:
        target = path.readlink()
        self.links[str(path)] = str(target)
        # One step at a time: a link may lead to a link.
        target = Path(os.path.normpath(path.parent / target))
        if target.is_dir():
            return self.add_folder(target)
        self.add(target)
        return target

    def add_tree(self, top: Path, without: frozenset[str] = frozenset()) -> None:
        """A folder with all that is in it but the names `without` at its top."""
        if top.is_file():
            self.add(top)
            return
        for folder, inner, names in os.walk(top):
            if Path(folder) == top:
                inner[:] = [name for name in inner if name not in without]
            self.add_folder(Path(folder))
            for name in names:
                if not NOT_FILES.search(name):
                    self.add(Path(folder) / name)

    def add_libraries(self) -> None:
        """The shared libraries of all that was added."""
        for library in _libraries([p for p in self.files.values() if _is_elf(p)]):
            self.add(library)

    def write(self, archive: Archive) -> None:
        made = {"/" + name for name in FOLDERS}
        for name in sorted({*self.folders, *self._parents()} - made):
            archive.folder(name)
        for name, target in sorted(self.links.items()):
            archive.link(name, target)
        for name, source in sorted(self.files.items()):
            archive.copy(name, source)

    def _parents(self) -> Iterator[str]:
        for name in (*self.links, *self.files):
            yield from (str(p) for p in Path(name).parents if p != Path("/"))


def _tool(name: str) -> Path:
    found = shutil.which(name, path=PATH)
    if found is None:
        raise FileNotFoundError(f"{name} is not on this machine: `make test-kernels` installs it")
    return Path(found)


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _libraries(programs: Sequence[Path]) -> set[Path]:
    # ldd fails for each that is static, and goes on.
    done = subprocess.run(
        ["ldd", *programs], capture_output=True, text=True, check=False, env={"LC_ALL": "C"}
    )
    found = re.findall(r"(?:=>|^)\s*(/\S+) \(0x", done.stdout, re.MULTILINE)
    return {Path(name) for name in found}
