"""From an empty database to the first streamed answer, counted in what a person has to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import PASSWORD, Visit, a_tab
from tests.browser.test_cutover import ADA, prepared
from tests.inference.ledger import record
from tests.inference.test_forwarding_processes import Installation

pytestmark = [pytest.mark.browser, pytest.mark.slow]

MOST_ACTIONS = 8
NOTHING = """
from providers.models import Provider
from routing.models import ClientKey
Provider.objects.all().delete()
ClientKey.objects.all().delete()
"""


@pytest.fixture
def empty(tmp_path: Path, redis_url: str) -> Iterator[Installation]:
    """Nothing in it but ada, who may do everything."""
    with prepared(tmp_path, redis_url, ADA + NOTHING) as made:
        yield made


@dataclass
class Person:
    """Counts: a click, a field that is filled in, a key that sends."""

    page: Page
    actions: int = 0

    def click(self, name: str, role: str = "button") -> None:
        self.actions += 1
        self.page.get_by_role(role, name=name, exact=True).first.click()  # type: ignore[arg-type]

    def type(self, field: Locator, text: str) -> None:
        self.actions += 1
        field.fill(text)

    def press(self, key: str) -> None:
        self.actions += 1
        self.page.keyboard.press(key)


def test_from_an_empty_database_to_a_streamed_answer_in_eight_actions(browser: Browser, empty: Installation) -> None:
    with a_tab(browser, f"http://127.0.0.1:{empty.ports[0]}") as visit:
        page, person = visit.page, Person(visit.page)
        visit.open("/admin/")
        person.type(page.locator("[name=username]"), "ada")
        person.type(page.locator("[name=password]"), PASSWORD)
        person.actions += 1
        page.click("#login-form [type=submit]")
        expect(page.get_by_role("heading", name="Five steps to the first answer")).to_be_visible()

        person.click("Add the built-in fake provider")
        expect(page.locator(".gw-welcome-steps .gw-done")).to_have_count(3)
        person.click("Create a key")
        key = page.locator("#gw-key").inner_text()
        expect(page.locator(".gw-welcome-steps .gw-done")).to_have_count(4)
        person.click("Open the playground", "link")
        page.wait_for_url("**/admin/playground/**")
        with page.expect_response(re.compile("/playground/chat")) as answered:
            person.type(page.locator("#gw-play-said"), "Say something that nobody said before")
            person.press("Enter")

        assert answered.value.status == 200
        assert answered.value.headers["content-type"].startswith("text/event-stream")
        answer = page.locator(".gw-play-answer").first
        expect(answer).to_contain_text("Say something that nobody said before")
        assert person.actions <= MOST_ACTIONS
        all_is_ticked(visit)
        assert key not in page.content()
        assert visit.outside() == []
        assert visit.errors == []


def all_is_ticked(visit: Visit) -> None:
    """The answer is in the books a moment after it was seen."""
    for _ in range(200):
        visit.open("/admin/welcome/")
        if visit.page.locator(".gw-welcome-steps .gw-done").count() == 5:
            break
        visit.page.wait_for_timeout(250)
    expect(visit.page.get_by_role("heading", name="Everything is set up")).to_be_visible()


def test_the_first_page_moves_between_its_views_and_the_doctor_answers_in_place(visit: Visit) -> None:
    from_empty(visit)
    page = visit.page

    visit.open("/admin/doctor/")
    page.get_by_role("button", name="Ask everybody now").click()
    expect(page.get_by_role("button", name="Ask again")).to_be_visible()
    assert page.url.endswith("/admin/doctor/")

    record(cost=Decimal(1))
    with visit.without_scripts() as plain:
        plain.goto(f"{visit.base}/admin/?span=7d&spend=provider#spend")
        expect(plain.locator(".gw-kpi")).to_have_count(6)
        plain.get_by_role("link", name="30 days").click()
        expect(plain.locator(".gw-switch [aria-current]")).to_have_text(["30 days", "provider"])


def from_empty(visit: Visit) -> None:
    visit.open("/admin/playground/")  # of nobody to ask, which is no error of its script
    visit.open("/admin/welcome/")
    visit.page.get_by_role("button", name="Add the built-in fake provider").click()
    expect(visit.page.locator(".gw-welcome-steps .gw-done")).to_have_count(3)
