"""What else a month leaves behind: probes, jobs, captured conversations, a correction of prices, incidents."""

from __future__ import annotations

import logging
import random
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from django.db import transaction

from gateway_project.demo import upstreams
from gateway_project.demo.conversations import CONVERSATIONS
from inference import alert_judging, rating, usage_rows
from inference.alert_models import AlertIncident, AlertRule
from inference.contents import Kept
from inference.models import Job, Trace
from providers import actor
from providers.models import PriceOverride, ProbeResult, Provider
from providers.probes import KEPT_PER_PROVIDER, STAGES
from routing.models import ClientKey

_PROBED, _MINUTE = timedelta(minutes=10), timedelta(minutes=1)


def probes(until: datetime, chance: random.Random) -> None:
    """As many as are kept, ten minutes apart."""
    known: Sequence[upstreams.Outage] = upstreams.outages(until)
    rows = []
    for provider in Provider.objects.filter(enabled=True).exclude(provider_type="fake"):
        for number in range(KEPT_PER_PROVIDER, 0, -1):
            at = until - _PROBED * number + timedelta(seconds=chance.uniform(0, 40))
            rows.append(_probe(provider, at, known, chance))
    ProbeResult.objects.bulk_create(rows, batch_size=500)


def _probe(provider: Provider, at: datetime, known: Sequence[upstreams.Outage], chance: random.Random) -> ProbeResult:
    down = next((one for one in known if one.holds(provider.provider_id, at)), None)
    failed = down is not None or chance.random() < 0.004
    stages, total = [], 0.0
    stops_at = "tcp" if down is not None and down.code == "upstream_unreachable" else "list_models"
    for name in STAGES:
        ms = {"dns": 4, "tcp": 11, "tls": 24, "auth": 60, "list_models": 140}.get(name, 0) * chance.uniform(0.6, 1.7)
        if name in ("one_token", "one_stream"):
            stages.append(_stage(name, "skipped", 0.0, "a call may be billed: allow paid probes, or ask for it"))
        elif failed and name == stops_at:
            words = (
                "connection refused" if stops_at == "tcp" else "503 Service Unavailable: overloaded, try again later"
            )
            stages.append(_stage(name, "failed", ms, words))
        elif failed and STAGES.index(name) > STAGES.index(stops_at):
            stages.append(_stage(name, "skipped", 0.0, f"{stops_at} failed"))
        else:
            total += ms
            stages.append(_stage(name, "ok", ms, ""))
    words = next((f"{one['name']}: {one['message']}" for one in stages if one["status"] == "failed"), "all well")
    return ProbeResult(
        provider=provider, at=at, healthy=not failed, duration_ms=round(total, 1), message=words, stages=stages
    )


def _stage(name: str, status: str, ms: float, message: str) -> dict[str, object]:
    return {"name": name, "status": status, "ms": round(ms, 1), "message": message}


def jobs(until: datetime, chance: random.Random) -> None:
    """Generations that ran in a worker, one at least in each state."""
    owner = ClientKey.objects.get(name="Paper digest, nightly").prefix
    states = [Job.State.SUCCEEDED] * 14 + [Job.State.FAILED] * 2 + [Job.State.CANCELLED]
    rows = []
    for number, state in enumerate(states):
        began = until - timedelta(hours=2.3 * (len(states) - number) + chance.random())
        took = timedelta(seconds=upstreams.spread(14, 0.6, chance))
        error = {"message": "The upstream closed the connection.", "code": "upstream_broken"}
        rows.append(
            Job(
                **_job(owner, began, chance),
                state=state,
                attempts=2 if state == Job.State.FAILED else 1,
                started_at=began + timedelta(seconds=0.3),
                finished_at=began + took,
                cancel_requested=state == Job.State.CANCELLED,
                result={"text": "Three of the five papers report the effect; none of them controls for age."}
                if state == Job.State.SUCCEEDED
                else None,
                error=error if state == Job.State.FAILED else None,
            )
        )
    Job.objects.bulk_create(rows)


def _job(owner: str, at: datetime, chance: random.Random) -> dict[str, object]:
    return {
        "id": uuid.UUID(int=chance.getrandbits(128), version=4),
        "owner": owner,
        "request": {"model": "summarise", "messages": [{"role": "user", "content": "Summarise the five papers."}]},
        "model": "summarise",
        "provider_id": "gemini",
        "created_at": at,
    }


def conversations() -> None:
    """What was asked and answered in the last hours, of those who opted in."""
    keys = ClientKey.objects.filter(captures_content=True).values_list("pk", flat=True)
    traces = Trace.objects.filter(client_key_id__in=list(keys), operation="chat", status=200).order_by("-at")[:40]
    usage_rows.write_contents(
        [
            Kept(trace.request_id, trace.at, *CONVERSATIONS[number % len(CONVERSATIONS)], False)
            for number, trace in enumerate(traces)
        ]
    )


def late_price(until: datetime, days: int) -> None:
    """A discount that was entered when its days had begun, and the correction of what was counted before."""
    since = until - timedelta(days=min(12, days))
    provider = Provider.objects.get(provider_id="mistral")
    with actor.acting_as("user:fatima", reason="The contract reached us late"), transaction.atomic():
        price = PriceOverride(
            provider=provider,
            model_prefix="mistral-large",
            valid_from=since,
            input_cost_per_million=Decimal("1.7"),
            output_cost_per_million=Decimal("5.1"),
            note="contract M-77, 15 % off",
        )
        price.full_clean()
        price.save()
    rating.run(
        rating.Span(since, until, "mistral", "mistral-large-latest"),
        "Contract M-77 holds since the first; it was entered late",
        "user:fatima",
    )


def incidents(begin: datetime, until: datetime) -> None:
    """What the rules tell of the past, minute by minute around each outage, and of now."""
    # That a rule was broken is no news for whoever makes it up.
    loggers = [logging.getLogger(name) for name in ("gateway.alerts", "routing.budget_status")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        _judge(begin, until)
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _judge(begin: datetime, until: datetime) -> None:
    rule = AlertRule.objects.get(name="Provider failing")
    for outage in reversed(upstreams.outages(until)):
        if outage.end >= until or outage.begin < begin:
            continue
        moment = outage.begin - _MINUTE
        while moment < min(until, outage.end + timedelta(minutes=30)):
            alert_judging.judge(rule, moment)
            moment += _MINUTE
    for incident in AlertIncident.objects.filter(ended_at__isnull=False):
        noticed = incident.began_at + timedelta(minutes=4)
        if noticed < incident.ended_at:
            AlertIncident.objects.filter(pk=incident.pk).update(acknowledged_at=noticed, acknowledged_by="user:omar")
    alert_judging.judge_all(until)
