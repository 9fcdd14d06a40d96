"""How fast the admin's pages come with a million traces, a thousand providers and ten thousand models.

`DATABASE_URL=postgresql://USER@HOST/NAME python -m benchmarks.pages --rows 1000000` fills a database (it must be empty, and is named for
the purpose) by the demo's own writers, then asks for every list, the dashboard and the reports through Django's handler, signed in.
The database and its data directory are kept, so that `--rows 0` asks once more.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.traces import DAYS, make_days, some

PROVIDERS, MODELS_EACH, KEYS, POLICIES, PROBES_EACH = 1_000, 10, 2_000, 200, 48
SPREAD = 0.2
"""Share of the requests that go to any of those providers; the others go to the demo's."""
MOST_MS = 150.0
_AT_ONCE = 5_000
FIXED = {
    "dashboard": "/admin/",
    "providers, searched": "/admin/providers/provider/?q=provider-7",
    "providers, page 4": "/admin/providers/provider/?p=3",
    "models, searched": "/admin/providers/providermodel/?q=model-77",
    "models, page 40": "/admin/providers/providermodel/?p=39",
    "traces, failed": "/admin/inference/trace/?outcome=failed",
    "traces, rescued": "/admin/inference/trace/?outcome=rescued",
    "traces of a rare model": "/admin/inference/trace/?served_by=model-777-3",
    "audit, searched": "/admin/providers/auditentry/?q=provider-777",
}
"""Beside every page that has an address of its own."""
NO_LISTS = ("configuration_export",)
"""A file of the whole registry."""
NO_PAGES = (
    "_live",
    "-file",
    "jsi18n",
    "logout",
    "login",
    "search",
    "autocomplete",
    "password_change",
    "sso_",
    "app_list",
)


def fill(rows: int, say: Callable[[str], None]) -> None:
    from django.db import connection

    from gateway_project.demo import month, writing

    until = datetime.now(UTC)
    make_days(until)
    began = time.perf_counter()
    _registry()
    say(f"{PROVIDERS:,} providers with {PROVIDERS * MODELS_EACH:,} models in {time.perf_counter() - began:.0f} s")
    plan = month.Plan(until=until, days=int(DAYS), requests=int(rows * (1 - SPREAD)))
    done = 0

    def told(count: int) -> None:
        nonlocal done
        done += count
        if done % 100_000 < count:
            say(f"{done:,} requests after {time.perf_counter() - began:.0f} s")

    month.fill(plan, told)
    _spread(int(rows * SPREAD), plan.begin, until)
    month.somebody_to_sign_in()
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
    writing.settle_statistics()
    say(f"{rows:,} requests in {time.perf_counter() - began:.0f} s")


def _registry() -> None:
    from providers import actor
    from providers.models import ProbeResult, Provider, ProviderModel
    from routing.models import ClientKey, Policy

    now, chance = datetime.now(UTC), random.Random(5)
    with actor.acting_as("command:benchmark"):
        providers = Provider.objects.bulk_create(
            Provider(
                provider_id=f"provider-{number}",
                provider_type="openai_compatible",
                display_name=f"Provider {number}",
                priority=20 + number % 7,
                enabled=number % 10 > 0,
                connection_params={"base_url": f"https://provider-{number}.demo.invalid/v1"},
                probe_interval_seconds=0,
            )
            for number in range(PROVIDERS)
        )
        ProviderModel.objects.bulk_create(
            ProviderModel(
                provider=provider,
                model_id=f"model-{number}-{model}",
                context_window=128_000,
                capabilities=["chat", "streaming", "tools"],
                input_cost_per_million="0.5",
                output_cost_per_million="1.5",
            )
            for number, provider in enumerate(providers)
            for model in range(MODELS_EACH)
        )
        ClientKey.objects.bulk_create(
            ClientKey(name=f"Service {n}", prefix=f"gw-{n:012x}", digest=f"{n:064x}", pepper_id="none", scopes=["generate"])
            for n in range(KEYS)
        )  # fmt: skip
        for number in range(POLICIES):
            document = {"strategy": "priority", "targets": [{"model": f"model-{number}-1"}]}
            Policy(name=f"service-{number}", kind="alias", document=document).save()
    ProbeResult.objects.bulk_create(
        (
            ProbeResult(
                provider=provider,
                at=now - timedelta(minutes=10 * ago),
                healthy=chance.random() > 0.02,
                duration_ms=90.0,
                stages=[],
            )
            for provider in providers
            for ago in range(PROBES_EACH, 0, -1)
        ),
        batch_size=2_000,
    )


