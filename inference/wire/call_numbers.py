"""Which of an answer's tool calls a streamed piece belongs to. No I/O.

OpenAI numbers them by `index`. Gemini leaves that out, or says 0 of each of several calls: a piece that brings another id is another
call then, and one that brings none goes on with the last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class CallNumbers:
    """Of one choice's stream."""

    __slots__ = ("_by_id", "_by_index", "_last")

    def __init__(self) -> None:
        self._by_id: dict[str, int] = {}
        self._by_index: dict[int, int] = {}
        self._last = 0

    def of(self, piece: Mapping[str, Any]) -> int:
        told, call_id = piece.get("index"), piece.get("id")
        index = told if isinstance(told, int) else None
        if call_id:
            number = self._by_id.get(call_id)
            if number is None:
                number = self._by_id[call_id] = self._new(index)
        elif index is None:
            number = self._last
        else:
            number = self._by_index.get(index, index)
        if index is not None:
            self._by_index[index] = number
        self._last = number
        return number

    def _new(self, index: int | None) -> int:
        taken = {*self._by_id.values(), *self._by_index.values()}
        return index if index is not None and index not in taken else max(taken, default=-1) + 1
