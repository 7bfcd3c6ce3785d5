"""The verbs of the agent, run as commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from gpa.__main__ import main
from gpa.agent import tags
from gpa.agent.lock import AgentLock
from gpa.cli.status import _seconds
from gpa.config import LOG_LEVELS

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folders = {
        f"{name}Folder": str(tmp_path / name) for name in ("log", "latchKey", "run", "rules")
    }
    for folder in folders.values():
        os.mkdir(folder, 0o700)  # noqa: PTH102 - with a mode
    path = tmp_path / "config.json"
    path.write_text(json.dumps(folders))
    path.chmod(0o644)
    return path


def gpa(*words: object, program: str = "gpa") -> subprocess.CompletedProcess[str]:
    code = f"import sys; from gpa.__main__ import main; sys.exit(main(program={program!r}))"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_status_tells_by_its_exit_code(config: Path, tmp_path: Path) -> None:
    done = gpa("status", "--config", config, "--provisioning")
    assert (done.returncode, done.stdout) == (1, "provisioning has not finished\n")
    tags.write(tmp_path / "latchKey", 1, "the host\ndid not answer")
    done = gpa("status", "--config", config, "--provisioning")
    assert done.returncode == 2
    assert done.stdout == "provisioning has finished with an error: the host\\ndid not answer\n"
    tags.write(tmp_path / "latchKey", 1, "")
    done = gpa("status", "--config", config)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("provisioned\nthe agent has not written a status yet")
    shown = json.loads(gpa("status", "--config", config, "--json").stdout)
    assert shown == {"provisioned": True, "finished": True, "errorMessage": "", "status": None}


def test_status_waits_as_long_as_it_is_told(config: Path) -> None:
    begin = time.monotonic()
    assert gpa("status", "--config", config, "--wait", "0.5").returncode == 1
    assert time.monotonic() - begin >= 0.5


def test_status_shows_the_parts(config: Path, tmp_path: Path) -> None:
    part = {"status": "RUNNING", "message": "attached\x1b"}
    agent = {"status": "SUCCESS", "version": "1", "ebpfProgramStatus": part}
    document = {"timestamp": "now", "proxyAgentStatus": agent}
    (tmp_path / "log" / "status.json").write_text(json.dumps(document))
    shown = gpa("status", "--config", config).stdout
    assert "SUCCESS as of now, version 1\n" in shown
    assert "  eBPF: RUNNING, attached\\x1b\n" in shown
    idle = {"role": "r", "identities": ["i"], "why": "not in force before 2026-01-31T08:00:00Z"}
    computed = {"imds": {"id": "x", "assignmentsNotInForce": [idle]}, "hostga": None}
    rules = tmp_path / "log" / "AuthorizationRules_2026-01-01T00-00-00.000Z.json"
    rules.write_text(json.dumps({"computedRules": computed}))
    assert gpa("status", "--config", config).stdout.endswith(
        "\n  imds: role r: not in force before 2026-01-31T08:00:00Z\n"
    )
    (tmp_path / "log" / "status.json").write_text("[")
    assert "not written a status" in gpa("status", "--config", config).stdout


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "soon", ""])
def test_waits_that_make_no_sense(text: str) -> None:
    with pytest.raises(Exception, match="number of seconds"):
        _seconds(text)


@pytest.mark.kernel  # only root gets as far
def test_a_wrong_configuration_is_one_line(config: Path) -> None:
    config.write_text('{"fileLogLevel": "Loud"}')
    for verb in ("run", "detach", "status"):
        done = gpa(verb, "--config", config)
        assert done.returncode == 78
        assert done.stderr == (
            f'gpa: {config}: fileLogLevel must be one of {", ".join(LOG_LEVELS)}, not "Loud"\n'
        )
    assert gpa("run", "--config", config.with_name("none")).returncode == 78


@pytest.mark.parametrize("verb", ["run", "detach"])
def test_an_ordinary_user_is_told_kindly(
    verb: str,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main([verb, "--config", str(config)], "gpa") == 77
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"gpa: gpa {verb} needs root")
    assert err.count("\n") == 1


@pytest.mark.kernel  # only root gets as far
def test_detach_does_not_pull_the_rug_from_under_a_running_agent(
    config: Path, tmp_path: Path
) -> None:
    lock = AgentLock.take(tmp_path / "run")
    done = gpa("detach", "--config", config)
    assert done.returncode == 75
    assert f"pid {os.getpid()}" in done.stderr
    lock.release()