def _spread(count: int, begin: datetime, until: datetime) -> None:
    """Requests of many keys to many providers: what makes tables of sums long."""
    from inference import usage_rows
    from inference.recording import Entry, row_of
    from inference.request_ids import new_request_id
    from routing.models import ClientKey

    chance = random.Random(11)
    keys = list(ClientKey.objects.filter(prefix__startswith="gw-00000").values_list("pk", "prefix"))

    def rows() -> Iterator[Any]:
        for number in range(count):
            at = begin + (until - begin) * (number / count)
            provider, model = some(PROVIDERS, chance), chance.randrange(MODELS_EACH)
            key_id, prefix = keys[some(len(keys), chance)]
            failed = chance.random() < 0.02
            entry = Entry(
                new_request_id(), at.timestamp(), "chat", None, f"service-{provider % POLICIES}", None, None, False,
                502 if failed else 200, "upstream_error" if failed else "", 1, None, (900, 200), chance.expovariate(1.2),
                None, 0.5, 0.0004, None,
            )  # fmt: skip
            yield row_of(entry)._replace(
                provider_id=f"provider-{provider}",
                model_id=f"model-{provider}-{model}",
                policy=f"service-{provider % POLICIES}",
                client_key_id=key_id,
                client_key_prefix=prefix,
            )

    found = rows()
    while some_rows := list(islice(found, _AT_ONCE)):
        usage_rows.insert(some_rows)


def addresses() -> dict[str, str]:
    """Every page with an address of its own, by its URL's name."""
    from django.urls import NoReverseMatch, URLPattern, URLResolver, get_resolver, reverse

    def names(patterns: list[Any]) -> Iterator[str]:
        for pattern in patterns:
            if isinstance(pattern, URLResolver):
                yield from names(pattern.url_patterns)
            elif isinstance(pattern, URLPattern) and pattern.name:
                yield pattern.name

    found = dict(FIXED)
    root = next(one for one in get_resolver().url_patterns if str(one.pattern) == "admin/")
    for name in sorted(set(names(root.url_patterns))):
        if name == "index" or name.endswith(("_add", *NO_PAGES)) or name.startswith(NO_PAGES):
            continue
        try:
            found[name] = reverse(f"admin:{name}")
        except NoReverseMatch:
            continue  # it is about a row
    return found


def asked(asks: int, only: str, say: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    from django.conf import settings
    from django.contrib.auth import get_user_model
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    settings.ALLOWED_HOSTS = ["*"]
    logging.getLogger("django.request").setLevel(logging.ERROR)  # what takes no GET says so
    client = Client()
    client.force_login(get_user_model()._default_manager.get(username="demo"))
    told: dict[str, dict[str, Any]] = {}
    for name, path in addresses().items():
        if only not in name or name in NO_LISTS:
            continue
        with CaptureQueriesContext(connection) as queries:
            answer = client.get(path)
        sent = queries.captured_queries
        if answer.status_code != 200 or not answer["Content-Type"].startswith("text/html") or answer.streaming:
            continue  # an act, data, or what leads to another page
        walls, own = [], []
        for _ in range(asks):
            began, used = time.perf_counter(), time.process_time()
            client.get(path)
            walls.append(1000 * (time.perf_counter() - began))
            own.append(1000 * (time.process_time() - used))
        told[name] = {
            "p50_ms": statistics.median(walls),
            "p95_ms": _p95(walls),
            "own_ms": statistics.median(own),
            "queries": len(sent),
            "in_database_ms": 1000 * sum(float(one["time"]) for one in sent),
            "kilobytes": len(answer.content) / 1024,
        }
        say(_line(name, told[name]))
    return told


def _p95(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(0.95 * len(values)))]


def _line(name: str, of: dict[str, Any]) -> str:
    return (
        f"{'  ' if of['p95_ms'] < MOST_MS else '! '}{name:<44} p50 {of['p50_ms']:7.1f}  p95 {of['p95_ms']:7.1f}  "
        f"own {of['own_ms']:7.1f} ms  {of['queries']:3} queries {of['in_database_ms']:7.1f} ms  {of['kilobytes']:6.0f} kB"
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="Requests to fill with; 0 takes what is there.")
    parser.add_argument("--asks", type=int, default=20, help="How often each page is asked for; 0 only fills.")
    parser.add_argument("--only", default="", help="Pages whose name holds this.")
    parser.add_argument(
        "--data-dir", type=Path, default=Path("/tmp/gateway-bench-pages"), help="Its keys are kept there."
    )
    parser.add_argument("--json", type=Path, help="Where to keep the figures.")
    given = parser.parse_args(arguments)
    url = urlsplit(os.environ.get("DATABASE_URL", ""))
    if url.scheme not in ("postgresql", "postgres") or "bench" not in url.path:
        print("DATABASE_URL must name a PostgreSQL database whose name holds 'bench'.", file=sys.stderr)
        return 2
    given.data_dir.mkdir(exist_ok=True)
    os.environ.update(GATEWAY_DATA_DIR=str(given.data_dir), DJANGO_SETTINGS_MODULE="gateway_project.settings")
    import django
    from django.core.management import call_command

    from gateway_project import first_keys

    first_keys.create_missing(given.data_dir)
    django.setup()
    call_command("migrate", verbosity=0)
    from gateway_project.demo import live_state

    with live_state.redis_running():
        if given.rows:
            fill(given.rows, lambda line: print(line, flush=True))
        if not given.asks:
            return 0
        told = asked(given.asks, given.only, lambda line: print(line, flush=True))
    worst = max(told.items(), key=lambda one: one[1]["p95_ms"])
    print(f"load average: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; the slowest: {worst[0]}")
    if given.json:
        given.json.write_text(json.dumps(told, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
