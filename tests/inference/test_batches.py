from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connection

from inference import batches, kept_files
from inference.batch_models import Batch
from inference.errors import LimitReached, NotFound
from tests.inference.batch_work import CHAT, file_of, line

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("words")]


def test_of_two_who_ask_at_once_one_gets_the_last_place(owner: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(batches, "MOST_OPEN", 1)
    asked = {"input_file_id": file_of(owner, [line("a")]).pk, "endpoint": CHAT, "completion_window": "24h"}
    check, told = batches.check_open, []

    def other() -> None:
        try:
            told.append(batches.create(asked, owner))
        except LimitReached as error:
            told.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=other)

    def check_while_another_comes(prefix: str) -> None:
        check(prefix)
        if not thread.ident:
            thread.start()
            thread.join(0.3)  # it would be through by then

    monkeypatch.setattr(batches, "check_open", check_while_another_comes)
    batches.create(asked, owner)
    thread.join()
    assert [type(one) for one in told] == [LimitReached]
    assert Batch.objects.count() == 1


def test_of_a_file_that_is_deleted_meanwhile_no_batch_is_made(owner: Any, monkeypatch: Any) -> None:
    file = file_of(owner, [line("a")])
    asked = {"input_file_id": file.pk, "endpoint": CHAT, "completion_window": "24h"}
    monkeypatch.setattr(batches, "check_open", lambda _: kept_files.delete_unread(file.pk))
    with pytest.raises(NotFound):
        batches.create(asked, owner)
    assert not Batch.objects.exists()


def test_of_a_file_whose_deletion_has_begun_no_batch_is_made(owner: Any, monkeypatch: Any) -> None:
    file = file_of(owner, [line("a")])
    asked = {"input_file_id": file.pk, "endpoint": CHAT, "completion_window": "24h"}
    told = []

    def create_now(_: str) -> bool:
        with pytest.raises(NotFound) as refused:
            batches.create(asked, owner)
        told.append(refused.value.param)
        return True

    monkeypatch.setattr(kept_files, "delete", create_now)
    assert kept_files.delete_unread(file.pk)
    assert told == ["input_file_id"]


def test_a_file_of_which_a_batch_is_being_made_is_not_deleted(owner: Any, monkeypatch: Any) -> None:
    file = file_of(owner, [line("a")])
    asked = {"input_file_id": file.pk, "endpoint": CHAT, "completion_window": "24h"}
    deleted: list[bool] = []

    def delete_it() -> None:
        try:
            deleted.append(kept_files.delete_unread(file.pk))
        finally:
            connection.close()

    thread = threading.Thread(target=delete_it)
    make = Batch.objects.create

    def make_while_it_is_deleted(**facts: Any) -> Batch:
        thread.start()
        thread.join(0.3)  # it would be through by then
        return make(**facts)

    monkeypatch.setattr(Batch.objects, "create", make_while_it_is_deleted)
    batches.create(asked, owner)
    thread.join()
    assert deleted == [False]
