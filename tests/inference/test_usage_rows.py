from __future__ import annotations

from decimal import Decimal

import pytest
from django.db import connection

from inference import usage_rows
from inference.backends.base import Usage
from inference.models import Trace, UsageRecord
from inference.recording import Row, row_of
from providers import actions
from tests.inference.test_recording import entry

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("model", [Trace, UsageRecord])
def test_every_column_of_the_tables_is_written(model: type[Trace | UsageRecord]) -> None:
    assert {field.column for field in model._meta.concrete_fields} - {"id"} <= set(Row._fields)


def test_rows_are_stored_as_they_are() -> None:
    usage_rows.write([row_of(entry(number, usage=Usage(3, 4))) for number in range(3)])
    stored = Trace.objects.get(request_id="req_1")
    assert (stored.input_tokens, stored.output_tokens, stored.client_key_id) == (3, 4, 7)
    assert stored.cost == Decimal("0.000011")
    assert stored.at.timestamp() == 1_700_000_000
    assert stored.first_byte_ms is None
    assert Trace.objects.count() == 3


def test_a_batch_that_is_written_again_changes_nothing() -> None:
    rows = [row_of(entry(number)) for number in range(3)]
    usage_rows.write(rows[:2])
    usage_rows.write(rows)
    assert Trace.objects.count() == 3


def test_a_row_that_does_not_fit_is_left_out_alone() -> None:
    rows = [row_of(entry(number)) for number in range(3)]
    rows[1] = rows[1]._replace(operation=None)
    usage_rows.write(rows)
    assert set(Trace.objects.values_list("request_id", flat=True)) == {"req_0", "req_2"}


def test_no_time_of_last_use_is_turned_back_by_who_tells_of_it_later() -> None:
    made = actions.create_provider({"provider_id": "p", "provider_type": "openai"})
    key = made.api_keys.create(secret="sk-of-the-test")
    for at in (1_700_000_000.0, 1_600_000_000.0):
        usage_rows.write_key_use({}, {key.pk: at})
    key.refresh_from_db()
    assert key.last_used_at.timestamp() == 1_700_000_000


def test_times_of_last_use_are_written_without_raising_the_revision() -> None:
    from providers import revision
    from routing.models import ClientKey

    key = ClientKey.objects.create(name="k", prefix="gw-000000000001", digest=b"d", pepper_id="1")
    before = revision.current()
    usage_rows.write_key_use({key.pk: (1_700_000_000.0, "10.1.2.3")}, {})
    usage_rows.write_key_use({key.pk: (1_600_000_000.0, "10.9.9.9")}, {})
    key.refresh_from_db()
    assert (key.last_used_at.timestamp(), key.last_used_from) == (1_700_000_000, "10.1.2.3")
    assert revision.current() == before
    assert connection.vendor
