"""Policies in the admin: written by a form, explained while they are written, restored, overridden."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from django.urls import reverse

from providers.models import AuditEntry, Provider
from routing import building, policy_actions
from routing.models import Override, Policy, RoutingSettings
from tests.page_forms import form_of_page
from tests.routing.policy_snapshots import store_seed_001

pytestmark = pytest.mark.django_db

LIST = reverse("admin:routing_policy_changelist")
ADD = reverse("admin:routing_policy_add")
SETTINGS = reverse("admin:routing_routingsettings_changelist")


@pytest.fixture
def models():
    provider = Provider.objects.create(provider_id="p", provider_type="fake")
    for name in ("one", "two", "three"):
        provider.models.create(model_id=name, capabilities=["chat", "tools"] if name != "three" else ["chat"])


@pytest.fixture
def policy(models):
    return policy_actions.create({"name": "best", "document": {"targets": ["one"], "fallbacks": ["two"]}})


def url(row, name="change"):
    return reverse(f"admin:routing_policy_{name}", args=[row.pk])


def page(client, row):
    return client.get(url(row)).content.decode()


def send(client, row, **changes):
    """The editor's form as it is shown, with changes."""
    fields = form_of_page(page(client, row)) | {name.replace("__", "-"): value for name, value in changes.items()}
    for name in [name for name, value in fields.items() if value is None]:
        del fields[name]
    return client.post(url(row), fields)


def view_only(client):
    user = User.objects.create_user("eve", password="x", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_policy"))
    client.force_login(user)
    return client


def test_a_policy_is_written_without_a_line_of_json(admin_client, models):
    fields = form_of_page(admin_client.get(ADD).content.decode()) | {
        "name": "writer",
        "kind": "node",
        "strategy": "weighted",
        "targets-0-order": "2",
        "targets-0-model": "one",
        "targets-0-weight": "25",
        "targets-1-order": "1",
        "targets-1-model": "two",
        "targets-1-weight": "75",
        "capabilities": "tools, json",
        "min_context_window": "8000",
        "max_cost_tier": "HIGH",
        "fallbacks": "three\r\none\r\n",
        "attempts": "2",
        "attempt_seconds": "1.5",
        "max_cost": "0.25",
        "local_only": "on",
        "note": "for the start",
    }
    answer = admin_client.post(ADD, fields)
    row = Policy.objects.get()
    assert (answer.status_code, answer["Location"]) == (302, url(row))
    assert (row.name, row.kind, row.enabled, row.version) == ("writer", "node", True, 1)
    assert row.document == {
        "targets": [{"model": "two", "weight": 75}, {"model": "one", "weight": 25}],
        "requirements": {
            "capabilities": ["json_mode", "tools"],
            "min_context_window": 8000,
            "max_cost_tier": "HIGH",
            "local_only": True,
        },
        "retries": {"attempts": 2},
        "timeouts": {"attempt_seconds": 1.5},
        "strategy": "weighted",
        "fallbacks": ["three", "one"],
        "max_cost": "0.25",
    }
    assert row.versions.get().note == "for the start"
    assert AuditEntry.objects.first().actor == "user:admin"


def test_saving_a_form_that_nobody_touched_changes_nothing(admin_client):
    store_seed_001()
    document = {
        "targets": [{"kind": "logical"}, {"model": "gemini-2.5-pro", "weight": 0}],
        "requirements": {"capabilities": ["streaming"], "data_tags": ["eu", "pii"], "task": "vision", "vision": True},
        "retries": {"attempts": 0, "delay_seconds": 0.25, "backoff": 3.0},
        "timeouts": {"attempt_seconds": 2.5, "total_seconds": 60.0},
        "cache": {"ttl_seconds": 600, "scope": "team"},
        "strategy": "balanced",
        "fallbacks": ["claude-sonnet"],
        "max_cost": "0.05",
        "overridable": False,
        "mixed_embeddings": True,
    }
    row = policy_actions.create({"name": "all", "document": document, "description": "every member"})
    before = row.document
    assert send(admin_client, row).status_code == 302
    row.refresh_from_db()
    assert (row.version, row.document) == (1, before)


def test_a_change_is_a_version_and_counts(admin_client, policy):
    send(admin_client, policy, targets__0__model="two", note="two is quicker")
    policy.refresh_from_db()
    assert (policy.version, policy.versions.first().note) == (2, "two is quicker")
    assert [one.model.model_id for one in building.build().policies["best"].active.targets] == ["two"]


def test_a_target_is_removed_and_another_put_before(admin_client, policy):
    send(
        admin_client,
        policy,
        targets__0__DELETE="on",
        targets__1__model="three",
        targets__2__model="two",
        targets__2__order="1",
    )
    policy.refresh_from_db()
    assert [target["model"] for target in policy.document["targets"]] == ["two", "three"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"backoff": "99"}, "less than or equal to 10"),
        ({"max_cost": "-1"}, "greater than or equal to 0"),
        ({"targets__0__weight": "-5"}, "greater than or equal to 0"),
        ({"targets__0__kind": "logical"}, "Either `model` or `kind`"),
        ({"strategy": "astrology"}, "Select a valid choice"),
    ],
)
def test_a_mistake_is_shown_and_nothing_is_stored(admin_client, policy, changes, said):
    answer = send(admin_client, policy, **changes)
    assert answer.status_code == 200
    assert said in answer.content.decode()
    policy.refresh_from_db()
    assert policy.version == 1


