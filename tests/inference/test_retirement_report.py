from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from inference.models import OldPathTracking, OldPathUse

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> tuple[int, str]:
    said = StringIO()
    try:
        call_command("retirement_report", *arguments, stdout=said)
    except SystemExit as ended:
        return int(ended.code or 0), said.getvalue()
    return 0, said.getvalue()


def test_it_ends_well_when_nobody_came_for_long_enough() -> None:
    OldPathTracking.objects.create(since=timezone.now() - timedelta(days=31))
    status, said = run()
    assert status == 0
    assert "No request used the old paths for 30 days: safe to remove." in " ".join(said.split())


def test_it_ends_with_2_and_names_who_came() -> None:
    at = timezone.now()
    OldPathUse.objects.create(
        day=at.date(), client="key:gw-a", client_name="Ada", family="/generate", requests=3, last_at=at
    )
    status, said = run("--json")
    assert status == 2
    told = json.loads(said)
    assert (told["safe"], told["uses"][0]["client"], told["uses"][0]["requests"]) == (False, "key:gw-a", 3)
    assert "Ada" in run()[1]


def test_it_ends_with_2_while_it_is_not_known() -> None:
    assert run("--days", "5")[0] == 2


def test_days_out_of_range_are_an_error() -> None:
    with pytest.raises(CommandError, match="1 to 400"):
        run("--days", "0")
