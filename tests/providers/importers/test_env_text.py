import pytest

from providers.importers import documents
from providers.importers.env_text import BadVariables, looks_like_variables, parse


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("NAME=plain", "plain"),
        ("export NAME = spaced out ", "spaced out"),
        ("NAME=value   # said why", "value"),
        ("NAME=no#comment", "no#comment"),
        ("NAME=", ""),
        ("NAME= # nothing", ""),
        ("NAME='as $it is \\n' # here", "as $it is \\n"),
        ('NAME="two\\nlines and \\"quotes\\""', 'two\nlines and "quotes"'),
        ("NAME=$(rm -rf /) `x` ${HOME}", "$(rm -rf /) `x` ${HOME}"),
        ("# a comment\n\nNAME=1\nNAME=2", "2"),
    ],
)
def test_a_value_is_read_and_nothing_is_run(line, value):
    assert parse(line) == {"NAME": value}


@pytest.mark.parametrize("line", ["NAME", "1NAME=x", "NAME='open", 'NAME="a" b', "- a: b"])
def test_a_line_that_sets_nothing_is_named_by_its_number(line):
    with pytest.raises(BadVariables, match="Line 2") as caught:
        parse(f"A=secret\n{line}")
    assert "secret" not in str(caught.value)


def test_variables_are_told_from_documents():
    assert looks_like_variables("# x\nexport A=1\nB='2'\n")
    for text in ("a: b=c", '{"a": 1}', "A=1\nb: 2", "# nothing", "- A=1"):
        assert not looks_like_variables(text)


@pytest.mark.parametrize(
    ("path", "file_format"),
    [(".env", "env"), ("/x/.env.local", "env"), ("prod.env", "env"), ("a.yml", "yaml"), ("a.JSON", "json"), ("a", "")],
)
def test_a_files_name_tells_its_format(path, file_format):
    assert documents.format_of(path) == file_format
