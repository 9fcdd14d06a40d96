#!/usr/bin/env python
"""Pictures of the admin's pages, from demo data, at a desk and on a phone, in light and dark: `make screenshots`.

Without options it takes those that the README shows, into this folder. `--all DIR` takes every page of the table, whole, into a folder
of its own, to be looked at.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WIDE, PHONE = (1440, 900), (390, 844)
THEMES = ("light", "dark")
MOST_BYTES = 3_000_000
"""Of all pictures that are kept in the repository."""
_TALLEST = 4_000
_STILL = "*, *::before, *::after { transition: none !important; animation: none !important; caret-color: transparent !important }"


@dataclass(frozen=True)
class Shot:
    """A page: its file's name, its URL's name, and the row that it is about. `kept` are widths that the README has pictures of; `after`
    does something on the page first."""

    name: str
    url: str
    row: Callable[[], Any] | None = None
    query: str = ""
    kept: tuple[tuple[int, int], ...] = ()
    after: Callable[[Any], None] = lambda page: None

    def path(self) -> str:
        from django.urls import reverse

        return reverse(f"admin:{self.url}", args=[self.row()] if self.row else []) + self.query


def _first(model: str, by: str = "pk", **named: Any) -> Callable[[], Any]:
    """What the page about the newest row of `app.Model` that is named so is found by."""

    def find() -> Any:
        from django.apps import apps

        found = apps.get_model(model)._default_manager.filter(**named).order_by("-pk").first()
        if found is None:
            raise LookupError(f"the demo data have no {model} with {named}")
        return getattr(found, by)

    return find


def _ask(page: Any) -> None:
    """In the playground: one question to every column, until all have answered."""
    page.fill("#gw-play-said", "What is a gateway for?")
    page.keyboard.press("Enter")
    columns = page.locator(".gw-play-answer").count()
    for number in range(columns):
        page.locator(".gw-play-figures:has-text('USD')").nth(number).wait_for()
    page.get_by_text("Why this one?").last.click()
    page.mouse.move(0, 0)


_RESCUED = _first("inference.Trace", "request_id", attempts__gt=1, status=200, stream=True)

SHOTS: tuple[Shot, ...] = (
    Shot("dashboard", "index", kept=(WIDE, PHONE)),
    Shot("welcome", "welcome"),
    Shot("providers", "providers_provider_changelist"),
    Shot("provider", "providers_provider_change", _first("providers.Provider", provider_id="anthropic")),
    Shot("provider-failing", "providers_provider_change", _first("providers.Provider", provider_id="deepseek")),
    Shot("provider-test", "providers_provider_test", _first("providers.Provider", provider_id="guide")),
    Shot("models", "providers_providermodel_changelist"),
    Shot("model", "providers_providermodel_change", _first("providers.ProviderModel", model_id="claude-sonnet-4-5")),
    Shot("prices", "providers_priceoverride_changelist"),
    Shot("policies", "routing_policy_changelist"),
    Shot("policy", "routing_policy_change", _first("routing.Policy", name="support-assistant")),
    Shot("policy-trial", "routing_policy_trial", _first("routing.Policy", name="support-assistant")),
    Shot("routing-settings", "routing_routingsettings_changelist"),
    Shot("health", "health"),
    Shot("explain", "explain", query="?model=smart", kept=(WIDE,)),
    Shot("replay", "replay"),
    Shot("traces", "inference_trace_changelist"),
    Shot("traces-rescued", "inference_trace_changelist", query="?outcome=rescued"),
    Shot("trace", "inference_trace_change", _RESCUED),
    Shot("trace-failed", "inference_trace_change", _first("inference.Trace", "request_id", status=502)),
    Shot("trace-decision", "inference_trace_change", _RESCUED, "?tab=decision"),
    Shot("trace-timeline", "inference_trace_change", _RESCUED, "?tab=timeline"),
    Shot("trace-cost", "inference_trace_change", _RESCUED, "?tab=cost"),
    Shot("trace-content", "inference_trace_change", _first("inference.TraceContent", "request_id"), "?tab=content"),
    Shot("usage", "spend"),
    Shot("playground", "playground", query="?model=local/demo&model=playground", kept=(WIDE,), after=_ask),
    Shot("budgets", "routing_budget_changelist"),
    Shot("budget", "routing_budget_change", _first("routing.Budget", team__name="web-shop")),
    Shot("limits", "routing_ratelimit_changelist"),
    Shot("client-keys", "routing_clientkey_changelist"),
    Shot("client-key", "routing_clientkey_change", _first("routing.ClientKey", name="Mobile app")),
    Shot("client-key-new", "routing_clientkey_add"),
    Shot("teams", "routing_team_changelist"),
    Shot("team", "routing_team_change", _first("routing.Team", name="research")),
    Shot("corrections", "inference_ratingrun_changelist"),
    Shot("correction", "inference_ratingrun_change", _first("inference.RatingRun")),
    Shot("alerts", "inference_alertincident_changelist"),
    Shot("alert", "inference_alertincident_change", _first("inference.AlertIncident")),
    Shot("alert-rules", "inference_alertrule_changelist"),
    Shot("alert-channels", "inference_alertchannel_changelist"),
    Shot("workers", "workers"),
    Shot("jobs", "inference_job_changelist"),
    Shot("job", "inference_job_change", _first("inference.Job", state="failed")),
    Shot("cutover", "routing_rollout_changelist"),
    Shot("imports", "providers_importrun_changelist"),
    Shot("import", "providers_importrun_change", _first("providers.ImportRun", kind="apply"), kept=(WIDE,)),
    Shot("audit", "providers_auditentry_changelist"),
    Shot("audit-entry", "providers_auditentry_change", _first("providers.AuditEntry", target_type="policy")),
    Shot("configuration", "configuration"),
    Shot("doctor", "doctor"),
    Shot("users", "auth_user_changelist"),
    Shot("roles", "auth_group_changelist"),
)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", metavar="DIR", type=Path, help="every page of the table, whole, into this folder")
    parser.add_argument("--only", metavar="NAME", action="append", help="this page alone; may be said several times")
    parser.add_argument("--data-dir", type=Path, help="take these demo data in place of new ones")
    parser.add_argument("--requests", type=int, default=40_000, help="of new demo data")
    given = parser.parse_args(arguments)
    if unknown := sorted(set(given.only or ()) - {shot.name for shot in SHOTS}):
        parser.error(f"there is no page {', '.join(unknown)}; there are {', '.join(shot.name for shot in SHOTS)}")
    with contextlib.ExitStack() as cleanup:
        data_dir = given.data_dir or Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="acme-")))
        _set_up(data_dir.resolve())
        if given.data_dir is None:
            from django.core.management import call_command

            call_command("demo_data", requests=given.requests)
        base = cleanup.enter_context(_served(data_dir))
        shots = [shot for shot in SHOTS if not given.only or shot.name in given.only]
        for picture in _taken(base, shots, given.all):
            print(picture)
    return 0 if given.all else _too_many_bytes()


def _set_up(data_dir: Path) -> None:
    sys.path.insert(0, str(ROOT))
    os.environ |= {"GATEWAY_DATA_DIR": str(data_dir), "DJANGO_SETTINGS_MODULE": "gateway_project.settings"}
    from gateway_project import first_keys

    data_dir.mkdir(exist_ok=True)
    first_keys.create_missing(data_dir)
    import django

    django.setup()
    # Playwright marks its loop as running in this thread, and there is no other one in which something could wait for the database.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"


@contextlib.contextmanager
def _served(data_dir: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "manage.py", "quickstart", "--data-dir", str(data_dir), "--port", str(port)]
    process = subprocess.Popen([*command, "--no-engine-build"], cwd=ROOT, stdout=subprocess.DEVNULL)
    base = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{base}/readyz", process)
        yield base
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(url: str, process: subprocess.Popen[bytes], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.3)
    raise SystemExit("The gateway did not come up; `manage.py quickstart` says why.")


def _taken(base: str, shots: list[Shot], folder: Path | None) -> Iterator[Path]:
    from playwright.sync_api import sync_playwright

    from tests.services import chromium

    cookie = {**_session(), "url": base}
    paths = {shot.name: shot.path() for shot in shots}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        for width, height in (WIDE, PHONE):
            for theme in THEMES:
                context = browser.new_context(
                    viewport={"width": width, "height": height}, color_scheme=theme, reduced_motion="reduce"
                )
                context.add_cookies([cookie])
                page = context.new_page()
                for shot in shots:
                    if folder is None and (width, height) not in shot.kept:
                        continue
                    answer = page.goto(base + paths[shot.name])
                    if answer is None or not answer.ok:
                        raise SystemExit(f"{shot.name}: {paths[shot.name]} answers {answer and answer.status}")
                    page.add_style_tag(content=_STILL)
                    shot.after(page)
                    page.wait_for_timeout(700)  # charts are drawn, and what is fetched anew is there
                    target = (folder or HERE) / f"{shot.name}-{'wide' if width > 1000 else 'phone'}-{theme}.png"
                    target.parent.mkdir(parents=True, exist_ok=True)
                    if folder is not None:
                        tall = page.evaluate("document.documentElement.scrollHeight")
                        page.set_viewport_size({"width": width, "height": max(height, min(tall, _TALLEST))})
                        page.wait_for_timeout(200)
                    page.screenshot(path=target)
                    page.set_viewport_size({"width": width, "height": height})
                    yield target
                context.close()
        browser.close()


def _session() -> dict[str, str]:
    """Signed in as the demo's administrator."""
    from django.conf import settings
    from django.contrib.auth import get_user_model
    from django.test import Client

    client = Client()
    client.force_login(get_user_model()._default_manager.get(username="demo"))
    name = settings.SESSION_COOKIE_NAME
    return {"name": name, "value": client.cookies[name].value}


def _too_many_bytes() -> int:
    size = sum(picture.stat().st_size for picture in HERE.glob("*.png"))
    print(f"{size / 1e6:.1f} MB of pictures")
    return int(size > MOST_BYTES)


if __name__ == "__main__":
    sys.exit(main())
