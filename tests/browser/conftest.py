"""A real Chromium on a live server, logged in; every request that it makes is written down."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import Page, sync_playwright

PASSWORD = "browser-test-password"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class Visit:
    """A browser tab on the admin, and what it did on the way."""

    page: Page
    base: str
    requested: list[str] = field(default_factory=list)
    pages: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        self.page.goto(f"{self.base}{path}")
        self.page.wait_for_load_state("networkidle")

    def outside(self) -> list[str]:
        """Requests to anybody but the server under test."""
        return [url for url in self.requested if not url.startswith((f"{self.base}/", "data:", "blob:", "about:"))]


@pytest.fixture
def visit(chromium: str, live_server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Visit]:
    # Playwright's synchronous interface keeps an event loop in this thread, where the tests also use the ORM.
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    User.objects.create_superuser("ada", password=PASSWORD)
    with logged_in(chromium, live_server.url) as visit:
        yield visit


@contextmanager
def logged_in(chromium: str, base: str) -> Iterator[Visit]:
    """A browser on the admin at `base`, which knows ada."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(15_000)
        visit = Visit(page, base)
        page.on("request", lambda request: visit.requested.append(request.url))
        page.on("pageerror", lambda error: visit.errors.append(str(error)))

        def keep(response: Any) -> None:
            if "text/html" in response.headers.get("content-type", "") and response.status == 200:
                # A page that loads itself anew takes the text of what it asked for before with it.
                with suppress(PlaywrightError):
                    visit.pages.append(response.text())

        page.on("requestfinished", lambda request: keep(request.response()))
        visit.open("/admin/login/")
        page.fill("[name=username]", "ada")
        page.fill("[name=password]", PASSWORD)
        page.click("#login-form [type=submit]")
        page.wait_for_url("**/admin/")
        yield visit
        browser.close()
