"""A person adds a provider, tests it, discovers its models and creates a client key, in a real browser."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from typing import Literal

import pytest
from playwright.sync_api import expect

from providers.models import ApiKey, AuditEntry, Provider
from routing.models import ClientKey
from tests.browser.conftest import Visit
from tests.fakes.upstream import FakeUpstream

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.django_db(transaction=True)]

CANARY = "sk-browser-canary-0123456789abcdef"


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream(api_key=CANARY) as fake:
        yield fake


def a_provider(base_url: str, key: str = CANARY) -> Provider:
    provider = Provider.objects.create(
        provider_id="rack", provider_type="openai_compatible", connection_params={"base_url": base_url}
    )
    ApiKey.objects.create(provider=provider, secret=key)
    return provider


def test_a_provider_is_added_tested_and_filled_with_models(visit: Visit, upstream: FakeUpstream) -> None:
    page = visit.page

    visit.open("/admin/providers/provider/")
    page.click("text=add one")
    page.click("a[href='?provider_type=openai_compatible']")
    page.fill("[name=provider_id]", "rack_four")
    page.fill("[name=display_name]", "Rack four")
    page.fill("[name=param__base_url]", upstream.base_url)
    page.fill("[name=new_key]", CANARY)
    page.click("button[name=_save]")
    page.wait_for_url(re.compile(r"/admin/providers/provider/\d+/change/"))

    page.click("a[data-dialog]:has-text('Test connection')")
    dialog = page.locator("dialog.gw-dialog")
    dialog.locator("button:has-text('Test now')").click()
    expect(dialog.locator(".gw-verdict")).to_contain_text("It works.")
    expect(dialog.locator(".gw-stage-ok")).to_have_count(4)

    dialog.locator("a:has-text('Discover models')").click()
    expect(page.locator("input[name=add]")).to_have_count(3)
    page.uncheck("input[value=gpt-test-mini]")
    page.click("button:has-text('Apply')")
    page.wait_for_url(re.compile(r"/change/#models"))

    provider = Provider.objects.get(provider_id="rack_four")
    assert sorted(provider.models.values_list("model_id", "model_type")) == [
        ("embed-test", "embedding"),
        ("gpt-test", "chat"),
    ]
    assert provider.api_keys.get().secret.reveal() == CANARY
    assert set(AuditEntry.objects.values_list("actor", flat=True)) == {"user:ada"}
    assert visit.outside() == []
    assert visit.errors == []
    assert [html for html in visit.pages if CANARY in html] == []


def test_a_dead_upstream_is_named_in_the_dialog(visit: Visit) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    a_provider(f"http://127.0.0.1:{port}/v1")

    visit.open("/admin/providers/provider/")
    visit.page.click("a[data-dialog]:has-text('Test')")
    dialog = visit.page.locator("dialog.gw-dialog")
    dialog.locator("button:has-text('Test now')").click()

    expect(dialog.locator(".gw-stage-failed")).to_contain_text("connection refused")
    expect(dialog.locator(".gw-stage-skipped").first).to_contain_text("there is no connection")


def test_a_wrong_key_is_told_in_the_upstreams_words_and_stays_hidden(visit: Visit, upstream: FakeUpstream) -> None:
    wrong = "sk-wrong-canary-9876543210"
    a_provider(upstream.base_url, key=wrong)

    visit.open("/admin/providers/provider/")
    visit.page.click("a[data-dialog]:has-text('Test')")
    dialog = visit.page.locator("dialog.gw-dialog")
    dialog.locator("button:has-text('Test now')").click()

    expect(dialog.locator(".gw-stage-failed")).to_contain_text("Incorrect API key provided: ••••")
    visit.page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    visit.page.reload()
    expect(visit.page.locator("#result_list .gw-bad")).to_contain_text("unhealthy")
    assert [html for html in visit.pages if wrong in html] == []


def test_a_client_key_is_shown_once_and_can_be_copied(visit: Visit) -> None:
    page = visit.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])

    visit.open("/admin/routing/clientkey/add/")
    page.fill("[name=name]", "Team search")
    page.click("button[name=_save]")
    shown = page.locator("#gw-key").inner_text()
    page.click("[data-copy=gw-key]")
    expect(page.locator("[data-copy=gw-key]")).to_have_text("Copied")

    assert page.evaluate("navigator.clipboard.readText()") == shown
    assert shown.startswith(ClientKey.objects.get().prefix)
    page.click("text=Done")
    expect(page.locator("#result_list")).to_contain_text("Team search")
    assert shown not in page.content()


def test_the_test_works_without_javascript(visit: Visit, upstream: FakeUpstream) -> None:
    provider = a_provider(upstream.base_url)
    plain = visit.page.context.browser.new_context(  # type: ignore[union-attr]
        java_script_enabled=False, storage_state=visit.page.context.storage_state()
    )
    page = plain.new_page()

    page.goto(f"{visit.base}/admin/providers/provider/{provider.pk}/test/")
    page.click("button:has-text('Test now')")

    assert "It works." in page.content()
    plain.close()


def test_no_page_is_wider_than_the_window_or_asks_anybody_else(visit: Visit, upstream: FakeUpstream) -> None:
    provider = a_provider(upstream.base_url)

    for path in (
        "",
        "providers/provider/",
        "providers/provider/add/",
        "providers/provider/add/?provider_type=openai",
        f"providers/provider/{provider.pk}/change/",
        f"providers/provider/{provider.pk}/change/#api_keys",
        f"providers/provider/{provider.pk}/discover/",
        "providers/providermodel/",
        "providers/auditentry/",
        "routing/clientkey/",
        "inference/trace/",
        "inference/job/",
    ):
        visit.page.goto("about:blank")  # an address that differs only behind # would not be loaded again
        visit.open(f"/admin/{path}")
        for width in (1440, 390):
            visit.page.set_viewport_size({"width": width, "height": 900})
            assert visit.page.evaluate("document.documentElement.scrollWidth") <= width, path

    assert visit.outside() == []
    assert visit.errors == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_pages_take_the_theme_of_the_machine(visit: Visit, theme: Literal["light", "dark"]) -> None:
    visit.page.emulate_media(color_scheme=theme)

    visit.open("/admin/")

    dark = visit.page.evaluate("document.documentElement.classList.contains('dark')")
    assert dark is (theme == "dark")


def test_a_selection_is_tested_one_after_another(visit: Visit, upstream: FakeUpstream) -> None:
    a_provider(upstream.base_url)
    Provider.objects.create(provider_id="scripted", provider_type="fake")

    visit.open("/admin/providers/provider/")
    for box in visit.page.locator("input.action-select").all():
        box.check()
    visit.page.select_option("select[name=action]", "test_connection")
    visit.page.locator("#changelist-form button[name=index]").first.click()

    expect(visit.page.locator(".gw-verdict")).to_have_count(2)
    assert {provider.probes.get().trigger for provider in Provider.objects.all()} == {"admin"}
