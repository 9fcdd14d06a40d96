"""How fast millions of traces are listed, searched and told, while more are written at full speed.

`DATABASE_URL=postgresql://USER@HOST/NAME python -m benchmarks.traces --rows 10000000` fills a database (it must be empty, and is named
for the purpose), then asks every page and endpoint again and again, with other words each time. `--asks` tells how often. The database
is kept, so that `--rows 0` asks it once more.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

KEYS, TEAMS, MODELS, PROVIDERS, SESSIONS, TAGS = 200, 20, 60, 12, 400_000, 40
DAYS = 6.9
_AT_ONCE = 20_000
_ERRORS = (
    (429, "rate_limit_exceeded", "policy"),
    (502, "upstream_broken", "provider"),
    (504, "upstream_timeout", "provider"),
    (400, "invalid_request", "caller"),
    (499, "client_disconnected", "caller"),
    (200, "upstream_broken", "provider"),
    (500, "internal_error", "gateway"),
)
_COLUMNS = (
    *("request_id", "trace_id", "parent_span_id", "at", "operation", "client_key_id", "client_key_prefix", "team_id"),
    *("requested_model", "provider_id", "model_id", "stream", "status", "error_code", "error_owner", "attempts"),
    *("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "estimated", "cost", "currency"),
    *("duration_ms", "first_byte_ms", "upstream_ms", "overhead_ms", "session_id", "tags", "address", "policy", "asked"),
)


def key_name(number: int) -> str:
    return f"gw-{number:012x}"


def some(most: int, chance: random.Random) -> int:
    """Few are common and many are rare, as in life."""
    return min(most - 1, int(most * chance.random() ** 3))


def line(number: int, at: datetime, chance: random.Random) -> str:
    """A row as COPY reads it."""
    key, model = some(KEYS, chance), some(MODELS, chance)
    status, error, owner = (200, "", "") if chance.random() > 0.03 else chance.choice(_ERRORS)
    request_id = f"req_{int(at.timestamp() * 1000):012x}{number % 4096:03x}{chance.getrandbits(68):017x}"
    stream = "t" if chance.random() < 0.5 else "f"
    took = chance.expovariate(1 / 900)
    session = f"session-{chance.randrange(SESSIONS)}" if chance.random() < 0.3 else ""
    tags = f",tag-{some(TAGS, chance)}," if chance.random() < 0.2 else ""
    trace = f"order-{number}" if chance.random() < 0.1 else request_id
    provider = f"provider-{model % PROVIDERS}"
    return (
        f"{request_id}\t{trace}\t\t{at.isoformat()}\tchat\t{key + 1}\t{key_name(key)}\t{key % TEAMS + 1}\tpolicy-{model % 15}\t"
        f"{provider}\tmodel-{model}\t{stream}\t{status}\t{error}\t{owner}\t{2 if number % 100 == 0 else 1}\t{number % 3000}\t"
        f"{number % 700}\t0\t0\tf\t0.00{number % 10_000:04d}\tUSD\t{took:.3f}\t{took / 3:.3f}\t{took:.3f}\t0.4\t{session}\t{tags}\t"
        f'10.0.{key}.7\tpolicy-{model % 15}\t{{"prompt_bytes":{number % 9000}}}\n'
    )


def fill(rows: int, say: Callable[[str], None]) -> None:
    from django.db import connection

    chance = random.Random(7)
    end = datetime.now(UTC)
    step = timedelta(days=DAYS) / rows
    make_days(end)
    statement = f"COPY inference_trace ({', '.join(_COLUMNS)}) FROM STDIN"
    began = time.perf_counter()
    for start in range(0, rows, _AT_ONCE):
        text = io.StringIO()
        for number in range(start, min(start + _AT_ONCE, rows)):
            text.write(line(number, end - (rows - number) * step, chance))
        with connection.cursor() as cursor, cursor.cursor.copy(statement) as copy:
            copy.write(text.getvalue())
        if start and start % 1_000_000 == 0:
            say(f"{start:,} rows after {time.perf_counter() - began:.0f} s")
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE inference_trace")
    say(f"{rows:,} rows in {time.perf_counter() - began:.0f} s")


def make_days(end: datetime) -> None:
    """The migration makes room for the days to come; these are past."""
    from django.db import connection

    today = end.replace(hour=0, minute=0, second=0, microsecond=0)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT child.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid "
            "WHERE inhparent = 'inference_trace'::regclass"
        )
        there = {name for (name,) in cursor.fetchall()}
        for ago in range(int(DAYS) + 1, -1, -1):
            day = today - timedelta(days=ago)
            if f"inference_trace_{day:%Y%m%d}" not in there:
                cursor.execute(
                    f"CREATE TABLE inference_trace_{day:%Y%m%d} PARTITION OF inference_trace "
                    f"FOR VALUES FROM ('{day:%Y-%m-%d} 00:00+00') TO ('{day + timedelta(days=1):%Y-%m-%d} 00:00+00')"
                )


def issue_keys() -> None:
    from routing.models import ClientKey
    from routing.teams import Team

    for number in range(TEAMS):
        Team.objects.get_or_create(pk=number + 1, defaults={"name": f"team-{number}"})
    for number in range(KEYS):
        ClientKey.objects.get_or_create(
            prefix=key_name(number),
            defaults={"name": f"key {number}", "digest": f"{number:064x}", "pepper_id": "none", "scopes": ["generate"]},
        )


# More of them meanwhile -----------------------------------------------------------------------------------------------------


def write_on(stop: Any, written: Any) -> None:
    """What recorder threads do, as fast as one can: batches of 500 into the ledger, the roll-ups and the traces."""
    import django

    with contextlib.suppress(PermissionError):  # whoever asks may have been given more of a busy machine
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    django.setup()
    from inference import usage_rows
    from inference.recording import BATCH_ROWS, Entry, row_of
    from inference.request_ids import new_request_id

    chance, parent = random.Random(), os.getppid()
    while not stop.is_set() and os.getppid() == parent:
        rows = []
        for _ in range(BATCH_ROWS):
            model = some(MODELS, chance)
            entry = Entry(
                new_request_id(), time.time(), "chat", None, f"policy-{model % 15}", None, None, False,
                200, "", 1, None, (100, 20), chance.random(), None, 0.5, 0.0004, f"session-{chance.randrange(SESSIONS)}",
            )  # fmt: skip
            row = row_of(entry)
            key, tag = some(KEYS, chance), some(TAGS, chance)
            rows.append(
                row._replace(
                    provider_id=f"provider-{model % PROVIDERS}",
                    model_id=f"model-{model}",
                    client_key_id=key + 1,
                    client_key_prefix=key_name(key),
                    team_id=key % TEAMS + 1,
                    tags=f",tag-{tag}," if chance.random() < 0.2 else "",
                )
            )
        usage_rows.write(rows)
        with written.get_lock():
            written.value += len(rows)


@contextlib.contextmanager
def writing(processes: int) -> Iterator[Any]:
    context = multiprocessing.get_context("spawn")
    stop, written = context.Event(), context.Value("q", 0)
    workers = [context.Process(target=write_on, args=(stop, written), daemon=True) for _ in range(processes)]
    for worker in workers:
        worker.start()
    try:
        yield written
    finally:
        stop.set()
        for worker in workers:
            worker.join(30)


# Asking ---------------------------------------------------------------------------------------------------------------------


class Words:
    """What is looked for, other each time."""

    def __init__(self) -> None:
        from inference.models import Trace

        self._chance = random.Random()
        self._oldest = datetime.now(UTC) - timedelta(days=DAYS)
        self._samples = []
        for _ in range(40):
            at = self._oldest + timedelta(days=DAYS) * self._chance.random()
            self._samples += Trace.objects.filter(at__gte=at).order_by("at")[:5]

    def sample(self) -> Any:
        return self._chance.choice(self._samples)

    def time(self) -> str:
        return (self._oldest + timedelta(days=DAYS) * self._chance.random()).isoformat()

    def span(self) -> dict[str, str]:
        since = self._oldest + timedelta(days=DAYS - 1) * self._chance.random()
        return {
            "since": since.isoformat(),
            "until": (since + timedelta(hours=self._chance.choice((1, 6, 24)))).isoformat(),
        }

    def number(self, most: int) -> int:
        return some(most, self._chance)


def filters(words: Words) -> dict[str, Callable[[], dict[str, Any]]]:
    single: dict[str, Callable[[], dict[str, Any]]] = {
        "none": dict,
        "id": lambda: {"id": words.sample().request_id},
        "trace id": lambda: {"id": words.sample().trace_id},
        "no such id": lambda: {"id": f"order-{random.random()}"},
        "key": lambda: {"key": key_name(words.number(KEYS))},
        "team": lambda: {"team": words.number(TEAMS) + 1},
        "model": lambda: {"model": f"policy-{words.number(15)}"},
        "served by": lambda: {"served_by": f"model-{words.number(MODELS)}"},
        "provider": lambda: {"provider": f"provider-{words.number(PROVIDERS)}"},
        "session": lambda: {"session": words.sample().session_id or "session-1"},
        "tag": lambda: {"tag": f"tag-{words.number(TAGS)}"},
        "no such tag": lambda: {"tag": "no-such"},
        "status": lambda: {"status": random.choice(_ERRORS)[0]},
        "error": lambda: {"error": random.choice(_ERRORS)[1]},
        "owner": lambda: {"owner": random.choice(_ERRORS)[2]},
        "failed": lambda: {"outcome": "failed"},
        "rescued": lambda: {"outcome": "rescued"},
        "slower": lambda: {"slower_than_ms": random.choice((3000, 20_000))},
    }
    told = dict(single)
    for name in ("key", "team", "model", "served by", "provider", "tag", "status", "error", "none"):
        told[f"{name} + time" if name != "none" else "time"] = lambda ask=single[name]: {**ask(), **words.span()}
    for one, other in (
        ("key", "error"),
        ("key", "served by"),
        ("team", "failed"),
        ("provider", "tag"),
        ("tag", "error"),
    ):
        told[f"{one} + {other}"] = lambda a=single[one], b=single[other]: {**a(), **b()}
    return told


def asked(asks: int, limit: int, say: Callable[[str], None]) -> dict[str, dict[str, float]]:
    from django.contrib.auth import get_user_model
    from django.test import Client
    from django.urls import reverse
    from rest_framework.test import APIClient

    from routing import issuing

    words = Words()
    _, secret = issuing.issue("bench", ["admin"])
    api, admin = APIClient(SERVER_NAME="localhost"), Client(SERVER_NAME="localhost")
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {secret.reveal()}")
    user, _ = get_user_model().objects.get_or_create(username="bench", is_staff=True, is_superuser=True)
    admin.force_login(user)
    page = reverse("admin:inference_trace_changelist")
    timed: dict[str, Callable[[], Any]] = {}
    for name, ask in filters(words).items():
        timed[f"REST list: {name}"] = lambda ask=ask: api.get("/api/v1/traces", {**ask(), "limit": limit})
        timed[f"page: {name}"] = lambda ask=ask: admin.get(page, ask())
    timed["REST list: a later page"] = lambda: api.get(
        "/api/v1/traces", {"cursor": api.get("/api/v1/traces", {"until": words.time()}).json()["next_cursor"]}
    )
    timed["REST detail"] = lambda: api.get(f"/api/v1/traces/{words.sample().request_id}")
    timed["page: detail"] = lambda: admin.get(reverse("admin:inference_trace_change", args=[words.sample().request_id]))
    timed["seed 001: traces"] = lambda: api.get("/api/admin/gateway/traces", {"hours": random.choice((1, 24, 168))})
    timed["seed 001: trace"] = lambda: api.get(f"/api/admin/gateway/traces/{words.sample().trace_id}")
    timed["seed 001: metrics"] = lambda: api.get("/api/admin/gateway/metrics", {"hours": random.choice((1, 24, 168))})
    told = {}
    for name, ask in timed.items():
        ask()
        spans, own, short = [], [], 0
        for _ in range(asks):
            began, spent = time.perf_counter(), time.process_time()
            answer = ask()
            spans.append((time.perf_counter() - began) * 1000)
            own.append((time.process_time() - spent) * 1000)
            if answer.status_code != 200:
                raise SystemExit(f"{name}: status {answer.status_code}")
            if answer["Content-Type"].startswith("application/json") and answer.json().get("looked_back_to"):
                short += 1
        spans.sort()
        told[name] = {
            "p50_ms": statistics.median(spans),
            "p95_ms": spans[int(len(spans) * 0.95)],
            "max_ms": spans[-1],
            "own_cpu_ms": statistics.median(own),
            "short": short / asks,
        }
        say(
            f"{name:<32} p50 {told[name]['p50_ms']:7.1f}  p95 {told[name]['p95_ms']:7.1f}  max {spans[-1]:7.1f} ms"
            f"  own CPU {told[name]['own_cpu_ms']:6.1f} ms"
            + (f"  ({short} of {asks} pages are to be gone on from)" if short else "")
        )
    return told


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.traces", description=__doc__)
    parser.add_argument(
        "--rows", type=int, default=10_000_000, help="How many to fill in first; 0 takes what is there."
    )
    parser.add_argument("--asks", type=int, default=40, help="How often each page is asked for; 0 only fills.")
    parser.add_argument("--limit", type=int, default=50, help="Rows of a page over REST.")
    parser.add_argument("--writers", type=int, default=1, help="Processes that write meanwhile; 0 for none.")
    parser.add_argument("--json", type=Path, help="Where to keep the figures.")
    given = parser.parse_args(arguments)
    url = urlsplit(os.environ.get("DATABASE_URL", ""))
    if url.scheme not in ("postgresql", "postgres") or "bench" not in url.path:
        print("DATABASE_URL must name a PostgreSQL database whose name holds 'bench'.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as folder:
        os.environ.update(GATEWAY_DATA_DIR=folder, DJANGO_SETTINGS_MODULE="gateway_project.settings")
        import django
        from django.core.management import call_command

        from gateway_project import first_keys

        first_keys.create_missing(Path(folder))
        django.setup()
        call_command("migrate", verbosity=0)
        issue_keys()
        if given.rows:
            fill(given.rows, print)
        if not given.asks:
            return 0
        with writing(given.writers) if given.writers else contextlib.nullcontext() as written:
            time.sleep(2 if given.writers else 0)
            before, began = written.value if written else 0, time.perf_counter()
            told = asked(given.asks, given.limit, print)
            rate = (written.value - before) / (time.perf_counter() - began) if written else 0.0
        worst = max(told.items(), key=lambda one: one[1]["p95_ms"])
        print(f"load average: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        print(f"written meanwhile: {rate:,.0f} rows/s; the slowest p95: {worst[1]['p95_ms']:.1f} ms ({worst[0]})")
        if given.json:
            given.json.write_text(json.dumps({"rows_per_second": rate, "pages": told}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
