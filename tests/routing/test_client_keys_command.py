import io
import json

import pytest
from django.core.management import CommandError, call_command

from providers.models import AuditEntry
from routing import issuing
from routing.models import ClientKey, Team

pytestmark = pytest.mark.django_db


def run(*arguments):
    out, err = io.StringIO(), io.StringIO()
    call_command("client_keys", *arguments, stdout=out, stderr=err)
    return out.getvalue()


def test_what_create_prints_is_the_key_and_nothing_else():
    Team.objects.create(name="research")
    printed = run("create", "app", "--team", "research", "--model", "gpt-*", "--expires-days", "7").strip()
    key = ClientKey.objects.get()
    assert printed.startswith(f"{key.prefix}-")
    assert (key.name, key.team.name, key.allowed_models, key.state) == ("app", "research", ["gpt-*"], "active")
    assert key.expires_at is not None
    assert AuditEntry.objects.filter(target_id=key.prefix, actor__startswith="command:client_keys").exists()


def test_a_key_is_rotated_suspended_resumed_and_revoked_by_its_prefix():
    key, plaintext = issuing.issue("app", ["generate"])
    assert run("rotate", key.prefix, "--overlap-hours", "1").strip() != plaintext.reveal()
    states = []
    for what in (["suspend"], ["resume"], ["revoke", "--reason", "It leaked"]):
        run(what[0], key.prefix, *what[1:])
        key.refresh_from_db()
        states.append(key.state)
    assert states == ["suspended", "active", "revoked"]
    assert (key.overlaps, key.revoked_reason) == (True, "It leaked")
    with pytest.raises(CommandError, match="stays revoked"):
        run("resume", key.prefix)


def test_the_list_is_for_people_and_for_programs_and_holds_no_secret():
    team = Team.objects.create(name="research")
    _, plaintext = issuing.issue("app", ["generate"], team=team)
    issuing.issue("other", ["generate"])
    assert "other" in run("list")
    [told] = json.loads(run("list", "--team", "research", "--json"))
    assert (told["name"], told["team"], told["state"]) == ("app", "research", "active")
    assert plaintext.reveal() not in run("list") + run("list", "--json")


def test_a_key_that_is_not_there_is_a_sentence():
    with pytest.raises(CommandError, match="No client key has the prefix"):
        run("suspend", "gw-nobody")
