"""The database, Redis, and the disk that holds what neither has yet."""

from __future__ import annotations

import shutil
import time
from datetime import datetime
from pathlib import Path

import redis
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone
from redis.backoff import NoBackoff
from redis.retry import Retry

from gateway_project.doctor.findings import ERROR, STORES, WARNING, Finding, Fix, Told, check, counted
from inference import adoption

SLOW_MS = 250.0
"""A ping that takes longer slows every request down."""
MOST_SKEW_SECONDS = 5.0
LEAST_FREE_BYTES, LEAST_FREE_SHARE = 1 << 30, 0.05
SPOOL_FILLS = 0.5
_PATIENCE_SECONDS = 0.5


@check("database", "The database answers, and its tables are as this version wants them", STORES, live=True)
def database() -> Told:
    began = time.perf_counter()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchone()
        took = 1000 * (time.perf_counter() - began)
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except (DatabaseError, OSError) as error:
        yield Finding(
            ERROR,
            f"The database cannot be reached: {type(error).__name__}.",
            "Requests are served from the last snapshot, but nothing can be changed, and records pile up in the spool.",
            Fix("Start it, or mend DATABASE_URL."),
        )
        return
    if missing:
        first = f"{missing[0][0].app_label}.{missing[0][0].name}"
        yield Finding(
            ERROR,
            f"{counted(len(missing), 'migration')} not applied, beginning with {first}.",
            "Pages and tasks that need the new tables fail.",
            Fix("Bring the tables up to date.", command="manage.py migrate"),
        )
    if took > SLOW_MS:
        yield _slow("The database", took)
    yield f"{connection.display_name} answers in {took:.1f}\u202fms; every migration is applied."


@check("redis", "Redis answers", STORES)
def redis_answers() -> Told:
    began = time.perf_counter()
    try:
        with ask_redis() as client:
            client.ping()
            took = 1000 * (time.perf_counter() - began)
    except (redis.RedisError, OSError) as error:
        yield Finding(
            ERROR,
            f"Redis does not answer: {type(error).__name__}.",
            "Each process goes by what it saw itself: limits, budgets and breakers are not shared, and no task is done.",
            Fix("Start it, or mend REDIS_URL."),
        )
        return
    if took > SLOW_MS:
        yield _slow("Redis", took)
    yield f"It answers in {took:.1f}\u202fms."


@check("clocks", "The clocks agree", STORES, live=True)
def clocks() -> Told:
    with ask_redis() as client:
        seconds, microseconds = client.time()
    away = {"Redis": seconds + microseconds / 1e6 - time.time()}
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()")
            told: datetime = cursor.fetchone()[0]
        away["the database"] = (told - timezone.now()).total_seconds()
    for name, by in away.items():
        if abs(by) > MOST_SKEW_SECONDS:
            yield Finding(
                WARNING,
                f"The clock of {name} is {abs(by):.0f} seconds {'ahead' if by > 0 else 'behind'}.",
                "Expiries, periods of budgets and times of records are off by as much.",
                Fix("Let both machines ask a time server (NTP)."),
            )
    yield f"They differ by {max(abs(by) for by in away.values()):.2f}\u202fs at most."


@check("disk", "There is room on the disk", STORES)
def disk() -> Told:
    usage = shutil.disk_usage(settings.DATA_DIR)
    free = f"{usage.free / 1e9:.1f}\u202fGB of {usage.total / 1e9:.0f}\u202fGB are free"
    if usage.free < LEAST_FREE_BYTES or usage.free < LEAST_FREE_SHARE * usage.total:
        yield Finding(
            ERROR if usage.free < LEAST_FREE_BYTES / 4 else WARNING,
            f"The disk of {settings.DATA_DIR} fills up: {free}.",
            "Without room no record can be kept, and new requests are refused.",
            Fix("Make room, or keep traces for a shorter time (GATEWAY_TRACE_HOURS)."),
        )
    yield f"{free}."


@check("spool", "Records reach the database", STORES)
def spool() -> Told:
    most = settings.GATEWAY_SPOOL_MB << 20
    fullest = max(map(_bytes, _folders()), default=0)
    share = fullest / most
    if share > SPOOL_FILLS:
        yield Finding(
            ERROR if share > 0.9 else WARNING,
            f"A process has {fullest / 1e6:.0f}\u202fMB of {most / 1e6:.0f}\u202fMB in its spool.",
            "The database does not take records as fast as they come; when the spool is full, new requests are refused.",
            Fix("See that the database is well, or give the spool more room (GATEWAY_SPOOL_MB)."),
        )
    yield f"{100 * share:.0f}\u202f% of a spool is in use, where it is fullest."


def _folders() -> list[Path]:
    try:
        return [path for path in adoption.folder().iterdir() if path.is_dir()]
    except FileNotFoundError:
        return []


def _bytes(folder: Path) -> int:
    total = 0
    for path in folder.glob("log-*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # written and let go of meanwhile
            continue
    return total


def _slow(name: str, took: float) -> Finding:
    return Finding(
        WARNING,
        f"{name} takes {took:.0f}\u202fms to answer.",
        "Every page and every request that asks it waits as long.",
        Fix("Look at its load, and at the network between it and the gateway."),
    )


def ask_redis() -> redis.Redis:
    """Asks once: a store that is away must not keep anybody waiting."""
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=_PATIENCE_SECONDS,
        socket_connect_timeout=_PATIENCE_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
