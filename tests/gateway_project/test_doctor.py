"""What the doctor finds, and that the page, the command and REST all say it."""

from __future__ import annotations

import io
import json
import re
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import DatabaseError, connection
from django.db.models import QuerySet
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from gateway_project import clock
from gateway_project.celery import app
from gateway_project.doctor import examining, findings, workers
from gateway_project.doctor.findings import ERROR, WARNING, Finding, Fix, check
from inference.models import Batch, UsageRollup
from providers.models import ApiKey, ProbeResult, Provider, ProviderModel
from providers.secrets import Secret
from routing import issuing, snapshot
from routing.models import ClientKey, Policy
from tests.callers import with_key
from tests.inference.ledger import record

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _looked_at_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(examining, "PATIENCE_SECONDS", 60.0)  # who is asked here answers
    cache.clear()
    snapshot.replace(None)
    clock.tick()
    yield
    cache.clear()


@pytest.fixture
def a_model() -> ProviderModel:
    provider = Provider.objects.create(provider_id="up", provider_type="fake")
    return ProviderModel.objects.create(
        provider=provider, model_id="m", input_cost_per_million=0, output_cost_per_million=0
    )


def found_by(name: str) -> list[Finding]:
    return [finding for _, finding in examining.examine(only=[name]).findings]


def seen_by(name: str) -> str:
    (verdict,) = examining.examine(only=[name]).verdicts
    return verdict.seen


@pytest.fixture
def worker_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    class Inspect:
        def active_queues(self) -> Any:
            return {"worker1@here": [{"name": name} for name in workers.QUEUES]}

    monkeypatch.setattr(app.control, "inspect", lambda timeout: Inspect())


# --- The checks -----------------------------------------------------------------------------------------------------------------


def test_every_check_says_what_is_well_on_a_fresh_installation(worker_answers: None) -> None:
    report = examining.examine(live=True)

    assert [finding.what for _, finding in report.findings if finding.level == ERROR] == []
    assert [verdict.name for verdict in report.well if not verdict.seen] == []
    assert report.passed_over == []


def test_a_provider_that_failed_its_last_probe_is_named_with_the_reason_and_the_beginning() -> None:
    provider = Provider.objects.create(provider_id="up", provider_type="fake")
    ProbeResult.objects.create(provider=provider, healthy=True, duration_ms=1)
    began = ProbeResult.objects.create(provider=provider, healthy=False, duration_ms=1, message="tcp: refused")
    ProbeResult.objects.create(provider=provider, healthy=False, duration_ms=1, message="tcp: still refused")

    (finding,) = found_by("providers")

    assert (finding.level, finding.what, finding.why) == (ERROR, "up is unhealthy.", "tcp: still refused")
    assert finding.since == began.at
    assert finding.fix.link == reverse("admin:providers_provider_change", args=[provider.pk])


def test_a_model_that_the_gateway_took_out_of_service_is_named(a_model: ProviderModel) -> None:
    ProviderModel.objects.update(auto_disabled_at=timezone.now(), auto_disabled_reason="12 failures in a row")

    (finding,) = found_by("breakers")

    assert (finding.what, finding.why) == ("up/m was taken out of service by the gateway.", "12 failures in a row")
    assert finding.fix.command == "manage.py breakers --enable up/m"


