"""A policy's trial as a page."""

from __future__ import annotations

from datetime import datetime

import pytest
from django.contrib.auth.models import Permission, User
from django.urls import reverse

from providers.models import AuditEntry
from routing import trials
from routing.models import Policy
from routing.trial_gates import Figures
from tests.page_forms import form_of_page

pytestmark = pytest.mark.django_db

OLD = {"targets": [{"model": "old"}], "strategy": "priority"}
NEW = {"targets": [{"model": "new"}], "strategy": "priority"}


@pytest.fixture
def policy() -> Policy:
    return Policy.objects.create(name="writer", document=OLD)


@pytest.fixture
def page(policy: Policy) -> str:
    return reverse("admin:routing_policy_trial", args=[policy.pk])


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> dict[int, Figures]:
    """What the rows of usage would say, by version."""
    told: dict[int, Figures] = {}

    def read(policy: str, version: int, since: datetime, until: datetime) -> Figures:
        return told.get(version, Figures())

    monkeypatch.setattr(trials, "_read_figures", read)
    return told


def test_a_trial_is_begun_by_the_form(admin_client, policy, page) -> None:
    form = form_of_page(admin_client.get(page).content.decode())
    answer = admin_client.post(
        page, form | {"document": "targets: [{model: new}]", "percentage": "12.5", "note": "why"}
    )
    assert answer.status_code == 302
    policy.refresh_from_db()
    assert (policy.candidate, float(policy.candidate_percentage), policy.candidate_version) == (NEW, 12.5, 2)
    assert policy.candidate_gate["window_seconds"] == 3600
    assert AuditEntry.objects.order_by("-id").first().reason == "why"


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"document": "targets: ["}, "does not read as YAML"),
        ({"document": "targits: 1"}, "There is no such member"),
        ({}, "It says what the policy says already"),
        ({"document": "targets: [{model: new}]", "min_requests": "0"}, "greater than or equal to 1"),
    ],
)
def test_what_cannot_be_tried_is_said_at_its_field(admin_client, policy, page, wrong, sentence) -> None:
    form = form_of_page(admin_client.get(page).content.decode())
    assert sentence in admin_client.post(page, form | wrong).content.decode()
    policy.refresh_from_db()
    assert policy.candidate is None


def test_a_version_of_before_may_be_tried_again(admin_client, policy, page) -> None:
    trials.stop(trials.start(policy, NEW, 5))
    form = form_of_page(admin_client.get(page).content.decode())
    admin_client.post(page, form | {"version": "2"})
    policy.refresh_from_db()
    assert (policy.candidate, policy.candidate_version) == (NEW, 3)


def test_both_versions_stand_beside_each_other(admin_client, policy, page, figures) -> None:
    trials.start(policy, NEW, 25)
    figures |= {1: Figures(1000, 10, 200.0, 0.001), 2: Figures(500, 4, 100.0, 0.0005)}
    html = admin_client.get(page).content.decode()
    assert "keeps to its gate" in html
    assert "×0.50" in html
    assert "manage.py policy_trial writer --promote" in html


def test_the_share_is_moved_and_only_from_what_was_seen(admin_client, policy, page) -> None:
    trials.start(policy, NEW, 25)
    url = reverse("admin:routing_policy_trial_share", args=[policy.pk])
    admin_client.post(url, {"was": "25", "slider": "40", "percentage": "25"})
    policy.refresh_from_db()
    assert policy.candidate_percentage == 40
    answer = admin_client.post(url, {"was": "25", "percentage": "90"}, follow=True)
    assert "meanwhile the share became 40" in answer.content.decode()


def test_it_is_promoted_and_stopped_by_a_press(admin_client, policy, page) -> None:
    trials.start(policy, NEW, 25)
    admin_client.post(reverse("admin:routing_policy_trial_stop", args=[policy.pk]))
    policy.refresh_from_db()
    assert (policy.candidate, policy.version) == (None, 1)
    trials.start(policy, NEW, 25)
    admin_client.post(reverse("admin:routing_policy_trial_promote", args=[policy.pk]))
    policy.refresh_from_db()
    assert (policy.document, policy.version) == (NEW, 3)


def test_its_gate_is_changed(admin_client, policy, page) -> None:
    trials.start(policy, NEW, 25)
    url = reverse("admin:routing_policy_trial_gate", args=[policy.pk])
    admin_client.post(
        url, {"max_error_points": "5", "max_latency_ratio": "", "min_requests": "7", "window_minutes": "10"}
    )
    policy.refresh_from_db()
    assert policy.candidate_gate == {
        "max_error_rate_increase": 0.05,
        "max_latency_ratio": None,
        "min_requests": 7,
        "window_seconds": 600.0,
    }


def test_a_page_that_is_open_hears_that_it_was_rolled_back(admin_client, policy, page, figures) -> None:
    held = trials.start(policy, NEW, 25)
    live = reverse("admin:routing_policy_trial_live", args=[policy.pk]) + "?state=running"
    assert "X-Live" not in admin_client.get(live)
    figures |= {1: Figures(1000, 0, 1.0), 2: Figures(1000, 900, 1.0)}
    comparison = trials.compare(trials.of(held), held.candidate_since)
    trials.roll_back(held, 2, comparison.verdict.sentence, comparison)
    assert admin_client.get(live)["X-Live"] == "over"
    html = admin_client.get(page).content.decode()
    assert "Nobody gets version 2 any more" in html
    assert "90.0% of the candidate" in html


def test_whoever_may_only_look_changes_nothing(client, policy, page) -> None:
    trials.start(policy, NEW, 25)
    user = User.objects.create_user("viewer", password="x", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_policy"))
    client.force_login(user)
    html = client.get(page).content.decode()
    assert "Promote version" not in html
    for step in ("promote", "stop", "share", "gate"):
        url = reverse(f"admin:routing_policy_trial_{step}", args=[policy.pk])
        assert client.post(url, {"was": "25", "percentage": "1"}).status_code == 403


def test_what_a_file_owns_may_be_stopped_and_nothing_else(admin_client, policy, page) -> None:
    trials.start(policy, NEW, 25)
    Policy.objects.update(managed_by="/etc/gateway.yaml")
    assert admin_client.post(reverse("admin:routing_policy_trial_promote", args=[policy.pk])).status_code == 403
    assert admin_client.post(reverse("admin:routing_policy_trial_stop", args=[policy.pk])).status_code == 302
