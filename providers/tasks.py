"""Background steps of the registry: find the providers whose probe is due, probe one, do an import that was asked for."""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from celery import shared_task
from django.conf import settings
from django.utils import timezone

from providers import offers, probes
from providers.importers import backoffice, runs
from providers.importers.drafts import Source, SourceError
from providers.models import ImportRun, Provider

JITTER = 0.1
"""Share of the interval by which each round is shortened or lengthened, so that probes do not march in step."""
LONGEST_PROBE_SECONDS = 180
_LET_GO = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


@shared_task
def probe_due_providers() -> int:
    """Wake a probe for every enabled provider whose interval has passed; returns how many.

    A key that lives for one interval is claim and timetable in one: while it is there, nobody else starts a probe.
    """
    woken = 0
    with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=5) as store:
        due = Provider.objects.filter(enabled=True, probe_interval_seconds__gt=0)
        for pk, interval in due.values_list("pk", "probe_interval_seconds"):
            if store.set(f"gw:probe:due:{pk}:{interval}", 1, nx=True, px=_jittered(interval)):
                probe_provider.apply_async((pk,), expires=max(interval, 30))
                woken += 1
    return woken


@shared_task
def probe_provider(provider_pk: int, trigger: str = "schedule") -> bool | None:
    """Probe one provider; None when it is gone or being probed already."""
    provider = Provider.objects.filter(pk=provider_pk).first()
    if provider is None:
        return None
    with _alone(provider_pk) as mine:
        return probes.probe(provider, trigger=trigger).healthy if mine else None


@shared_task
def read_due_offers() -> int:
    """Wake a reading for every enabled provider whose models come and go and whose list is old; returns how many."""
    woken = 0
    with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=5) as store:
        for provider in filter(offers.follows, Provider.objects.filter(enabled=True)):
            interval = offers.refresh_seconds(provider)
            if interval and store.set(f"gw:offer:due:{provider.pk}:{interval}", 1, nx=True, px=_jittered(interval)):
                read_offer.apply_async((provider.pk,), expires=max(interval, 30))
                woken += 1
    return woken


@shared_task
def read_offer(provider_pk: int) -> bool | None:
    """Read one provider's list and follow it; whether it answered, None when it is gone."""
    provider = Provider.objects.filter(pk=provider_pk).first()
    return None if provider is None else not offers.refresh(provider).stale


@shared_task
def run_import(run_pk: int) -> int | None:
    """Do the run that somebody asked for; returns its exit status, None when it is gone or was begun already."""
    run = ImportRun.objects.filter(pk=run_pk, state=ImportRun.State.QUEUED).first()
    if run is None:
        return None
    if run.kind == ImportRun.Kind.UNDO:
        return runs.undo(run).exit_status

    def open_source() -> Source:
        try:
            options = runs.options_of(run)
        except ValueError as error:
            raise SourceError(str(error)) from error
        return backoffice.open(options, default_environment=settings.GATEWAY_ENVIRONMENT, now=timezone.now())

    return runs.execute(run, open_source).exit_status


@shared_task
def forget_import_secrets() -> int:
    """Source addresses and legacy keys of old runs; returns of how many."""
    return runs.forget_old_secrets()


@contextmanager
def _alone(provider_pk: int) -> Iterator[bool]:
    """Whether this process is the only one that probes the provider; the claim ends by itself if we die, or take too long: then it may
    be another's."""
    key, token = f"gw:probe:running:{provider_pk}", secrets.token_hex(8)
    with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=5) as store:
        mine = bool(store.set(key, token, nx=True, ex=LONGEST_PROBE_SECONDS))
        try:
            yield mine
        finally:
            if mine:
                store.eval(_LET_GO, 1, key, token)


def _jittered(interval_seconds: int) -> int:
    """Milliseconds until the next round."""
    return max(1, int(interval_seconds * 1000 * random.uniform(1 - JITTER, 1 + JITTER)))
