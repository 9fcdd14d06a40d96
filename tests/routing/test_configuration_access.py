"""Teams, client keys, limits and budgets in configuration files."""

import io
from decimal import Decimal

import pytest
from django.core.management import call_command

from providers import configuration, exporting
from providers.config_changes import digest
from providers.importers import documents, runs
from providers.importers.config_forms import BadConfiguration
from providers.models import ImportRun, Provider
from routing import issuing
from routing.models import Budget, ClientKey, RateLimit, Team
from tests.routing.allowance_makers import budget, limit, raised
from tests.routing.second_connection import may_write

pytestmark = pytest.mark.django_db

FILE = """
version: 1
providers:
  local:
    provider_type: fake
    models: [org/small]
teams:
  research:
    description: Who looks for things.
  sales: {}
limits:
  - subject: each_key
    requests_per_minute: 60
    tokens_per_day: 5000000000
  - subject: model
    model: local/org/small
    concurrent_requests: 2
  - subject: tag
    tag: blue
    requests_per_day: 10
budgets:
  - subject: each_key
    period: day
    amount: '50'
    by_role: true
  - subject: team
    team: research
    period: month
    amount: '500.25'
    time_zone: Europe/Berlin
    hard: false
  - subject: provider
    provider: local
    period: hour
    amount: 1
    when_away: open
    away_amount: '0.1'
"""

NEW_TEAM = "version: 1\nteams: {research: {}}"


def apply(text, **kwargs):
    return configuration.apply_document(text, label="test", write=True, **kwargs)


def problems(text):
    with pytest.raises(BadConfiguration) as wrong:
        apply(f"version: 1\n{text}")
    return str(wrong.value)


def test_a_file_sets_up_teams_limits_and_budgets():
    applied = apply(FILE)
    assert (applied.exit_status, applied.findings) == (0, ())
    assert {(change.kind, change.name) for change in applied.changes if not change.provider_id} == {
        ("team", "research"),
        ("team", "sales"),
        ("limit", "each_key"),
        ("limit", "model local/org/small"),
        ("limit", "tag blue"),
        ("budget", "each_key, day"),
        ("budget", "team research, month"),
        ("budget", "provider local, hour"),
    }
    assert RateLimit.objects.get(subject="model").model.model_id == "org/small"
    row = Budget.objects.get(subject="team")
    assert (row.team.name, row.amount, row.time_zone, row.hard) == (
        "research",
        Decimal("500.25"),
        "Europe/Berlin",
        False,
    )
    assert not apply(FILE).changes


def test_an_export_applied_to_an_empty_database_is_the_same_export():
    apply(FILE)
    before = exporting.text()
    assert list(documents.parse(before)) == ["version", "providers", "teams", "limits", "budgets"]
    for rows in (Budget, RateLimit, Team, Provider):
        rows.objects.all().delete()
    apply(before)
    assert exporting.text() == before


def test_what_a_file_does_not_name_is_left_alone():
    apply(FILE)
    applied = apply("version: 1\nbudgets: [{subject: each_key, period: day, amount: '60'}]")
    [change] = applied.changes
    assert (change.action, change.fields) == ("change", {"amount": ["50", "60"]})
    assert Budget.objects.get(subject="each_key").by_role
    assert Budget.objects.count() == 3


def test_pruning_removes_what_a_file_does_not_name_and_what_stood_on_it():
    apply(FILE)
    key, _ = issuing.issue("app", ["generate"])
    applied = apply("version: 1\nteams: {sales: {}}\nbudgets: []\nclient_keys: {}", prune=True)
    assert {change.action for change in applied.changes} == {"remove"}
    assert [row.name for row in Team.objects.all()] == ["sales"]
    assert not Budget.objects.exists()
    assert RateLimit.objects.count() == 3
    assert ClientKey.objects.get() == key


def test_a_team_with_keys_stays():
    apply(FILE)
    key, _ = issuing.issue("app", ["generate"])
    key.team = Team.objects.get(name="research")
    key.save()
    applied = apply("version: 1\nteams: {sales: {}}", prune=True)
    assert ["has client keys" in finding.detail for finding in applied.findings] == [True]
    assert Team.objects.count() == 2


