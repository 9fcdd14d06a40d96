"""`POST /admin/playground/chat`: a chat as `/v1/chat/completions` serves it, for a person of the admin who shows a permit in place of a key.

Permits are taken here and nowhere else, so a request of `/v1` pays nothing for them and nobody can use one as a key. All that follows is
the key's: what it may ask, its limits and budgets, its line in the ledger. That a person asked is told by tags and by the session.
"""

from __future__ import annotations

import asyncio
from time import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from inference import asking
from inference.admission import admit_by_permit, presented_key
from inference.endpoints.exchange import Exchange, Receive, Send
from inference.errors import InvalidKey
from inference.recording import joined_tags
from inference.wire.openai import CHAT
from routing import permits, snapshot

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from inference.plane import DataPlane
    from inference.wire.openai import ParsedRequest
    from routing.permits import Permit
    from routing.types import Identity, Snapshot

_NEWS_SECONDS = 3.0
"""How long to wait for a key that was made a moment ago."""
_LOOKS = 60


def playground(plane: DataPlane, scope: dict[str, Any], receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
    return _Asked(plane, CHAT, scope, receive, send).run()


class _Asked(Exchange):
    __slots__ = ("_marks",)

    async def _serve(self) -> None:
        read = self.read
        shown = presented_key(read.get(b"authorization"), read.get(b"x-api-key"), read.get(b"api-key"))
        await _until_known(_permit(shown, snapshot.current()))
        await super()._serve()

    def _identified(self, key: str, snapshot: Snapshot) -> Identity:
        permit = _permit(key, snapshot)
        identity = admit_by_permit(permit, snapshot, now=time(), address=self.address)
        self._marks = permit.marks
        self.read.setdefault(asking.SESSION, quote(permit.marks[1], safe=":@+").encode())
        return identity

    def _fold_headers(self, request: ParsedRequest) -> None:
        """Neither headers nor the body name another person, or so many tags that this one's would not be kept."""
        super()._fold_headers(request)
        marks, of_key = self._marks, self.identity.tags if self.identity is not None else ()
        others = [tag for tag in request.tags if not tag.startswith(permits.PERSON)]
        kept = joined_tags([*of_key, *marks, *others])
        request.tags = (*marks, *others) if all(f",{mark}," in kept for mark in marks) else marks
        if (request.session_id or "").startswith(permits.PERSON):
            request.session_id = marks[1]


def _permit(shown: str, snapshot: Snapshot) -> Permit:
    try:
        return permits.read(shown, snapshot.peppers, now=time())
    except permits.PermitRefused as refused:
        if refused.over:
            raise InvalidKey(
                "The playground's permit is over; it asks for another one by itself.", code="expired_api_key"
            ) from None
        raise InvalidKey("The playground's permit is none of this gateway's. Load the page again.") from None


async def _until_known(permit: Permit) -> None:
    """A person's own key may be younger than this process's snapshot, which is at most a second behind."""
    for _ in range(_LOOKS):
        if permit.prefix in snapshot.current().client_keys:
            return
        await asyncio.sleep(_NEWS_SECONDS / _LOOKS)
