import html
import re

import pytest
from django.contrib.auth.models import Group, User
from django.urls import reverse

from gateway_project import roles
from providers import configuration, exporting
from providers.models import ApiKey, AuditEntry, ImportRun, Provider
from routing import issuing
from routing.models import Budget, Team, TeamMember
from routing.teams import MANAGES
from tests.providers import registries

pytestmark = pytest.mark.django_db

SECRET = "sk-proj-Qm82xWv71-never-to-be-shown"
DOCUMENT = f"""version: 1
providers:
  openai:
    provider_type: openai
    api_keys: [{{secret: {SECRET}, environment: production}}]
teams: {{research: {{description: Who looks for things}}}}
"""
COMPARE, APPLY = "/admin/configuration/compare/", "/admin/configuration/apply/"


@pytest.fixture
def browser(client):
    client.force_login(User.objects.create_superuser("ada"))
    return client


def compare(browser, text=DOCUMENT, **fields):
    return browser.post(COMPARE, {"text": text, **fields})


def sealed(response):
    return re.search(r'name="shown" value="([^"]+)"', response.content.decode())[1]


def plain(response):
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", response.content.decode())))


def test_an_export_has_the_bytes_of_the_command_and_no_secret(browser):
    registries.build()
    found = browser.get(reverse("admin:configuration_export"), {"section": ["providers"]})
    assert found.content.decode() == exporting.text(sections=["providers"])
    assert "attachment" in found["Content-Disposition"]
    stored = [key.secret.reveal() for key in ApiKey.objects.all()]
    every_secret = [secret for secret in stored if not secret.startswith(("env:", "file:"))]
    assert every_secret
    assert not any(secret in found.content.decode() for secret in every_secret)


def test_a_comparison_shows_every_entry_by_field_and_writes_nothing(browser):
    Team.objects.create(name="research", description="before")
    shown = compare(browser)
    told = plain(shown)
    assert "team research update" in told
    assert "description before Who looks for things" in told
    assert "provider openai create" in told
    assert "1 to update" in told
    assert not Provider.objects.exists()
    assert Team.objects.get().description == "before"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (DOCUMENT, "env:LLM_KEY_OPENAI_PRODUCTION_"),
        (DOCUMENT + "budgets: 7\n", "budgets"),
        (DOCUMENT.replace("[{secret:", "[{secret: ["), "YAML"),
        (DOCUMENT.replace("environment", "enviroment"), "enviroment"),
        (f"secret: {SECRET}\n", "mistake"),
    ],
)
def test_no_secret_of_a_document_comes_back_not_even_with_a_mistake(browser, text, told):
    shown = compare(browser, text)
    assert told in plain(shown)
    assert SECRET not in shown.content.decode()
    if shown.status_code == 200:
        again = browser.post(APPLY, {"shown": sealed(shown), "reason": ""})
        assert again.status_code == 200
        assert SECRET not in again.content.decode()


def test_what_was_shown_is_written_with_its_reason(browser):
    found = browser.post(APPLY, {"shown": sealed(compare(browser)), "reason": "the new contract"}, follow=True)
    assert "changes are written" in plain(found)
    assert ApiKey.objects.get().secret.reveal() == SECRET
    told = AuditEntry.objects.filter(target_type__in=["provider", "team"]).values_list("actor", "reason")
    assert set(told) == {("user:ada", "the new contract")}
    assert ImportRun.objects.get().options["reason"] == "the new contract"
    assert "the new contract" in plain(browser.get("/admin/configuration/"))


def test_a_reference_that_nothing_answers_to_yet_is_written_with_a_warning(browser):
    text = DOCUMENT.replace(SECRET, "env:NOT_SET_API_KEY").replace("production", "development")
    found = browser.post(APPLY, {"shown": sealed(compare(browser, text)), "reason": "now"}, follow=True)
    assert "refers to the environment variable NOT_SET_API_KEY, which is not set" in plain(found)
    assert ApiKey.objects.get().secret.reveal() == "env:NOT_SET_API_KEY"


def test_nothing_is_written_without_a_reason(browser):
    browser.post(APPLY, {"shown": sealed(compare(browser)), "reason": ""})
    assert not Team.objects.exists()


def test_a_registry_that_moved_on_is_shown_again_before_anything_is_written(browser):
    first = sealed(compare(browser))
    Team.objects.create(name="legal")
    again = browser.post(APPLY, {"shown": first, "reason": "now"})
    assert "has changed since this was shown" in plain(again)
    assert not Provider.objects.exists()
    browser.post(APPLY, {"shown": sealed(again), "reason": "now"})
    assert Provider.objects.exists()


def test_what_one_person_was_shown_is_of_no_use_to_another(browser, client):
    mine = sealed(compare(browser))
    client.force_login(User.objects.create_superuser("eve"))
    found = client.post(APPLY, {"shown": mine, "reason": "mine now"}, follow=True)
    assert "no longer at hand" in plain(found)
    assert not Provider.objects.exists()


@pytest.fixture
def operator(client):
    roles.make()
    person = User.objects.create_user("linus", is_staff=True)
    person.groups.add(Group.objects.get(name="operator"))
    client.force_login(person)
    return person


def test_whoever_manages_a_team_gives_no_key_scopes_by_way_of_a_file(client, operator):
    team = Team.objects.create(name="research")
    TeamMember.objects.create(team=team, user=operator, role=MANAGES)
    key, _secret = issuing.issue("app", ["generate"], team=team)
    shown = compare(client, f"version: 1\nclient_keys: {{{key.prefix}: {{scopes: [admin]}}}}\n")
    assert "Your roles do not write: client key" in plain(shown)
    assert 'name="shown"' not in shown.content.decode()


def test_what_somebody_may_not_write_they_do_not_take_back(client, operator):
    configuration.apply_document("version: 1\nteams: {research: {}}", label="test", write=True)
    undo = reverse("admin:providers_importrun_undo", args=[ImportRun.objects.get().pk])
    answer = client.post(undo, {"reason": "I want to", "confirm": "x"}, follow=True)
    assert "Your roles do not write what this run wrote: team." in plain(answer)
    assert ImportRun.objects.count() == 1


def test_an_operator_writes_no_budgets_by_way_of_a_file(client, operator):
    text = "version: 1\nbudgets: [{subject: all, period: month, amount: 20}]\n"
    shown = compare(client, text)
    assert "Your roles do not write: budget" in plain(shown)
    assert 'name="shown"' not in shown.content.decode()
    admin = Group.objects.get(name="admin")
    operator.groups.add(admin)
    seen = sealed(compare(client, text))
    operator.groups.remove(admin)
    assert client.post(APPLY, {"shown": seen, "reason": "once I was one"}).status_code == 403
    assert not Budget.objects.exists()


def test_a_reason_lets_nobody_send_stored_keys_elsewhere(client, operator):
    """Who may not read secrets may not move them by way of a document either, whatever reason they give."""
    provider = Provider.objects.create(
        provider_id="p", provider_type="openai_compatible", connection_params={"base_url": "https://api.example.com/v1"}
    )
    ApiKey.objects.create(provider=provider, secret=SECRET)
    text = (
        "version: 1\nproviders:\n  p:\n    provider_type: openai_compatible\n"
        "    connection_params: {base_url: 'https://elsewhere.example/v1'}\n"
    )
    client.post(APPLY, {"shown": sealed(compare(client, text)), "reason": "a new address"})
    provider.refresh_from_db()
    moved = provider.connection_params["base_url"] != "https://api.example.com/v1"
    assert not moved or provider.api_keys.get().held_for
