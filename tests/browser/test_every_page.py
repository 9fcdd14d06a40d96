"""Every page that a person can reach, on a desk and on a phone, in light and in dark. A new one is looked at by itself.

Addresses are those that the admin has, on the demo's month. What answers a GET with a whole page is looked at; a redirect, a
fragment or data is not a page. One whose row the demo lacks answers 404 and fails here until `_more_rows` makes one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, User
from django.db.models import Model
from django.test import Client
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from playwright.sync_api import Browser

from gateway_project import first_login
from gateway_project.demo import month
from inference.models import Batch, KeptFile, ShadowPair, Trace
from providers.models import ApiKey, ConnectionParameter, ImportRun
from tests.browser.conftest import COLOURS, PHONE, WIDE, Visit, a_tab, known_as
from tests.gateway_project.test_access_matrix import names

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.django_db(transaction=True)]

NO_PAGES = {
    "playground-decision",
    "playground-told",
    "logout",
    "jsi18n",
    "autocomplete",
    "view_on_site",
    "app_list",
    "search",
    "sso_login",
    "sso_callback",
}
"""An act, data, or what leads to another page."""
LOST = "/admin/nowhere/"
MORE = [
    "/admin/providers/provider/add/?provider_type=openai",
    "/admin/providers/provider/?q=nothing-is-called-this",
    "/admin/inference/trace/?status=502",
    "/admin/providers/",
    LOST,
]
SHELL = ["#nav-sidebar"]
"""The same on every page, and large: judged on the first."""
COMMA = re.compile(r'[\s";](?:(?:x|y|cx|cy|r|width|height|min|max|step|value)="|[\w-]+:\s*)-?\d+,\d+(?:px|r?em|%|")')
"""Browsers read numbers of styles and drawings in English only; a page in German must not write them in German."""
FACTS = """() => ({
    title: document.title.trim(),
    headings: [...document.querySelectorAll('h1')].filter(e => e.checkVisibility()).map(e => e.innerText.trim()),
})"""


def test_every_page_can_be_read_by_everybody_on_any_screen(browser: Browser, live_server: Any, settings: Any) -> None:
    settings.LANGUAGES = [("en", "English"), ("de", "Deutsch")]
    month.fill(month.Plan(until=datetime.now(UTC), days=30, requests=500), lambda written: None)
    _more_rows()
    root = User.objects.create_superuser("root")
    newcomer = User(username="newcomer", is_staff=True)
    newcomer.set_unusable_password()
    newcomer.save()
    newcomer.groups.add(Group.objects.get(name="viewer"))
    wrong, shown = _told_apart(root, _addresses())
    with a_tab(browser, live_server.url) as visit:
        for path in ("/admin/login/", first_login.path_for(newcomer)[:-1] + "x/"):
            wrong += looked_at(visit, path)
        known_as(visit, newcomer)
        for path in ("/welcome/password/", "/admin/auth/user/add/", "/admin/"):
            wrong += looked_at(visit, path)
        known_as(visit, root)
        for path in shown:
            wrong += looked_at(visit, path)
        visit.open("/admin/password_change/done/")
        visit.page.locator("form[action*=logout]").first.evaluate("form => form.submit()")
        visit.page.wait_for_url("**/logout/")
        wrong += judged(visit)
        wrong += [f"asked elsewhere | {url}" for url in visit.outside()]
    assert len(shown) > 60
    assert wrong == [], "\n" + "\n".join(wrong)


def _more_rows() -> None:
    """What the demo has no row of."""
    ImportRun.objects.create(kind=ImportRun.Kind.DRY_RUN, state=ImportRun.State.DONE, finished_at=timezone.now())
    told = {"answered_by": "gateway", "path": "/generate", "model": "m", "request_text": "2 + 2?", "equal": True}
    for side in ("gateway", "legacy"):
        told |= {f"{side}_text": "Four.", f"{side}_status": 200, f"{side}_ms": 420.0}
    ShadowPair.objects.create(at=timezone.now(), **told)
    name = f"batch_{'0' * 32}_output.jsonl"
    file = KeptFile.objects.create(owner="gw-1", filename=name, purpose="batch_output", ready=True)
    counts = {"total": 400, "completed": 120, "failed": 3, "model": "m", "output_file_id": file.pk}
    Batch.objects.create(owner="gw-1", endpoint="/v1/embeddings", expires_at=timezone.now(), held="budget", **counts)


def _addresses() -> dict[str, str]:
    """Of every page of the admin by its name, about the first row where it is about one."""
    found = {path: path for path in MORE}
    models = {f"{model._meta.app_label}_{model._meta.model_name}": model for model in apps.get_models()}
    for name in set(names()) - NO_PAGES:
        if name.endswith("_history") and name != "providers_provider_history":
            continue  # one template, which no model has its own of
        model = max((label for label in models if name.startswith(f"{label}_")), key=len, default=None)
        row: Model | None = models[model]._default_manager.first() if model else None
        pk = 1 if row is None else row.request_id if isinstance(row, Trace) else row.pk
        for arguments in ([], [pk], [pk, 1]):
            try:
                found[name] = reverse(f"admin:{name}", args=arguments)
                break
            except NoReverseMatch:
                continue
        else:
            raise AssertionError(f"{name} takes other arguments than one row")
    return found


def _told_apart(person: User, addresses: dict[str, str]) -> tuple[list[str], list[str]]:
    """What has no example, and the addresses of whole pages."""
    headers = {"accept": "text/html", "accept-language": "de"}
    client, wrong, shown = Client(raise_request_exception=False, headers=headers), [], []
    client.force_login(person)
    secrets = _secrets()
    for name, path in sorted(addresses.items()):
        response = client.get(path)
        html = response.text if response.get("Content-Type", "").startswith("text/html") else ""
        wrong += [
            f"{path} | shows a secret" for secret in secrets if not response.streaming and secret in response.text
        ]
        wrong += [f"{path} | a measure with a decimal comma | {measure}" for measure in COMMA.findall(html)]
        whole = "<html" in html
        if whole and (response.status_code == 200 or path == LOST):
            shown.append(path)
        elif response.status_code == 404 or response.status_code >= 500:
            wrong.append(f"{path} | no example of {name}: {response.status_code}")
    return wrong, shown


def _secrets() -> set[str]:
    """What no page may show: the keys of providers and whatever else is stored encrypted."""
    keys = {row.secret.reveal() for row in ApiKey.objects.all()}
    parameters = {row.secret_value.reveal() for row in ConnectionParameter.objects.exclude(secret_value=None)}
    secrets = {secret for secret in keys | parameters if not secret.startswith(("env:", "file:"))}
    assert len(secrets) > 5
    return secrets


def looked_at(visit: Visit, path: str) -> list[str]:
    visit.open(path)
    return judged(visit, spared=SHELL if path != "/admin/" else ())


def judged(visit: Visit, spared: Sequence[str] = ()) -> list[str]:
    """What is wrong with the page that stands there, each as `path | what | where | hint`."""
    found = []
    visit.show("light", PHONE)
    found += [f"too wide at {PHONE} | {visit.too_wide()}"] * bool(visit.too_wide())
    visit.show("light", WIDE)
    found += [f"too wide at {WIDE} | {visit.too_wide()}"] * bool(visit.too_wide())
    found += visit.axe(spared=spared)
    visit.show("dark", WIDE)
    found += [f"dark: {finding}" for finding in visit.axe(*COLOURS, spared=spared)]
    facts = visit.page.evaluate(FACTS)
    if len(facts["headings"]) != 1:
        found.append(f"{len(facts['headings'])} h1 | {facts['headings']}")
    if facts["title"].partition(" | ")[0] in ("", "LLM Gateway"):
        found.append(f"no title of its own | {facts['title']}")
    found += [f"error | {error}" for error in visit.errors]
    visit.errors.clear()
    path = visit.page.url.removeprefix(visit.base)
    return [f"{path} | {finding}" for finding in found]