def test_shares_must_add_up_to_100(admin_client, policy):
    changes = {"strategy": "weighted", "targets__0__weight": "60", "targets__1__model": "two"}
    html = send(admin_client, policy, **changes, targets__1__weight="30").content.decode()
    assert "The shares add up to 90, not to 100. In the same proportion: 67, 33." in html
    assert "Each target needs a share" in send(admin_client, policy, **changes, targets__1__weight="").content.decode()
    assert send(admin_client, policy, **changes, targets__1__weight="40").status_code == 302
    policy.refresh_from_db()
    assert [target["weight"] for target in policy.document["targets"]] == [60, 40]


def test_stored_weights_of_another_sum_stay_good_until_they_are_changed(admin_client, models):
    document = {"targets": [{"model": "one", "weight": 3}, {"model": "two"}], "strategy": "weighted"}
    row = policy_actions.create({"name": "old", "document": document})
    assert send(admin_client, row, description="as it was").status_code == 302
    assert send(admin_client, row, targets__0__weight="4").status_code == 200


def test_who_edits_an_older_version_is_told_once(admin_client, policy):
    fields = form_of_page(page(admin_client, policy)) | {"targets-0-model": "three"}
    policy_actions.update(policy, {"document": {"targets": ["two"]}})
    answer = admin_client.post(url(policy), fields)
    assert "Meanwhile version 2 was saved" in answer.content.decode()
    again = form_of_page(answer.content.decode())
    assert admin_client.post(url(policy), again).status_code == 302
    policy.refresh_from_db()
    assert (policy.version, policy.document["targets"]) == (3, [{"model": "three"}])


def test_of_two_who_save_at_once_the_later_is_told(admin_client, policy, monkeypatch):
    fields = form_of_page(page(admin_client, policy)) | {"targets-0-model": "three"}
    update = policy_actions.update

    def overtaken(*args, **kwargs):
        update(policy, {"document": {"targets": ["two"]}})
        return update(*args, **kwargs)

    monkeypatch.setattr(policy_actions, "update", overtaken)
    answer = admin_client.post(url(policy), fields)
    assert "Meanwhile version 2 was saved" in answer.content.decode()
    policy.refresh_from_db()
    assert (policy.version, policy.document["targets"]) == (2, [{"model": "two"}])


