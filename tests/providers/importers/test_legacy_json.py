import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.importers.legacy import ABSENT
from providers.importers.legacy_json import read_object, read_words

OBJECT = {"base_url": "https://u.example", "timeout": 3}
TEXT = json.dumps(OBJECT)


@pytest.mark.parametrize("raw", [OBJECT, TEXT, TEXT.encode(), f"\ufeff {TEXT}\n"])
def test_an_object_is_read_without_a_word(raw):
    assert read_object(raw) == (OBJECT, False, False)


@pytest.mark.parametrize(
    "raw", [json.dumps(TEXT), json.dumps(json.dumps(TEXT)), repr(OBJECT), json.dumps(repr(OBJECT))]
)
def test_an_object_in_another_notation_is_repaired(raw):
    assert read_object(raw) == (OBJECT, True, False)


@pytest.mark.parametrize("raw", [None, ABSENT, "", "  ", "null", {}, "{}", b""])
def test_nothing_is_the_empty_object(raw):
    assert read_object(raw).value == {}
    assert not read_object(raw).is_broken


@pytest.mark.parametrize(
    "raw",
    [
        "{",
        TEXT[:-3],
        "[1]",
        "3",
        "true",
        "base_url=x",
        3,
        [1],
        "{'a': __import__('os')}",
        "[" * 100_000,
        '{"a":' * 200 + "1",
        "{'a': 0x" + "f" * 6_000 + "}",
        "{'a': 1" + "0" * 6_000 + "}",
    ],
)
def test_what_is_no_object_is_broken(raw):
    assert read_object(raw) == ({}, False, True)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ('{"a": NaN, "b": [Infinity, 1e999]}', {"a": None, "b": [None, None]}),
        ('{"a": "x\\u0000y"}', {"a": "xy"}),
        ('{"a\\ud800": "\\udc00z"}', {"a": "z"}),
        ("{'a': (1, 2), 3: b'x', 'c': {'y'}}", {"a": [1, 2], "3": "x", "c": ["y"]}),
        ({"a": Decimal("1.5"), "b": Decimal("NaN")}, {"a": 1.5, "b": None}),
    ],
)
def test_what_the_database_cannot_hold_is_taken_out(raw, value):
    assert read_object(raw) == (value, True, False)


def test_half_characters_that_make_one_are_kept():
    assert read_object('{"a": "\\ud83d\\ude00"}') == ({"a": "😀"}, False, False)


def test_an_escape_that_python_warns_about_is_read_in_silence():
    assert read_object(r"{'pattern': '\d'}").value == {"pattern": r"\d"}


@pytest.mark.parametrize("raw", [["chat", "tools"], '["chat", "tools"]'])
def test_words_are_read_without_a_word(raw):
    assert read_words(raw) == (["chat", "tools"], False, False)


@pytest.mark.parametrize(
    "raw",
    [
        *(
            '"[\\"chat\\", \\"tools\\"]"',
            "chat,tools",
            "chat, tools,",
            '"chat, tools"',
            "['chat', 'tools']",
            ("chat", "tools"),
        ),
        *({"chat": True, "vision": False, "tools": 1}, '{"chat": "yes", "vision": "false", "tools": true}'),
        *(["chat", 3, None, "tools", "chat", ["x"]], ["chat ", "tools", ""]),
    ],
)
def test_words_in_another_form_are_repaired(raw):
    assert read_words(raw) == (["chat", "tools"], True, False)


@pytest.mark.parametrize("raw", [None, ABSENT, "", "null", [], "[]"])
def test_nothing_is_no_words(raw):
    assert read_words(raw) == ([], False, False)


@pytest.mark.parametrize("raw", ['["chat", "too', "3", "true", 7, "{chat", "<chat>"])
def test_what_is_no_list_is_broken(raw):
    assert read_words(raw) == ([], False, True)


def test_a_list_of_words_is_nobody_elses():
    read_words("chat, vision").value.append("changed")
    assert read_words("chat, vision").value == ["chat", "vision"]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.decimals(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
)


@given(ANYTHING | ANYTHING.map(repr) | st.text(alphabet="[]{}()'\",:\\1aNe "))
def test_whatever_is_read_can_be_stored(raw):
    for reader in (read_object, read_words):
        text = json.dumps(reader(raw).value, allow_nan=False, ensure_ascii=False)
        assert "\\u0000" not in text
        text.encode()
