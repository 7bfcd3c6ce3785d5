"""JSON of rules to `model`, with every check that docs/protocol.md lists ("Ids and local rules").

All troubles of a document are found at once, each with its place. A privilege, role, identity or
assignment with a member that we do not know is refused: ignoring a selector would widen the rule.
Unknown members elsewhere are ignored, as the host may add some. What a local file may say beyond
the host's language (`extensions`) is an unknown member in the host's rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from gpa.errors import RulesError
from gpa.rules import extensions
from gpa.rules.ids import decode_id
from gpa.rules.model import (
    HOST_SELECTORS,
    LOCAL_SELECTORS,
    Assignment,
    HostItem,
    Identity,
    LocalRules,
    Privilege,
    Role,
    Rules,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import datetime

T = TypeVar("T")
V = TypeVar("V")

MAX_LIST: Final = 0xFFFF
"""A place in a list has 16 bits in an audit record; the highest value says "none"."""

MAX_PROBLEMS: Final = 20
"""Nobody mends more at a time, and looking for a near name is slow."""


class ValidationProblem(NamedTuple):
    """One thing that is wrong, and where: `rules.roles[1].privileges[0]`, empty for the whole."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


def read_host_item(document: object) -> HostItem:
    """Check what the host sent for one endpoint.

    Raises:
        RulesError: it is not valid; `problems` has each trouble.
    """
    reader = _Reader()
    item = reader.mapping(document, "")
    text = reader.text(item, "id", "")
    default = reader.access(item, required=True)
    rules = reader.rules(item)
    inner = decode_id(text) if text is not None else None
    if inner is not None and not inner.id.strip():
        reader.note("id", "the id inside the base64 is blank")
    reader.finish("the host's rules are not valid")
    return HostItem(
        id=inner.id if inner else text or "",
        use_local=inner.use_local if inner else None,
        default_allowed=default is True,
        rules=rules,
    )


def read_local_rules(document: object) -> LocalRules:
    """Check the document of a local file; its `mode` is ignored.

    Raises:
        RulesError: it is not valid; `problems` has each trouble.
    """
    reader = _Reader(local=True)
    item = reader.mapping(document, "")
    local = LocalRules(
        id=reader.text(item, "id", "", required=False),
        default_allowed=reader.access(item, required=False),
        rules=reader.rules(item),
    )
    reader.finish("the local rules are not valid")
    return local


def check_names(rules: Rules) -> tuple[ValidationProblem, ...]:
    """Names that occur twice in a list; rules that were merged can have some."""
    reader = _Reader()
    for kind, items in (
        ("privileges", rules.privileges),
        ("roles", rules.roles),
        ("identities", rules.identities),
    ):
        reader.limit(items, f"rules.{kind}")
        reader.unique([item.name for item in items], f"rules.{kind}", ".name")
    return tuple(reader.problems)


