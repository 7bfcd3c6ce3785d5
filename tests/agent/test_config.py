import os
from pathlib import Path

import pytest

from gpa import config
from gpa.errors import ConfigError, UntrustedPathError
from gpa.trust import check_file


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(0o644)
    return path


def test_an_empty_object_gives_the_documented_defaults(tmp_path: Path) -> None:
    loaded = config.load(write(tmp_path / "c.json", "{}"))
    assert loaded == config.Config()
    assert loaded.poll_key_status_interval == 15
    assert loaded.latch_key_folder == Path("/var/lib/azure-proxy-agent/keys")


def test_every_key_of_the_vendor_is_known() -> None:
    vendor = (
        "logFolder eventFolder latchKeyFolder monitorIntervalInSeconds"
        " pollKeyStatusIntervalInSeconds maxEventFileCount hostGAPluginSupport ebpfProgramName"
        " ebpfFileFullPath cgroupRoot fileLogLevel fileLogLevelForEvents"
        " fileLogLevelForSystemEvents enableHttpProxyTrace canonicalRequestMode"
    )
    assert set(vendor.split()) <= set(config.KEYS)


def test_unknown_keys_are_reported_and_ignored() -> None:
    loaded = config.parse(b'{"colour": 1, "cgroupRoot": "/x/../y"}', "f")
    assert loaded.warnings == ("f: unknown key 'colour' is ignored",)
    assert loaded.cgroup_root == Path("/y")
    assert loaded.cgroup_root_is_explicit


def test_the_last_of_a_repeated_key_counts_and_is_reported() -> None:
    loaded = config.parse(b'{"relayThreads": 1, "relayThreads": 3}', "f")
    assert loaded.relay_threads == 3
    assert "repeated" in loaded.warnings[0]


def test_a_byte_order_mark_is_skipped() -> None:
    assert config.parse(b"\xef\xbb\xbf{}", "f") == config.Config()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "f is not JSON"),
        (b"{", "f is not JSON"),
        (b"\xff{}", "f is not JSON"),
        (b"[" * 100_000, "f is not JSON"),
        (b'{"relayThreads": NaN}', "NaN is not JSON"),
        (b"[]", "must be a JSON object, not a list or an object"),
        (b'{"logFolder": 1}', "logFolder must be an absolute path, not 1"),
        (b'{"logFolder": "var"}', 'logFolder must be an absolute path, not "var"'),
        (b'{"logFolder": "/a\\u0000"}', "logFolder must be an absolute path"),
        (b'{"relayThreads": true}', "whole number from 1 to 16, not true"),
        (b'{"relayThreads": 0}', "whole number from 1 to 16, not 0"),
        (b'{"relayThreads": 2.0}', "whole number from 1 to 16, not 2.0"),
        (b'{"relayThreads": null}', "whole number from 1 to 16, not null"),
        (b'{"fileLogLevel": "Loud"}', "one of Trace, Debug, Info, Warn, Error"),
        (b'{"guard": "on"}', 'guard must be "off" or "cgroup" or "interfaces", not "on"'),
        (b'{"enableHttpProxyTrace": 1}', "must be true or false, not 1"),
        (b'{"requestBodyBudgetInBytes": 1048576}', "smaller than requestBodyLimitInBytes"),
    ],
)
def test_wrong_files_are_one_clear_line(text: bytes, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse(text, "f")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no"):
        config.load(tmp_path / "none")


def test_a_folder_a_fifo_and_a_link_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UntrustedPathError):
        config.load(tmp_path)
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(UntrustedPathError, match="not a plain file"):
        config.load(tmp_path / "fifo")
    write(tmp_path / "c.json", "{}")
    (tmp_path / "link").symlink_to(tmp_path / "c.json")
    with pytest.raises(ConfigError, match="cannot read"):
        config.load(tmp_path / "link")


def test_what_others_can_write_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "c.json", "{}")
    path.chmod(0o666)
    with pytest.raises(UntrustedPathError, match="chmod go-w"):
        config.load(path)


def test_what_others_own_is_refused(tmp_path: Path) -> None:
    owned_by_nobody = os.stat_result((0o100644, 1, 1, 1, 65534, 65534, 2, 0, 0, 0))
    with pytest.raises(UntrustedPathError, match="belongs to uid 65534"):
        check_file(tmp_path / "c.json", owned_by_nobody)


def test_a_folder_above_that_others_can_write_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    path = write(folder / "c.json", "{}")
    folder.chmod(0o777)
    with pytest.raises(UntrustedPathError, match="open can be written by others"):
        config.load(path)
    folder.chmod(0o1777)
    config.load(path)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="larger than"):
        config.load(write(tmp_path / "c.json", b" " * (config.MAX_FILE_BYTES + 1)))
