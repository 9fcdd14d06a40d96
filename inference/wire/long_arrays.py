"""A JSON object with an array in it that is too long to be held: its elements are given out one by one, while it is read. Pure.

Here is only found where each element begins and ends; whoever takes it looks what it says. What stands around the elements is kept,
with `{}` in the place of each, and is read at the end: thus nothing passes that is not JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson

from inference.errors import BodyTooLarge, InvalidRequest

MOST_AROUND = 4 * 1024 * 1024
"""Bytes beside the elements: commas, spaces, and other members."""

_MOST_BEFORE = 128
"""Bytes of the name and the spaces behind it. An array that is not found for being further away is one too many at the end."""
_INSIDE = 2
"""The depth at which elements begin."""
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|["{}\[\]]', re.DOTALL)
"""A whole text or, where its end has not come yet, its first quote."""
_TEXT = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_NOTHING_NEW = re.compile(
    rb'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+"|[{\[](?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+[}\]])*+', re.DOTALL
)
"""Whole texts, and arrays and objects that hold no others: they are passed over at once, however many there are."""
_OPENING, _CLOSING = re.compile(rb"[{\[]*+"), re.compile(rb"[}\]]*+")


class Elements:
    """Of the member `name`; each an object of at most `longest` bytes."""

    def __init__(self, name: str, longest: int) -> None:
        self._name, self._longest = name, longest
        self._around = bytearray()
        self._element: bytearray | None = None
        self._depth = 0
        self._array_is_open = False
        self._in_text = self._after_backslash = False
        self.count = 0
        """Of those that were given out."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Raises `BodyTooLarge`, and `InvalidRequest` when too much stands around the elements."""
        begin = at = 0
        while (at := self._next(data, at)) < len(data):
            if self._element is not None and (end := self._beyond(data, at)) > at:
                at = end
                continue
            sign = data[at : at + 1]
            if sign in b"{[":
                if sign == b"{" and self._element is None and self._array_is_open and self._depth == _INSIDE:
                    self._keep(data[begin:at])
                    self._element, begin = bytearray(), at
                elif sign == b"[" and self._depth == 1:
                    self._keep(data[begin:at])
                    self._array_is_open, begin = self._follows_the_name(), at
                self._depth += 1
            else:
                self._depth -= 1
                if self._element is not None and self._depth == _INSIDE:
                    self._keep(data[begin : at + 1])
                    begin = at + 1
                    yield self._given_out()
                elif self._depth == 1:
                    self._array_is_open = False
            at += 1
        self._keep(data[begin:])

    def end(self) -> dict[str, Any]:
        """The object with `{}` for each element. Raises `InvalidRequest`."""
        try:
            told = orjson.loads(self._around)
        except orjson.JSONDecodeError as error:
            raise InvalidRequest(f"The request body is not valid JSON: {error}.") from None
        if not isinstance(told, dict):
            raise InvalidRequest("The request body must be a JSON object.")
        array = told.get(self._name)
        found = sum(element == {} for element in array) if isinstance(array, list) else 0
        if found != self.count:  # told twice, or by a name that is written in another way
            raise InvalidRequest(f"The request body must have one member '{self._name}'.", param=self._name)
        return told

    def _next(self, data: bytes, at: int) -> int:
        """Where the next bracket is; the end of the data when there is none."""
        while at < len(data):
            if self._in_text:
                at = self._after_text(data, at)
                continue
            if self._element is not None and (passed := _NOTHING_NEW.match(data, at)):
                at = passed.end()
            found = _TOKEN.search(data, at)
            if found is None:
                return len(data)
            at = found.start()
            if data[at : at + 1] != b'"':
                return at
            self._in_text = found.end() - at == 1
            at = found.end()
        return at

    def _beyond(self, data: bytes, at: int) -> int:
        """After as many brackets as do not end the element."""
        opening, closing = _OPENING.match(data, at), _CLOSING.match(data, at)
        inner = opening.end() - at if opening else 0
        outer = min(closing.end() - at if closing else 0, self._depth - _INSIDE - 1)
        self._depth += inner - outer
        return at + inner + outer

    def _after_text(self, data: bytes, at: int) -> int:
        if self._after_backslash:
            self._after_backslash, at = False, at + 1
        found = _TEXT.match(data, at)
        at = found.end() if found else at
        if at < len(data):
            self._after_backslash = data[at : at + 1] == b"\\"
            self._in_text = self._after_backslash
            at += 1
        return at

    def _keep(self, data: bytes) -> None:
        if self._element is not None:
            self._element += data
            if len(self._element) > self._longest:
                where = f"{self._name}.{self.count}"
                raise BodyTooLarge(f"{where}: the request is larger than {self._longest} bytes", param=where)
            return
        self._around += data
        if len(self._around) > MOST_AROUND:
            raise InvalidRequest(f"There is too much beside the objects of '{self._name}'.", param=self._name)

    def _given_out(self) -> bytes:
        element, self._element = bytes(self._element or b""), None
        self.count += 1
        self._keep(b"{}")
        return element

    def _follows_the_name(self) -> bool:
        before = self._around[-_MOST_BEFORE:].rstrip()
        return before.endswith(b":") and before[:-1].rstrip().endswith(b'"%b"' % self._name.encode())
