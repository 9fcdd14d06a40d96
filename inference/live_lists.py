"""The ways on from a list that refreshes itself: by state, to what is new while it is open, and page by page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

SECONDS = 3


def ways(
    here: str, states: Iterable[tuple[str, Any]], words: Mapping[str, str], *, cursor: str, older: str
) -> dict[str, Any]:
    """For the list at `here`, searched for `words`: `states` with their labels, `cursor` of this page and `older` of the next one."""
    rest = {name: value for name, value in words.items() if name != "state"}
    newest = f"{here}?{urlencode(words)}"
    return {
        "words": words,
        "states": [
            (label, f"{here}?{urlencode({**rest, **({'state': state} if state else {})})}", state)
            for state, label in states
        ],
        "state": words.get("state", ""),
        "live": "" if cursor else newest,
        "live_seconds": SECONDS,
        "newest": newest if cursor else "",
        "older": f"{here}?{urlencode({**words, 'cursor': older})}" if older else "",
    }
