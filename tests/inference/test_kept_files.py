from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from inference import kept_files, message_batches
from inference.batch_models import Batch
from inference.errors import InvalidRequest
from inference.file_models import FilePiece, KeptFile
from routing.types import Identity

pytestmark = pytest.mark.django_db


def a_file(data: bytes, **facts: Any) -> KeptFile:
    pieces = [data[start : start + 100_000] for start in range(0, len(data), 100_000)]
    return kept_files.keep(KeptFile(owner="gw-1", filename="f", purpose="batch", **facts), pieces)


def test_lines_are_put_together_over_the_borders_of_pieces() -> None:
    lines = [os.urandom(50_000).hex().encode() for _ in range(9)]
    file = a_file(b"\r\n".join(lines))
    assert FilePiece.objects.filter(file=file).count() == 4
    assert list(kept_files.lines(file.pk, 1_000_000)) == lines
    assert [len(one) for one in kept_files.lines(file.pk, 1_000)] == [1_001] * 9


def test_of_a_file_that_is_too_large_nothing_is_left() -> None:
    with pytest.raises(kept_files.TooLarge):
        kept_files.keep(KeptFile(owner="gw-1", filename="f", purpose="batch"), [b"x" * 600_000] * 2, 1_000_000)
    assert not KeptFile.objects.exists()


def test_what_is_left_at_the_same_time_cannot_take_more_room_than_there_is(settings: Any) -> None:
    settings.GATEWAY_FILE_BYTES_PER_KEY = 1000
    first, second = a_file(b"x" * 600), a_file(b"x" * 600)
    with pytest.raises(InvalidRequest, match="delete some first"):
        kept_files.check_room(second, "file")
    kept_files.check_room(first, "file")
    assert [one.pk for one in kept_files.own("gw-1")] == [first.pk]


def test_a_message_batch_counts_what_was_left_while_it_came_in(settings: Any) -> None:
    settings.GATEWAY_FILE_BYTES_PER_KEY = 1000
    params = b'{"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "%b"}]}' % (b"x" * 500)

    def body() -> Iterator[bytes]:
        yield b'{"requests": [{"custom_id": "a", "params": ' + params
        a_file(b"x" * 600)
        yield b"}]}"

    with pytest.raises(InvalidRequest, match="delete some first"):
        message_batches.create(body(), {}, Identity(1, "gw-1", "a", frozenset({"generate"})))
    assert kept_files.bytes_of("gw-1") == 600


def test_files_past_their_expiry_go_but_not_the_input_of_a_batch_under_way() -> None:
    now = timezone.now()
    past, later = now - timedelta(seconds=1), now + timedelta(days=1)
    gone, kept, read = a_file(b"a", expires_at=past), a_file(b"b", expires_at=later), a_file(b"c", expires_at=past)
    half = KeptFile.objects.create(owner="gw-1", filename="f", purpose="batch", created_at=now - timedelta(days=2))
    Batch.objects.create(owner="gw-1", endpoint="/v1/embeddings", input_file_id=read.pk, expires_at=now)
    assert [one.pk for one in kept_files.own("gw-1")] == [kept.pk], "one that expired is not there any more"
    assert kept_files.forget_old(now) == 2
    assert {kept.pk, read.pk} == set(KeptFile.objects.values_list("pk", flat=True))
    assert {gone.pk, half.pk}.isdisjoint(KeptFile.objects.values_list("pk", flat=True))
