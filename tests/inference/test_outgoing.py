from __future__ import annotations

import asyncio

import pytest

from inference.outgoing import OutgoingTransport


class Wire(asyncio.Transport):
    """Remembers what reached it, and when it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[bytes | str] = []
        self.closing = False

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.seen.append(data)

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True
        self.seen.append("closed")

    def abort(self) -> None:
        self.closing = True
        self.seen.append("aborted")

    def get_write_buffer_size(self) -> int:
        return 5


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
async def transport(wire: Wire) -> OutgoingTransport:
    return OutgoingTransport(wire, asyncio.get_running_loop())


async def end_of_turn() -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_pieces_written_in_one_turn_leave_in_one_write_and_in_order(wire, transport):
    transport.write(b"head ")
    transport.write(b"body")
    assert wire.seen == []
    await end_of_turn()
    assert wire.seen == [b"head body"]


async def test_each_turn_has_its_own_write(wire, transport):
    transport.write(b"one")
    await end_of_turn()
    transport.write(b"two")
    await end_of_turn()
    assert wire.seen == [b"one", b"two"]


async def test_closing_lets_what_was_written_go_first(wire, transport):
    transport.write(b"last words")
    transport.close()
    await end_of_turn()
    assert wire.seen == [b"last words", "closed"]


async def test_aborting_drops_what_was_written(wire, transport):
    transport.write(b"never")
    transport.abort()
    await end_of_turn()
    assert wire.seen == ["aborted"]


async def test_nothing_is_written_to_a_connection_that_the_peer_closed(wire, transport):
    transport.write(b"late")
    wire.closing = True
    await end_of_turn()
    assert wire.seen == []


async def test_much_leaves_at_once_so_that_back_pressure_is_felt(wire, transport):
    transport.write(b"x" * 70_000)
    assert wire.seen == [b"x" * 70_000]


async def test_what_waits_counts_as_buffered(transport):
    transport.write(b"1234")
    assert transport.get_write_buffer_size() == 9


async def test_a_connection_that_cannot_be_written_keeps_no_other_back(caplog):
    class Broken(Wire):
        def write(self, data: bytes) -> None:  # type: ignore[override]
            raise OSError("gone")

    loop = asyncio.get_running_loop()
    well = Wire()
    OutgoingTransport(Broken(), loop).write(b"lost")
    OutgoingTransport(well, loop).write(b"kept")
    await end_of_turn()
    assert well.seen == [b"kept"]
    assert "could not be written" in caplog.text