class _Reader:
    """Reads members and notes what is wrong with them; what cannot be read becomes None or empty,
    and is never used, since `finish` raises."""

    def __init__(self, *, local: bool = False) -> None:
        self.problems: list[ValidationProblem] = []
        self._local = local
        self._selectors = LOCAL_SELECTORS if local else HOST_SELECTORS

    def note(self, path: str, message: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(ValidationProblem(path, message))

    def finish(self, summary: str) -> None:
        if not self.problems:
            return
        more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
        raise RulesError(f"{summary}: {self.problems[0]}{more}", tuple(self.problems))

    # Members.

    def mapping(
        self, value: object, path: str, members: Collection[str] | None = None
    ) -> dict[str, object]:
        if not isinstance(value, dict):
            self.note(path, f"must be an object, not {_kind(value)}")
            return {}
        if members is not None:
            for key in sorted(value.keys() - set(members)):
                self.note(path, f"has the unknown member {_short(key)}{_near(key, members)}")
        return value

    def text(
        self, document: dict[str, object], key: str, path: str, *, required: bool = True
    ) -> str | None:
        path = f"{path}.{key}" if path else key
        value = document.get(key)
        if value is None:
            if required:
                self.note(path, "is missing")
            return None
        return self.string(value, path)

    def string(self, value: object, path: str) -> str | None:
        if not isinstance(value, str):
            self.note(path, f"must be a string, not {_kind(value)}")
            return None
        if not value.strip():
            self.note(path, "is blank")
            return None
        if any("\ud800" <= c <= "\udfff" for c in value):
            self.note(path, "has half of a surrogate pair, which is no character")
            return None
        return value

    def items(self, document: dict[str, object], key: str, path: str) -> Sequence[object]:
        value = document.get(key)
        if value is None:
            return ()
        if not isinstance(value, list):
            self.note(f"{path}.{key}", f"must be a list, not {_kind(value)}")
            return ()
        self.limit(value, f"{path}.{key}")
        return value[:MAX_LIST]

    def limit(self, items: Sequence[object], path: str) -> None:
        if len(items) > MAX_LIST:
            self.note(path, f"has {len(items)} entries, more than {MAX_LIST}")

    def access(self, document: dict[str, object], *, required: bool) -> bool | None:
        value = self.text(document, "defaultAccess", "", required=required)
        if value is None:
            return None
        if value.lower() not in ("allow", "deny"):
            self.note("defaultAccess", f"must be allow or deny, not {_short(value)}")
        return value.lower() == "allow"

    # Lists of rules.

    def rules(self, document: dict[str, object]) -> Rules | None:
        if document.get("rules") is None:
            return None
        rules = self.mapping(document["rules"], "rules")
        privileges = self._each(rules, "privileges", self._privilege)
        identities = self._each(rules, "identities", self._identity)
        roles = self._each(rules, "roles", self._role)
        assignments = self._each(rules, "roleAssignments", self._assignment)
        named = {
            "privileges": [p.name for p in privileges],
            "identities": [i.name for i in identities],
            "roles": [r.name for r in roles],
        }
        for kind, names in named.items():
            self.unique(names, f"rules.{kind}", ".name")
        known = {kind: dict.fromkeys(names) for kind, names in named.items()}
        for i, role in enumerate(roles):
            path = f"rules.roles[{i}].privileges"
            self._references(role.privileges, path, "privilege", known["privileges"])
        for i, assignment in enumerate(assignments):
            path = f"rules.roleAssignments[{i}]"
            self._defined(assignment.role, f"{path}.role", "role", known["roles"])
            path += ".identities"
            self._references(assignment.identities, path, "identity", known["identities"])
        return Rules(privileges, roles, identities, assignments)

    def _each(
        self, rules: dict[str, object], kind: str, read: Callable[[object, str], T]
    ) -> tuple[T, ...]:
        items = self.items(rules, kind, "rules")
        return tuple(read(item, f"rules.{kind}[{i}]") for i, item in enumerate(items))

    def _privilege(self, value: object, path: str) -> Privilege:
        more = ("methods",) if self._local else ()
        item = self.mapping(value, path, ("name", "path", "queryParameters", *more))
        query = item.get("queryParameters")
        pairs = [] if query is None else self._query(query, f"{path}.queryParameters")
        return Privilege(
            name=self.text(item, "name", path) or "",
            path=self.text(item, "path", path) or "",
            query=tuple(pairs),
            methods=self._methods(item, path) if self._local else (),
        )

    def _methods(self, item: dict[str, object], path: str) -> tuple[str, ...]:
        if item.get("methods") is None:
            return ()
        methods = self._names(item, "methods", path)
        self.unique(methods, f"{path}.methods", "")
        for i, method in enumerate(methods):
            if method and (trouble := extensions.method_trouble(method)):
                self.note(f"{path}.methods[{i}]", trouble)
        return methods

    def _query(self, value: object, path: str) -> list[tuple[str, str]]:
        pairs = []
        for name, wanted in self.mapping(value, path).items():
            if not name.strip():
                self.note(path, "has a parameter without a name")
            else:
                self.string(name, path)
            pairs.append((name, self.string(wanted, f"{path}[{_short(name)}]") or ""))
        return pairs

    def _role(self, value: object, path: str) -> Role:
        item = self.mapping(value, path, ("name", "privileges"))
        name = self.text(item, "name", path) or ""
        return Role(name, self._names(item, "privileges", path))

    def _identity(self, value: object, path: str) -> Identity:
        item = self.mapping(value, path, ("name", *self._selectors))
        name = self.text(item, "name", path) or ""
        there = [member for member in self._selectors if item.get(member) is not None]
        if not there:
            self.note(path, f"has no selector: give at least one of {', '.join(self._selectors)}")
        selectors = {self._selectors[m]: self._selector(item, m, path) for m in there}
        return Identity(name, **selectors)

    def _selector(self, item: dict[str, object], member: str, path: str) -> Any:
        if member == "uid":
            return self._checked(item[member], f"{path}.uid", extensions.uid)
        text = self.text(item, member, path)
        if text is None or member not in extensions.TEXTS:
            return text
        return self._checked(text, f"{path}.{member}", extensions.TEXTS[member])

    def _checked(self, value: V, path: str, read: Callable[[V], T]) -> T | None:
        try:
            return read(value)
        except ValueError as error:
            self.note(path, str(error))
            return None

    def _assignment(self, value: object, path: str) -> Assignment:
        more = ("notBefore", "notAfter") if self._local else ()
        item = self.mapping(value, path, ("role", "identities", *more))
        role = self.text(item, "role", path) or ""
        names = self._names(item, "identities", path)
        if not self._local:
            return Assignment(role, names)
        begin, end = (self._moment(item, member, path) for member in more)
        if begin and end and begin >= end:
            self.note(f"{path}.notAfter", "is not after notBefore: the grant would never hold")
        return Assignment(role, names, begin, end)

    def _moment(self, item: dict[str, object], member: str, path: str) -> datetime | None:
        text = self.text(item, member, path, required=False)
        return None if text is None else self._checked(text, f"{path}.{member}", extensions.moment)

    def _names(self, item: dict[str, object], key: str, path: str) -> tuple[str, ...]:
        names = self.items(item, key, path)
        path = f"{path}.{key}"
        if item.get(key) is None:
            self.note(path, "is missing")
        elif item[key] == []:
            self.note(path, "is empty: give at least one")
        return tuple(self.string(name, f"{path}[{i}]") or "" for i, name in enumerate(names))

    # Across the lists. What is blank was noted when it was read.

    def unique(self, names: Sequence[str], path: str, member: str) -> None:
        first: dict[str, int] = {}
        for i, name in enumerate(names):
            if first.setdefault(name, i) != i and name:
                where = f"{path}[{i}]{member}"
                self.note(where, f"{_short(name)} is there twice, first at [{first[name]}]")

    def _references(
        self, names: Sequence[str], path: str, kind: str, known: Collection[str]
    ) -> None:
        self.unique(names, path, "")
        for i, name in enumerate(names):
            self._defined(name, f"{path}[{i}]", kind, known)

    def _defined(self, name: str, path: str, kind: str, known: Collection[str]) -> None:
        if name and name not in known and len(self.problems) < MAX_PROBLEMS:
            self.note(path, f"the {kind} {_short(name)} is not defined{_near(name, known)}")


def _kind(value: object) -> str:
    """The word of JSON for a value's type."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
        case _:
            return "an object"


def _short(text: str) -> str:
    """At most 64 characters of something foreign, fit for a message."""
    return ascii(text[:64])


def _near(name: str, known: Collection[str]) -> str:
    import difflib  # only for who has misspelt something

    near = difflib.get_close_matches(name[:256], [k[:256] for k in known][:10_000], 1)
    return f"; did you mean {_short(near[0])}?" if near else ""