def test_a_policy_that_nobody_can_serve_now_is_named_with_the_reasons(
    a_model: ProviderModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = Policy.objects.create(name="fast", kind="policy", document={"strategy": "priority", "targets": ["up/m"]})
    assert found_by("policies") == []
    ProviderModel.objects.update(auto_disabled_at=timezone.now(), auto_disabled_reason="it failed")
    snapshot.replace(None)

    (finding,) = found_by("policies")

    assert finding.what == "Nobody can serve fast now."
    assert "up/m" in finding.why
    assert finding.fix.link == reverse("admin:routing_policy_change", args=[policy.pk])


def test_a_client_key_that_matches_nothing_is_named_once_and_others_are_not(a_model: ProviderModel) -> None:
    stuck, _ = issuing.issue("stuck", ["generate"], allowed_models=["gpt-9*"])
    Policy.objects.create(name="fast", kind="policy", document={"strategy": "priority", "targets": ["up/m"]})
    issuing.issue("fine", ["generate"], allowed_models=["m"])
    issuing.issue("by kind", ["generate"], allowed_models=["gpt-9*"], allowed_policies=["policy/*"])
    issuing.issue("registry", ["registry:read"], allowed_models=["gpt-9*"])

    (finding,) = found_by("client_keys")

    assert finding.what == "The client key stuck can use nothing."
    assert finding.fix.link == reverse("admin:routing_clientkey_change", args=[stuck.pk])


def test_a_key_of_ours_that_ends_soon_is_a_warning_and_one_that_ended_an_error() -> None:
    provider = Provider.objects.create(provider_id="up", provider_type="fake")
    for days in (-1, 3, 30):
        ApiKey.objects.create(
            provider=provider, secret=Secret(f"sk-{days}"), expires_at=timezone.now() + timedelta(days=days)
        )

    assert [finding.level for finding in found_by("keys")] == [ERROR, WARNING]


def test_keys_that_are_held_back_are_named_with_their_provider() -> None:
    provider = Provider.objects.create(provider_id="up", provider_type="fake")
    ApiKey.objects.create(provider=provider, secret=Secret("sk-1"))
    assert found_by("keys") == []
    QuerySet(ApiKey).update(held_for="https://elsewhere.example")

    (finding,) = found_by("keys")
    assert finding.what == "Keys of up are held back."
    assert finding.fix.link == reverse("admin:providers_provider_change", args=[provider.pk]) + "?tab=keys"


def test_providers_that_are_shown_by_one_name_are_told_apart() -> None:
    for name in ("up", "down"):
        provider = Provider.objects.create(provider_id=name, provider_type="fake", display_name="Ours")
        ProbeResult.objects.create(provider=provider, healthy=False, duration_ms=1, message="refused")

    assert {finding.what for finding in found_by("providers")} == {
        "Ours (up) is unhealthy.",
        "Ours (down) is unhealthy.",
    }


@pytest.mark.parametrize(
    ("params", "secret", "tab"),
    [({}, "env:NOT_SET_ANYWHERE", "keys"), ({"api_key_env_var": "NOT_SET_ANYWHERE"}, "", "connection")],
    ids=["key", "parameter"],
)
def test_what_cannot_be_read_of_a_provider_is_mended_on_its_own_page(
    params: dict[str, str], secret: str, tab: str
) -> None:
    Provider.objects.create(provider_id="other", provider_type="openai")
    provider = Provider.objects.create(provider_id="up", provider_type="openai", connection_params=params)
    if secret:
        ApiKey.objects.create(provider=provider, secret=Secret(secret))

    (finding,) = found_by("snapshot")

    assert "NOT_SET_ANYWHERE" in finding.what
    assert finding.fix.link == reverse("admin:providers_provider_change", args=[provider.pk]) + f"?tab={tab}"


def test_a_key_for_keyless_clients_of_ollama_that_lets_nobody_in_is_found(settings: Any) -> None:
    key, secret = issuing.issue("kitchen", ("generate",))
    settings.GATEWAY_OLLAMA_KEY = secret.reveal()
    assert found_by("ollama_key") == []
    ClientKey.objects.filter(pk=key.pk).update(enabled=False)
    snapshot.replace(None)
    (disabled,) = found_by("ollama_key")
    settings.GATEWAY_OLLAMA_KEY = "gw-nobody"
    (unknown,) = found_by("ollama_key")

    assert disabled.why.startswith("It is disabled.")
    assert unknown.why.startswith("There is no such client key.")
    assert secret.reveal() not in disabled.what + disabled.why


def test_a_batch_that_nobody_works_on_is_found() -> None:
    now = timezone.now()
    going = {"owner": "gw-1", "endpoint": "/v1/embeddings", "expires_at": now + timedelta(days=1), "local": True}
    for leased_until in (None, now):
        Batch.objects.create(leased_until=leased_until, created_at=now - timedelta(minutes=5), **going)
    Batch.objects.create(held="budget", held_until=now, created_at=now - timedelta(hours=1), **going)
    assert found_by("batches") == []
    Batch.objects.create(created_at=now - timedelta(hours=1), **going)
    Batch.objects.create(leased_until=now - timedelta(hours=1), created_at=now - timedelta(hours=2), **going)

    (finding,) = found_by("batches")

    assert finding.what.startswith("Nobody works on 2 batches")
    assert finding.fix.command.endswith("-Q llama_cpp")


def test_a_model_without_a_price_is_named_once() -> None:
    provider = Provider.objects.create(provider_id="up", provider_type="openai_compatible")
    ProviderModel.objects.create(provider=provider, model_id="homemade")

    (finding,) = found_by("prices")

    assert "up/homemade" in finding.what
    assert found_by("configuration") == []


def test_a_clock_that_stands_still_is_an_error_since_its_last_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    last = time.time() - 600
    monkeypatch.setattr(clock, "last_tick", lambda: last)

    (finding,) = found_by("clock")

    assert "10 minutes ago" in finding.what
    assert finding.since is not None
    assert finding.since.timestamp() == pytest.approx(last)


def test_a_tick_is_told_to_everybody() -> None:
    clock.tick(sender="inference.tasks.sweep_jobs", body=())

    told = clock.last_tick()

    assert told is not None
    assert told == pytest.approx(time.time(), abs=60)


def test_a_queue_that_grows_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "MANY_WAITING", 2)
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        client.rpush("probes", "a", "b")
        try:
            (finding,) = found_by("queues")
        finally:
            client.delete("probes")

    assert "2 tasks wait in the queue probes." in finding.what
    assert finding.fix.command.endswith("-Q probes")


