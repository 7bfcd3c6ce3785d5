"""What nobody should have written: each a clear error within bounds, and closed.

Files are read as the agent reads them, with the engine's own check of what it can use.
"""

from __future__ import annotations

import copy
import json
import threading
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
from tests.rules.native import load

from gpa.errors import RulesError
from gpa.rules import local
from gpa.rules.compile import table_check
from gpa.rules.local import MAX_BYTES, read_local_file
from gpa.rules.validate import read_host_item, read_local_rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpa.rules.model import LocalFile

MEMORY = 160 << 20
"""Bytes at most for whatever stands in a file of 1 MiB, Python's objects for its JSON included."""

SECONDS = 10.0
"""At most for one file, on a slow machine; the slowest takes half a second on an idle one."""

Json = dict[str, Any]

VALID: Json = {
    "id": "mine",
    "defaultAccess": "deny",
    "rules": {
        "privileges": [{"name": "p", "path": "/m", "queryParameters": {"k": "v"}}],
        "roles": [{"name": "r", "privileges": ["p"]}],
        "identities": [
            {
                "name": "i",
                "userName": "u",
                "groupName": "g",
                "exePath": "/usr/bin/curl",
                "processName": "curl",
            }
        ],
        "roleAssignments": [{"role": "r", "identities": ["i"]}],
    },
}


def write(folder: Path, data: str | bytes) -> Path:
    path = folder / "IMDS_Rules.json"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    path.chmod(0o600)
    return path


async def read(path: Path) -> LocalFile:
    """Within bounds of time and memory, whatever it is."""
    before = time.monotonic()
    await read_local_file(path, trio.sleep, table_check(load))
    assert time.monotonic() - before < SECONDS
    tracemalloc.start()  # which makes it ten times as slow
    try:
        found = await read_local_file(path, trio.sleep, table_check(load))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MEMORY, f"{peak >> 20} MiB"
    assert (found.rules is None) or (found.trouble is None)
    return found


async def trouble_of(path: Path) -> str:
    found = await read(path)
    assert found.rules is None
    assert found.trouble is not None
    assert found.trouble.isprintable()
    assert len(found.trouble) < 2000
    assert str(path) in found.trouble
    return found.trouble


def padded(text: str) -> str:
    return text + " " * (MAX_BYTES - len(text.encode()))


async def test_a_hundred_megabytes_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, b"[")
    with path.open("r+b") as file:
        file.truncate(100 << 20)
    tracemalloc.start()
    found = await read_local_file(path, trio.sleep)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.trouble is not None
    assert "larger than" in found.trouble
    assert peak < 1 << 20


