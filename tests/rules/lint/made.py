"""Small rule sets for the tests of checks."""

from __future__ import annotations

import json
from typing import Any

from tests.rules.lint.pretend import PretendMachine

from gpa.endpoints import Endpoint
from gpa.rules.lint.examine import examine_source
from gpa.rules.source import Source


def granted(*privileges: dict[str, Any], **holders: str) -> dict[str, Any]:
    """Privileges, each granted to the identities whose letters `holders` has for its name."""
    names = sorted(set("".join(holders.values())))
    return {
        "privileges": list(privileges),
        "roles": [{"name": p, "privileges": [p]} for p in holders],
        "identities": [{"name": name, "userName": "alice"} for name in names],
        "roleAssignments": [
            {"role": p, "identities": sorted(of)} for p, of in holders.items() if of
        ],
    }


def privilege(name: str, path: str, **query: str) -> dict[str, Any]:
    """One privilege."""
    body: dict[str, Any] = {"name": name, "path": path}
    return body | ({"queryParameters": query} if query else {})


def found(
    rules: dict[str, Any] | None = None,
    *,
    machine: bool = True,
    host: bool = False,
    endpoint: Endpoint = Endpoint.IMDS,
    **members: Any,
) -> list[tuple[str, str]]:
    """Codes with their places."""
    document = members | ({} if rules is None else {"rules": rules})
    source = Source.parse(json.dumps(document).encode(), "rules.json")
    examined = examine_source(
        source, endpoint=endpoint, host=host, machine=PretendMachine() if machine else None
    )
    return [(one.finding.code.number, one.finding.place) for one in examined.found]


def of(code: str, *args: Any, **kwargs: Any) -> list[str]:
    """Places of one code."""
    return [place for number, place in found(*args, **kwargs) if number == code]


def identity(**selectors: Any) -> dict[str, Any]:
    """Rules in which one identity has one privilege."""
    return {
        "privileges": [privilege("p", "/metadata/instance")],
        "roles": [{"name": "r", "privileges": ["p"]}],
        "identities": [{"name": "i", **selectors}],
        "roleAssignments": [{"role": "r", "identities": ["i"]}],
    }
