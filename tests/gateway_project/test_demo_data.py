"""The demo month: consistent, the same again by the same seed, and never beside what is real."""

import random
from datetime import UTC, datetime, timedelta
from io import StringIO
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db.models import Count, Q, Sum

from gateway_project.demo import clients, month, registry, rhythm
from gateway_project.demo.traffic import Traffic
from inference import rollup_rebuilding
from inference.batch_models import Batch
from inference.file_models import KeptFile
from inference.models import AlertIncident, DecisionRecord, Job, Trace, UsageRecord, UsageRollup
from inference.recording import row_of
from providers import audit
from providers.models import ImportRun, Provider
from routing import snapshot
from routing.models import ClientKey, Policy

pytestmark = pytest.mark.django_db

UNTIL = datetime(2026, 11, 18, 15, 0, tzinfo=UTC)  # a Wednesday


@pytest.fixture
def filled():
    told = []
    month.fill(month.Plan(until=datetime.now(UTC), days=2, requests=300), told.append)
    return sum(told)


def test_ledger_traces_and_roll_ups_tell_the_same_month(filled):
    assert filled == 300
    requests = UsageRecord.objects.filter(attempt=0)
    assert requests.count() == Trace.objects.count() == 300
    assert UsageRollup.objects.aggregate(all=Sum("requests"))["all"] == 300
    assert list(rollup_rebuilding.differences()) == []
    told = UsageRecord.objects.aggregate(i=Sum("input_tokens"), o=Sum("output_tokens"))
    assert UsageRollup.objects.aggregate(i=Sum("input_tokens"), o=Sum("output_tokens")) == told
    failed = Trace.objects.filter(Trace.FAILED).exclude(status=499).count()
    assert UsageRollup.objects.aggregate(all=Sum("failed"))["all"] == failed


def test_every_request_that_the_gateway_served_can_be_explained(filled):
    decisions = set(Trace.objects.filter(side="gateway").values_list("decision", flat=True))
    assert "" not in decisions
    assert decisions <= set(DecisionRecord.objects.values_list("digest", flat=True))


def test_what_people_do_leaves_what_it_leaves_when_people_do_it(filled):
    assert list(audit.verify()) == []
    assert {run.exit_status for run in ImportRun.objects.filter(kind="verify")} == {0}
    assert {key.state for key in ClientKey.objects.all()} == {"active", "suspended", "revoked", "expired"}
    assert set(Job.objects.values_list("state", flat=True)) >= {"succeeded", "failed", "cancelled"}
    assert set(Batch.objects.values_list("state", "held")) == {("completed", ""), ("in_progress", "budget")}
    assert KeptFile.objects.filter(ready=True).count() == 4
    assert Policy.objects.get(name="support-assistant").candidate_version == 2
    told = AlertIncident.objects.aggregate(
        now=Count("pk", Q(ended_at=None)), by_probes=Count("pk", Q(subject="deepseek", ended_at=None))
    )
    assert told["now"] >= told["by_probes"] == 1


def test_nothing_in_it_calls_anybody(filled):
    elsewhere = Provider.objects.exclude(provider_type="fake")
    assert set(elsewhere.values_list("probe_interval_seconds", flat=True)) == {0}
    for provider in elsewhere:
        stored = provider.connection_params.get("base_url")
        addresses = [stored] if stored else list(provider.parameters.values_list("plain_value", flat=True))
        hosts = [urlsplit(address).hostname for address in addresses if "://" in address]
        assert hosts, provider
        assert all(host.endswith(".invalid") for host in hosts), provider


def test_the_same_registry_moment_and_seed_make_the_same_requests():
    identities = registry.build(UNTIL, 2, random.Random(1))

    def made(seed):
        told = {"begin": UNTIL - timedelta(days=2), "until": UNTIL, "count": 80, "seed": seed}
        return [row_of(entry) for entry in Traffic(snapshot.refresh(), identities, **told).entries()]

    assert made(7) == made(7)
    assert made(7) != made(8)


def test_a_second_run_is_refused():
    registry.build(UNTIL, 2, random.Random(1))
    with pytest.raises(CommandError, match="here already"):
        call_command("demo_data", requests=5, into_existing=True)


def test_an_installation_in_use_is_left_alone():
    Provider(provider_id="ours", provider_type="openai").save()
    with pytest.raises(CommandError, match="it has 1 provider"):
        call_command("demo_data", requests=5)
    assert Provider.objects.count() == 1


def test_the_command_tells_how_to_sign_in():
    told = StringIO()
    call_command("demo_data", requests=20, days=1, stdout=told)
    password = told.getvalue().partition("password ")[2].split()[0]
    assert User.objects.get(username="demo").check_password(password)


def test_requests_come_in_order_and_fewer_of_them_at_night():
    moments = list(rhythm.arrivals([rhythm.Pace(1.0)], (), UNTIL - timedelta(days=1), UNTIL, 500, random.Random(3)))
    times = [at for at, _ in moments]
    assert times == sorted(times)
    by_day = sum(8 <= at.hour < 16 for at in times)
    assert by_day > 10 * sum(at.hour < 6 for at in times)


def test_whoever_lost_their_key_is_heard_of_no_more():
    moments = rhythm.arrivals(
        clients.paces(UNTIL), clients.bursts(UNTIL), UNTIL - timedelta(days=12), UNTIL, 4000, random.Random(3)
    )
    gone = [at for at, who in moments if clients.CLIENTS[who].name == "Old CRM connector"]
    assert gone
    assert max(gone) <= UNTIL - timedelta(days=9)
