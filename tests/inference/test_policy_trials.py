"""A policy's new version on a share of the clients, from its start to its end."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.utils import timezone

from inference import policy_trials
from inference.models import Trace
from inference.tasks import judge_policy_trials
from providers import actions, revision
from providers.models import AuditEntry
from routing import building, trials
from routing.decide import decide
from routing.models import Policy
from routing.trials import NoTrial, TrialRunning
from routing.types import Identity, RequestFacts
from tests.callers import REGISTRY, caller

pytestmark = pytest.mark.django_db

OLD = {"targets": [{"model": "old"}], "strategy": "priority"}
NEW = {"targets": [{"model": "new"}], "strategy": "priority"}
GATE = {"min_requests": 10}
_numbers = itertools.count()


@pytest.fixture
def policy() -> Policy:
    actions.create_provider(
        {"provider_id": "p", "provider_type": "fake"}, models=[{"model_id": "old"}, {"model_id": "new"}]
    )
    # Of a salt drawn anew, one in three hundred parts ten thousand keys less evenly than is asked for below.
    return Policy.objects.create(name="writer", document=OLD, salt="salt")


def tried(policy: Policy, percentage: object = 25) -> Policy:
    return trials.start(policy, NEW, percentage, GATE)


def served(
    version: int, count: int = 10, *, failed: int = 0, ms: float = 100.0, ago: float = 0.0, **facts: object
) -> None:
    at = timezone.now() - timedelta(seconds=ago)
    Trace.objects.bulk_create(
        Trace(
            request_id=f"r{next(_numbers)}",
            at=at,
            operation="chat",
            requested_model="writer",
            policy="writer",
            policy_version=version,
            **{"duration_ms": ms, "status": 502 if number < failed else 200, "cost": Decimal("0.001"), **facts},
        )
        for number in range(count)
    )


def begun_earlier(policy: Policy, seconds: float = 60.0) -> Policy:
    policy.candidate_since = timezone.now() - timedelta(seconds=seconds)
    policy.save()
    return policy


# --- Steps ------------------------------------------------------------------------------------------------------------------


def test_a_trial_gives_a_share_of_the_clients_the_next_version(policy: Policy) -> None:
    held = tried(policy)
    view = building.build().policies["writer"]
    assert (view.active.number, view.candidate.number, view.share) == (1, 2, 2500)
    assert list(held.versions.values_list("number", flat=True)) == [2, 1]
    assert (held.version, held.document) == (1, OLD)


@pytest.mark.parametrize("percentage", [0, 25, 50, 100])
def test_ten_thousand_keys_are_parted_as_asked_and_stay_where_they_are(policy: Policy, percentage: int) -> None:
    tried(policy, percentage)
    held = building.build()

    def version(key: int) -> int:
        identity = Identity(key, f"gw-{key:08x}", "k", frozenset({"generate"}))
        return decide(RequestFacts(model="writer", identity=identity), held, now=0).version

    first = [version(key) for key in range(10_000)]
    assert abs(Counter(first)[2] / 100 - percentage) <= 1.5
    assert [version(key) for key in range(0, 10_000, 97)] == first[::97]


def test_a_larger_share_only_adds_clients(policy: Policy) -> None:
    def having_it() -> set[int]:
        held = building.build()
        return {
            key
            for key in range(500)
            if decide(RequestFacts(model="writer", session_id=f"s{key}"), held, now=0).version == 2
        }

    tried(policy, 10)
    before = having_it()
    trials.change(policy, percentage=40)
    assert before < having_it()


def test_promoted_the_candidate_counts_for_all_under_its_number(policy: Policy) -> None:
    tried(policy)
    held = trials.promote(policy, note="it is better")
    assert (held.version, held.document, held.candidate, held.candidate_percentage) == (2, NEW, None, 0)
    assert held.versions.count() == 2
    assert "it is better" in held.versions.get(number=2).note
    view = building.build().policies["writer"]
    assert (view.active.number, view.candidate) == (2, None)


def test_numbers_are_never_given_twice(policy: Policy) -> None:
    held = trials.stop(tried(policy))
    held.document = {"targets": [{"model": "p/old"}], "strategy": "priority"}
    held.save()
    assert held.version == 3
    assert tried(held).candidate_version == 4


def test_a_document_that_is_edited_meanwhile_does_not_take_the_candidates_number(policy: Policy) -> None:
    held = tried(policy)
    held.document = {"targets": [{"model": "p/old"}], "strategy": "priority"}
    held.save()
    assert (held.version, held.candidate_version) == (3, 2)
    assert trials.promote(held).version == 2


def test_stopped_every_client_gets_what_counts_and_the_version_is_kept(policy: Policy) -> None:
    held = trials.stop(tried(policy), note="not now")
    assert (held.version, held.candidate, trials.of(held).state) == (1, None, "none")
    assert "not now" in held.versions.get(number=2).note


def test_every_step_is_audited_and_raises_the_revision(policy: Policy) -> None:
    before, entries = revision.current(), AuditEntry.objects.count()
    held = tried(policy)
    trials.change(held, percentage=50, note="going well")
    trials.promote(held)
    assert (revision.current() - before, AuditEntry.objects.count() - entries) == (3, 3)
    assert [entry.reason for entry in AuditEntry.objects.order_by("-id")[:2]] == ["", "going well"]


def test_one_candidate_at_a_time(policy: Policy) -> None:
    tried(policy)
    with pytest.raises(TrialRunning):
        trials.start(policy, OLD | {"fallbacks": ["new"]}, 5)


@pytest.mark.parametrize(
    ("document", "percentage", "gate"),
    [
        ({"targits": []}, 5, None),
        (OLD, 5, None),
        (NEW, 101, None),
        (NEW, "many", None),
        (NEW, 5, {"min_requests": 0}),
    ],
)
def test_what_cannot_be_tried_is_refused_and_leaves_nothing(policy: Policy, document, percentage, gate) -> None:
    with pytest.raises(ValidationError):
        trials.start(policy, document, percentage, gate)
    policy.refresh_from_db()
    assert (policy.candidate, policy.versions.count()) == (None, 1)


def test_without_a_candidate_there_is_nothing_to_change(policy: Policy) -> None:
    for step in (trials.promote, trials.stop, lambda one: trials.change(one, percentage=1)):
        with pytest.raises(NoTrial):
            step(policy)


# --- The judge --------------------------------------------------------------------------------------------------------------


def test_a_candidate_that_fails_more_often_is_rolled_back(policy: Policy) -> None:
    begun_earlier(tried(policy))
    served(1, 50, failed=1)
    served(2, 50, failed=10)
    assert judge_policy_trials() == 1
    policy.refresh_from_db()
    assert (policy.candidate_percentage, policy.candidate, policy.version) == (0, NEW, 1)
    assert building.build().policies["writer"].share == 0
    assert "rolled back: 20.0% of the candidate's requests failed" in policy.versions.get(number=2).note
    trial = trials.of(policy)
    assert (trial.state, trial.finding["candidate"]["errors"], trial.finding["percentage"]) == (
        "rolled_back",
        10,
        "25.00",
    )


def test_the_roll_back_is_in_the_audit_log_with_its_figures(policy: Policy) -> None:
    begun_earlier(tried(policy))
    served(1, 50)
    served(2, 50, failed=50)
    judge_policy_trials()
    entry = AuditEntry.objects.order_by("-id").first()
    assert (entry.actor, entry.target_id) == ("system:policy-trials", "writer")
    assert entry.reason.startswith("rolled back: 100.0%")
    assert entry.after["candidate_finding"]["active"]["requests"] == 50


def test_a_candidate_that_is_slower_is_rolled_back(policy: Policy) -> None:
    begun_earlier(tried(policy))
    served(1, ms=100)
    served(2, ms=151)
    assert judge_policy_trials() == 1


def test_of_streams_the_first_byte_counts(policy: Policy) -> None:
    begun_earlier(tried(policy))
    served(1, ms=100)
    served(2, ms=9000, first_byte_ms=90, stream=True)
    assert judge_policy_trials() == 0


def test_a_better_candidate_stays(policy: Policy) -> None:
    begun_earlier(tried(policy))
    served(1, 50, failed=10, ms=100)
    served(2, 50, failed=0, ms=20)
    assert judge_policy_trials() == 0
    policy.refresh_from_db()
    assert policy.candidate_percentage == 25


def test_too_few_requests_do_nothing(policy: Policy) -> None:
    begun_earlier(tried(policy))
    served(1, 50)
    served(2, 9, failed=9)
    assert judge_policy_trials() == 0


def test_requests_of_before_the_trial_do_not_speak_against_it(policy: Policy) -> None:
    begun_earlier(tried(policy), 60)
    served(1, 50)
    served(2, 50, failed=50, ago=90)
    assert judge_policy_trials() == 0


def test_when_all_clients_have_it_it_is_measured_by_what_was_before(policy: Policy) -> None:
    begun_earlier(tried(policy, 100), 60)
    served(1, 50, ago=120)
    served(2, 50, failed=50)
    assert judge_policy_trials() == 1


def test_clients_that_hang_up_count_for_nothing(policy: Policy) -> None:
    begun_earlier(tried(policy))
    served(1, 50)
    served(2, 50, status=499, error_code="client_closed")
    figures = policy_trials.figures("writer", 2, timezone.now() - timedelta(hours=1), timezone.now())
    assert (figures.requests, figures.errors, figures.latency_ms) == (0, 0, None)


def test_streams_that_break_after_their_first_byte_are_failures(policy: Policy) -> None:
    served(2, 4, status=200, error_code="upstream_broken")
    figures = policy_trials.figures("writer", 2, timezone.now() - timedelta(hours=1), timezone.now())
    assert (figures.requests, figures.errors) == (4, 4)


def test_a_second_judge_and_a_person_in_between_do_no_harm(policy: Policy) -> None:
    held = begun_earlier(tried(policy))
    served(1, 50)
    served(2, 50, failed=50)
    found = trials.compare(trials.of(held), timezone.now())
    assert trials.roll_back(held, 2, "once", found)
    assert not trials.roll_back(held, 2, "twice", found)
    trials.stop(held)
    assert not trials.roll_back(held, 2, "late", found)


def test_rolled_back_it_may_have_another_chance_or_make_place(policy: Policy) -> None:
    held = begun_earlier(tried(policy))
    served(1, 50)
    served(2, 50, failed=50)
    judge_policy_trials()
    again = trials.change(held, percentage=5)
    assert (trials.of(again).state, judge_policy_trials()) == ("running", 0)
    served(2, 50, failed=50)
    assert judge_policy_trials() == 1
    assert trials.start(held, NEW | {"fallbacks": ["old"]}, 5).candidate_version == 3


# --- Over REST and by command -----------------------------------------------------------------------------------------------


def test_a_trial_is_begun_changed_promoted_and_stopped_over_rest(policy: Policy) -> None:
    api, path = caller(*REGISTRY), f"/api/v1/policies/{policy.pk}/trial"
    assert api.get(path).json()["state"] == "none"
    begun = api.put(path, {"document": NEW, "percentage": 25, "gate": GATE}, format="json")
    assert (begun.status_code, begun.json()["candidate_version"]) == (201, 2)
    assert api.put(path, {"document": NEW, "percentage": 5}, format="json").status_code == 409
    changed = api.put(path, {"percentage": "50"}, format="json").json()
    assert (changed["percentage"], changed["gate"]["min_requests"]) == ("50.00", 10)
    assert changed["comparison"]["outcome"] == "waiting"
    assert api.post(f"{path}/promote", {"note": "good"}, format="json").json()["active_version"] == 2
    assert api.post(f"{path}/promote").status_code == 404
    api.put(path, {"document": OLD, "percentage": 1}, format="json")
    assert api.delete(path).status_code == 204
    assert api.delete(path).status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"percentage": 5}, "document"),
        ({"document": NEW}, "percentage"),
        ({"document": {"targits": 1}, "percentage": 5}, "document"),
        ({"document": NEW, "percentage": 500}, "percentage"),
        ({"document": NEW, "percentage": 5, "gate": {"min_requests": 0}}, "gate"),
        ({"document": NEW, "percentage": 5, "hate": {}}, "hate"),
    ],
)
def test_what_is_wrong_with_a_trial_is_told_by_its_field(policy: Policy, body, field) -> None:
    refused = caller(*REGISTRY).put(f"/api/v1/policies/{policy.pk}/trial", body, format="json")
    assert (refused.status_code, {error["field"] for error in refused.json()["errors"]}) == (400, {field})


def test_a_trial_is_begun_with_the_scope_to_write_only(policy: Policy) -> None:
    api, path = caller("registry:read"), f"/api/v1/policies/{policy.pk}/trial"
    assert api.get(path).status_code == 200
    assert api.put(path, {"document": NEW, "percentage": 5}, format="json").status_code == 403


def test_what_a_file_owns_is_not_tried_here(policy: Policy) -> None:
    Policy.objects.update(managed_by="/etc/gateway.yaml")
    api, path = caller(*REGISTRY), f"/api/v1/policies/{policy.pk}/trial"
    assert api.put(path, {"document": NEW, "percentage": 5}, format="json").status_code == 409


def commanded(*arguments: str) -> str:
    out = StringIO()
    call_command("policy_trial", "writer", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_begins_shows_and_ends_a_trial(policy: Policy, tmp_path) -> None:
    document = tmp_path / "new.yaml"
    document.write_text(json.dumps(NEW))
    assert "nothing is being tried" in commanded()
    assert "version 2 is tried on 25 %" in commanded(
        "--document", str(document), "--percentage", "25", "--min-requests", "10"
    )
    begun_earlier(Policy.objects.get())
    served(1, 20)
    served(2, 20, failed=20)
    judge_policy_trials()
    told = commanded()
    assert "rolled back" in told
    assert "100.00%" in told
    assert "version 2 counts for all" in commanded("--promote", "--note", "after all")


@pytest.mark.parametrize("arguments", [("--promote",), ("--document", "/nowhere", "--percentage", "5")])
def test_the_command_refuses_what_cannot_be(policy: Policy, arguments) -> None:
    with pytest.raises(CommandError):
        commanded(*arguments)
