"""`POST /v1/embeddings`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inference.endpoints.exchange import Exchange, Receive, Send
from inference.wire.openai import EMBEDDINGS

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from inference.plane import DataPlane


def embeddings(plane: DataPlane, scope: dict[str, Any], receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
    return Exchange(plane, EMBEDDINGS, scope, receive, send).run()