def test_what_was_applied_is_taken_back():
    apply(FILE)
    run = ImportRun.objects.latest("pk")
    runs.undo(runs.start(ImportRun.Kind.UNDO, "", actor="test", undoes=run))
    assert not any(rows.objects.exists() for rows in (Team, RateLimit, Budget))


def test_a_file_says_what_issued_keys_may_do():
    apply(FILE)
    key, _ = issuing.issue("app", ["generate"])
    told = f"""
version: 1
client_keys:
  {key.prefix}:
    team: research
    role: pro
    allowed_models: [gpt-*]
    ip_ranges: [10.0.0.0/8]
    tags: [blue]
    expires_at: 2099-01-01T00:00:00+00:00
"""
    assert apply(told).exit_status == 0
    key.refresh_from_db()
    assert (key.name, key.team.name, key.role, key.allowed_models) == ("app", "research", "pro", ["gpt-*"])
    assert (key.ip_ranges, key.tags, key.expires_at.year) == (["10.0.0.0/8"], ["blue"], 2099)
    assert not apply(told).changes
    assert not apply(exporting.text()).changes


def test_an_export_holds_nothing_that_lets_a_key_in():
    key, secret = issuing.issue("app", ["generate"])
    exported = exporting.text()
    assert key.prefix in exported
    assert secret.reveal().removeprefix(key.prefix) not in exported
    assert key.digest not in exported


def test_a_file_brings_no_key():
    applied = apply("version: 1\nclient_keys: {gw-000000000000: {name: app, scopes: [admin]}}")
    [finding] = applied.findings
    assert "a file cannot bring one" in finding.detail
    assert not ClientKey.objects.exists()


def test_a_revoked_key_is_no_configuration():
    key, _ = issuing.issue("app", ["generate"])
    ClientKey.objects.filter(pk=key.pk).update(revoked_at=key.created_at, enabled=False)
    assert "client_keys" not in exporting.document()
    applied = apply(f"version: 1\nclient_keys: {{{key.prefix}: {{enabled: true}}}}")
    assert [finding.code.name for finding in applied.findings] == ["entry_refused"]
    assert not ClientKey.objects.get().enabled


@pytest.mark.django_db(transaction=True)
def test_nobody_revokes_or_rotates_a_key_while_a_file_is_laid_over_it(monkeypatch):
    key, _ = issuing.issue("app", ["generate"])
    full_clean, others = ClientKey.full_clean, []

    def look_and_clean(row, *args, **kwargs):
        others.append(may_write(row))
        full_clean(row, *args, **kwargs)

    monkeypatch.setattr(ClientKey, "full_clean", look_and_clean)
    assert apply(f"version: 1\nclient_keys: {{{key.prefix}: {{role: pro}}}}").exit_status == 0
    assert others == [False]


