"""The host's rules and the operator's, to what holds (docs/protocol.md, "Ids and local rules")."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from gpa.rules.ids import shown_id
from gpa.rules.model import EffectiveRules, HostItem, LocalFile, LocalRules, Rules
from gpa.rules.validate import check_names

PREFIX: Final = "LocalFileRules_"
"""What sets the names of a local file apart from the host's."""

NO_FILE: Final = LocalFile()


def merge(item: HostItem, local: LocalFile = NO_FILE) -> EffectiveRules:
    """Put both together. Without the host's flag the local file does not count, whatever it is."""
    if not item.use_local or (local.rules is None and local.trouble is None):
        return EffectiveRules(
            id=shown_id(item.id, item.use_local),
            default_allowed=item.default_allowed,
            rules=item.rules or Rules(),
        )
    if local.rules is None:
        return _closed(item, None, local.trouble)
    rules = _merged_rules(item.rules, local.rules.rules)
    if problems := check_names(rules):
        return _closed(item, local.rules, f"host's and local rules together: {problems[0]}")
    default = local.rules.default_allowed
    return EffectiveRules(
        id=shown_id(item.id, True, local.rules.id),
        default_allowed=item.default_allowed if default is None else default,
        rules=rules,
    )


def _closed(item: HostItem, local: LocalRules | None, why: str | None) -> EffectiveRules:
    shown = shown_id(item.id, True, local.id if local else None)
    return EffectiveRules(id=shown, default_allowed=False, broken=why)


def _merged_rules(host: Rules | None, local: Rules | None) -> Rules:
    if local is None:
        return host or Rules()
    if host is None:
        return local
    ours = _prefixed(local)
    return Rules(
        privileges=host.privileges + ours.privileges,
        roles=host.roles + ours.roles,
        identities=host.identities + ours.identities,
        assignments=host.assignments + ours.assignments,
    )


def _prefixed(rules: Rules) -> Rules:
    def named(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(PREFIX + name for name in names)

    return Rules(
        privileges=tuple(replace(p, name=PREFIX + p.name) for p in rules.privileges),
        roles=tuple(
            replace(r, name=PREFIX + r.name, privileges=named(r.privileges)) for r in rules.roles
        ),
        identities=tuple(replace(i, name=PREFIX + i.name) for i in rules.identities),
        assignments=tuple(
            replace(a, role=PREFIX + a.role, identities=named(a.identities))
            for a in rules.assignments
        ),
    )