@pytest.mark.parametrize("depth", [10, 60, 70, 250, 900, 1_000, 1_100, 100_000, MAX_BYTES // 2])
@pytest.mark.parametrize("where", ["alone", "as an unknown member", "as a list", "left open"])
async def test_nesting_of_any_depth_ends(tmp_path: Path, depth: int, where: str) -> None:
    depth -= 100 if depth > 100_000 else 0
    deep = "[" * depth + "]" * depth
    text = {
        "alone": deep,
        "as an unknown member": f'{{"more": {deep}}}',
        "as a list": f'{{"rules": {{"privileges": {deep}}}}}',
        "left open": '{"a":' * (depth // 4),
    }[where]
    found = await read(write(tmp_path, text))
    # What is not known may be there, as far as it can be read.
    assert found.trouble is not None or where == "as an unknown member"


def places(document: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield place
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in items if isinstance(document, dict | list) else ():
        yield from places(value, (*place, key))


def put(place: tuple[str | int, ...], value: object) -> Any:
    if not place:
        return value
    document = copy.deepcopy(VALID)
    *above, last = place
    inner: Any = document
    for step in above:
        inner = inner[step]
    inner[last] = value
    return document


def spelled(place: tuple[str | int, ...]) -> str:
    words = [f"[{step}]" if isinstance(step, int) else f".{step}" for step in place]
    return "".join(words).removeprefix(".").replace(".k", "['k']")


@pytest.mark.parametrize("place", list(places(VALID)), ids=spelled)
@pytest.mark.parametrize("value", [True, 7, 1.5, "text", [], [[]], {}, {"a": 1}], ids=repr)
def test_a_value_of_another_type_is_an_error_at_its_place(
    place: tuple[str | int, ...], value: object
) -> None:
    there: Any = VALID
    for step in place:
        there = there[step]
    if type(there) is type(value):
        return
    for read_document in (read_host_item, read_local_rules):
        with pytest.raises(RulesError) as caught:
            read_document(put(place, value))
        assert spelled(place) in {path for path, _ in caught.value.problems}


TEXTS = [p for p in places(VALID) if isinstance(p[-1] if p else None, str | int)]


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\udc00\ud800"], ids=ascii)
@pytest.mark.parametrize("place", TEXTS, ids=spelled)
def test_half_a_surrogate_pair_is_an_error(place: tuple[str | int, ...], text: str) -> None:
    """From the host it comes through `json`, which lets it pass."""
    with pytest.raises(RulesError) as caught:
        read_host_item(put(place, text))
    assert str(caught.value).isprintable()
    assert str(caught.value).isascii() or not any("\ud800" <= c <= "\udfff" for c in str(caught))


async def test_half_a_surrogate_pair_in_a_file_is_no_json(tmp_path: Path) -> None:
    for text in (r'{"id": "\ud800"}', r'{"\udc00": 1}', r'{"rules": {"a\ud800": []}}'):
        assert "is not JSON" in await trouble_of(write(tmp_path, text))


def with_privileges(*privileges: Json) -> str:
    return json.dumps({"rules": {"privileges": privileges}})


async def test_a_path_of_a_megabyte_is_one_that_no_request_has(tmp_path: Path) -> None:
    for path in ("/" + "a" * 1_000_000, "/a" * 500_000, "/" + "%61" * 300_000, "/" + "é" * 400_000):
        file = write(tmp_path, json.dumps(json.loads(with_privileges({"name": "p", "path": path}))))
        if file.stat().st_size <= MAX_BYTES:
            assert "more than a request's target can hold" in await trouble_of(file)
    for path in ("/" + "../" * 300_000, "/" * 1_000_000, "%" * 1_000_000, "/" + ";" * 1_000_000):
        assert "rules.privileges[0].path" in await trouble_of(
            write(tmp_path, with_privileges({"name": "p", "path": path}))
        )


async def test_text_of_a_megabyte_anywhere_is_told_in_one_short_line(tmp_path: Path) -> None:
    long = "x" * 1_000_000
    for place in TEXTS:
        found = await read(write(tmp_path, json.dumps(put(place, long))))
        assert found.trouble is None or len(found.trouble) < 2000
    unknown = json.dumps({"rules": {"privileges": [{long: 1}]}})
    assert "unknown member" in await trouble_of(write(tmp_path, unknown))


async def test_as_many_privileges_as_a_file_can_hold_are_told_to_be_too_many(
    tmp_path: Path,
) -> None:
    start, one, end = '{"rules":{"privileges":[', "{},", "{}]}}"
    text = start + one * ((MAX_BYTES - len(start + end)) // len(one)) + end
    assert "more than 65535" in await trouble_of(write(tmp_path, text))


def test_a_million_privileges_are_told_to_be_too_many() -> None:
    before = time.monotonic()
    many = [{"name": str(n), "path": "/"} for n in range(1_000_000)]
    with pytest.raises(RulesError) as caught:
        read_local_rules({"rules": {"privileges": many}})
    assert caught.value.problems == (("rules.privileges", "has 1000000 entries, more than 65535"),)
    assert time.monotonic() - before < SECONDS


def test_grants_that_unfold_without_end_are_told_with_their_place() -> None:
    names = [f"i{n}" for n in range(2_000)]
    many = [f"p{n}" for n in range(10_000)]
    rules = read_local_rules(
        {
            "rules": {
                "privileges": [{"name": name, "path": f"/{name}"} for name in many],
                "roles": [{"name": "all", "privileges": many}]
                + [{"name": name, "privileges": [name]} for name in many],
                "identities": [{"name": name, "userName": name} for name in names],
                "roleAssignments": [{"role": "all", "identities": names}]
                + [{"role": name, "identities": names[:1]} for name in many],
            }
        }
    ).rules
    assert rules is not None
    with pytest.raises(RulesError, match=r"rules\.roles"):
        table_check(load)(rules)


async def test_names_that_differ_only_in_case_are_two(tmp_path: Path) -> None:
    document = copy.deepcopy(VALID)
    for kind in ("privileges", "roles", "identities"):
        (entry,) = document["rules"][kind]
        document["rules"][kind].append(entry | {"name": entry["name"].upper()})
    document["rules"]["roles"][1]["privileges"] = ["P"]
    document["rules"]["roleAssignments"].append({"role": "R", "identities": ["I"]})
    found = await read(write(tmp_path, json.dumps(document)))
    assert found.trouble is None
    document["rules"]["roleAssignments"][0]["role"] = "Rr"
    assert "the role 'Rr' is not defined" in await trouble_of(write(tmp_path, json.dumps(document)))


def test_references_have_no_way_to_run_in_circles() -> None:
    """A role names privileges, an assignment roles and identities: none can name its own kind."""
    for kind, path in (
        ("privilege", "rules.roles[0].privileges[0]"),
        ("identity", "rules.roleAssignments[0].identities[0]"),
    ):
        document = copy.deepcopy(VALID)
        document["rules"]["roles"][0]["privileges"] = ["r"]
        document["rules"]["roleAssignments"][0]["identities"] = ["r"]
        with pytest.raises(RulesError) as caught:
            read_local_rules(document)
        message = dict(caught.value.problems)[path]
        assert message.startswith(f"the {kind} 'r' is not defined")


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/full"])
async def test_a_device_is_refused_and_not_read(device: str) -> None:
    assert "is not a plain file" in await trouble_of(Path(device))


async def test_a_file_that_changes_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, padded('{"id": "before"}'))
    real, changes = local._read_up_to, [b'{"id": "after" }', b'{"id": "later" }']

    def read_and_change(fd: int, limit: int) -> bytes:
        data = real(fd, limit)
        if changes:
            path.write_bytes(changes.pop(0))
        return data

    monkeypatch.setattr(local, "_read_up_to", read_and_change)
    found = await read_local_file(path, trio.sleep)
    assert found.rules is not None
    assert found.rules.id == "later"
    changes[:] = [b'{"id": "%d"}' % n * (n + 1) for n in range(100)]
    found = await read_local_file(path, trio.sleep)
    assert found.trouble is not None
    assert "was changed while it was read" in found.trouble


async def test_a_file_that_is_written_all_the_time_is_never_two_files_at_once(
    tmp_path: Path,
) -> None:
    """As far as it is replaced as a whole, as every editor and tool of ours does it."""
    path = write(tmp_path, "{}")
    over = threading.Event()

    def writer() -> None:
        n = 0
        while not over.is_set():
            n += 1
            draft = tmp_path / "draft"
            draft.write_text(json.dumps({"id": "a" * (n % 9 + 1), "more": "a" * (n % 9 + 1)}))
            draft.chmod(0o600)
            draft.rename(path)

    thread = threading.Thread(target=writer)
    thread.start()
    try:
        for _ in range(200):
            found = await read_local_file(path, trio.sleep)
            assert found.trouble is None, found.trouble
    finally:
        over.set()
        thread.join()
