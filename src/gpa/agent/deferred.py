"""Modules of the standard library that dependencies import and the agent never uses.

trio imports `ssl` and `hmac` for its TLS, which brings OpenSSL: 5 MiB of resident memory and 30 ms
of every start. Put off, they cost nothing until somebody asks for what is in them.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


def put_off(*names: str) -> None:
    """Load these modules when an attribute of theirs is first asked for; in vain for one that is
    already there."""
    for name in names:
        if name not in sys.modules:
            sys.modules[name] = _stand_in(name)


def _stand_in(name: str) -> ModuleType:
    module = ModuleType(name, "Stands in for the module until it is used.")

    def load(attribute: str) -> Any:
        # The import system looks for some of these, and so do those who only look around.
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        if sys.modules.get(name) is module:
            del sys.modules[name]
        real = importlib.import_module(name)
        module.__dict__.update(real.__dict__)
        return getattr(real, attribute)

    module.__getattr__ = load  # type: ignore[method-assign]
    return module
