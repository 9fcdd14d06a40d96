"""One Chromium for all browser tests of a process, a tab of its own for each; what a tab does on the way is written down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, wraps
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import Browser, Locator, Page, Request, expect, sync_playwright
from playwright.sync_api import Error as PlaywrightError

PASSWORD = "browser-test-password"
WIDE, PHONE = 1440, 390
HEIGHTS = {WIDE: 900, PHONE: 844}
PATIENCE_MS = 60_000
"""For whatever is sure to come, on however busy a machine."""
Theme = Literal["light", "dark"]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PARTS = {"stylesheet", "script", "image", "font"}
STILL = "*, *::before, *::after { transition: none !important; animation: none !important }"
"""Colours are measured at rest, not on their way from one theme to the other."""
COLOURS = ("color-contrast", "link-in-text-block")
"""The rules of axe-core whose findings a theme may change."""
JUDGE = """async ([rules, spared]) => {
    const seen = {}, examples = [];
    const look = (e) => e.tagName + '.' + (e.className.baseVal ?? e.className) + '|' + (e.getAttribute('style') ?? '');
    for (const e of document.body.querySelectorAll('*')) {
        if (!e.checkVisibility() || spared.some(one => e.closest(one))) continue;
        if (![...e.childNodes].some(node => node.nodeType === 3 && node.nodeValue.trim())) continue;
        let kind = '';
        for (let up = e; up && up !== document.body; up = up.parentElement) kind += look(up);
        seen[kind] = (seen[kind] ?? 0) + 1;
        if (seen[kind] <= 2) examples.push(e);
    }
    const asked = { resultTypes: ['violations'], preload: false };
    const runs = [];
    if (!rules.length) {
        const others = { rules: { 'color-contrast': { enabled: false } } };
        runs.push(await axe.run({ include: [document], exclude: spared }, { ...asked, ...others }));
    }
    const wanted = rules.length ? rules : ['color-contrast'];
    if (examples.length) runs.push(await axe.run({ include: examples }, { ...asked, runOnly: { type: 'rule', values: wanted } }));
    const found = runs.flatMap(run => run.violations).filter(rule => ['serious', 'critical'].includes(rule.impact));
    return found.flatMap(rule => rule.nodes.map(
        node => [rule.id, node.target.flat().join(' '), node.failureSummary.split('\\n').slice(1).join(' ').trim()].join(' | ')));
}"""
"""Contrast takes nearly all the time, so of texts that look alike two are measured: the first ones of a table's column, say."""


@dataclass
class Visit:
    """A browser tab on the admin, and what it did on the way."""

    page: Page
    base: str
    requested: list[str] = field(default_factory=list)
    pages: list[str] = field(default_factory=list)
    """The HTML of every page that was answered with."""
    errors: list[str] = field(default_factory=list)
    """Of scripts, and of styles, scripts, images and fonts that did not come."""

    def open(self, path: str) -> None:
        self.page.goto(f"{self.base}{path}")

    def outside(self) -> list[str]:
        """Requests to anybody but the server under test."""
        return [url for url in self.requested if not url.startswith((f"{self.base}/", "data:", "blob:", "about:"))]

    def show(self, theme: Theme, width: int) -> None:
        """The page that stands there, as a machine of this theme and a window of this width show it."""
        self.page.wait_for_load_state()  # with its fonts: a click waits for less
        self.page.set_viewport_size({"width": width, "height": HEIGHTS.get(width, 900)})
        self.page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        # The page asks the machine while it loads; here it has loaded.
        self.page.evaluate("dark => document.documentElement.classList.toggle('dark', dark)", theme == "dark")

    def both_themes_and_widths(self) -> Iterator[tuple[Theme, int]]:
        """The page in light and dark, on a desk and on a phone; each time it must not scroll sideways."""
        themes: tuple[Theme, ...] = ("light", "dark")
        for width in (WIDE, PHONE):
            for theme in themes:
                self.show(theme, width)
                assert not self.too_wide(), f"{self.page.url} scrolls sideways at {width} px: {self.too_wide()}"
                yield theme, width

    def too_wide(self) -> str:
        """What makes the page scroll sideways, if anything does."""
        found: str = self.page.evaluate(
            """() => {
                const root = document.documentElement, wide = root.clientWidth;
                if (root.scrollWidth <= wide) return '';
                const over = [...document.body.querySelectorAll('*')].filter(e => e.getBoundingClientRect().right > wide + 1);
                const last = over.filter(e => !over.some(other => other !== e && e.contains(other)));
                return root.scrollWidth + ' px: ' + last.slice(0, 3).map(e => e.outerHTML.slice(0, 90)).join(' , ');
            }"""
        )
        return found

    def axe(self, *rules: str, spared: Sequence[str] = ()) -> list[str]:
        """Each serious or critical finding of axe-core as `rule | element | what to do`; of these rules only, if any are named,
        and outside of what these selectors find."""
        self.page.wait_for_load_state()  # then scripts name what libraries drew without a name
        if not self.page.evaluate("() => !!window.axe"):
            self.page.evaluate(axe_core())
            self.page.add_style_tag(content=STILL)
        found: list[str] = self.page.evaluate(JUDGE, [list(rules), list(spared)])
        return found

    @contextmanager
    def without_scripts(self) -> Iterator[Page]:
        """The same person, in a browser that runs no JavaScript."""
        assert self.page.context.browser is not None
        plain = self.page.context.browser.new_context(
            java_script_enabled=False, storage_state=self.page.context.storage_state()
        )
        plain.set_default_timeout(PATIENCE_MS)
        try:
            yield plain.new_page()
        finally:
            plain.close()


