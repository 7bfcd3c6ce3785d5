import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpa.agent.lock import AgentLock, holder_pid
from gpa.errors import AlreadyRunningError, CannotCreateError


def test_the_second_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    lock = AgentLock.take(tmp_path)
    assert holder_pid(tmp_path) == os.getpid()
    with pytest.raises(AlreadyRunningError, match=f"pid {os.getpid()}"):
        AgentLock.take(tmp_path)
    lock.release()
    lock.release()
    assert holder_pid(tmp_path) is None
    AgentLock.take(tmp_path).release()


def test_it_dies_with_its_holder(tmp_path: Path) -> None:
    code = (
        "import sys, os; from pathlib import Path; from gpa.agent.lock import AgentLock;"
        "lock = AgentLock.take(Path(sys.argv[1])); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=60)
    AgentLock.take(tmp_path).release()


def test_no_folder(tmp_path: Path) -> None:
    assert holder_pid(tmp_path / "none") is None
    with pytest.raises(CannotCreateError, match="cannot open"):
        AgentLock.take(tmp_path / "none")
