import json
from io import StringIO

import pytest
import redis
from django.core.management import CommandError, call_command

from providers import actions
from providers.models import AuditEntry
from routing import cached_answers, policy_actions, policy_traffic
from routing.models import Override, Policy

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _policy():
    models = [{"model_id": "one"}, {"model_id": "two"}]
    actions.create_provider({"provider_id": "p", "provider_type": "fake"}, models=models)
    policy_actions.create({"name": "best", "document": {"targets": ["one"], "fallbacks": ["two"]}})


def told(*arguments, **options):
    out = StringIO()
    call_command("policies", *arguments, stdout=out, **options)
    return out.getvalue()


def test_all_are_listed_with_who_can_serve(redis_url):
    (line,) = json.loads(told(json=True))
    assert (line["name"], line["targets"], line["serving"], line["fallbacks_serving"]) == ("best", 1, 1, 1)
    assert "1 of 1" in told()


def test_what_one_served_is_told_alone_too(monkeypatch, redis_url):
    monkeypatch.setattr(policy_traffic, "_ask", lambda names: {"best": policy_traffic.Traffic(9, 2, 1)})
    assert json.loads(told("best", json=True))["failed"] == 2
    monkeypatch.setattr(policy_traffic, "_ask", None)
    assert json.loads(told("best", json=True))["failed"] is None


def test_a_version_is_written_shown_and_restored(redis_url, tmp_path):
    file = tmp_path / "best.yaml"
    file.write_text("targets: [two]\n")
    assert "version 2" in told("best", document=str(file), note="[/two] is quicker")
    assert "[/two] is quicker" in told("best", versions=True)
    assert 'targets[0].model: "one" -> "two"' in told("best", versions=True)
    assert "version 3" in told("best", restore=1, note="it was not")
    assert Policy.objects.get().document["targets"] == [{"model": "one"}]
    assert (AuditEntry.objects.first().actor.split(" ")[0], AuditEntry.objects.first().reason) == (
        "command:policies",
        "it was not",
    )


def test_a_policy_is_created_from_a_file(redis_url, tmp_path):
    file = tmp_path / "new.yaml"
    file.write_text("targets: [one]\n")
    told("new", document=str(file), create=True, kind="alias")
    assert Policy.objects.get(name="new").kind == "alias"
    with pytest.raises(CommandError, match="exists already"):
        told("new", document=str(file), create=True)


def test_an_override_is_set_for_a_while_and_removed(redis_url):
    assert "overridden by two" in told("best", override="two", seconds=60, note="one is slow")
    assert Override.objects.get().reason == "one is slow"
    told("best", no_override=True)
    assert not Override.objects.exists()
    with pytest.raises(CommandError, match="No enabled model or policy is named 'gone'"):
        told("best", override="gone")


def test_what_is_cached_is_forgotten(redis_url):
    told("best", forget_cached=True)
    with redis.Redis.from_url(redis_url) as store:
        assert store.get(cached_answers.generation_key("best"))
    assert AuditEntry.objects.first().action == "forget cached answers"


@pytest.mark.parametrize(
    ("written", "sentence"), [("targets: [{model: one, weight: -1}]", "weight"), ("][", "cannot be read")]
)
def test_what_does_not_read_changes_nothing(redis_url, tmp_path, written, sentence):
    file = tmp_path / "bad.yaml"
    file.write_text(written)
    with pytest.raises(CommandError, match=sentence):
        told("best", document=str(file))
    assert Policy.objects.get().version == 1


def test_what_a_file_owns_is_left_alone(redis_url):
    Policy.objects.update(managed_by="/etc/gateway/policies.yaml")
    with pytest.raises(CommandError, match="owns this"):
        told("best", restore=1)
