"""`migrate_backoffice --smoke`, alone: what it prints, what it writes and how it ends."""

from __future__ import annotations

import json
import uuid
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from providers.importers import smoke
from providers.models import ApiKey, ImportRecord, ImportRun, Provider, ProviderModel

pytestmark = pytest.mark.django_db


class Generating:
    """Stands in for the data plane: answers, unless the provider is called bad."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, provider_id: str, model_id: str, prompt: str, **_: Any) -> dict[str, Any]:
        self.asked.append(provider_id)
        if provider_id == "bad":
            raise RuntimeError("the upstream is on fire")
        return {
            "text": f"[bold]{prompt}",
            "first_token_ms": 12.0,
            "total_ms": 34.0,
            "input_tokens": 3,
            "output_tokens": 5,
        }


@pytest.fixture(autouse=True)
def generating(monkeypatch: pytest.MonkeyPatch) -> Generating:
    generation = Generating()
    monkeypatch.setattr(smoke, "_generation", generation)
    monkeypatch.delenv("LEGACY_DATABASE_URL", raising=False)
    return generation


def provider(provider_id: str, *, imported: bool = True, **fields: Any) -> None:
    row = Provider.objects.create(provider_id=provider_id, provider_type="openai", **fields)
    ProviderModel.objects.create(provider=row, model_id="gpt-test")
    ApiKey.objects.create(provider=row, secret="sk-canary-0123456789")
    if imported:
        run = ImportRun.objects.create(kind="apply", state="done", source_label="legacy")
        facts = {"origin": uuid.uuid4().hex, "digest": "d", "after": "a", "outcome": "created"}
        ImportRecord.objects.create(
            run=run, table="llm_providers", key=provider_id, target_kind="provider", target_id=row.pk, **facts
        )


def run(*arguments: str) -> tuple[int, str]:
    said = StringIO()
    try:
        call_command("migrate_backoffice", "--smoke", *arguments, stdout=said)
    except SystemExit as ended:
        return int(ended.code or 0), said.getvalue()
    return 0, said.getvalue()


def test_answers_are_shown_with_what_they_took_and_that_they_are_billed() -> None:
    provider("good")
    status, said = run()
    assert status == 0
    assert smoke.COSTS_MONEY in said
    line = next(line for line in said.splitlines() if "good" in line)
    for cell in ("gpt-test", "answered", "12 ms", "34 ms", "3 + 5", "[bold]Hello, world!"):
        assert cell in line


def test_one_that_does_not_answer_makes_it_end_with_2_and_is_in_the_report(tmp_path: Path) -> None:
    provider("good")
    provider("bad")
    provider("off", enabled=False)
    status, said = run("--report", str(tmp_path / "smoke.json"))
    assert status == 2
    assert "the upstream is on fire" in said
    told = json.loads((tmp_path / "smoke.json").read_text())["smoke"]
    assert told["counts"] == {"answered": 1, "failed": 1, "left_out": 1}
    assert told["providers"][0]["message"] == "the upstream is on fire"


def test_all_asks_also_whom_nobody_imported(generating: Generating) -> None:
    provider("good")
    provider("mine", imported=False)
    run()
    assert generating.asked == ["good"]
    run("--all")
    assert sorted(generating.asked) == ["good", "good", "mine"]


def test_only_asks_the_named_one(generating: Generating) -> None:
    provider("good")
    provider("bad")
    assert run("--only", "good")[0] == 0
    assert generating.asked == ["good"]


def test_nobody_to_ask_is_an_error() -> None:
    with pytest.raises(CommandError, match="no imported provider"):
        run()


def test_a_provider_that_is_switched_off_leaves_nobody_who_answered() -> None:
    provider("off", enabled=False)
    assert run()[0] == 1


def test_all_alone_says_nothing() -> None:
    with pytest.raises(CommandError, match="needs --smoke"):
        call_command("migrate_backoffice", "--all", stdout=StringIO())
