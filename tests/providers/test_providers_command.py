import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from providers import actor
from providers.models import ApiKey, AuditEntry, Provider
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.django_db

KEY = "sk-command-canary-0123456789abcdef"


@pytest.fixture
def upstream():
    with FakeUpstream(api_key=KEY) as fake:
        yield fake


@pytest.fixture
def provider(upstream):
    made = Provider.objects.create(
        provider_id="rack", provider_type="openai_compatible", connection_params={"base_url": upstream.base_url}
    )
    ApiKey.objects.create(provider=made, secret=KEY)
    return made


def said(*arguments):
    out = StringIO()
    call_command("providers", *arguments, stdout=out, stderr=out)
    return out.getvalue()


def test_it_lists_how_providers_stand(provider):
    told = json.loads(said("list", "--json"))
    assert [(one["provider_id"], one["health"], one["breaker"]) for one in told] == [("rack", "unknown", "closed")]
    assert "rack" in said("list")


def test_it_tests_stage_by_stage_and_shows_what_was_found(provider):
    assert "list_models  ok" in said("test", "rack")
    assert json.loads(said("show", "rack"))["last_probe"]["healthy"] is True


def test_a_failed_test_is_an_exit_status_and_shows_no_key(provider, upstream, capsys):
    provider.api_keys.all().delete()
    ApiKey.objects.create(provider=provider, secret="sk-wrong-9876543210")
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("providers", "test", "--all", stdout=out)
    assert ended.value.code == 1
    assert "sk-wrong-9876543210" not in out.getvalue()


def test_it_registers_what_is_new(provider):
    assert "gone: none" in said("discover", "rack", "--add", "gpt-test")
    assert list(provider.models.values_list("model_id", flat=True)) == ["gpt-test"]
    with pytest.raises(CommandError, match="not listed"):
        said("discover", "rack", "--add", "nothing")


def test_it_tells_what_is_said_otherwise_and_takes_it_on_wish(provider, upstream):
    listed = {"data": [{"id": "gpt-test", "capabilities": ["tools"], "context_length": 9000}]}
    upstream.reply_with(json=listed, times=None)
    row = provider.models.create(model_id="gpt-test", capabilities=["chat"])
    told = "told otherwise: gpt-test: capabilities chat -> chat, tools; context_window nothing -> 9000"
    assert told in said("discover", "rack")
    with pytest.raises(CommandError, match="not listed"):
        said("discover", "rack", "--refresh", "nothing")
    said("discover", "rack", "--refresh", "gpt-test")
    row.refresh_from_db()
    assert (row.capabilities, row.context_window) == (["chat", "tools"], 9000)


def test_it_switches_and_says_what_is_lost(provider):
    provider.models.create(model_id="only-here")
    assert "only provider: only-here" in said("disable", "rack", "--reason", "maintenance")
    assert AuditEntry.objects.latest("id").reason == "maintenance"
    assert "Enabled: rack" in said("enable", "--all")


def test_it_releases_keys_that_are_held_back(provider):
    with actor.acting_as("user:writer", may_handle_secrets=lambda: False):
        provider.connection_params = {"base_url": "https://elsewhere.example/v1"}
        provider.save()
    assert provider.api_keys.get().held_for
    said("release-keys", "rack")
    assert provider.api_keys.get().held_for == ""


def test_a_name_that_is_not_there_is_an_error(provider):
    with pytest.raises(CommandError, match="no provider named nobody"):
        said("enable", "nobody")
    for arguments in (["disable"], ["disable", "rack", "--all"]):
        with pytest.raises(CommandError, match="or say --all"):
            said(*arguments)