def test_raises_are_no_configuration():
    raised(budget(10, "all"), 5)
    [exported] = exporting.document()["budgets"]
    assert exported["amount"] == "10"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("teams: [a]", "teams: a mapping of names"),
        ("teams: {a: {colour: red}}", "teams.a.colour: there is no such member"),
        ("client_keys: {k: {scopes: []}}", "client_keys.k.scopes: one or more of"),
        ("client_keys: {k: {digest: '00'}}", "client_keys.k.digest: there is no such member"),
        ("client_keys: {k: {role: king}}", "client_keys.k.role: one of"),
        ("limits: {}", "limits: a list of limits"),
        ("limits: [{requests_per_day: 1}]", "limits[0].subject: one of"),
        ("limits: [{subject: team, requests_per_day: 1}]", "limits[0].team: say which"),
        ("limits: [{subject: all, team: a, requests_per_day: 1}]", "limits[0].team: leave it out"),
        ("limits: [{subject: all, requests_per_day: 0}]", "limits[0].requests_per_day: a whole number"),
        ("limits: [{subject: all, rpm: 1}]", "limits[0].rpm: there is no such member"),
        (
            "limits: [{subject: all, requests_per_day: 1}, {subject: all, requests_per_day: 2}]",
            "limits[1]: one for the same (all) stands in this file already",
        ),
        ("budgets: [{subject: all, period: day}]", "budgets[0].amount: it is needed"),
        ("budgets: [{subject: all, amount: 1}]", "budgets[0].period: it is needed"),
        ("budgets: [{subject: all, period: week, amount: 1}]", "budgets[0].period: one of"),
        ("budgets: [{subject: all, period: day, amount: -1}]", "budgets[0].amount: an amount of money"),
        ("budgets: [{subject: all, period: day, amount: 1, time_zone: Mars}]", "budgets[0].time_zone: a time zone"),
        ("budgets: [{subject: all, period: day, amount: 1, warn_percent: 101}]", "budgets[0].warn_percent"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_changes_nothing(text, said):
    assert said in problems(f"teams: {{kept: {{}}}}\n{text}" if not text.startswith("teams") else text)
    assert not Team.objects.exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("limits: [{subject: team, team: nobody, requests_per_day: 1}]", "There is no team 'nobody'"),
        ("limits: [{subject: model, model: a/b, requests_per_day: 1}]", "There is no model 'a/b'"),
        ("limits: [{subject: all}]", "Set at least one limit"),
        ("budgets: [{subject: all, period: day, amount: 1, by_role: true}]", "Only keys have roles"),
    ],
)
def test_what_the_registry_refuses_is_said_of_its_entry(text, said):
    applied = apply(f"version: 1\n{text}")
    [finding] = applied.findings
    assert said in finding.detail
    assert finding.code.name == "entry_refused"


def test_a_file_that_rules_owns_what_it_names(tmp_path):
    limit(subject="all", requests_per_minute=1)
    path = tmp_path / "gateway.yaml"
    path.write_text("version: 1\nteams: {research: {}}\nbudgets: [{subject: all, period: day, amount: 5}]")
    configuration.own_file(str(path))
    assert Team.objects.get().managed_by == Budget.objects.get().managed_by == str(path)
    assert RateLimit.objects.get().managed_by == ""
    path.write_text("version: 1\nteams: {}\nbudgets: []")
    configuration.own_file(str(path))
    assert (Team.objects.get().managed_by, Budget.objects.get().managed_by) == ("", "")


def test_a_comparison_says_what_would_be_refused_and_writes_nothing():
    issuing.issue("app", ["generate"], team=Team.objects.create(name="sales"))
    found = configuration.apply_document(NEW_TEAM, label="test", prune=True, rehearse=True)
    assert [(one.kind, one.name) for one in found.refused] == [("team", "sales")]
    assert "has client keys" in found.refused[0].finding.detail
    assert (set(Team.objects.values_list("name", flat=True)), found.written) == ({"sales"}, False)


def test_what_is_refused_is_not_said_to_be_written(tmp_path):
    issuing.issue("app", ["generate"], team=Team.objects.create(name="sales"))
    path, out = tmp_path / "gateway.yaml", io.StringIO()
    path.write_text(NEW_TEAM)
    with pytest.raises(SystemExit) as ended:
        call_command("apply_config", str(path), "--apply", "--prune", stdout=out, no_color=True)
    assert "Written, except one entry that is marked `entry_refused`: 1 to add, 0 to change, 0 to remove." in (
        out.getvalue()
    )
    path.write_text("version: 1\nteams: {research: {}}")
    with pytest.raises(SystemExit):
        call_command("apply_config", str(path), "--apply", "--prune", stdout=(again := io.StringIO()), no_color=True)
    assert "Nothing was written: every entry was refused" in again.getvalue()
    assert ended.value.code == 2


def test_what_changed_since_it_was_shown_is_not_written():
    seen = digest(configuration.apply_document(NEW_TEAM, label="test").changes)
    Team.objects.create(name="research", description="somebody was quicker")
    with pytest.raises(configuration.NotAsShown):
        apply(NEW_TEAM, shown=seen)
    Team.objects.all().delete()
    assert apply(NEW_TEAM, shown=seen).written


def test_parts_of_the_registry_are_exported_alone():
    apply(FILE)
    assert list(exporting.document(sections=["teams", "budgets"])) == ["version", "teams", "budgets"]
    assert list(exporting.document(sections=["providers"])) == ["version", "providers"]
