"""`POST /v1/completions`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inference.endpoints.exchange import Exchange, Receive, Send
from inference.wire.openai import COMPLETIONS

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from inference.plane import DataPlane


def completions(plane: DataPlane, scope: dict[str, Any], receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
    return Exchange(plane, COMPLETIONS, scope, receive, send).run()
