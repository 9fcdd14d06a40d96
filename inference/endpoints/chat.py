"""`POST /v1/chat/completions`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inference.endpoints.exchange import Exchange, Receive, Send
from inference.wire.openai import CHAT

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from inference.plane import DataPlane


def chat(plane: DataPlane, scope: dict[str, Any], receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
    return Exchange(plane, CHAT, scope, receive, send).run()
