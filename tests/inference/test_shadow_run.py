"""`manage.py shadow_run`: a prompt set through both sides."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.test import override_settings

from inference import client, loop
from inference.metrics import Metrics
from inference.models import ShadowPair
from inference.recording import Recorder, Row
from providers.models import ApiKey, Provider, ProviderModel
from routing import snapshot
from routing.models import Rollout
from tests.fakes.upstream import FakeUpstream, failure
from tests.inference import workers

pytestmark = pytest.mark.django_db(transaction=True)

KEY = "sk-legacy-canary-0123456789"


@pytest.fixture(autouse=True)
def rows(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Row]]:
    workers.fresh_registry()
    written: list[Row] = []
    recorder = Recorder(written.extend, Metrics())
    monkeypatch.setattr(client, "_recorder", recorder)
    monkeypatch.setattr(loop, "_background_plane", None)
    yield written
    recorder.stop()
    snapshot.replace(None)


@pytest.fixture
def legacy() -> Iterator[FakeUpstream]:
    with FakeUpstream(api_key=KEY) as fake:
        yield fake


@pytest.fixture
def here() -> Iterator[FakeUpstream]:
    with FakeUpstream() as fake:
        provider = Provider.objects.create(
            provider_id="openai", provider_type="openai", connection_params={"base_url": fake.base_url}
        )
        prices = {"input_cost_per_million": 1, "output_cost_per_million": 2}
        ProviderModel.objects.create(provider=provider, model_id="gpt-test", **prices)
        ApiKey.objects.create(provider=provider, secret="sk-here")
        yield fake


@pytest.fixture
def rollout(legacy: FakeUpstream, here: FakeUpstream) -> Rollout:
    row = Rollout(legacy_base_url=legacy.base_url.removesuffix("/v1"), shadow_daily_cap=Decimal(1))
    row.set_headers({"Authorization": f"Bearer {KEY}"})
    row.save()
    return row


@pytest.fixture
def prompts(tmp_path: Path) -> Any:
    def write(*lines: Any) -> str:
        path = tmp_path / "prompts.jsonl"
        path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
        return str(path)

    return write


def run(*arguments: str) -> tuple[int, str]:
    said = StringIO()
    try:
        call_command("shadow_run", *arguments, stdout=said)
    except SystemExit as ended:
        return int(ended.code or 0), said.getvalue()
    return 0, said.getvalue()


def test_both_answers_to_each_prompt_are_kept(
    rollout: Rollout, here: FakeUpstream, legacy: FakeUpstream, prompts: Any
) -> None:
    body = {"model": "gpt-test", "messages": [{"role": "user", "content": "two"}], "stream": True}
    status, said = run(prompts({"prompt": "one"}, "", body), "--model", "gpt-test", "--label", "first")

    assert (status, "2 of 2 pairs kept as run 'first'." in said) == (0, True)
    pairs = list(ShadowPair.objects.filter(run="first"))
    assert {pair.request_text.reveal() for pair in pairs} == {"user: one", "user: two"}
    assert {pair.gateway_text.reveal() for pair in pairs} == {"echo: one", "echo: two"}
    assert all(pair.equal and pair.answered_by == "" for pair in pairs)
    assert len(here.requests) == len(legacy.requests) == 2
    assert "stream" not in legacy.requests[0].json


def test_the_gateways_answers_are_marked_as_copies(rollout: Rollout, prompts: Any, rows: list[Row]) -> None:
    run(prompts({"prompt": "one"}), "--model", "gpt-test")
    assert client._recorder is not None
    client._recorder.stop()
    assert [(row.side, row.client_key_id) for row in rows] == [("shadow", None)]


def test_a_side_that_fails_is_kept_as_that(rollout: Rollout, legacy: FakeUpstream, prompts: Any) -> None:
    legacy.reply_with(failure(500), times=None)
    status, said = run(prompts({"prompt": "one"}), "--model", "gpt-test")
    pair = ShadowPair.objects.get()
    assert (status, pair.legacy_status, pair.gateway_status) == (0, 500, 200)
    assert "one side failed" in said


def test_the_days_money_holds_for_a_set_too(rollout: Rollout, legacy: FakeUpstream, prompts: Any) -> None:
    Rollout.objects.update(shadow_daily_cap=0)
    status, said = run(prompts({"prompt": "one"}, {"prompt": "two"}), "--model", "gpt-test")
    assert (status, legacy.requests) == (2, [])
    assert "2 not asked: the day's money for copies is used up." in said


def test_without_redis_nothing_is_asked(rollout: Rollout, legacy: FakeUpstream, prompts: Any) -> None:
    with override_settings(REDIS_URL="redis://127.0.0.1:1/0"):
        status, _ = run(prompts({"prompt": "one"}), "--model", "gpt-test")
    assert settings.REDIS_URL != "redis://127.0.0.1:1/0"
    assert (status, legacy.requests) == (2, [])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{not json", "Line 1 is not JSON"),
        ("[1]", "Line 1 is not a JSON object"),
        ('{"prompt": "no model"}', "Line 1 cannot be asked: no model is named"),
        ('{"model": "m"}', "neither a prompt nor messages"),
        ("", "holds no prompt"),
    ],
)
def test_a_line_that_cannot_be_asked_is_named(rollout: Rollout, prompts: Any, line: str, said: str) -> None:
    with pytest.raises(CommandError, match=said):
        run(prompts(line))


def test_without_a_legacy_side_there_is_nothing_to_compare(prompts: Any) -> None:
    with pytest.raises(CommandError, match="no legacy side"):
        run(prompts({"prompt": "one"}))


def test_a_file_that_is_not_there_is_said(rollout: Rollout, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot be read"):
        run(str(tmp_path / "none.jsonl"))
