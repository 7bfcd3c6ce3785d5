import os
import socket
from pathlib import Path

import pytest

from gpa.errors import RulesError, SourceError
from gpa.rules.source import WIDTH, Position, Source
from gpa.rules.validate import read_local_rules

TEXT = """{
  "rules": {
    "privileges": [
      {"name": "p", "path": "/m", "queryParameters": {"a b": "1", "é": ""}}],
    "roles": [{"name": "r",
               "privileges": ["q"]}]}}
"""


def source(text: str | bytes, name: str = "file.json") -> Source:
    return Source.parse(text if isinstance(text, bytes) else text.encode(), name)


@pytest.mark.parametrize(
    ("place", "position", "key"),
    [
        ("", (1, 1), (1, 1)),
        ("rules", (2, 12), (2, 3)),
        ("rules.privileges[0]", (4, 7), (4, 7)),
        ("rules.privileges[0].path", (4, 29), (4, 21)),
        ("rules.privileges[0].queryParameters['a b']", (4, 62), (4, 55)),
        ("rules.privileges[0].queryParameters['\\xe9']", (4, 72), (4, 67)),
        ("rules.roles[0].privileges[0]", (6, 31), (6, 31)),
        # What is missing is missing from something.
        ("rules.identities[3].name", (2, 12), (2, 3)),
        ("rules.roles[0].name.more", (5, 24), (5, 16)),
        ("rules.roles[7]", (5, 14), (5, 5)),
    ],
)
def test_a_place_has_a_position(
    place: str, position: tuple[int, int], key: tuple[int, int]
) -> None:
    read = source(TEXT)
    assert read.at(place) == position
    assert read.key(place) == key


def test_each_problem_of_validation_has_its_place() -> None:
    read = source(TEXT)
    with pytest.raises(RulesError) as caught:
        read_local_rules(read.value)
    places = {place: read.at(place) for place, _ in caught.value.problems}
    assert places == {
        "rules.privileges[0].queryParameters['\\xe9']": (4, 72),
        "rules.roles[0].privileges[0]": (6, 31),
    }


def test_a_key_of_any_length_is_found() -> None:
    read = source('{"q": {"%s": 1}}' % ("k" * 1000))
    assert read.at(f"q['{'k' * 64}']") == (1, 1012)


def test_a_part_has_places_of_its_own() -> None:
    part = source(TEXT).within("rules", "roles", 0)
    assert part is not None
    assert part.value == {"name": "r", "privileges": ["q"]}
    assert part.at("privileges[0]") == (6, 31)
    for path in [("rules", 0), ("rules", "roles", 1), ("rules", "roles", "x"), ("x", "y")]:
        assert source(TEXT).within(*path) is None


def test_the_line_is_quoted_with_a_caret_below() -> None:
    read = source(TEXT)
    assert read.excerpt(Position(6, 31)).splitlines() == [
        '               "privileges": ["q"]}]}}',
        "                              ^",
    ]


def test_what_is_quoted_is_escaped_and_bounded() -> None:
    text = '{"\x7f\u202e漢é": "' + "x" * 10_000 + '", "b": 1}\r\n'
    read = source(text)
    line, caret = read.excerpt(read.key("b")).splitlines()
    assert line.endswith('x", "b": 1}')
    assert line[len(caret) - 1 :] == '"b": 1}'
    assert len(line) <= WIDTH + 2
    line, caret = read.excerpt(Position(1, 8)).splitlines()
    assert line.startswith('{"\\x7f\\u202e漢é": "xx')
    assert line.endswith("x…")
    assert len(line) < 2 * WIDTH
    assert len(caret) == len('{"\\x7f\\u202e漢é"') + 1 + 1  # 漢 takes two columns


def test_tabs_do_not_move_the_caret() -> None:
    assert source('{\t"a":\t1}').excerpt(Position(1, 8)) == '{ "a": 1}\n       ^'


def test_repeated_keys_are_told_with_both_places() -> None:
    again = source('{"id": "a",\n "rules": {"roles": [{"name": "a", "name": "b"}]},\n "id": "c"}')
    assert again.value == {"id": "c", "rules": {"roles": [{"name": "b"}]}}
    assert again.repeated == (
        ("rules.roles[0].name", "name", (2, 23), (2, 36)),
        ("id", "id", (1, 2), (3, 2)),
    )
    assert again.at("id") == (3, 8)


@pytest.mark.parametrize(
    ("data", "message", "position"),
    [
        (b'{"a":\n x}', "is not JSON: 'x' where a value must be", (2, 2)),
        (b'{"\xc3\xa4": "\xff"}', "is not UTF-8: byte 0xff", (1, 8)),
        ("{}".encode("utf-16"), "UTF-16", (1, 1)),
        (b"\xef\xbb\xbf" * 2 + b"{}", "is not JSON: '\\ufeff' where a value", (1, 1)),
        (b"", "is not JSON: the end where a value must be", (1, 1)),
        (b"[" * 1000, "nested deeper", (1, 65)),
    ],
)
def test_what_is_no_json_is_told_with_its_line(
    data: bytes, message: str, position: tuple[int, int]
) -> None:
    with pytest.raises(SourceError) as caught:
        source(data)
    error = caught.value
    assert str(error).startswith(f"file.json:{position[0]}:{position[1]}: ")
    assert message in str(error)
    assert error.position == position
    assert error.excerpt.endswith("^")
    assert error.exit_code == 78


def test_a_byte_order_mark_is_skipped_once() -> None:
    assert source(b"\xef\xbb\xbf{}").at("") == (1, 1)


def test_a_file_is_read_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text(TEXT)
    (tmp_path / "link.json").symlink_to("real.json")
    assert Source.read(tmp_path / "link.json").name.endswith("link.json")


def test_what_is_no_plain_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", Path("/dev/zero"), tmp_path):
        with pytest.raises(SourceError, match="is not a plain file"):
            Source.read(path)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
        with pytest.raises(SourceError, match="cannot be read: No such device"):
            Source.read(tmp_path / "socket")
    with pytest.raises(SourceError, match="cannot be read: No such file"):
        Source.read(tmp_path / "none")
    with pytest.raises(SourceError, match="not a file's name"):
        Source.read(Path("a\0b"))


def test_a_large_file_is_refused_and_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, 100 << 20)
    with pytest.raises(SourceError, match="larger than 16777216 bytes"):
        Source.read(path)
