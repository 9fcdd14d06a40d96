"""A person adds providers, tests them, discovers and edits, in a real browser."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, expect

from providers.models import ApiKey, AuditEntry, ProbeResult, Provider
from tests.browser.conftest import Visit
from tests.fakes.upstream import FakeUpstream

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.django_db(transaction=True)]

CANARY, WRONG = "sk-browser-canary-0123456789abcdef", "sk-wrong-canary-9876543210"


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream(api_key=CANARY) as fake:
        yield fake


def a_provider(name: str, base_url: str, key: str = CANARY) -> Provider:
    provider = Provider.objects.create(
        provider_id=name, provider_type="openai_compatible", connection_params={"base_url": base_url}
    )
    ApiKey.objects.create(provider=provider, secret=key)
    return provider


def test_a_provider_is_added_tested_filled_with_models_and_edited(visit: Visit, upstream: FakeUpstream) -> None:
    page = visit.page

    with visit.without_scripts() as plain:
        plain.goto(f"{visit.base}/admin/providers/provider/add/")
        plain.fill("[name=q]", "openai protocol")
        plain.click("form[role=search] button:has-text('Search')")
        assert plain.locator("a[href='?provider_type=openai_compatible']").count() == 1
        assert plain.locator("a[href='?provider_type=llama_cpp']").count() == 0

    visit.open("/admin/providers/provider/")
    page.click("text=Add one")
    page.click("a[href='?provider_type=openai_compatible']")
    page.fill("[name=provider_id]", "rack_four")
    page.fill("[name=display_name]", "Rack four")
    page.fill("[name=param__base_url]", upstream.base_url)
    page.fill("[name=new_key]", CANARY)
    page.click("button[name=_save]")
    page.wait_for_url(re.compile(r"/admin/providers/provider/\d+/change/"))

    page.click("a[data-dialog]:has-text('Test connection')")
    dialog = page.locator("dialog.gw-dialog")
    expect(dialog.locator(".gw-verdict")).to_contain_text("It works.")
    expect(dialog.locator(".gw-stage-ok")).to_have_count(4)

    dialog.locator("a:has-text('Discover models')").click()
    expect(page.locator("input[name=add]")).to_have_count(3)
    page.uncheck("input[value=gpt-test-mini]")
    page.click("button:has-text('Apply')")
    page.wait_for_url(re.compile(r"\?tab=models"))
    expect(page.locator("table")).to_contain_text("gpt-test")

    provider = Provider.objects.get(provider_id="rack_four")
    assert sorted(provider.models.values_list("model_id", "model_type")) == [
        ("embed-test", "embedding"),
        ("gpt-test", "chat"),
    ]
    page.click(".gw-tabs a:has-text('Connection')")
    page.fill("[name=connect_timeout_seconds]", "2.5")
    page.click("button[name=_save]")
    expect(page.locator("text=Rack four is saved.")).to_be_visible()
    page.click(".gw-tabs a:has-text('History')")
    expect(page.locator(".gw-change").first).to_contain_text("request_settings")

    provider.refresh_from_db()
    assert provider.request_settings == {"connect_timeout_seconds": 2.5}
    assert provider.api_keys.get().secret.reveal() == CANARY
    assert set(AuditEntry.objects.values_list("actor", flat=True)) == {"user:ada"}
    assert [html for html in visit.pages if CANARY in html] == []
    for tab in ("overview", "keys", "settings", "policies", "history"):
        visit.open(f"/admin/providers/provider/{provider.pk}/change/?tab={tab}")
        for _theme, _width in visit.both_themes_and_widths():
            assert visit.axe() == [], tab


def test_a_healthy_a_dead_and_a_wrong_keyed_upstream_are_told_apart(visit: Visit, upstream: FakeUpstream) -> None:
    page = visit.page
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    healthy = a_provider("healthy", upstream.base_url)
    a_provider("dead", f"http://127.0.0.1:{port}/v1")
    a_provider("wrong", upstream.base_url, key=WRONG)

    def test(name: str) -> Locator:
        visit.open("/admin/providers/provider/")
        page.click(f"a[data-dialog][aria-label='Test {name}']")
        return page.locator("dialog.gw-dialog")

    expect(test("healthy").locator(".gw-verdict")).to_contain_text("It works.")
    dead = test("dead")
    expect(dead.locator(".gw-stage-failed")).to_contain_text("connection refused")
    expect(dead.locator(".gw-stage-skipped").first).to_contain_text("there is no connection")
    wrong = test("wrong")
    expect(wrong.locator(".gw-stage-failed")).to_contain_text("Incorrect API key provided: ••••")
    page.keyboard.press("Escape")
    expect(wrong).to_have_count(0)

    # A cell that moves is replaced alone: the tick stays.
    page.clock.install()
    visit.open("/admin/providers/provider/")
    tick = page.locator(f"input.action-select[value='{healthy.pk}']")
    tick.check()
    state = page.locator(f"[data-cell='{healthy.pk}-state']")
    expect(state).to_contain_text("healthy")
    ProbeResult.objects.create(provider=healthy, healthy=False, duration_ms=3, message="tcp: gone")
    page.clock.run_for(6000)
    expect(state).to_contain_text("unhealthy")
    expect(tick).to_be_checked()

    # Off and on again from the row; the page says what is lost before.
    page.click("a[aria-label='Disable healthy']")
    page.fill("[name=reason]", "maintenance")
    page.click("button:has-text('Disable')")
    expect(page.locator(f"[data-cell='{healthy.pk}-is_on']")).to_contain_text("off by hand")
    page.click("button[aria-label='Enable healthy']")
    expect(page.locator(f"[data-cell='{healthy.pk}-is_on']")).to_contain_text("on")

    page.locator("input.action-select").first.check()
    page.select_option("select[name=action]", "test_connection")
    page.locator("#changelist-form button[name=index]").first.click()
    expect(page.locator(".gw-verdict")).to_have_count(1)
    assert [html for html in visit.pages if WRONG in html] == []


def test_the_test_works_without_javascript(visit: Visit, upstream: FakeUpstream) -> None:
    provider = a_provider("rack", upstream.base_url)

    with visit.without_scripts() as page:
        page.goto(f"{visit.base}/admin/providers/provider/{provider.pk}/test/")
        page.click("button:has-text('Test now')")
        assert "It works." in page.content()
