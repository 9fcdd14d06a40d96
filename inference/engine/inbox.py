"""The way of commands from the reader's thread to an engine's loop.

They are prepared on the reader's thread, so that templates and tokenizing never hold up a turn of the loop.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from inference.engine.protocol import Cancel, Command, Embed, Failed, Generate
from inference.errors import GatewayError

Prepared = TypeVar("Prepared")


class Inbox(Generic[Prepared]):
    """`prepare` makes of a request what the loop works on; `failure` says what a request fails with that it could not read."""

    def __init__(
        self, prepare: Callable[[Generate | Embed], Prepared], failure: Callable[[Exception], GatewayError]
    ) -> None:
        self._prepare, self._failure = prepare, failure
        self._items: queue.SimpleQueue[Prepared | Cancel | Failed | None] = queue.SimpleQueue()

    def submit(self, command: Command) -> None:
        if isinstance(command, Cancel):
            self._items.put(command)
        elif isinstance(command, Generate | Embed):
            self._items.put(self._read(command))

    def close(self) -> None:
        self._items.put(None)

    def come(self, *, wait: bool) -> Iterator[Prepared | Cancel | Failed | None]:
        """Everything that has come, None for the end; with `wait` at least one."""
        if wait:
            yield self._items.get()
        while not self._items.empty():
            yield self._items.get()

    def _read(self, command: Generate | Embed) -> Prepared | Failed:
        try:
            return self._prepare(command)
        except GatewayError as error:
            return Failed.of(command.id, error)
        except (
            Exception
        ) as error:  # a template or tokenizer of somebody else's making: the request fails, its reader goes on
            return Failed.of(command.id, self._failure(error))
