"""A person changes who serves, in a real browser on a real gateway; the next request is served by the other one."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from providers import actions
from providers.models import ProviderModel
from routing import policy_actions
from routing.models import Policy
from tests.browser.conftest import Visit, logged_in
from tests.browser.test_cutover import ADA, prepared
from tests.inference.test_forwarding_processes import PATIENCE_SECONDS, Installation
from tests.inference.workers import eventually

pytestmark = [pytest.mark.browser, pytest.mark.slow]

FILL = (
    ADA
    + """
from providers.models import Provider
from routing import policy_actions
provider = Provider.objects.get()
provider.models.create(model_id="other-chat", input_cost_per_million=1, output_cost_per_million=2)
policy_actions.create({"name": "best", "document": {"targets": ["fake-chat"]}})
"""
)


@pytest.fixture
def installation(tmp_path: Path, redis_url: str) -> Iterator[Installation]:
    with prepared(tmp_path, redis_url, FILL) as made:
        yield made


def route(installation: Installation, port: int) -> str:
    body = json.dumps({"model": "best", "messages": [{"role": "user", "content": "hi"}]}).encode()
    headers = {"content-type": "application/json", "authorization": f"Bearer {installation.key}"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.headers["x-gateway-route"]
    except urllib.error.HTTPError as refused:  # the process has not heard of the policy yet
        return f"{refused.code}"


def test_an_edit_an_override_and_a_restore_change_the_next_request(
    browser: Browser, installation: Installation
) -> None:
    def served_by(model: str) -> bool:
        """By every process."""
        return eventually(
            lambda: {route(installation, port) for port in installation.ports} == {f"fake/{model}"},
            PATIENCE_SECONDS,
        )

    assert served_by("fake-chat")
    with logged_in(browser, f"http://127.0.0.1:{installation.ports[0]}") as visit:
        page = visit.page
        visit.open("/admin/routing/policy/")
        with page.expect_navigation():  # what is typed before the page's script listens is not explained
            page.click("a:has-text('best')")
        page.fill("[name=targets-0-model]", "other-chat")
        expect(page.locator("#gw-explained .gw-verdict strong")).to_have_text("fake/other-chat")
        assert served_by("fake-chat")
        page.fill("[name=note]", "the other is quicker")
        page.click("button:has-text('Save')")
        expect(page.locator("body")).to_contain_text("Version 2 counts from the next request on.")
        assert served_by("other-chat")

        page.fill("#override [name=target]", "fake-chat")
        page.click("#override button:has-text('Override')")
        expect(page.locator("#override .gw-pill")).to_have_text("fake-chat")
        assert served_by("fake-chat")
        page.click("button:has-text('Remove it')")
        expect(page.locator("body")).to_contain_text("best decides for itself again.")
        assert served_by("other-chat")

        page.click("summary:has-text('Restore it')")
        page.fill("[aria-label='Why version 1 is restored']", "it was not")
        page.click("button:has-text('Restore version 1')")
        expect(page.locator("body")).to_contain_text("counts again, as version 3")
        assert served_by("fake-chat")
        assert visit.errors == []
        assert visit.outside() == []


@pytest.mark.django_db(transaction=True)
def test_targets_are_sorted_shared_out_and_stopped_by_hand(visit: Visit, redis_url: str) -> None:
    models = [{"model_id": name} for name in ("one", "two", "three")]
    actions.create_provider({"provider_id": "p", "provider_type": "fake"}, models=models)
    shares = [{"model": "one", "weight": 60}, {"model": "two", "weight": 40}]
    row = policy_actions.create({"name": "best", "document": {"targets": shares, "strategy": "weighted"}})
    page = visit.page
    visit.open(f"/admin/routing/policy/{row.pk}/change/")
    expect(page.locator("[data-sum]")).to_have_text("The shares add up to 100 %.")
    page.fill("[name=targets-1-weight]", "80")
    expect(page.locator("[data-sum]")).to_contain_text("140")
    page.click("text=Scale to 100")
    expect(page.locator("[name=targets-0-weight]")).to_have_value("43")
    page.locator("[data-handle]").first.press("ArrowDown")
    expect(page.locator("[data-target] input[name$='-model']").first).to_have_value("two")
    page.click("button:has-text('Add a target')")
    page.keyboard.type("three")
    expect(page.locator("[data-sum]")).to_contain_text("Each target needs a share")
    page.fill("[name=targets-4-weight]", "0")
    expect(page.locator("#gw-explained")).to_contain_text("p/two")
    page.click("button:has-text('Save')")
    expect(page.locator("body")).to_contain_text("Version 2 counts from the next request on.")
    stored = Policy.objects.get().document["targets"]
    assert [(one["model"], one.get("weight", 1)) for one in stored] == [("two", 57), ("one", 43), ("three", 0)]

    visit.open("/admin/stop/?route=p/two")
    page.click("button:has-text('Switch the model off')")
    expect(page.locator("body")).to_contain_text("p/two is switched off.")
    assert not ProviderModel.objects.get(model_id="two").enabled


@pytest.mark.django_db(transaction=True)
def test_the_page_waits_for_no_explanation_of_what_was_typed_before(visit: Visit) -> None:
    models = [{"model_id": name} for name in ("one", "two", "three")]
    actions.create_provider({"provider_id": "p", "provider_type": "fake"}, models=models)
    row = policy_actions.create({"name": "best", "document": {"targets": ["one"]}})
    page, late = visit.page, []
    page.route("**/explain/", lambda route: route.continue_() if late else late.append(route))
    visit.open(f"/admin/routing/policy/{row.pk}/change/")
    with page.expect_request("**/explain/"):
        page.fill("[name=targets-0-model]", "two")
    with page.expect_event("requestfailed"):  # which the page gives up
        page.fill("[name=targets-0-model]", "three")
    expect(page.locator("#gw-explained .gw-verdict strong")).to_have_text("p/three")
