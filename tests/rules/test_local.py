import json
import os
import socket
from pathlib import Path

import pytest

from gpa.errors import RulesError
from gpa.rules.local import MAX_BYTES, PAUSE, read_local_file
from gpa.rules.model import LocalFile, Rules

pytestmark = pytest.mark.trio

PLACE = "rules.privileges[0].path"
VALID = json.dumps({"id": "mine", "rules": {"privileges": [{"name": "p", "path": "/m"}]}})


class Sleep:
    """Notes the pauses, and does something in each."""

    def __init__(self, *happenings: object) -> None:
        self.pauses: list[float] = []
        self._happenings = list(happenings)

    async def __call__(self, seconds: float) -> None:
        self.pauses.append(seconds)
        if self._happenings and callable(happening := self._happenings.pop(0)):
            happening()


def write(folder: Path, data: str | bytes, mode: int = 0o600) -> Path:
    path = folder / "IMDS_Rules.json"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    path.chmod(mode)
    return path


async def trouble_of(path: Path) -> str:
    read = await read_local_file(path, Sleep())
    assert read.rules is None
    assert read.trouble is not None
    assert "\n" not in read.trouble
    return read.trouble


async def test_a_valid_file_is_read_at_once(tmp_path: Path) -> None:
    sleep = Sleep()
    read = await read_local_file(write(tmp_path, VALID), sleep)
    assert read.rules is not None
    assert read.rules.id == "mine"
    assert sleep.pauses == []


async def test_no_file_and_no_folder_are_no_trouble(tmp_path: Path) -> None:
    assert await read_local_file(tmp_path / "none.json", Sleep()) == LocalFile()
    assert await read_local_file(tmp_path / "none" / "none.json", Sleep()) == LocalFile()


async def test_a_byte_order_mark_is_skipped_once(tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"
    read = await read_local_file(write(tmp_path, mark + VALID.encode()), Sleep())
    assert read.rules is not None
    assert "is not JSON" in await trouble_of(write(tmp_path, mark + mark + VALID.encode()))


async def test_the_last_of_a_repeated_key_counts(tmp_path: Path) -> None:
    path = write(tmp_path, '{"id": 5, "rules": [], "id": "b", "rules": {}}')
    read = await read_local_file(path, Sleep())
    assert read.rules is not None
    assert (read.rules.id, read.rules.rules) == ("b", Rules())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"id": "x"} x',
        b"[" * 200_000,
        b'{"id": "\\ud800"}',
        b'{"id": "\xff"}',
        b'{"id": NaN}',
        b'{"a": 1e999}',
        VALID.encode("utf-16"),
    ],
)
async def test_what_is_no_json_is_tried_three_times(tmp_path: Path, data: bytes) -> None:
    sleep = Sleep()
    read = await read_local_file(write(tmp_path, data), sleep)
    assert read.trouble is not None
    assert "is not JSON" in read.trouble
    assert sleep.pauses == [PAUSE, PAUSE]
    assert PAUSE == 0.05


async def test_the_place_of_a_fault_is_told(tmp_path: Path) -> None:
    path = write(tmp_path, '{\n "ä": x}')
    assert (await trouble_of(path)).startswith(f"{path}:2:7: is not JSON: ")


async def test_the_place_of_what_is_not_valid_is_told(tmp_path: Path) -> None:
    lines = [
        '{"rules": {"privileges": [{"name": "token", "path": "/m"}],',
        ' "roles": [{"name": "ä", "privileges": ["token"]},',
        '           {"name": "r", "privileges": ["tokn", "x"]}]}}',
    ]
    path = write(tmp_path, "\n".join(lines))
    assert await trouble_of(path) == (
        f"{path}:3:41: rules.roles[1].privileges[0]: the privilege 'tokn' is not defined;"
        " did you mean 'token'? (and 1 more)"
    )
    path = write(tmp_path, "\n[]")
    assert await trouble_of(path) == f"{path}:2:1: must be an object, not a list"


async def test_a_place_deeper_than_a_source_may_be_is_told_without_its_line(
    tmp_path: Path,
) -> None:
    deep = "[" * 100 + "]" * 100
    path = write(tmp_path, f'{{"id": "", "deep": {deep}}}')
    assert await trouble_of(path) == f"{path}: id: is blank"


async def test_a_file_that_is_being_written_is_read_when_it_is_done(tmp_path: Path) -> None:
    path = write(tmp_path, VALID[:20])
    sleep = Sleep(None, lambda: write(tmp_path, VALID))
    read = await read_local_file(path, sleep)
    assert read.rules is not None
    assert len(sleep.pauses) == 2


async def test_a_file_that_is_not_valid_is_not_tried_again(tmp_path: Path) -> None:
    sleep = Sleep()
    read = await read_local_file(write(tmp_path, '{"defaultAccess": "maybe"}'), sleep)
    assert read.trouble is not None
    assert "defaultAccess: must be allow or deny, not 'maybe'" in read.trouble
    assert sleep.pauses == []


@pytest.mark.parametrize("data", ["[]", "null", "1", '"x"'])
async def test_what_is_no_object_is_not_valid(tmp_path: Path, data: str) -> None:
    assert "must be an object" in await trouble_of(write(tmp_path, data))


async def test_a_link_is_refused_even_to_a_good_file(tmp_path: Path) -> None:
    good = write(tmp_path, VALID)
    link = tmp_path / "link.json"
    link.symlink_to(good)
    assert "is a link" in await trouble_of(link)
    good.unlink()
    assert "is a link" in await trouble_of(link)


async def test_what_is_no_plain_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    assert "is not a plain file" in await trouble_of(tmp_path / "fifo")
    (tmp_path / "folder").mkdir(0o700)
    assert "is not a plain file" in await trouble_of(tmp_path / "folder")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
        assert "cannot be read" in await trouble_of(tmp_path / "socket")


@pytest.mark.parametrize("mode", [0o602, 0o666, 0o622])
async def test_a_file_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    assert "can be written by others" in await trouble_of(write(tmp_path, VALID, mode))


@pytest.mark.kernel  # only root gives files away
async def test_another_users_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, VALID)
    os.chown(path, 65534, 0)
    assert "belongs to uid 65534" in await trouble_of(path)


async def test_a_folder_that_others_can_write_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    path = write(folder, VALID)
    folder.chmod(0o777)
    assert "can be written by others" in await trouble_of(path)


async def test_a_large_file_is_refused_and_not_read(tmp_path: Path) -> None:
    path = write(tmp_path, VALID)
    os.truncate(path, MAX_BYTES + 1)
    assert f"larger than {MAX_BYTES} bytes" in await trouble_of(path)
    os.truncate(path, 1 << 40)
    assert f"larger than {MAX_BYTES} bytes" in await trouble_of(path)


async def test_what_the_engine_cannot_use_is_a_trouble(tmp_path: Path) -> None:
    def check(rules: Rules) -> None:
        raise RulesError("unused", ((PLACE, f"no canonical form: {rules.privileges[0].path}"),))

    path = write(tmp_path, VALID)
    read = await read_local_file(path, Sleep(), check)
    assert read.trouble == f"{path}:1:63: {PLACE}: no canonical form: /m"
