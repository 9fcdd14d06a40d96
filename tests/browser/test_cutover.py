"""A person moves clients between a real gateway and a legacy system in a real browser; the next requests follow."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from routing.models import Rollout
from tests.browser.conftest import PASSWORD, Visit, logged_in
from tests.inference.ledger import record
from tests.inference.legacy_server import LegacyServer
from tests.inference.test_forwarding_processes import PATIENCE_SECONDS, Installation
from tests.inference.workers import eventually

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
PAGE = "/admin/routing/rollout/"
CANARY = "legacy-header-canary-0123456789"
ADA = f"""
from django.contrib.auth.models import User
User.objects.create_superuser("ada", password="{PASSWORD}")
"""


@contextlib.contextmanager
def prepared(folder: Path, redis_url: str, code: str) -> Iterator[Installation]:
    """An installation in which the code has run."""
    with contextlib.ExitStack() as closing:
        made = Installation(folder, redis_url)
        closing.callback(made.stop)
        command = [sys.executable, "manage.py", "shell", "-c", code]
        subprocess.run(command, cwd=ROOT, env=made.environment, check=True, stdout=subprocess.DEVNULL)
        yield made


@pytest.fixture
def installation(tmp_path: Path, redis_url: str) -> Iterator[Installation]:
    with prepared(tmp_path, redis_url, ADA) as made:
        yield made


@pytest.fixture
def legacy() -> Iterator[LegacyServer]:
    with LegacyServer() as server:
        yield server


def test_the_slider_the_button_and_the_switch_move_the_next_requests(
    browser: Browser, installation: Installation, legacy: LegacyServer
) -> None:
    def served_by(side: str) -> bool:
        return eventually(lambda: installation.sides(installation.key) == {side}, PATIENCE_SECONDS)

    assert served_by("gateway")
    with logged_in(browser, f"http://127.0.0.1:{installation.ports[0]}") as visit:
        page = visit.page
        visit.page.goto(f"{visit.base}{PAGE}")
        page.fill("[name=legacy_base_url]", legacy.url)
        page.fill("[name=headers]", f"X-Legacy-Key: {CANARY}")
        page.click("button:has-text('Save the legacy side')")
        expect(page.locator("body")).to_contain_text("All clients are served here.")

        slider = page.locator("[name=slider]")
        slider.focus()
        page.keyboard.press("Home")
        expect(page.locator("#gw-percentage")).to_have_value("0")
        page.fill(".gw-why input", "the first night")
        page.click("button:has-text('Move the share')")
        expect(page.locator("body")).to_contain_text("All clients are served by the legacy side.")
        assert served_by("legacy")
        assert {value for request in legacy.requests for value in request.values(b"x-legacy-key")} == {CANARY.encode()}

        page.fill("#gw-percentage", "100")
        expect(slider).to_have_value("100")
        page.click("button:has-text('Move the share')")
        expect(page.locator("body")).to_contain_text("All clients are served here.")
        assert served_by("gateway")

        page.click("button:has-text('Back to 0')")
        expect(page.locator("body")).to_contain_text("All clients are served by the legacy side.")
        assert served_by("legacy")

        page.fill("#gw-percentage", "100")
        page.click("button:has-text('Move the share')")
        assert served_by("gateway")
        page.fill("[aria-label='Reason for the kill switch']", "wrong answers")
        page.click("button:has-text('Throw it')")
        expect(page.locator("body")).to_contain_text("The kill switch is thrown")
        assert served_by("legacy")
        page.click("button:has-text('Take it back')")
        assert served_by("gateway")

        expect(page.locator(".gw-sides td.gw-n").nth(1)).not_to_have_text("0")
        expect(page.locator(".gw-versus-charts svg .gw-stroke-quiet").first).to_be_attached()
        expect(page.locator("body")).to_contain_text("by ada")
        assert visit.outside() == []
        assert visit.errors == []
        assert [html for html in visit.pages if CANARY in html] == []


@pytest.mark.django_db(transaction=True)
def test_the_share_is_moved_without_javascript(visit: Visit) -> None:
    Rollout.change(percentage=Decimal(0), legacy_base_url="http://127.0.0.1:9")
    plain = visit.page.context.browser.new_context(  # type: ignore[union-attr]
        java_script_enabled=False, storage_state=visit.page.context.storage_state()
    )
    page = plain.new_page()

    page.goto(f"{visit.base}{PAGE}")
    page.fill("#gw-percentage", "40")
    page.click("button:has-text('Move the share')")
    assert Rollout.objects.get().percentage == 40

    page.locator("[name=slider]").focus()
    page.keyboard.press("End")
    page.click("button:has-text('Move the share')")
    assert Rollout.objects.get().percentage == 100
    plain.close()


@pytest.mark.django_db(transaction=True)
def test_the_figures_move_while_the_page_is_open(visit: Visit) -> None:
    visit.page.goto(f"{visit.base}{PAGE}")
    expect(visit.page.locator("body")).to_contain_text("No generating request")

    record(duration_ms=5.0, side="legacy")

    expect(visit.page.locator(".gw-sides tr", has_text=re.compile("^Requests")).locator("td").nth(1)).to_have_text("1")


@pytest.mark.django_db(transaction=True)
def test_the_page_is_never_wider_than_the_window(visit: Visit) -> None:
    Rollout.change(percentage=Decimal("12.5"), legacy_base_url="https://legacy.a-rather-long-name.example/backoffice")
    for side in ("gateway", "legacy"):
        record(duration_ms=12_345.6, side=side, input_tokens=10**8)

    visit.page.goto(f"{visit.base}{PAGE}")
    for part in visit.page.locator("details > summary").all():
        part.click()

    for width in (1440, 390):
        visit.page.set_viewport_size({"width": width, "height": 900})
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    assert visit.outside() == []
    assert visit.errors == []