def test_without_a_worker_the_doctor_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nobody:
        def active_queues(self) -> None:
            return None

    monkeypatch.setattr(app.control, "inspect", lambda timeout: Nobody())

    assert [finding.what for finding in found_by("workers")] == ["No worker answers."]


def test_redis_that_is_away_is_said_once(settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"

    report = examining.examine()

    assert [verdict.name for verdict, finding in report.findings if "Redis" in finding.what] == ["redis"]
    assert "queues" in [verdict.name for verdict in report.passed_over]
    assert [verdict.name for verdict in examining.examine(only=["workers"]).passed_over] == ["workers"]


def test_a_full_disk_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"total": 10**12, "free": 10**8})())

    assert [finding.level for finding in found_by("disk")] == [ERROR]


def test_a_spool_that_fills_is_found(settings: Any, tmp_path: Path) -> None:
    settings.DATA_DIR, settings.GATEWAY_SPOOL_MB = tmp_path, 8
    folder = tmp_path / "spool" / "1-a"
    folder.mkdir(parents=True)
    with (folder / "log-1").open("wb") as log:
        log.truncate(5 << 20)

    (finding,) = found_by("spool")

    assert finding.level == WARNING
    assert "5\u202fMB of 8\u202fMB" in finding.what


def test_sums_that_lack_the_latest_hour_are_found() -> None:
    record()
    assert found_by("rollups") == []
    UsageRollup.objects.all().delete()

    (finding,) = found_by("rollups")

    assert finding.fix.command.startswith("manage.py rebuild_rollups")


def test_traces_that_outlived_their_days_are_found() -> None:
    record(at=timezone.now() - timedelta(hours=settings.GATEWAY_TRACE_HOURS, days=5))

    assert [finding.level for finding in found_by("retention")] == [WARNING]