def test_the_panel_explains_what_stands_in_the_form(admin_client, policy):
    fields = form_of_page(page(admin_client, policy)) | {"targets-0-model": "three"}
    html = admin_client.post(url(policy, "explain"), fields).content.decode()
    assert "p/three" in html
    fields |= {"capabilities": "tools"}
    html = admin_client.post(url(policy, "explain"), fields).content.decode()
    assert "it lacks tools" in html
    assert "p/two" in html
    policy.refresh_from_db()
    assert policy.version == 1


def test_the_panel_explains_what_is_to_become_of_a_mere_other_name(admin_client, policy):
    alias = policy_actions.create({"name": "other", "kind": "alias", "document": {"targets": ["best"]}})
    fields = form_of_page(page(admin_client, alias))
    assert "p/one" in admin_client.post(url(alias, "explain"), fields).content.decode()
    html = admin_client.post(url(alias, "explain"), fields | {"targets-0-model": "three"}).content.decode()
    assert "p/three" in html
    assert "p/one" not in html


def test_the_panel_says_what_does_not_read_yet(admin_client, policy):
    fields = form_of_page(page(admin_client, policy)) | {"max_cost": "much"}
    assert "does not read yet" in admin_client.post(url(policy, "explain"), fields).content.decode()


def test_a_new_policy_is_explained_before_it_is_there(admin_client, models):
    fields = form_of_page(admin_client.get(ADD).content.decode()) | {"name": "new", "targets-0-model": "two"}
    html = admin_client.post(reverse("admin:routing_policy_explain_new"), fields).content.decode()
    assert "p/two" in html
    assert not Policy.objects.exists()


def test_without_javascript_the_button_explains_and_keeps_what_was_typed(admin_client, policy):
    answer = send(admin_client, policy, targets__0__model="three", _explain="1")
    html = answer.content.decode()
    assert (answer.status_code, "p/three" in html) == (200, True)
    assert form_of_page(html)["targets-0-model"] == "three"


def test_versions_show_what_they_changed_and_are_restored_with_a_note(admin_client, policy):
    policy_actions.update(policy, {"document": {"targets": ["two"]}}, note="two is quicker")
    html = page(admin_client, policy)
    assert "two is quicker" in html
    assert '<td class="gw-del"><pre><span class="gw-sign">−</span>one</pre></td>' in html
    for version in ("one", "7", "9" * 5000):
        answer = admin_client.post(url(policy, "restore"), {"version": version}, follow=True)
        assert "has no version" in answer.content.decode()
    admin_client.post(url(policy, "restore"), {"version": "1", "note": "it was not"})
    policy.refresh_from_db()
    assert (policy.version, policy.document["targets"]) == (3, [{"model": "one"}])
    assert policy.versions.first().note == "it was not"


def test_an_override_is_set_shown_and_removed(admin_client, policy):
    admin_client.post(url(policy, "override"), {"target": "three", "span": "3600", "reason": "one is slow"})
    override = Override.objects.get()
    assert (override.target, override.reason, override.expires_at is not None) == ("three", "one is slow", True)
    assert "left" in page(admin_client, policy)
    assert "three" in admin_client.get(LIST).content.decode()
    admin_client.post(url(policy, "no_override"))
    assert not Override.objects.exists()


def test_an_override_by_what_does_not_exist_is_refused(admin_client, policy):
    answer = admin_client.post(url(policy, "override"), {"target": "gone"}, follow=True)
    assert "no enabled model or policy is named gone" in answer.content.decode()
    assert not Override.objects.exists()


def test_what_a_file_owns_is_shown_and_left_alone(admin_client, policy):
    Policy.objects.update(managed_by="/etc/gateway/policies.yaml")
    html = page(admin_client, policy)
    assert "/etc/gateway/policies.yaml" in html
    assert ">Save<" not in html
    assert send(admin_client, policy, note="x").status_code == 403
    assert admin_client.post(url(policy, "restore"), {"version": "1"}).status_code == 403
    assert admin_client.post(url(policy, "delete"), {"post": "yes"}).status_code == 403
    for action in ("disable", "delete_selected"):
        admin_client.post(LIST, {"action": action, "_selected_action": [policy.pk], "post": "yes"})
    policy.refresh_from_db()
    assert policy.enabled
    admin_client.post(url(policy, "override"), {"target": "three"})
    assert Override.objects.exists()