@cache
def axe_core() -> str:
    found = find_spec("axe_playwright_python")
    assert found is not None
    assert found.origin is not None
    return (Path(found.origin).parent / "axe.min.js").read_text()


@contextmanager
def its_loop(loop: asyncio.AbstractEventLoop | None) -> Iterator[None]:
    """Playwright's synchronous interface leaves its event loop marked as running in this thread; tests of coroutines between two
    browser tests need the mark off."""
    asyncio._set_running_loop(loop)
    try:
        yield
    finally:
        asyncio._set_running_loop(None)


def until_it_stands(act: Callable[..., None]) -> Callable[..., None]:
    """`act`, and where it led to another page, the wait for that one: Playwright waits until its first byte, when half of it may not
    be there and its scripts may still move the focus away from what the test fills in."""

    @wraps(act)
    def acted(where: Page | Locator, *args: Any, **options: Any) -> None:
        act(where, *args, **options)
        (where if isinstance(where, Page) else where.page).wait_for_load_state("domcontentloaded")

    return acted


@pytest.fixture(scope="session")
def patient() -> Iterator[None]:
    """Clicks and keys of all tests wait for the page they lead to, and expectations for what may take its time."""
    expect.set_options(timeout=PATIENCE_MS)
    with pytest.MonkeyPatch.context() as patch:
        for kind in (Page, Locator):
            for name in ("click", "press"):
                patch.setattr(kind, name, until_it_stands(getattr(kind, name)))
        yield


@pytest.fixture(scope="session")
def shared_browser(chromium: str, patient: None) -> Iterator[tuple[Browser, asyncio.AbstractEventLoop]]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        loop = asyncio.get_running_loop()
        asyncio._set_running_loop(None)
        yield browser, loop
        asyncio._set_running_loop(loop)
        browser.close()


@pytest.fixture
def browser(
    shared_browser: tuple[Browser, asyncio.AbstractEventLoop], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Browser]:
    browser, loop = shared_browser
    # While the loop is marked as running, Django takes the test for a coroutine.
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    with its_loop(loop):
        yield browser


@pytest.fixture
def visit(browser: Browser, live_server: Any) -> Iterator[Visit]:
    """ada, a superuser, logged in."""
    ada = User.objects.create_superuser("ada", password=PASSWORD)
    with a_tab(browser, live_server.url) as visit:
        known_as(visit, ada)
        yield visit
        assert visit.outside() == []
        assert visit.errors == []


@contextmanager
def a_tab(browser: Browser, base: str) -> Iterator[Visit]:
    """A browser that has been nowhere."""
    context = browser.new_context(viewport={"width": WIDE, "height": HEIGHTS[WIDE]})
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    visit = Visit(page, base)
    page.on("request", lambda request: visit.requested.append(request.url))
    page.on("pageerror", lambda error: visit.errors.append(str(error)))

    def keep(request: Request) -> None:
        # A page that loads itself anew takes the text of what it asked for before with it, and a tab that is closed takes all: what
        # is raised here, the next call of any test would raise.
        with suppress(PlaywrightError):
            response = request.response()
            if response is None:
                return
            if response.status >= 400 and request.resource_type in PARTS:
                visit.errors.append(f"{response.status} {response.url}")
            if "text/html" in response.headers.get("content-type", "") and response.status == 200:
                visit.pages.append(response.text())

    page.on("requestfinished", keep)
    try:
        yield visit
    finally:
        context.close()


def known_as(visit: Visit, user: User) -> None:
    """As if this user had logged in here."""
    client = Client()
    client.force_login(user)
    name = settings.SESSION_COOKIE_NAME
    visit.page.context.add_cookies([{"name": name, "value": client.cookies[name].value, "url": visit.base}])


@contextmanager
def logged_in(browser: Browser, base: str) -> Iterator[Visit]:
    """A browser on the admin at `base`, where ada logged in by the form."""
    with a_tab(browser, base) as visit:
        log_in(visit)
        yield visit
        assert visit.outside() == []
        assert visit.errors == []


def log_in(visit: Visit) -> None:
    visit.open("/admin/login/")
    visit.page.fill("[name=username]", "ada")
    visit.page.fill("[name=password]", PASSWORD)
    visit.page.click("#login-form [type=submit]")
    visit.page.wait_for_url("**/admin/")
