"""The text of a .env file as names and values: quotes, `export` and comments are understood, nothing is run or expanded. Pure."""

from __future__ import annotations

import re

from providers.importers.drafts import SourceError

_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)")
_MEANT = {"n": "\n", "t": "\t", "r": "\r"}


class Variables(dict[str, str]):
    """A document that is names and values, so that nobody takes it for an object of YAML."""


class BadVariables(SourceError):
    """A line that says nothing; named by its number, never by what stands there."""


def looks_like_variables(text: str) -> bool:
    """Whether every line that says something sets a variable."""
    lines = [line for line in map(str.strip, text.splitlines()) if line and not line.startswith("#")]
    return bool(lines) and all(_LINE.match(line) for line in lines)


def parse(text: str) -> Variables:
    """Raises `BadVariables`. Of a name that stands twice, the last value counts."""
    found = Variables()
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        matched = _LINE.fullmatch(line)
        if matched is None:
            raise BadVariables(f"Line {number} does not set a variable: NAME=value is needed.")
        found[matched[1]] = _value(matched[2], number)
    return found


def _value(told: str, number: int) -> str:
    if not told or told[0] not in "'\"":
        return re.split(r"(?:^|\s+)#", told, maxsplit=1)[0].strip()
    quote = told[0]
    pattern = r"'([^']*)'\s*(?:#.*)?" if quote == "'" else r'"((?:[^"\\]|\\.)*)"\s*(?:#.*)?'
    matched = re.fullmatch(pattern, told)
    if matched is None:
        raise BadVariables(f"Line {number}: the quote is not closed, or something follows it.")
    if quote == "'":
        return matched[1]
    return _ESCAPED.sub(lambda one: _MEANT.get(one[1], one[1]), matched[1])
