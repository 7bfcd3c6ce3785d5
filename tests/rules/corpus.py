"""The corpus `tests/vectors/rules/*.json`: rules, callers, requests and what must come of them.

Rules, callers and cases are written by hand. `compiled` is what `gpa.rules` makes of the rules (the
table, and names by place), so that `cargo test` can read the same files; after a change of rules or
compiler: `PYTHONPATH=src python -m tests.rules.corpus`. pytest fails when it is stale.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from tests.rules.oracle import Json, Machine

from gpa.endpoints import Endpoint, Mode
from gpa.errors import RulesError
from gpa.rules import validity
from gpa.rules.compile import CompiledNames, ExeId, GroupIds, Known, compile_table
from gpa.rules.merge import merge
from gpa.rules.model import EffectiveRules, LocalFile
from gpa.rules.places import Place
from gpa.rules.validate import read_host_item, read_local_rules

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parent.parent / "vectors" / "rules"


def files() -> list[Path]:
    return sorted(FOLDER.glob("*.json"))


def rule_sets(path: Path) -> Iterator[tuple[Machine, Json, Json]]:
    """Machine, callers and rule set, for each rule set of a file."""
    document = json.loads(path.read_text())
    for rule_set in document["sets"]:
        yield machine_of(document["machine"]), document["callers"], rule_set


def machine_of(document: Json) -> Machine:
    return Machine(
        {name: (uid, gid) for name, (uid, gid) in document["users"].items()},
        {name: (gid, tuple(members)) for name, (gid, members) in document["groups"].items()},
        {path: (a, b, c, d) for path, (a, b, c, d) in document["files"].items()},
        {(a, b, c, d): digest for digest, (a, b, c, d) in document.get("contents", {}).items()},
        {int(number): path for number, path in document.get("cgroups", {}).items()},
    )


@dataclasses.dataclass(frozen=True)
class MachineResolver:
    """A `gpa.rules.compile.Resolver` over a machine on paper."""

    machine: Machine

    def user(self, name: str) -> frozenset[int]:
        return frozenset({self.machine.users[name][0]} if name in self.machine.users else ())

    def group(self, name: str) -> GroupIds:
        if name not in self.machine.groups:
            return GroupIds()
        gid, members = self.machine.groups[name]
        uids = {self.machine.users[member][0] for member in members}
        uids |= {uid for uid, primary in self.machine.users.values() if primary == gid}
        return GroupIds(frozenset({gid}), frozenset(uids))

    def executable(self, path: str) -> frozenset[ExeId]:
        files = self.machine.files
        return frozenset({ExeId(*files[path])} if path in files else ())

    def content(self, digest: str) -> frozenset[ExeId]:
        contents = self.machine.contents.items()
        return frozenset(ExeId(*file) for file, has in contents if has == digest)

    def cgroups(self, selector: str, value: str) -> frozenset[int]:
        places = {
            n: Place.of("/" + "/".join(self.machine.place_of(n))) for n in self.machine.cgroups
        }
        return frozenset(n for n, place in places.items() if place.meets(selector, value))

    @property
    def known(self) -> Known:
        files = frozenset(ExeId(*file) for file in self.machine.contents)
        return Known(files, frozenset(self.machine.cgroups))


def effective_of(rule_set: Json) -> EffectiveRules | None:
    """What our code makes of the documents; an invalid local file is a broken one."""
    if rule_set["item"] is None:
        return None
    item = read_host_item(rule_set["item"])
    if rule_set.get("local") is None:
        return merge(item)
    try:
        merged = merge(item, LocalFile(read_local_rules(rule_set["local"])))
    except RulesError as error:
        return merge(item, LocalFile(trouble=str(error)))
    return validity.split(merged, datetime.fromtimestamp(rule_set.get("now", 0), UTC))[0]


def table_of(machine: Machine, rule_set: Json) -> bytes:
    endpoint = Endpoint(rule_set["endpoint"])
    modes = {**dict.fromkeys(Endpoint, Mode.DISABLED), endpoint: Mode(rule_set["mode"])}
    return compile_table({endpoint: effective_of(rule_set)}, modes, MachineResolver(machine))


def compiled(machine: Machine, rule_set: Json) -> Json:
    names = dataclasses.asdict(CompiledNames.of(effective_of(rule_set)))
    return {"table": msgspec.json.decode(table_of(machine, rule_set)), "names": names}


def main() -> None:
    for path in files():
        document = json.loads(path.read_text())
        for rule_set in document["sets"]:
            rule_set["compiled"] = json.loads(
                json.dumps(compiled(machine_of(document["machine"]), rule_set))
            )
        path.write_text(layout(document))
        sys.stdout.write(f"{path.name}\n")


def layout(document: Json) -> str:
    """JSON with a line a case, so that a diff shows cases."""

    def lines(items: list[Json], indent: str) -> str:
        return "[\n" + ",\n".join(indent + " " + json.dumps(i) for i in items) + f"\n{indent}]"

    def members(value: Json, indent: str) -> str:
        inner = indent + " "
        parts = []
        for key, item in value.items():
            text = json.dumps(item)
            if key == "cases":
                text = lines(item, inner)
            elif key == "callers":
                text = members(item, inner)
            elif key == "sets":
                texts = (members(one, inner + " ") for one in item)
                text = "[" + ", ".join(texts) + "]"
            parts.append(f"{inner}{json.dumps(key)}: {text}")
        return "{\n" + ",\n".join(parts) + f"\n{indent}}}"

    return members(document, "") + "\n"


if __name__ == "__main__":
    main()
