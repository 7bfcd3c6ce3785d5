"""What the agent does not use it does not load, and what is asked for after all is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SRC = Path(__file__).resolve().parents[2] / "src"


def run(code: str) -> str:
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(SRC)!r})\n{code}"]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def test_the_agent_loads_no_tls() -> None:
    loaded = run(
        "from gpa.agent import deferred\n"
        "deferred.put_off('ssl', 'hmac')\n"
        "import gpa.agent.start\n"
        "print('_ssl' in sys.modules, '_hashlib' in sys.modules,"
        " 'libcrypto' in open('/proc/self/maps').read())"
    )
    assert loaded.split() == ["False"] * 3


def test_what_was_put_off_comes_when_it_is_used() -> None:
    shown = run(
        "from gpa.agent import deferred\n"
        "deferred.put_off('hmac', 'sys')\n"
        "import hmac as first\n"
        "from hmac import compare_digest\n"
        "import hmac\n"
        "print(first.compare_digest is hmac.compare_digest is compare_digest,"
        " first.digest(b'k', b'm', 'sha256') == hmac.digest(b'k', b'm', 'sha256'),"
        " hasattr(first, 'nothing'), hasattr(sys, 'argv'))"
    )
    assert shown.split() == ["True", "True", "False", "True"]