def test_cached_answers_are_forgotten_where_there_are_some(admin_client, policy, redis_url):
    assert url(policy, "forget_cached") not in page(admin_client, policy)
    send(admin_client, policy, ttl_seconds="60", scope="team")
    policy.refresh_from_db()
    assert policy.document["cache"] == {"ttl_seconds": 60, "scope": "team"}
    assert url(policy, "forget_cached") in page(admin_client, policy)
    answer = admin_client.post(url(policy, "forget_cached"), follow=True)
    assert "is forgotten" in answer.content.decode()


def test_who_may_only_look_changes_nothing(client, policy):
    viewer = view_only(client)
    html = page(viewer, policy)
    assert ">Save<" not in html
    for name in ("change", "override", "no_override", "forget_cached", "restore"):
        assert viewer.post(url(policy, name), {"version": "1", "target": "two"}).status_code == 403
    assert viewer.get(ADD).status_code == 403
    # A browser sends no disabled fields.
    assert (
        "p/one"
        in viewer.post(
            url(policy, "explain"), {"targets-TOTAL_FORMS": "1", "targets-INITIAL_FORMS": "1"}
        ).content.decode()
    )


def test_the_list_says_what_is_wrong(admin_client):
    store_seed_001()
    html = admin_client.get(LIST).content.decode()
    assert "web_search" in html
    assert "gpt-4o" in html
    assert "manage.py validate_policies" in html


def test_an_empty_list_teaches(admin_client):
    assert "No policies yet" in admin_client.get(LIST).content.decode()


def test_the_list_asks_as_much_for_many_policies_as_for_one(admin_client, policy, django_assert_max_num_queries):
    for number in range(20):
        policy_actions.create({"name": f"p{number}", "document": {"targets": ["one"]}})
    admin_client.get(LIST)
    with django_assert_max_num_queries(16):
        admin_client.get(LIST)


def test_the_editor_asks_as_much_for_many_targets_as_for_one(admin_client, policy, django_assert_max_num_queries):
    document = {"targets": ["one", "two", "three"], "fallbacks": ["best"]}
    row = policy_actions.create({"name": "many", "document": document})
    for number in range(5):
        row = policy_actions.update(row, {"document": document | {"max_cost": f"0.{number + 1}"}})
    page(admin_client, row)
    with django_assert_max_num_queries(20):
        page(admin_client, row)


def test_the_list_says_who_can_serve_and_who_changed_it(admin_client, policy):
    policy_actions.create({"name": "nobody", "document": {"targets": ["gone"]}})
    shares = [{"model": "one", "weight": 75}, {"model": "two", "weight": 25}]
    policy_actions.create({"name": "shared", "document": {"targets": shares, "strategy": "weighted"}})
    html = admin_client.get(LIST).content.decode()
    assert ">1 / 1<" in html
    assert ">2 / 2<" in html
    assert ">nobody</span>" in html
    assert 'style="width:75.00%"' in html
    assert "then two" in html


def test_the_settings_are_changed_with_a_reason(admin_client, policy):
    fields = form_of_page(admin_client.get(SETTINGS).content.decode())
    assert admin_client.post(SETTINGS, fields | {"default_policy": "gone"}).status_code == 200
    assert not RoutingSettings.objects.exists()
    answer = admin_client.post(SETTINGS, fields | {"default_policy": "best", "reason": "so it is"})
    assert answer.status_code == 302
    assert building.build().defaults.default_policy == "best"
    assert AuditEntry.objects.first().reason == "so it is"


def test_settings_that_a_file_owns_are_shown_and_left_alone(admin_client):
    RoutingSettings.objects.create(managed_by="/etc/gateway/routing.yaml")
    assert "/etc/gateway/routing.yaml" in admin_client.get(SETTINGS).content.decode()
    assert admin_client.post(SETTINGS, {"retries": "3"}).status_code == 403
