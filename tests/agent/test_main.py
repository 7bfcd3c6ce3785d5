import subprocess
import sys

import pytest

from gpa import __main__ as entry
from gpa.errors import AlreadyRunningError, ConfigError


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def dispatch(words: list[str]) -> int:
        raise error

    monkeypatch.setattr(entry, "_dispatch", dispatch)


def test_trouble_of_ours_is_one_line_and_its_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, ConfigError("no\nway \x1b[31m"))
    assert entry.main([], "gpa") == 78
    assert capsys.readouterr().err == "gpa: no\\nway \\x1b[31m\n"


def test_a_group_of_ours_is_its_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, ExceptionGroup("x", [ExceptionGroup("y", [AlreadyRunningError("two")])]))
    assert entry.main([], "gpa") == 75
    assert capsys.readouterr().err == "gpa: two\n"


def test_a_defect_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(entry.TRACEBACK_VARIABLE, raising=False)
    failing(monkeypatch, ExceptionGroup("x", [AlreadyRunningError("two"), TypeError("bad")]))
    assert entry.main([], "gpa") == 70
    err = capsys.readouterr().err
    assert err.startswith("gpa: internal error: TypeError: bad")
    assert err.count("\n") == 1


def test_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, KeyboardInterrupt())
    assert entry.main([], "gpa") == 130
    failing(monkeypatch, BaseExceptionGroup("x", [KeyboardInterrupt()]))
    assert entry.main([], "gpa") == 130


@pytest.mark.parametrize(
    ("words", "ours"),
    [
        ([], ["run"]),
        (["console"], ["run"]),
        (["--version"], ["version"]),
        (["--status"], ["status", "--provisioning"]),
        (["--status", "--wait", "120"], ["status", "--provisioning", "--wait", "120"]),
    ],
)
def test_the_vendors_options(
    words: list[str], ours: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def dispatch(words: list[str]) -> int:
        seen.append(words)
        return 0

    monkeypatch.setattr(entry, "_dispatch", dispatch)
    assert entry.main(words, "/usr/sbin/azure-proxy-agent") == 0
    assert seen == [ours]


def test_the_vendors_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["--frobnicate"], "azure-proxy-agent") == 2
    assert "usage: azure-proxy-agent" in capsys.readouterr().err


def test_an_unknown_verb_is_usage() -> None:
    with pytest.raises(SystemExit) as caught:
        entry.main(["frobnicate"], "gpa")
    assert caught.value.code == 2


def test_only_the_verb_that_was_asked_for_is_imported() -> None:
    code = (
        "import sys, gpa.__main__ as entry;"
        "sys.modules.setdefault('gpa._native', None);"
        "entry.main(['version'], 'gpa');"
        "print([m for m in sys.modules if m.startswith('gpa.cli.')], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr.splitlines()[-1] == "['gpa.cli.version']"


def test_nothing_heavy_is_imported_to_start() -> None:
    code = (
        "import sys, gpa.__main__, gpa.config, gpa.errors, gpa.cli.version;"
        "print([m for m in ('trio', 'rich', 'h11', 'msgspec', 'cryptography') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
