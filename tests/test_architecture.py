"""The architecture as a test: who may import whom, where `unsafe` may stand, how long a file is.

ARCHITECTURE.md tells the same tables in words. A new room needs a row here before it is entered.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"
EXT = ROOT / "ext"

LONGEST_FILE = 400  # lines; a longer one holds two ideas

# --- Python -------------------------------------------------------------------

# Room → what of gpa it may import. The longest matching prefix counts, a room may import itself.
ROOMS: dict[str, set[str]] = {
    "gpa": set(),
    "gpa.__main__": {"gpa.cli", "gpa.errors"},
    "gpa.endpoints": set(),
    "gpa.errors": set(),
    "gpa.trust": {"gpa.errors"},
    "gpa.config": {"gpa.errors", "gpa.trust"},
    # It may use the native half, since there is one canonical form, and it is there.
    "gpa.rules": {"gpa._native", "gpa.endpoints", "gpa.errors", "gpa.trust"},
    "gpa.agent": {
        "gpa._native",
        "gpa.config",
        "gpa.endpoints",
        "gpa.errors",
        "gpa.rules",
        "gpa.trust",
    },
    # The independent judge: it shares no code with what it judges.
    "gpa.emulator": {"gpa.errors"},
    "gpa.demo": {"gpa.errors"},
    # It tries what the agent would do, with the agent's own parts.
    "gpa.doctor": {
        "gpa._native",
        "gpa.agent",
        "gpa.config",
        "gpa.endpoints",
        "gpa.errors",
        "gpa.trust",
    },
    "gpa.cli": {
        "gpa._native",
        "gpa.agent",
        "gpa.config",
        "gpa.demo",
        "gpa.doctor",
        "gpa.emulator",
        "gpa.endpoints",
        "gpa.errors",
        "gpa.rules",
    },
}

# Package that is not ours → the rooms that may import it (docs/dependencies.md says what for).
GUESTS: dict[str, set[str]] = {
    "trio": {"gpa.agent", "gpa.emulator", "gpa.demo", "gpa.cli"},
    "h11": {"gpa.agent", "gpa.emulator"},
    "jsonschema": {"gpa.rules"},
    "msgspec": {"gpa.agent", "gpa.config", "gpa.emulator", "gpa.rules"},
    "cryptography": {"gpa.emulator"},
    "rich": {"gpa.cli", "gpa.demo", "gpa.doctor", "gpa.rules"},
}


def python_files() -> list[Path]:
    return sorted(p for p in (SRC / "gpa").rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(p) for p in python_files()}
NATIVE = {"gpa._native", "gpa._native.libbpf", "gpa._native.records"}


def room_of(module: str, rooms: dict[str, set[str]]) -> str:
    inside = [r for r in rooms if module == r or module.startswith(r + ".")]
    return max(inside, key=len)


def imports_of(path: Path) -> set[str]:
    """Every module that the file imports, at whatever depth, also those for types only."""
    module = module_name(path)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            found.add(base)
            if base.split(".")[0] == "gpa":
                found |= {f"{base}.{alias.name}" for alias in node.names} & (MODULES | NATIVE)
    return found


@pytest.mark.parametrize("path", python_files(), ids=module_name)
def test_a_room_imports_only_what_its_row_allows(path: Path) -> None:
    module = module_name(path)
    room = room_of(module, ROOMS)
    for imported in sorted(imports_of(path)):
        top = imported.partition(".")[0]
        if top == "gpa":
            allowed = ROOMS[room] | {room}
            assert imported == "gpa" or any(
                imported == a or imported.startswith(a + ".") for a in allowed
            ), f"{module} ({room}) imports {imported}"
        elif top not in sys.stdlib_module_names:
            assert top in GUESTS, f"{module} imports {top}, which has no row"
            assert room in GUESTS[top], f"{module} ({room}) imports {top}"


def test_libbpf_enters_through_one_door() -> None:
    def users_of(module: str) -> set[str]:
        return {module_name(p) for p in python_files() if module in imports_of(p)}

    assert users_of("gpa._native.libbpf") <= {"gpa.agent.libbpf"}
    assert users_of("gpa.agent.libbpf") <= {
        "gpa.agent.guard",
        "gpa.agent.interception",
        "gpa.agent.neighbours",
        "gpa.agent.netns",
        "gpa.agent.pins",
        "gpa.doctor.door",
    }


IMPORT_EACH = """
import importlib, os, sys
failed = []
for name in sys.argv[1:]:
    child = os.fork()  # nothing of gpa is imported in the parent: as good as a fresh interpreter
    if child == 0:
        try:
            importlib.import_module(name)
        except BaseException as error:
            print(f"{name}: {error!r}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        failed.append(name)
sys.exit(f"cannot be imported alone: {failed}" if failed else 0)
"""


def test_every_module_can_be_imported_alone() -> None:
    pytest.importorskip("gpa._native", reason="the native library is not built")
    names = sorted(MODULES - {"gpa.__main__"})
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT_EACH, *names],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr


def test_the_door_of_the_command_line_imports_no_event_loop() -> None:
    """A verb that needs no trio must not pay for it: 44 ms against 212."""
    code = "import sys, gpa.__main__; sys.exit(any(m in sys.modules for m in ('trio', 'rich')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- Rust ---------------------------------------------------------------------

# Part of the crate → what of the crate it may name.
PARTS: dict[str, set[str]] = {
    "lib": {"*"},
    "error": set(),
    "caller": {"error"},
    "audit": {"caller", "error"},
    "digest": set(),
    "http": {"caller", "error", "sign"},
    "policy": {"caller", "error", "http", "sign"},
    "sign": {"http", "sys"},
    "key": {"error", "http", "sign", "sys"},
    "sys": {"audit", "caller", "error"},
    "relay": {"audit", "caller", "error", "http", "policy", "sign", "sys"},
    "python": {"*"},
}

# Crate → the parts that may name it.
CRATES: dict[str, set[str]] = {
    "pyo3": {"lib", "python"},
    "libbpf_sys": {"lib", "python"},
    "libc": {"key", "relay", "sys", "python"},
}

# The two C module inits are called from here; everything else that is unsafe lives in ext/sys.
UNSAFE_BESIDE_SYS = {"ext/python.rs"}


def rust_files() -> list[Path]:
    return sorted(EXT.rglob("*.rs"))


def part_of(path: Path) -> str:
    return path.relative_to(EXT).parts[0].removesuffix(".rs")


def rust_code(path: Path) -> str:
    """The file without comments and without what follows its tests' module."""
    code = re.sub(r"//[^\n]*", "", path.read_text())
    return re.split(r"#\[cfg\(test\)\]\s*mod tests\b", code)[0]


@pytest.mark.parametrize("path", rust_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_part_of_the_crate_names_only_what_its_row_allows(path: Path) -> None:
    code, part = rust_code(path), part_of(path)
    assert part in PARTS, f"{part} has no row"
    allowed = PARTS[part] | {part}
    named: set[str] = set(re.findall(r"\bcrate::(\w+)", code))
    for group in re.findall(r"\bcrate::\{([^;]*?)\};", code, re.DOTALL):
        named |= set(re.findall(r"(?:^|,)\s*(\w+)", group)) & set(PARTS)
    if "*" not in allowed:
        assert named & set(PARTS) <= allowed, f"{part} names {sorted(named - allowed)}"
    for crate, parts in CRATES.items():
        assert part in parts or not re.search(rf"\b{crate}::", code), f"{part} names {crate}"


@pytest.mark.parametrize("path", rust_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_unsafe_stands_in_one_place(path: Path) -> None:
    where = str(path.relative_to(ROOT))
    if where.startswith("ext/sys/") or where in UNSAFE_BESIDE_SYS:
        return
    assert not re.search(r"\bunsafe\s*(\{|fn|impl|extern)", rust_code(path))


# --- all ----------------------------------------------------------------------


def source_files() -> list[Path]:
    folders = ["src", "ext", "bpf", "tests", "benches", "tools"]
    kinds = {".py", ".pyi", ".pyx", ".rs", ".c", ".h", ".sh"}
    return sorted(p for f in folders for p in (ROOT / f).rglob("*") if p.suffix in kinds)


def test_no_file_holds_two_ideas() -> None:
    lengths = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in source_files()}
    assert {n: lines for n, lines in lengths.items() if lines > LONGEST_FILE} == {}


def test_lock_files_name_no_registry_but_the_public_one() -> None:
    for lock in ("Cargo.lock", "tests/fuzz/Cargo.lock"):
        sources = set(re.findall(r'^source = "(.*)"$', (ROOT / lock).read_text(), re.MULTILINE))
        assert sources == {"registry+https://github.com/rust-lang/crates.io-index"}
    assert "://" not in (ROOT / "requirements/dev.txt").read_text()
