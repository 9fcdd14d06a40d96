"""A person issues a key, uses it, rotates and revokes it, and brings in a configuration, in a real browser."""

from __future__ import annotations

import re
import urllib.error
import urllib.request

import pytest
from playwright.sync_api import expect

from providers.models import ApiKey, AuditEntry
from routing.models import ClientKey, Team
from tests.browser.conftest import Visit

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.django_db(transaction=True)]

SECRET = "sk-browser-canary-9f8e7d6c5b4a3210"
DOCUMENT = f"""version: 1
providers:
  openai:
    provider_type: openai
    api_keys: [{{secret: {SECRET}, environment: production}}]
teams:
  research: {{description: After}}
"""


def answer(visit: Visit, key: str) -> int:
    """The status of a call with the key."""
    request = urllib.request.Request(f"{visit.base}/api/v1/me", headers={"Authorization": f"Bearer {key}"})
    try:
        return int(urllib.request.urlopen(request, timeout=60).status)
    except urllib.error.HTTPError as error:
        return error.code


def test_a_key_is_shown_once_works_and_fails_once_it_is_revoked(visit: Visit) -> None:
    page = visit.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit.open("/admin/routing/clientkey/")
    page.click("text=Create a client key")
    page.fill("[name=name]", "search assistant")
    page.fill("[name=allowed_models]", "gpt-*")
    page.click("button[name=_save]")
    plaintext = page.locator("#gw-key").inner_text().strip()
    page.click("[data-copy=gw-key]")
    expect(page.locator("[data-copy=gw-key]")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == plaintext
    for snippet in ("#gw-curl", "#gw-python", "#gw-javascript"):
        expect(page.locator(snippet)).to_contain_text(plaintext)
    for _theme, _width in visit.both_themes_and_widths():
        pass
    assert answer(visit, plaintext) == 200

    seen = len(visit.pages)
    page.click("text=I have copied it")
    expect(page.locator("main, #main")).to_contain_text("What bounds it")
    key = ClientKey.objects.get()
    page.click("text=Rotate")
    page.select_option("[name=overlap]", "86400")
    page.click("button:has-text('Rotate')")
    second = page.locator("#gw-key").inner_text().strip()
    assert [answer(visit, one) for one in (plaintext, second)] == [200, 200]
    assert not any(plaintext in html for html in visit.pages[seen:])

    visit.open(f"/admin/routing/clientkey/{key.pk}/revoke/")
    page.fill("[name=confirm]", "another key")
    page.fill("[name=reason]", "It was in a public repository")
    page.click("button:has-text('Revoke for good')")
    expect(page.locator(".gw-error")).to_have_text("This is not the key's name.")
    page.fill("[name=confirm]", "search assistant")
    page.click("button:has-text('Revoke for good')")
    expect(page.locator(".gw-key-head")).to_contain_text("It was in a public repository")
    assert [answer(visit, one) for one in (plaintext, second)] == [401, 401]
    for address in ("", f"{key.pk}/overview/", f"{key.pk}/change/"):
        visit.open(f"/admin/routing/clientkey/{address}")
        told = page.content()
        assert key.prefix in told
        assert not any(secret in told for secret in (plaintext, second))


def test_a_configuration_is_shown_before_it_is_written_and_asked_again_when_the_registry_moves(visit: Visit) -> None:
    page = visit.page
    Team.objects.create(name="research", description="Before")
    visit.open("/admin/configuration/")
    page.fill("[name=text]", DOCUMENT)
    page.click("text=Show what would change")
    entry = page.locator(".gw-config-entry", has_text="research")
    expect(entry.locator(".gw-del")).to_have_text("Before")
    expect(entry.locator(".gw-ins")).to_have_text("After")
    assert visit.axe() == []
    for _theme, _width in visit.both_themes_and_widths():
        pass

    Team.objects.create(name="legal")
    page.fill("[name=reason]", "the new contract")
    page.click("button:has-text('Write these')")
    expect(page.locator("[role=alert]").first).to_contain_text("has changed since this was shown")
    assert not ApiKey.objects.exists()
    page.fill("[name=reason]", "the new contract")
    page.click("button:has-text('Write these')")
    page.wait_for_url("**/admin/configuration/")
    expect(page.locator(".gw-config-lately")).to_contain_text("the new contract")
    assert ApiKey.objects.get().secret.reveal() == SECRET
    assert AuditEntry.objects.filter(target_type="team", reason="the new contract").exists()
    assert not any(SECRET in html for html in visit.pages)

    with visit.without_scripts() as plain:
        plain.goto(f"{visit.base}/admin/configuration/")
        plain.fill("[name=text]", DOCUMENT)
        plain.click("text=Show what would change")
        assert re.search(r"says all of this already", plain.content())
