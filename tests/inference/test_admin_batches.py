from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from inference import kept_files
from inference.batch_models import Batch
from inference.file_models import KeptFile
from inference.management.commands.batches import Command
from providers.models import AuditEntry
from routing import snapshot
from routing.models import ClientKey, Team, TeamMember
from tests.inference import workers

pytestmark = pytest.mark.django_db

LIST = reverse("admin:inference_batch_changelist")


def a_batch(**facts: Any) -> Batch:
    usual = {"owner": "gw-1", "endpoint": "/v1/embeddings", "expires_at": timezone.now(), "state": "in_progress"}
    return Batch.objects.create(**{**usual, **facts})


def test_the_list_tells_how_far_each_is_and_what_it_cost(admin_client: Client) -> None:
    a_batch(total=400, completed=99, failed=1, cost="1.25", model="m-1")
    over = a_batch(state="completed", model="m-2")
    page = admin_client.get(LIST).content.decode()
    assert 'value="25"' in page
    assert "100 / 400" in page
    assert "1.25" in page
    working = admin_client.get(LIST, {"state": "working"}).content.decode()
    assert "m-1" in working
    assert "m-2" not in working
    assert "m-2" in admin_client.get(LIST, {"key": over.owner, "state": "completed"}).content.decode()


def test_a_batch_shows_what_holds_it_and_what_is_wrong(admin_client: Client) -> None:
    wrong = [{"line": 3, "param": "url", "code": "invalid_url", "message": "Not the batch's."}]
    batch = a_batch(held="budget", held_until=timezone.now(), errors=wrong)
    page = admin_client.get(reverse("admin:inference_batch_change", args=[batch.pk])).content.decode()
    assert "A budget is used up" in page
    assert "invalid_url" in page
    assert admin_client.get(reverse("admin:inference_batch_change", args=["batch_none"])).status_code == 404


def test_it_is_cancelled_once_and_that_is_audited(admin_client: Client) -> None:
    batch = a_batch()
    for _ in range(2):
        admin_client.post(reverse("admin:inference_batch_cancel", args=[batch.pk]))
    batch.refresh_from_db()
    assert (batch.state, batch.ends_as) == ("cancelling", "cancelled")
    assert AuditEntry.objects.filter(action="cancel", target_type="batch", target_id=batch.pk).count() == 1


def test_its_files_are_fetched_by_those_who_may_read_them(admin_client: Client) -> None:
    file = kept_files.keep(KeptFile(owner="gw-1", filename="o.jsonl", purpose="batch_output"), [b"{}\n"])
    batch = a_batch(state="completed", output_file_id=file.pk)
    answer = admin_client.get(reverse("admin:inference_batch_file", args=[batch.pk]), {"which": "output"})
    assert b"".join(answer) == b"{}\n"
    assert admin_client.get(reverse("admin:inference_batch_file", args=[batch.pk]), {"which": "x"}).status_code == 404


def told(*words: str) -> str:
    out = io.StringIO()
    call_command("batches", *words, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def test_the_command_lists_shows_and_cancels() -> None:
    batch = a_batch(total=4, completed=1)
    assert [one["id"] for one in json.loads(told("list", "--json", "--state", "working"))] == [batch.pk]
    assert json.loads(told("show", batch.pk))["request_counts"]["completed"] == 1
    assert "cancelling" in told("cancel", batch.pk)
    with pytest.raises(CommandError, match="no batch"):
        told("show", "batch_none")


def test_the_command_makes_a_batch_of_a_file_of_prompts(tmp_path: Path) -> None:
    workers.fresh_registry()
    prefix, _ = workers.client_key("generate")
    (tmp_path / "prompts.txt").write_text("first\n\nthird, ä\n")
    words = ("submit", str(tmp_path / "prompts.txt"), "--key", prefix, "--model", "m", "--priority", "low", "--no-wait")
    batch = Batch.objects.get(pk=told(*words, "--max-tokens", "5").strip())
    assert (batch.owner, batch.get_priority_display()) == (prefix, "low")
    lines = [json.loads(one) for one in b"".join(kept_files.pieces(batch.input_file_id)).splitlines()]
    assert [one["custom_id"] for one in lines] == ["line-1", "line-3"]
    assert lines[1]["body"]["messages"] == [{"role": "user", "content": "third, ä"}]
    with pytest.raises(CommandError, match="no client key"):
        told("submit", str(tmp_path / "prompts.txt"), "--key", "gw-none", "--no-wait")
    snapshot.replace(None)


def test_the_command_says_how_lines_that_are_prompts_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workers.fresh_registry()
    prefix, _ = workers.client_key("generate")
    (tmp_path / "prompts.txt").write_text("What is a key?\n")
    wrong = {"code": "invalid_json_line", "message": "No JSON.", "param": None, "line": 1}
    monkeypatch.setattr(Command, "_followed", lambda self, batch: a_batch(state="failed", errors=[wrong]))
    with pytest.raises(CommandError, match="failed"):
        call_command("batches", "submit", str(tmp_path / "prompts.txt"), "--key", prefix)
    assert "--model MODEL" in capsys.readouterr().err
    snapshot.replace(None)


def test_lines_that_were_never_asked_are_no_progress(admin_client: Client) -> None:
    a_batch(state="cancelled", total=100, completed=40, failed=60)
    assert 'value="40"' in admin_client.get(LIST).content.decode()


def test_a_member_of_a_team_sees_and_ends_its_batches_alone(client: Client) -> None:
    ours, theirs = (Team.objects.create(name=name) for name in ("ours", "theirs"))
    for number, team in enumerate((ours, theirs), 1):
        ClientKey.objects.create(name=str(team), prefix=f"gw-{number}", team=team)
    member = get_user_model().objects.create_user("ada", is_staff=True)
    member.user_permissions.add(*Permission.objects.filter(codename__in=("view_batch", "change_batch")))
    TeamMember.objects.create(team=ours, user=member)
    own, other = a_batch(owner="gw-1"), a_batch(owner="gw-2")
    client.force_login(member)
    page = client.get(LIST).content.decode()
    assert (own.pk in page, other.pk in page) == (True, False)
    statuses = [client.post(reverse("admin:inference_batch_cancel", args=[one.pk])).status_code for one in (own, other)]
    assert statuses == [302, 404]
    assert client.get(reverse("admin:inference_batch_file", args=[own.pk])).status_code == 403


@pytest.fixture
def prefix() -> Iterator[str]:
    workers.fresh_registry()
    yield workers.client_key("generate")[0]
    snapshot.replace(None)


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("/v1/responses", {"input": "hello", "max_output_tokens": 9}),
        ("/v1/messages", {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 9}),
    ],
)
def test_a_prompt_is_asked_in_the_words_of_its_endpoint(
    prefix: str, tmp_path: Path, endpoint: str, body: dict[str, Any]
) -> None:
    (tmp_path / "prompts.txt").write_text("hello\n")
    words = ("submit", str(tmp_path / "prompts.txt"), "--key", prefix, "--model", "m", "--endpoint", endpoint)
    told(*words, "--max-tokens", "9", "--no-wait")
    batch = Batch.objects.get(endpoint=endpoint)
    assert json.loads(b"".join(kept_files.pieces(batch.input_file_id)))["body"] == {"model": "m", **body}


def test_messages_need_a_limit_and_that_is_said_at_once(prefix: str, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("hello\n")
    with pytest.raises(CommandError, match="--max-tokens"):
        told("submit", str(tmp_path / "prompts.txt"), "--key", prefix, "--model", "m", "--endpoint", "/v1/messages")
