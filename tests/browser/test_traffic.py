"""A person looks for what went wrong, keeps the search, and follows a number of the usage to its requests."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from playwright.sync_api import expect

from inference import usage_rows
from inference.batch_models import Batch
from providers.models import Provider
from routing.models import Team
from tests.browser.conftest import Visit
from tests.inference.ledger import row

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def traffic(transactional_db: None) -> None:
    team, now = Team.objects.create(name="search"), datetime.now(UTC)
    tries = [
        {"provider_id": "up", "model_id": "small", "reason": "target", "status": 503, "started": now.timestamp(),
         "code": "upstream_error", "duration_ms": 40.0, "key_id": 1},
        {"provider_id": "up", "model_id": "large", "reason": "fallback", "status": 200,
         "started": now.timestamp() + 0.04, "duration_ms": 60.0, "key_id": 1},
    ]  # fmt: skip
    usual = {"team_id": team.pk, "duration_ms": 120.0, "upstream_ms": 100.0, "overhead_ms": 2.0, "input_tokens": 900}
    rows = [row(at=now - timedelta(minutes=number), cost=Decimal("0.002"), **usual) for number in range(6)]
    rescued = {"attempts": 2, "fallback": True, "attempts_log": json.dumps(tries), "model_id": "large"}
    rows.append(row(request_id="req_rescued", at=now, **usual | rescued))
    rows.append(
        row(request_id="req_failed", at=now, status=502, error_code="upstream_error", error_owner="provider", **usual)
    )
    usage_rows.insert(rows)


def test_from_a_search_to_a_request_a_view_and_the_usage_behind_it(visit: Visit, traffic: None) -> None:
    page = visit.page
    visit.open("/admin/inference/trace/")
    page.get_by_label("Outcome").select_option("rescued")
    page.get_by_role("button", name="Search").click()
    expect(page.locator(".gw-req")).to_have_count(1)

    page.get_by_label("Timeline of req_rescued").click()
    expect(page.locator("#content .gw-waterfall")).to_contain_text("up/small")
    assert page.locator(".gw-part-bad").count() == 1

    page.get_by_text("Save view").click()
    page.get_by_label("Name").fill("Rescued")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("navigation", name="Saved views").get_by_text("Rescued")).to_have_attribute(
        "aria-current", "page"
    )
    assert visit.axe() == []

    page.locator(".gw-req-when a").click()
    expect(page.get_by_role("heading", name="Where the time went")).to_be_visible()
    page.get_by_role("link", name="Decision", exact=True).click()
    expect(page.get_by_role("heading", name="As it was decided")).to_be_visible()

    visit.open("/admin/spend/?span=24h&by=team&measure=failed")
    for _theme, _width in visit.both_themes_and_widths():
        pass
    visit.show("light", 1440)
    page.locator(".gw-usage-table tbody tr", has_text="search").get_by_role("link", name="1", exact=True).first.click()
    expect(page.locator(".gw-req")).to_have_count(1)
    expect(page.locator(".gw-req")).to_contain_text("upstream_error")

    with visit.without_scripts() as plain:
        plain.goto(f"{visit.base}/admin/inference/trace/?outcome=rescued")
        plain.get_by_label("Timeline of req_rescued").click()
        expect(plain.locator(".gw-part-list")).to_be_visible()


def test_a_long_card_of_errors_has_the_short_ones_beside_it(visit: Visit) -> None:
    now = datetime.now(UTC)
    Provider.objects.create(provider_id="up", provider_type="fake").models.create(model_id="small")
    usage_rows.insert(
        [row(at=now, status=502, error_code=f"upstream_{number}", error_owner="provider") for number in range(6)]
    )
    Batch.objects.create(owner="gw-1", endpoint="/v1/responses", state="in_progress", expires_at=now, total=9)
    visit.open("/admin/")
    visit.show("light", 1440)

    def left(title: str) -> float:
        card = visit.page.locator(".gw-overview-cards > .gw-card").filter(
            has=visit.page.get_by_role("heading", name=title)
        )
        box = card.bounding_box()
        assert box is not None
        return box["x"]

    assert left("Errors by cause") < left("Batches") == left("Jobs")
