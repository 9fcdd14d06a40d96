"""Objects and lists of words as legacy rows hold them: JSON, JSON encoded again, Python's notation, a comma list. Pure.

What is given can be stored as PostgreSQL's `jsonb`: no NUL, no half characters, no NaN.
"""

from __future__ import annotations

import ast
import json
import math
import re
import warnings
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

from providers.importers.legacy import ABSENT
from providers.importers.legacy_texts import readable, storable

MOST_ENCODINGS = 4
DEEPEST = 64
MOST_BITS = 14_000
"""Of a whole number: some 4,200 digits, as many as can be written down again."""

_WORDS = re.compile(r"""[^\[\]{}()"'<>\\,;=]+(,[^\[\]{}()"'<>\\,;=]*)*""")
_TEXTS = (str, bytes, bytearray, memoryview)
_decode = json.JSONDecoder().decode
_PYTHON = re.compile(r"""[\[{(]|b?['"]""")


class Read(NamedTuple):
    """`is_broken` when nothing could be made of it and `value` is empty; `is_repaired` when it was not as meant."""

    value: Any
    is_repaired: bool = False
    is_broken: bool = False


class Broken(ValueError):
    """Not what was needed. Never says what it was."""


def read_object(raw: Any) -> Read:
    """A JSON object; NULL, blank and `null` are the empty one."""
    if raw is None or raw is ABSENT:
        return Read({})
    try:
        found, is_repaired = decoded(raw)
        if found is None or found == "":
            return Read({})
        if not isinstance(found, dict):
            return Read({}, is_broken=True)
        kept = _Storable()
        return Read(kept.of(found), is_repaired or kept.is_changed)
    except (ValueError, RecursionError, MemoryError):
        return Read({}, is_broken=True)


def read_words(raw: Any) -> Read:
    """A list of words, each once and in order, from a list, a comma list or an object of flags."""
    if raw is None or raw is ABSENT:
        return Read([])
    if type(raw) is not str:
        return _words(raw)
    read = _words_of_text(raw)
    return Read(list(read.value), read.is_repaired, read.is_broken)


def _words(raw: Any) -> Read:
    try:
        found, is_repaired = decoded(raw, _comma_list)
        if found is None or found == "":
            return Read([])
        if isinstance(found, dict):
            found, is_repaired = [name for name, said in found.items() if _is_yes(said)], True
        if not isinstance(found, list | tuple | set | frozenset):
            return Read([], is_broken=True)
        named = [storable(word).strip() for word in found if isinstance(word, str)]
        words = list(dict.fromkeys(word for word in named if word))
        return Read(words, is_repaired or words != found)
    except (ValueError, RecursionError, MemoryError):
        return Read([], is_broken=True)


_words_of_text = lru_cache(1024)(_words)
"""Thousands of models say the same few lists."""


def decoded(raw: Any, otherwise: Any = None) -> tuple[Any, bool]:
    """What a raw value says once all encodings are undone, and whether it took more than one. Raises `ValueError`.

    `otherwise` reads a text that is neither JSON nor Python's notation.
    """
    value, is_repaired, layers = raw, False, 0
    while isinstance(value, _TEXTS):
        text = readable(value).strip().removeprefix("\ufeff")
        if not text:
            return "", is_repaired
        if layers == MOST_ENCODINGS:
            raise Broken
        try:
            value = _decode(text)
        except ValueError:
            value, is_repaired = _not_json(text, otherwise), True
        layers += 1
    return value, is_repaired or layers > 1


def _not_json(text: str, otherwise: Any) -> Any:
    if _PYTHON.match(text):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes in the text, which they would repeat
            try:
                return ast.literal_eval(text)
            except (ValueError, SyntaxError, TypeError):
                raise Broken from None
    if otherwise is None:
        raise Broken
    return otherwise(text)


def _comma_list(text: str) -> list[str]:
    if not _WORDS.fullmatch(text) or _is_number(text):
        raise Broken
    return text.split(",")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_yes(said: Any) -> bool:
    if isinstance(said, str):
        return said.strip().casefold() not in {"", "0", "false", "no", "off", "none", "null", "n", "f"}
    return bool(said)


class _Storable:
    """Makes JSON that every database holds; `is_changed` tells whether it had to change anything."""

    def __init__(self) -> None:
        self.is_changed = False

    def of(self, value: Any, depth: int = 0) -> Any:
        kind = type(value)
        if kind is str:
            return self._text(value)
        if value is None or kind is bool:
            return value
        if kind is int and value.bit_length() <= MOST_BITS:
            return value
        if depth > DEEPEST:
            raise Broken
        if kind is dict:
            return {self._name(name): self.of(member, depth + 1) for name, member in value.items()}
        if kind is list:
            return [self.of(member, depth + 1) for member in value]
        if kind is float and math.isfinite(value):
            return value
        self.is_changed = True
        return self._foreign(value, depth)

    def _foreign(self, value: Any, depth: int) -> Any:
        if isinstance(value, float):
            return None
        if isinstance(value, Mapping):
            return self.of(dict(value), depth)
        if isinstance(value, tuple):
            return self.of(list(value), depth)
        if isinstance(value, set | frozenset):
            return self.of(sorted(value, key=repr), depth)
        if isinstance(value, bytes | bytearray | memoryview):
            return self._text(readable(value))
        if isinstance(value, Decimal):
            return float(value) if value.is_finite() and math.isfinite(float(value)) else None
        raise Broken

    def _name(self, name: Any) -> str:
        if isinstance(name, str):
            return self._text(name)
        self.is_changed = True
        return self._text(str(name))

    def _text(self, text: str) -> str:
        if text.isascii() and "\0" not in text:
            return text
        kept = storable(text)
        self.is_changed = self.is_changed or kept != text
        return kept
