"""Whatever is read as rules, and however a target is spelled.

tests/fuzz does the same for the native half, with a fuzzer.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import urllib.parse
from typing import Any

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.rules.native import ident, load
from tests.rules.oracle import Caller

from gpa import _native
from gpa.endpoints import Endpoint, Mode
from gpa.errors import RulesError
from gpa.rules.compile import Nobody, compile_table, computed_rules, table_check
from gpa.rules.ids import decode_id
from gpa.rules.merge import merge
from gpa.rules.model import LocalFile
from gpa.rules.validate import read_host_item, read_local_rules

MODES = dict.fromkeys(Endpoint, Mode.ENFORCE)
KEYS = [
    "id",
    "mode",
    "defaultAccess",
    "rules",
    "privileges",
    "roles",
    "identities",
    "roleAssignments",
    "name",
    "path",
    "queryParameters",
    "userName",
    "groupName",
    "exePath",
    "processName",
    "privileges",
    "role",
    "more",
]
TEXTS = st.sampled_from(["p", "P", "r", "i", "/a", "/a/../b", "/%zz", "", " ", "allow", "DENY"])

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(), inner, max_size=6)
    ),
    max_leaves=30,
)
entries = {
    "privileges": st.fixed_dictionaries({"name": TEXTS, "path": TEXTS | values}),
    "roles": st.fixed_dictionaries({"name": TEXTS, "privileges": st.lists(TEXTS) | values}),
    "identities": st.fixed_dictionaries({"name": TEXTS, "userName": TEXTS | values}),
    "roleAssignments": st.fixed_dictionaries({"role": TEXTS, "identities": st.lists(TEXTS)}),
}
lists = {key: st.lists(entry | values, max_size=3) | values for key, entry in entries.items()}
documents = values | st.fixed_dictionaries(
    {"id": TEXTS | values, "defaultAccess": TEXTS | values},
    optional={"rules": st.fixed_dictionaries({}, optional=lists) | values},
)


def told(error: RulesError) -> None:
    assert str(error).isprintable()


@settings(max_examples=200)
@given(documents, documents)
def test_a_document_is_read_or_is_an_error_of_rules(host: Any, operators: Any) -> None:
    """And what is read is compiled, merged and shown without another."""
    check = table_check(load)
    try:
        item = read_host_item(host)
        if item.rules is not None:
            check(item.rules)
    except RulesError as error:
        told(error)
        return
    try:
        local = LocalFile(read_local_rules(operators))
    except RulesError as error:
        local = LocalFile(trouble=str(error))
    # As if the host's flag were set.
    effective = merge(dataclasses.replace(item, use_local=True), local)
    both = dict.fromkeys(Endpoint, effective)
    load(compile_table(both, MODES, Nobody()))
    json.dumps(computed_rules(both, MODES), indent=2)


@given(st.binary() | st.text().map(str.encode))
def test_bytes_are_json_or_not(data: bytes) -> None:
    for text in (data, base64.b64encode(data)):
        decode_id(text.decode("latin-1"))
    try:
        document = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return
    try:
        read_local_rules(document)
    except RulesError:
        return


@given(st.text())
@example("[" * 100_000)
@example(base64.b64encode(b"[" * 100_000).decode())
@example(base64.b64encode(b'{"id": "\\ud800", "useLocalFileRules": true}').decode())
@example(base64.b64encode(b'{"id": "x", "useLocalFileRules": 1}').decode())
def test_an_id_is_taken_apart_or_is_plain(text: str) -> None:
    found = decode_id(text)
    assert found is None or (isinstance(found.id, str) and isinstance(found.use_local, bool))


# Another reader of targets: the one of Python's servers and clients.

PROTECTED = ("metadata", "identity", "token")
MATCHED = ("allow", "rule_matched")
SPELLINGS = (
    "/ // . .. %2e %2F %5c \\ %25 %252e ; ;a=1 %00 %20 metadata Metadata %6detadata identity token"
    " tokens a %c0%af %u002f ? & = # + é \uff0f @ : http: [ ]"
)
pieces = st.sampled_from(SPELLINGS.split())


def snapshot() -> Any:
    """Lets everybody in under one path, and nobody elsewhere."""
    item = read_host_item(
        {
            "id": "x",
            "defaultAccess": "deny",
            "rules": {
                "privileges": [{"name": "p", "path": "/" + "/".join(PROTECTED)}],
                "roles": [{"name": "r", "privileges": ["p"]}],
                "identities": [{"name": "i", "processName": "curl"}],
                "roleAssignments": [{"role": "r", "identities": ["i"]}],
            },
        }
    )
    effective = {Endpoint.IMDS: merge(item)}
    return _native.Snapshot(1, compile_table(effective, MODES, Nobody()))


SNAPSHOT = snapshot()
CALLER = ident(Caller(1000, 1000, 1000, exe_name="curl"), "imds")


def resolved(target: str) -> list[str]:
    """Segments as a forgiving server on urllib comes to them."""
    url = urllib.parse.urlsplit("http://169.254.169.254" + target)
    assert url.netloc == "169.254.169.254"
    joined = urllib.parse.urljoin("http://host/", urllib.parse.unquote(url.path))
    path = urllib.parse.unquote(urllib.parse.urlsplit(joined).path).replace("\\", "/")
    found: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del found[-1:]
        elif segment not in ("", "."):
            found.append(segment.partition(";")[0].lower())
    return found


@settings(max_examples=1000)
@given(st.lists(pieces, max_size=10).map(lambda parts: "/" + "".join(parts)))
@example("/metadata/identity/token")
@example("/metadata/x/../identity/token")
@example("/METADATA/%69dentity/token/more?a=../..")
def test_what_python_resolves_to_a_protected_path_is_judged_as_that_or_refused(
    target: str,
) -> None:
    try:
        target.encode("ascii")
    except UnicodeEncodeError:
        target = urllib.parse.quote(target, safe="/%?&=#;+@:[]\\.")
    decision, reason, *_ = SNAPSHOT.decide("imds", CALLER, "GET", target)
    if decision == "refused":
        return
    try:
        segments = resolved(target)
    except ValueError:  # brackets: urllib takes them for an address
        return
    inside = tuple(segments[: len(PROTECTED)]) == PROTECTED
    assert ((decision, reason) == MATCHED) is inside, (target, segments)
