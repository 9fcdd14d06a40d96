"""Plain values as the text of a YAML or JSON document: the same bytes for the same values, on every machine.

Writes what `providers.importers.documents` reads, and other YAML readers too: what any of them might take for a number, a
flag or nothing is quoted. Mappings keep their order; whoever wants another sorts before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

_WORDS = {"true", "false", "yes", "no", "on", "off", "y", "n", "null", "none", "nan", "inf"}
_HIDDEN = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")
"""What JSON leaves as it is and YAML would not take for itself."""
_ODD_IN_PLAIN = re.compile(r"[^\w./@+() :-]|:(?=[\s]|$)|\s(?!\w)")
_LONGEST_KEY = 1000
"""YAML finds the colon of a key within 1024 characters."""


def as_yaml(document: Any, *, heading: str = "") -> str:
    """`heading` is put in front, as comment lines."""
    comment = "".join(f"# {line}\n" if line else "#\n" for line in heading.splitlines())
    return comment + "".join(line + "\n" for line in _block(document, ""))


def as_json(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def plain(value: Any) -> Any:
    """JSON's values with sorted names, and every number in the one form that all databases give back.

    PostgreSQL keeps 1e+16 as 10000000000000000 and sorts the names of objects its own way; SQLite keeps what was written.
    """
    if isinstance(value, Mapping):
        return {name: plain(value[name]) for name in sorted(value)}
    if isinstance(value, list | tuple):
        return [plain(member) for member in value]
    if isinstance(value, float):
        exact = Decimal(repr(value))
        return int(exact) if exact == exact.to_integral_value() else value
    return value


def _block(value: Any, pad: str) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        for name, member in value.items():
            yield from _member(str(name), member, pad)
    elif isinstance(value, list) and value:
        for member in value:
            yield from _item(member, pad)
    else:
        yield from _leaf(value, pad, "")


def _member(name: str, value: Any, pad: str) -> Iterator[str]:
    key = _line(name)
    if len(key) > _LONGEST_KEY:
        yield f"{pad}? {key}"
        key = ""
    if isinstance(value, Mapping | list) and value:
        yield f"{pad}{key}:"
        yield from _block(value, pad + "  ")
    else:
        yield from _leaf(value, pad, f"{key}: ")


def _item(value: Any, pad: str) -> Iterator[str]:
    if not (isinstance(value, Mapping | list) and value):
        yield from _leaf(value, pad, "- ")
        return
    inner = _block(value, pad + "  ")
    yield f"{pad}- {next(inner).removeprefix(pad + '  ')}"
    yield from inner


def _leaf(value: Any, pad: str, head: str) -> Iterator[str]:
    if not (isinstance(value, str) and _reads_well_as_lines(value)):
        yield pad + head + _line(value)
        return
    body = value.rstrip("\n")
    ends = len(value) - len(body)
    yield f"{pad}{head}|{'-' if not ends else '' if ends == 1 else '+'}"
    for line in body.split("\n") + [""] * (ends - 1):
        yield f"{pad}  {line}" if line else ""


def _reads_well_as_lines(text: str) -> bool:
    return "\n" in text and text[0] not in "\n\t " and all(one.isprintable() or one == "\n" for one in text)


def _line(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, str):
        return value if _is_plain(value) else _quoted(value)
    if isinstance(value, Mapping | list) and not value:
        return "{}" if isinstance(value, Mapping) else "[]"
    raise TypeError(f"a {type(value).__name__} has no place in a document")


def _number(value: float) -> str:
    text = repr(value)
    mantissa, e, exponent = text.partition("e")
    return text if "." in mantissa else f"{mantissa}.0{e}{exponent}"


def _is_plain(text: str) -> bool:
    return (
        (text[:1].isalpha() or text[:1] in {"_", "/"})
        and text.isprintable()
        and text.lower() not in _WORDS
        and not _ODD_IN_PLAIN.search(text)
    )


def _quoted(text: str) -> str:
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False))
