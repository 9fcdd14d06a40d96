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
from inference.wire.openai import CHAT
from routing import permits, snapshot

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from inference.plane import DataPlane
    from routing.permits import Permit
    from routing.types import Identity, Snapshot

_NEWS_SECONDS = 3.0
"""How long to wait for a key that was made a moment ago."""
_LOOKS = 60


def playground(plane: DataPlane, scope: dict[str, Any], receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
    return _Asked(plane, CHAT, scope, receive, send).run()


class _Asked(Exchange):
    __slots__ = ()

    async def _serve(self) -> None:
        read = self.read
        shown = presented_key(read.get(b"authorization"), read.get(b"x-api-key"), read.get(b"api-key"))
        await _until_known(_permit(shown, snapshot.current()))
        await super()._serve()

    def _identified(self, key: str, snapshot: Snapshot) -> Identity:
        permit = _permit(key, snapshot)
        identity = admit_by_permit(permit, snapshot, now=time(), address=self.address)
        self._sign(permit)
        return identity

    def _sign(self, permit: Permit) -> None:
        """As if the request's headers said who asks; the body has no say in it."""
        read = self.read
        marks = ",".join(permit.marks).encode()
        sent = read.get(asking.TAGS)
        read[asking.TAGS] = marks + b"," + sent if sent else marks
        read.setdefault(asking.SESSION, quote(permit.marks[1], safe=":@+").encode())


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