def test_missing_migrations_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    step = type("Migration", (), {"app_label": "routing", "name": "0099_more"})
    monkeypatch.setattr(
        "django.db.migrations.executor.MigrationExecutor.migration_plan", lambda self, targets: [(step, False)]
    )

    (finding,) = found_by("database")

    assert finding.what == "1 migration not applied, beginning with routing.0099_more."


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("debug", {"DEBUG": True}),
        ("hosts", {"ALLOWED_HOSTS": ["*"]}),
        ("cookies", {"ALLOWED_HOSTS": ["llm.example.org"]}),
    ],
)
def test_settings_of_a_developer_are_found(name: str, changed: dict[str, Any], settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["localhost"]
    assert found_by(name) == []
    for setting, value in changed.items():
        setattr(settings, setting, value)
    assert len(found_by(name)) == 1


def test_every_page_that_a_check_names_is_there() -> None:
    folder = Path(findings.__file__).parent
    named = {name for path in folder.glob("*.py") for name in re.findall(r'(?<!def )\bpage\("(\w+)"', path.read_text())}
    named |= {name for path in folder.glob("*.py") for name in re.findall(r'"(\w+_changelist)"', path.read_text())}

    assert len(named) > 8
    for name in named:
        findings.page(name, *([1] if name.endswith("_change") else []))


# --- Running them ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def one_more() -> Iterator[Any]:
    """Registers a check for as long as the test runs."""
    before = dict(findings._checks)
    yield check
    findings._checks.clear()
    findings._checks.update(before)


def test_a_check_that_breaks_hides_no_other(one_more: Any) -> None:
    @one_more("odd", "Something odd", findings.STORES)
    def odd() -> Any:
        yield "before"
        raise ZeroDivisionError("by zero")

    report = examining.examine()

    assert [finding.why for verdict, finding in report.findings if verdict.name == "odd"] == [
        "ZeroDivisionError: by zero"
    ]
    assert len(report.verdicts) > 10


def test_who_does_not_answer_is_not_waited_for(one_more: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examining, "PATIENCE_SECONDS", 0.1)
    told = threading.Event()

    @one_more("slow", "Somebody slow", findings.WORKERS, apart=True)
    def slow() -> Any:
        told.wait(30)
        yield "at last"

    (finding,) = found_by("slow")
    told.set()

    assert "no answer within 0.1 seconds" in finding.what


def test_a_database_that_refuses_passes_a_check_over(one_more: Any) -> None:
    @one_more("asks", "It asks", findings.RECORDS)
    def asks() -> Any:
        yield from ()
        raise DatabaseError("no such column")

    (verdict,) = examining.examine(only=["asks"]).verdicts

    assert "lacks a migration" in verdict.passed_over
    assert connection.is_usable()


def test_errors_come_before_warnings_and_decide_the_state(one_more: Any) -> None:
    @one_more("both", "Both", findings.STORES)
    def both() -> Any:
        yield Finding(WARNING, "later", "", Fix(""))
        yield Finding(ERROR, "now", "", Fix(""))

    report = examining.examine(only=["both"])

    assert [finding.what for _, finding in report.findings] == ["now", "later"]
    assert (report.state, report.errors, report.warnings) == (ERROR, 1, 1)


# --- The doors ------------------------------------------------------------------------------------------------------------------


def test_the_page_tells_findings_with_the_way_to_mend_them(admin_client: Client) -> None:
    provider = Provider.objects.create(provider_id="up", provider_type="fake", display_name="Up <there>")
    ProbeResult.objects.create(provider=provider, healthy=False, duration_ms=1, message="refused")

    html = admin_client.get(reverse("admin:doctor")).content.decode()

    assert "Up &lt;there&gt; (up) is unhealthy." in html
    assert reverse("admin:providers_provider_change", args=[provider.pk]) in html
    assert "were not asked" in html


def test_a_post_asks_those_who_have_to_answer_and_gives_a_script_the_part_alone(
    admin_client: Client, worker_answers: None
) -> None:
    answer = admin_client.post(reverse("admin:doctor"), headers={"X-Fragment": "1"})

    html = answer.content.decode()
    assert "were asked too" in html
    assert "1 worker answers: worker1@here." in html
    assert "<html" not in html


def test_what_was_found_is_told_again_without_another_look(admin_client: Client) -> None:
    admin_client.get(reverse("admin:doctor"))
    Provider.objects.create(provider_id="odd", provider_type="no_such_type")

    assert "no_such_type" not in admin_client.get(reverse("admin:doctor")).content.decode()


def test_the_command_s_status_is_what_monitors_read(capsys: pytest.CaptureFixture[str], a_model: ProviderModel) -> None:
    out = io.StringIO()
    call_command("doctor", "--only", "providers", stdout=out)
    assert "All is well." in out.getvalue()

    ProbeResult.objects.create(provider=a_model.provider, healthy=False, duration_ms=1, message="refused")
    with pytest.raises(SystemExit) as ended:
        call_command("doctor", "--only", "providers", stdout=out)
    assert ended.value.code == 2
    assert "up is unhealthy." in out.getvalue()

    ApiKey.objects.create(
        provider=a_model.provider, secret=Secret("sk-1"), expires_at=timezone.now() + timedelta(days=3)
    )
    with pytest.raises(SystemExit) as ended:
        call_command("doctor", "--only", "keys", stdout=out)
    assert ended.value.code == 1


def test_the_command_speaks_json_to_programs() -> None:
    out = io.StringIO()
    call_command("doctor", "--only", "redis", "--json", stdout=out)

    told = json.loads(out.getvalue())

    assert (told["state"], told["errors"]) == ("well", 0)
    assert [one["name"] for one in told["checks"]] == ["redis"]


def test_a_check_that_there_is_not_is_refused_by_the_command() -> None:
    with pytest.raises(CommandError, match="There is no check 'moon'"):
        call_command("doctor", "--only", "moon")


def test_rest_says_the_same_to_keys_that_administer(worker_answers: None) -> None:
    provider = Provider.objects.create(provider_id="up", provider_type="fake")
    ProbeResult.objects.create(provider=provider, healthy=False, duration_ms=1, message="refused")

    told = with_key(issuing.issue("ops", ["admin"])[1].reveal()).get("/api/v1/doctor?live=true").json()

    assert (told["state"], told["live"]) == ("error", True)
    (finding,) = [one for one in told["findings"] if one["check"] == "providers"]
    assert finding["what"] == "up is unhealthy."
    assert finding["fix"]["page"] == reverse("admin:providers_provider_change", args=[provider.pk])
    refused = with_key(issuing.issue("app", ["generate", "registry:read"])[1].reveal()).get("/api/v1/doctor")
    assert refused.status_code == 403


def test_members_of_a_team_are_not_told(client: Client) -> None:
    client.force_login(User.objects.create_user("clerk", is_staff=True))

    assert client.get(reverse("admin:doctor")).status_code == 403
    assert client.post(reverse("admin:doctor")).status_code == 403
