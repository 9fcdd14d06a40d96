"""Why a request was served as it was, as it is kept: for whoever writes usage rows, off the request path.

One explanation serves all requests that were decided alike. A decision that is made anew for each request, by chance or by cost,
mostly comes out like one before: what it would be told from is compared before anything is worded.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import NamedTuple

import orjson

from inference.deciding import Ruling
from routing import asked, explain

logger = logging.getLogger("gateway.recording")

TELL_AGAIN_SECONDS = 3600.0
"""So that what is still referred to is never old: old explanations are deleted."""
_MOST_REMEMBERED = 2_000
_OTHER_COLUMNS = frozenset({"model", "operation", "stream", "session_id", asked.CLIENT_KEY})
"""Members of a request that its usage row tells anyhow."""
_OF_EACH = frozenset({"prompt_bytes", "prompt_tokens", "max_output_tokens"})


class Reason(NamedTuple):
    """An explanation under its digest; `at` in epoch seconds."""

    digest: str
    body: str
    at: float


def explained(ruling: Ruling) -> Reason:
    """Worded anew; it takes no notice of what was said before."""
    told = explain.document(
        ruling.facts,
        ruling.decision,
        ruling.snapshot,
        ruling.conditions,
        now=ruling.at,
        most=explain.MOST_KEPT,
    )
    kept = orjson.dumps(explain.kept(told), option=orjson.OPT_NON_STR_KEYS).decode()
    return Reason(explain.digest(told), kept, ruling.at)


class Reasons:
    """For one thread: which explanations it has told already."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], str] = {}
        self._under: tuple[object, object] = (None, None)
        self._told: dict[str, float] = {}

    def take(self, ruling: Ruling) -> Reason | None:
        """Set the ruling's digest; what comes back has not been told yet."""
        under = (ruling.snapshot, ruling.conditions)
        if self._under[0] is not under[0] or self._under[1] is not under[1] or len(self._known) > _MOST_REMEMBERED:
            self._under, self._known = under, {}
        likeness = _likeness(ruling)
        digest = self._known.get(likeness)
        now = monotonic()
        if digest is not None and now - self._told.get(digest, -TELL_AGAIN_SECONDS) < TELL_AGAIN_SECONDS:
            ruling.digest = digest
            return None
        try:
            reason = explained(ruling)
        except Exception:
            # The usage row must be written all the same.
            logger.exception("a decision could not be explained: %s", ruling.decision.reason)
            ruling.digest = ""
            return None
        ruling.digest = self._known[likeness] = reason.digest
        if now - self._told.get(reason.digest, -TELL_AGAIN_SECONDS) < TELL_AGAIN_SECONDS:
            return None
        if len(self._told) > _MOST_REMEMBERED:
            self._told.clear()
        self._told[reason.digest] = now
        return reason


def _likeness(ruling: Ruling) -> tuple[object, ...]:
    decision = ruling.decision
    return (
        decision.policy,
        decision.version,
        decision.strategy,
        decision.reason,
        decision.notices,
        tuple([(one.model.route, one.role) for one in decision.candidates]),
        tuple([(one.route, one.reason) for one in decision.dropped]),
    )


def asked_text(ruling: Ruling, of_each: tuple[int, int | None]) -> str:
    """JSON of what routing knew of a request beyond the other columns of its row."""
    if ruling.wishes is None:
        told = asked.document(ruling.facts)
        ruling.wishes = {
            name: value for name, value in told.items() if name not in _OTHER_COLUMNS and name not in _OF_EACH
        }
    prompt_bytes, max_output_tokens = of_each
    prompt_tokens = ruling.facts.prompt_tokens if prompt_bytes == ruling.facts.prompt_bytes else None
    if not ruling.wishes and prompt_tokens is None:
        if max_output_tokens is None:
            return f'{{"prompt_bytes":{prompt_bytes}}}'
        return f'{{"prompt_bytes":{prompt_bytes},"max_output_tokens":{max_output_tokens}}}'
    wishes = {**ruling.wishes, "prompt_bytes": prompt_bytes}
    if prompt_tokens is not None:
        wishes["prompt_tokens"] = prompt_tokens
    if max_output_tokens is not None:
        wishes["max_output_tokens"] = max_output_tokens
    return orjson.dumps(wishes).decode("utf-8", "replace")
