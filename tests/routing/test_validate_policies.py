"""The command that says what is wrong with the policies."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from django.core.management import call_command

from gateway_project.checks import stored_policies_can_serve
from providers.models import Provider
from routing import policy_actions
from tests.routing.policy_snapshots import store_seed_001

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> tuple[int, str]:
    said = StringIO()
    try:
        call_command("validate_policies", *arguments, stdout=said)
    except SystemExit as ended:
        return int(ended.code or 0), said.getvalue()
    return 0, said.getvalue()


def test_it_ends_well_when_nothing_is_wrong() -> None:
    status, said = run()
    assert (status, "Nothing is wrong" in said) == (0, True)


def test_it_fails_and_names_what_is_wrong() -> None:
    store_seed_001()
    status, said = run("--json")
    told = json.loads(said)
    assert (status, told["valid"]) == (2, False)
    assert {issue["name"] for issue in told["issues"]} == {"gemini-2.5-pro", "claude-sonnet", "search_perplexity"}
    assert "3 issues" in run()[1]


def test_warnings_fail_only_when_asked_to() -> None:
    provider = Provider.objects.create(provider_id="p", provider_type="fake")
    for name in ("one", "two"):
        provider.models.create(model_id=name)
    policy_actions.create({"name": "one", "document": {"targets": ["two"]}})
    assert (run()[0], run("--strict")[0]) == (0, 2)


def test_the_system_check_names_the_policies() -> None:
    store_seed_001()
    (found,) = stored_policies_can_serve(None, databases=["default"])
    assert (found.id, "search_perplexity" in found.msg) == ("gateway.W007", True)


def test_the_system_check_is_silent_when_nothing_is_wrong() -> None:
    assert stored_policies_can_serve(None, databases=["default"]) == []
