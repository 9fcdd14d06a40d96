from __future__ import annotations

from inference.engine.inbox import Inbox
from inference.engine.protocol import Cancel, Embed, Failed, Generate
from inference.engine.requests import EmbedRequest
from inference.errors import EngineError, InvalidRequest


def embed(number: int) -> Embed:
    return Embed(number, EmbedRequest(["text"]))


def prepared(command: Generate | Embed) -> str:
    if command.id == 7:
        raise InvalidRequest("Too long.")
    if command.id == 8:
        raise ZeroDivisionError
    return f"prepared {command.id}"


def inbox() -> Inbox[str]:
    return Inbox(prepared, lambda error: EngineError("Not read.", detail=repr(error)))


def test_requests_come_prepared_and_in_their_order_until_the_end() -> None:
    box = inbox()
    box.submit(embed(1))
    box.submit(Cancel(1))
    box.submit(embed(2))
    box.close()
    assert list(box.come(wait=True)) == ["prepared 1", Cancel(1), "prepared 2", None]


def test_nobody_waits_where_there_is_something_else_to_do() -> None:
    assert list(inbox().come(wait=False)) == []


def test_a_request_that_cannot_be_read_fails_and_the_next_is_taken() -> None:
    box = inbox()
    for number in (7, 8, 9):
        box.submit(embed(number))
    refused, broken, well = box.come(wait=False)
    assert refused == Failed.of(7, InvalidRequest("Too long."))
    assert broken == Failed.of(8, EngineError("Not read.", detail="ZeroDivisionError()"))
    assert well == "prepared 9"
