import json
import math
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpa.rules.scan import MAX_DEPTH, MAX_DIGITS, Branch, Place, ScanError, scan

TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def places(value: object, place: Place) -> Iterator[tuple[object, int]]:
    """Each value with where it begins."""
    yield value, place.start if isinstance(place, Branch) else place
    if isinstance(value, dict):
        assert isinstance(place, Branch)
        assert list(value) == list(place.members)
        for key, (start, below) in place.members.items():
            yield key, start
            yield from places(value[key], below)
    elif isinstance(value, list):
        assert isinstance(place, Branch)
        for item, below in zip(value, place.items, strict=True):
            yield from places(item, below)


@given(VALUES, st.booleans(), st.sampled_from([None, 0, 1, "\t"]))
def test_values_are_those_of_json_and_each_stands_where_we_say(
    value: object, ascii_only: bool, indent: int | str | None
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    scanned = scan(text)
    assert scanned.value == value
    assert json.dumps(scanned.value) == json.dumps(value)
    assert scanned.repeated == ()
    decode = json.JSONDecoder().raw_decode
    for part, start in places(scanned.value, scanned.root):
        assert json.dumps(decode(text, start)[0]) == json.dumps(part)


def json_reads(text: str) -> object:
    """What RFC 8259 allows, by `json`, which allows more."""

    def refuse(word: str) -> object:
        raise ValueError(word)

    value = json.loads(text, parse_constant=refuse)
    if any(
        (isinstance(part, float) and math.isinf(part))
        or (isinstance(part, str) and re.search("[\ud800-\udfff]", part))
        for part, _ in places(value, scan(text).root)
    ):
        raise ValueError
    return value


@given(st.text('{}[],:"\\u0d8x-.1eE+ \n\ttruefalsnl', max_size=12))
def test_what_json_refuses_is_refused_and_nothing_else(text: str) -> None:
    try:
        wanted = json_reads(text)
    except (ValueError, RecursionError):
        with pytest.raises(ScanError) as caught:
            scan(text)
        assert 0 <= caught.value.offset <= len(text)
    else:
        assert json.dumps(scan(text).value) == json.dumps(wanted)


@pytest.mark.parametrize(
    ("text", "offset", "words"),
    [
        ("", 0, "'the end' where a value must be"),
        ('{"a": 1', 7, "where a comma or } must be"),
        ('["a" "b"]', 5, "'\"' where a comma or ] must be"),
        ('{"a": 1,}', 8, "'}' where a key in quotation marks"),
        ("[1,]", 3, "']' where a value must be"),
        ("{a: 1}", 1, "'a' where a key in quotation marks"),
        ('{"a" 1}', 5, "'1' where a colon must be"),
        ("{1: 1}", 1, "'1' where a key"),
        ("{} {}", 3, "behind the end"),
        ("[}", 1, "'}' where a value or ]"),
        ("// no\n{}", 0, "'/' where a value"),
        ("[01]", 1, "'0' where a value"),
        ("[NaN]", 1, "'N' where a value"),
        ('["a', 1, "has no end"),
        ('["\\x"]', 2, "escape '\\\\x'"),
        ('["\n"]', 2, "control character '\\n'"),
        ('["\\ud800"]', 1, "surrogate"),
        ("[1e999]", 1, "out of range"),
        ("1" * (MAX_DIGITS + 1), 0, "digits"),
    ],
)
def test_each_trouble_is_told_where_it_is(text: str, offset: int, words: str) -> None:
    with pytest.raises(ScanError) as caught:
        scan(text)
    assert caught.value.offset == offset
    assert words.replace("'the end'", "the end") in str(caught.value)


@pytest.mark.parametrize("bracket", ["[", '{"a":'])
def test_depth_is_a_limit_and_no_crash(bracket: str) -> None:
    close = "]" if bracket == "[" else "}"
    inner = "0"
    assert scan(bracket * MAX_DEPTH + inner + close * MAX_DEPTH).value is not None
    with pytest.raises(ScanError, match="nested deeper than 64"):
        scan(bracket * 1_000_000)


def test_the_last_of_a_repeated_key_counts_and_each_repetition_is_told() -> None:
    text = '{"a": [{"b": 1, "b": 2, "b": 3}], "a": [0, {"c": 1, "c": 2}]}'
    scanned = scan(text)
    assert scanned.value == json.loads(text)
    assert [(r.path, r.key) for r in scanned.repeated] == [
        (("a", 0), "b"),
        (("a", 0), "b"),
        ((), "a"),
        (("a", 1), "c"),
    ]
    assert [text[r.first : r.first + 6] for r in scanned.repeated] == [
        '"b": 1',
        '"b": 2',
        '"a": [',
        '"c": 1',
    ]
    assert text[scanned.repeated[0].again :].startswith('"b": 2')


def test_long_strings_are_read_without_a_stack() -> None:
    for part in ("a", "\\n", "\\u00e4"):
        assert scan(f'"{part * 1_000_000}"').value == json.loads(f'"{part}"') * 1_000_000
