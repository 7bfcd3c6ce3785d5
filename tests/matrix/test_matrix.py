"""The matrix itself, without a kernel: what it fetches, what it writes, how it judges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.matrix import apt, kernels, verdict
from tests.matrix.cpio import Archive
from tests.matrix.image import ROOT, Files
from tests.matrix.machine import Told, read_results
from tests.matrix.verdict import Lacking

if TYPE_CHECKING:
    from pathlib import Path

VERSIONS = ["7.3.4-1~bpo13+1", "7.2.13-1", "6.12.118-1", "6.1.192-2", "5.10.262-1", "5.10.223-1"]
MPTCP = Lacking("5.10", "tests/a.py::test_way?mptcp?", "EPROTONOSUPPORT", "not built in")


def told(*lines: tuple[str, str, str], trouble: str = "") -> Told:
    keys = ("test", "outcome", "said")
    return Told(
        tuple({**dict(zip(keys, line, strict=True)), "seconds": 1.0} for line in lines),
        12.34,
        trouble,
        "",
    )


@pytest.mark.parametrize(
    ("series", "version"),
    [
        ("5.10", "5.10.262-1"),
        ("6.1", "6.1.192-2"),
        ("newest", "7.3.4-1~bpo13+1"),
        ("7.2", "7.2.13-1"),
    ],
)
def test_the_newest_version_of_a_series_is_chosen(series: str, version: str) -> None:
    assert kernels.choose(series, VERSIONS) == version


def test_a_series_that_is_nowhere_is_told() -> None:
    with pytest.raises(apt.FetchError, match=r"kernel 5\.1$"):
        kernels.choose("5.1", VERSIONS)


def test_sources_are_this_machines_with_other_suites() -> None:
    own = [["bookworm-updates", "mirror://a/"], ["bookworm-security", "mirror://b/"]]
    plain, security = apt.sources_like(own).split("\n\n")
    assert "URIs: mirror://a/\n" in plain
    assert "Suites: bullseye " in plain
    assert "URIs: mirror://b/\n" in security
    assert "Suites: bullseye-security " in security


def test_a_machine_without_sources_of_debian_is_told() -> None:
    with pytest.raises(apt.FetchError, match="not those of Debian"):
        apt.sources_like([["jammy", "mirror://a/"]])


def test_the_archive_is_what_the_kernel_unpacks(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"#!/bin/sh\n")
    source.chmod(0o700)
    archive = tmp_path / "a.cpio"
    with archive.open("wb") as file, Archive(file) as writing:
        writing.folder("/etc")
        writing.text("/etc/name", "odd")
        writing.link("/etc/other", "name")
        writing.copy("/init", source)
    data = archive.read_bytes()
    entries = []
    at = 0
    while True:
        assert data[at : at + 6] == b"070701"
        field = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        end = at + 110 + field[11]
        name = data[at + 110 : end - 1].decode()
        begin = end + -end % 4
        at = begin + field[6] + -field[6] % 4
        if name == "TRAILER!!!":
            break
        entries.append((name, field[1], field[2], data[begin : begin + field[6]]))
    assert at == len(data)
    assert entries == [
        ("etc", 0o040755, 0, b""),
        ("etc/name", 0o100644, 0, b"odd"),
        ("etc/other", 0o120777, 0, b"name"),
        ("init", 0o100755, 0, b"#!/bin/sh\n"),
    ]


def test_a_file_is_found_by_every_link_that_leads_to_it(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "tool-1").touch()
    (tmp_path / "real" / "tool").symlink_to("tool-1")
    (tmp_path / "way").symlink_to("real")
    files = Files()
    files.add(tmp_path / "way" / "tool")
    assert set(files.files) == {str(tmp_path / "real" / "tool-1")}
    assert files.links == {
        str(tmp_path / "way"): "real",
        str(tmp_path / "real" / "tool"): "tool-1",
    }


def test_what_a_kernel_lacks_is_no_failure() -> None:
    lines = (("tests/a.py::test_way[mptcp]", "failed", "... EPROTONOSUPPORT"), ("b", "passed", ""))
    row = verdict.judge("5.10.262-1", "plain", told(*lines), [MPTCP])
    assert (row.count("passed"), row.count("lacking"), row.good) == (1, 1, True)


@pytest.mark.parametrize(
    ("version", "outcome", "said"),
    [
        ("5.10.262-1", "passed", ""),
        ("5.10.262-1", "failed", "another reason"),
        ("6.1.192-2", "failed", "EPROTONOSUPPORT"),
        ("6.1.192-2", "skipped", "EPROTONOSUPPORT"),
    ],
)
def test_all_else_is_a_failure(version: str, outcome: str, said: str) -> None:
    lines = (("tests/a.py::test_way[mptcp]", outcome, said), ("b", "passed", ""))
    row = verdict.judge(version, "plain", told(*lines), [MPTCP])
    assert (row.count("failed"), row.good, row.verdict) == (1, False, "failed")


def test_a_guest_that_tested_nothing_or_did_not_end_is_a_failure() -> None:
    assert not verdict.judge("6.1.192-2", "plain", told(), []).good
    row = verdict.judge("6.1.192-2", "plain", told(("b", "passed", ""), trouble="it hung"), [])
    assert (row.good, row.verdict) == (False, "it hung")


@pytest.mark.parametrize(
    ("text", "count", "ended"),
    [
        ('{"test": "a"}\n{"ended": 0}\n', 1, True),
        ('{"test": "a"}\n{"ended": 2}\n', 1, False),
        ('{"ended": null}\n', 0, False),
        ('{"test": "a"}\n{"tes', 1, False),
        ("", 0, False),
    ],
)
def test_only_a_guest_that_says_so_has_ended(text: str, count: int, ended: bool) -> None:
    lines, told_end = read_results(text.splitlines())
    assert (len(lines), told_end) == (count, ended)


def test_every_entry_of_the_list_names_a_test_file_that_exists() -> None:
    for entry in verdict.listed():
        assert (ROOT / entry.test.partition("::")[0]).is_file(), entry
