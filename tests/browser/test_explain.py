"""A person asks why, without sending anything: on a wide screen and on a phone, with scripts and without."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from inference.models import Trace
from routing import snapshot
from routing.models import Policy
from tests.browser.conftest import Visit
from tests.inference import workers

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.django_db(transaction=True)]

PAGE = "/admin/explain/"


@pytest.fixture
def registry(transactional_db: None) -> Iterator[None]:
    workers.fresh_registry()
    near = workers.add_provider("near", "fake", priority=1)
    workers.add_model(near, "small", capabilities=["chat"])
    workers.add_model(
        near, "large-with-a-name-that-goes-on-and-on-and-does-not-end-soon", capabilities=["chat", "vision"]
    )
    Policy.objects.create(name="writer", kind="node", document={"requirements": {"capabilities": ["chat"]}})
    yield
    snapshot.replace(None)


def test_why_and_why_not_are_told(visit: Visit, registry: None) -> None:
    _ask(visit.page, visit.base)
    for width, theme in ((1440, "light"), (390, "dark")):
        visit.page.set_viewport_size({"width": width, "height": 900})
        visit.page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width

    plain = visit.page.context.browser.new_context(  # type: ignore[union-attr]
        java_script_enabled=False, storage_state=visit.page.context.storage_state()
    )
    _ask(plain.new_page(), visit.base)
    plain.close()

    assert Trace.objects.count() == 0
    assert visit.outside() == []
    assert visit.errors == []


def _ask(page: Page, base: str) -> None:
    page.goto(f"{base}{PAGE}")
    page.fill("[name=name]", "writer")
    page.fill("[name=said]", '{"messages": [{"role": "user", "content": "What is this?"}]}')
    page.click("summary:has-text('What else the request says')")
    page.check("[name=require_vision]", force=True)
    page.click("button:has-text('Explain')")
    expect(page.locator(".gw-decision")).to_contain_text("the only one that may serve")
    expect(page.locator(".gw-reasons-list")).to_contain_text("missing_vision")

    page.click("button.gw-want:has-text('near/small')")
    expect(page.locator("#wanted")).to_contain_text("Declare the capability vision at the model")
    expect(page.locator("[name=said]")).to_have_value('{"messages": [{"role": "user", "content": "What is this?"}]}')
