"""Imports over REST: what the pages do, with the same credentials that go in and never come out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rest_framework.test import APIClient

from providers.import_runs import ImportRun
from tests.callers import caller
from tests.providers.test_admin_imports import LABEL, LEGACY_KEY, PASSWORD, SOURCE, a_run, find

pytestmark = pytest.mark.django_db
IMPORTS = "/api/v1/imports"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    told: list[list[int]] = []
    monkeypatch.setattr("providers.import_steps.current_app.send_task", lambda name, args, **options: told.append(args))
    return told


@pytest.fixture
def admin() -> APIClient:
    return caller("admin")


def test_a_dry_run_is_begun_and_read_without_a_credential(admin: APIClient, sent: list[list[int]]) -> None:
    answer = admin.post(IMPORTS, {"source_url": SOURCE, "legacy_keys": [LEGACY_KEY]}, format="json")
    run = ImportRun.objects.get()
    assert (answer.status_code, sent) == (202, [[run.pk]])
    told = answer.json()
    assert (told["kind"], told["state"], told["source_label"]) == ("dry_run", "queued", LABEL)
    assert told["has_credentials"] is True
    for text in (answer.content.decode(), admin.get(IMPORTS).content.decode()):
        assert PASSWORD not in text
        assert LEGACY_KEY not in text


@pytest.mark.parametrize(
    ("body", "member"),
    [({"source_url": "ftp://x"}, "source_url"), ({"source_url": SOURCE, "kind": "apply"}, "kind"), ({}, "source_url")],
)
def test_a_mistake_is_named_and_begins_nothing(admin: APIClient, body: dict[str, Any], member: str) -> None:
    answer = admin.post(IMPORTS, body, format="json")
    assert (answer.status_code, member in answer.content.decode()) == (400, True)
    assert PASSWORD not in answer.content.decode()
    assert not ImportRun.objects.exists()


def test_a_plan_is_applied_with_the_credentials_it_still_has(admin: APIClient, sent: list[list[int]]) -> None:
    plan = a_run(secrets=True)
    assert admin.get(f"{IMPORTS}/{plan.pk}").json()["next_steps"] == ["apply", "dry_run"]
    answer = admin.post(f"{IMPORTS}/{plan.pk}/next", {"kind": "apply"}, format="json")
    assert (answer.status_code, answer.json()["kind"], sent) == (202, "apply", [[answer.json()["id"]]])
    again = admin.post(f"{IMPORTS}/{plan.pk}/next", {"kind": "apply"}, format="json")
    assert (again.status_code, "credentials are gone" in again.content.decode()) == (409, True)
    assert admin.post(f"{IMPORTS}/{plan.pk}/next", {"kind": "verify"}, format="json").status_code == 409


def test_nothing_is_begun_while_another_runs(admin: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    a_run("apply", state=ImportRun.State.RUNNING, finished_at=None)
    monkeypatch.setattr("providers.import_steps.runs.mark_interrupted", lambda: 0)
    answer = admin.post(IMPORTS, {"source_url": SOURCE}, format="json")
    assert (answer.status_code, "wait for it to end" in answer.content.decode()) == (409, True)


def test_what_left_nothing_cannot_be_undone(admin: APIClient) -> None:
    run = a_run("apply")
    assert admin.post(f"{IMPORTS}/{run.pk}/undo", {}, format="json").status_code == 400
    answer = admin.post(f"{IMPORTS}/{run.pk}/undo", {"reason": "wrong"}, format="json")
    assert (answer.status_code, "nothing that could be undone" in answer.content.decode()) == (409, True)


def test_the_report_holds_every_finding(admin: APIClient) -> None:
    run = a_run()
    find(run, times=3)
    answer = admin.get(f"{IMPORTS}/{run.pk}/report")
    assert len(json.loads(b"".join(answer.streaming_content))["findings"]) == 3  # type: ignore[attr-defined]
    running = a_run(state=ImportRun.State.RUNNING, finished_at=None)
    assert admin.get(f"{IMPORTS}/{running.pk}/report").status_code == 409


def test_credentials_are_forgotten(admin: APIClient) -> None:
    run = a_run(secrets=True)
    assert admin.post(f"{IMPORTS}/{run.pk}/forget").json()["has_credentials"] is False
    assert ImportRun.objects.get().sealed is None


def test_reading_is_not_starting() -> None:
    run, reader = a_run(secrets=True), caller("registry:read", "registry:write")
    assert reader.get(f"{IMPORTS}/{run.pk}").status_code == 200
    for path in ("", f"/{run.pk}/next", f"/{run.pk}/undo", f"/{run.pk}/forget"):
        assert (
            reader.post(f"{IMPORTS}{path}", {"source_url": SOURCE, "kind": "apply"}, format="json").status_code == 403
        )
