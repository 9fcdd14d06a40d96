import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.document_text import as_json, as_yaml, plain
from providers.importers import documents

_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
_TRICKY = st.from_regex(r"[-+.0-9eEx:_y~<=n# \n\"']{1,9}", fullmatch=True)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT | _TRICKY,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT | _TRICKY, inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None, max_examples=300)
@given(_VALUES)
def test_any_values_are_read_back_from_their_text(value):
    document = {"document": plain(value)}
    assert documents.parse(as_yaml(document), "yaml") == document
    assert documents.parse(as_json(document), "json") == document


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "true",
        "No",
        "null",
        "~",
        "1",
        "1.10",
        "1e5",
        "0x1f",
        "012",
        "1_000",
        "12:30:45",
        "2027-01-31",
        "<<",
        "=",
        "-",
        "a: b",
        "a #b",
        "#",
        "[a]",
        "{a}",
        "*a",
        "&a",
        "!a",
        "|",
        ">",
        "'",
        '"',
        "a\nb",
        "a\n\n",
        "\na",
        " a\nb",
        "a\tb\n",
        "\ufeff",
        "a:",
        "%",
        "@",
        "`",
        "? a",
        "- a",
        "---",
        "...",
        "é\u0085",
        "\u2028",
        "😀",
        "模型",
        "gpt-4o",
        "env:NAME",
        "https://x/v1?a=b",
    ],
)
def test_a_text_stays_a_text_for_any_reader_of_yaml(text):
    written = as_yaml({"key": text, text or "empty": [text]})
    assert yaml.safe_load(written)["key"] == text
    assert list(documents.parse(written, "yaml").values()) == [text, [text]]


def test_lines_stay_lines_and_unicode_stays_itself():
    assert as_yaml({"a": "one\ntwo\n", "b": {"c": ["é", {"d": 1, "e": []}]}}, heading="About\n\nit") == (
        "# About\n#\n# it\na: |\n  one\n  two\nb:\n  c:\n    - é\n    - d: 1\n      e: []\n"
    )


def test_a_name_of_any_length_is_read_back():
    document = {"n" * 2000: {"m" * 2000: 1}, "é" * 1500: "x"}
    assert yaml.safe_load(as_yaml(document)) == document


def test_numbers_have_one_form_whichever_database_gave_them():
    assert plain({"b": 1e16, "a": [1.0, 0.5, True, 2**70]}) == {"a": [1, 0.5, True, 2**70], "b": 10**16}
    assert as_json(plain(1e20)) == as_json(10**20)
    assert as_yaml(plain({"b": 1, "a": 1e-7})) == "a: 1.0e-07\nb: 1\n"
