from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace

import pytest

from inference.attempts import Attempt, Paid, Trail
from inference.backends.base import Usage
from inference.kept_records import LOST, KeptRecords, row_of_begun, rows_of
from inference.recording import Row, row_of
from inference.spool import LOG_BYTES, Finished, Spool, left_by_the_dead
from inference.wire.openai import CHAT, parse
from routing.rollout import LEGACY
from routing.types import Prices
from tests.inference import registry
from tests.inference.test_recording import entry

PRICED = Prices(Decimal("1.25"), Decimal(10), Decimal("0.125"), source="own")
MODEL = registry.model(registry.provider(), "m", prices=PRICED)


@pytest.fixture
def kept(tmp_path):
    made = KeptRecords(Spool(tmp_path, most_bytes=4 * LOG_BYTES))
    made.spool.open()
    yield made
    made.spool.close()


def begun(kept: KeptRecords, text: str = '{"model":"m","messages":[{}]}', **facts) -> Trail:
    trail = Trail(**{"identity": registry.key_view().identity, "model": MODEL, "attempts": 1, **facts})
    kept.began("req_1", parse(CHAT, text.encode()), trail)
    return trail


def lost(kept: KeptRecords) -> list[Row]:
    """What another process would find."""
    kept.spool._unlock()
    return [row_of_begun(one) for left in left_by_the_dead(kept.spool.folder) for one in left.begun()]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"usage": Usage(9, 8, 5, 6)},
        {"usage": b'"usage":{"prompt_tokens":3,"completion_tokens":4}'},
        {"usage": None, "guess": (10, 3)},
        {"usage": None, "first_byte": 0.25, "stream": True, "session_id": "s", "status": 499, "error_code": "left"},
        {"model": None, "attempts": 0, "usage": None, "owner": "policy", "address": "192.0.2.1"},
        {"model": registry.model(registry.provider(), "m", prices=Prices())},
        {"tags": ("b", "a"), "trace_id": "t", "parent_span_id": "p", "queued": 0.5, "attempts": 2},
        {"identity": None, "client": "legacy-1", "side": LEGACY},
        {"requested_model": "a\0b\ud800", "session_id": "s" * 300, "error_code": "a\0b"},
        {"paid": (Paid(MODEL, Usage(7, 1), 502),)},
        {"log": [Attempt("p", "m", "target", 502, "upstream_broken", 1.0, 0.5)], "cost": Decimal(2)},
    ],
)
def test_a_record_out_of_the_spool_is_the_row_that_memory_would_have_made(kept, changes) -> None:
    ended = entry(**changes)
    assert kept.keep(ended, None)
    (row,) = kept.rows(10)[0]
    assert row == row_of(ended)


def test_how_a_request_ended_takes_the_place_of_its_begin(kept) -> None:
    trail = begun(kept)
    ended = entry(1, model=MODEL)
    assert kept.keep(ended, trail.slot)
    assert [row.cost for row in kept.rows(10)[0]] == [row_of(ended).cost]
    assert not lost(kept)


def test_a_request_under_way_is_booked_by_what_was_seen_of_its_answer(kept) -> None:
    trail = begun(kept, '{"model":"m","messages":[{"content":"%s"}],"stream":true}' % ("x" * 84))
    trail.slot.saw(12)
    (row,) = lost(kept)
    assert (row.input_tokens, row.output_tokens, row.estimated) == (25, 12, True)
    assert (row.status, row.error_code, row.error_owner) == (500, LOST, "gateway")
    assert row.cost == (25 * Decimal("1.25") + 12 * 10) / 1_000_000
    assert (row.client_key_prefix, row.provider_id, row.prices) == (
        registry.key_view().identity.prefix,
        MODEL.provider.provider_id,
        PRICED.document,
    )


def test_a_request_of_which_nothing_was_seen_is_booked_with_nothing(kept) -> None:
    begun(kept)
    (row,) = lost(kept)
    assert (row.input_tokens, row.output_tokens, row.cost, row.estimated) == (0, 0, 0, True)


def test_an_answer_that_the_client_may_have_is_booked_exactly(kept) -> None:
    trail = begun(kept)
    trail.slot.saw(3)
    trail.slot.told(200, (100, 50, 20, 5))
    (row,) = lost(kept)
    assert (row.status, row.error_code, row.estimated) == (200, "", False)
    assert (row.input_tokens, row.output_tokens, row.cached_tokens, row.reasoning_tokens) == (100, 50, 20, 5)
    assert row.cost == (80 * Decimal("1.25") + 20 * Decimal("0.125") + 50 * 10) / 1_000_000


def test_a_request_that_fails_over_is_under_way_at_the_next_one_alone(kept) -> None:
    other = registry.model(registry.provider("other"), "n")
    trail = begun(kept, paid=[Paid(MODEL, Usage(7, 1), 502)])
    trail.model, trail.attempts = other, 2
    kept.began("req_1", parse(CHAT, b'{"model":"m","messages":[{}]}'), trail)
    (row,) = lost(kept)
    assert (row.provider_id, row.model_id, row.attempts) == ("other", "n", 2)
    assert [(one.attempt, one.model_id, one.input_tokens) for one in row.paid] == [(1, "m", 7)]


def test_names_that_cannot_be_told_do_not_keep_a_request_from_being_known(kept) -> None:
    request = SimpleNamespace(
        form=None,
        operation=CHAT,
        model="\ud800",
        stream=False,
        session_id=None,
        prompt_bytes=8,
        images=0,
        tags=(),
        origin=None,
    )
    trail = Trail(identity=registry.key_view().identity, model=MODEL, attempts=1)
    kept.began("req_1", request, trail)
    (row,) = lost(kept)
    assert (row.request_id, row.model_id, row.requested_model) == ("req_1", "m", "")


def test_a_damaged_record_does_not_take_the_others_with_it(kept) -> None:
    kept.keep(entry(1), None)
    good = kept.spool.unread(1)
    assert [row.request_id for row in rows_of([Finished(b"\xc1", b""), *good])] == ["req_1"]
