"""Policies as the snapshot holds them, from their rows."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from routing import policy_views
from routing.models import Override, Policy
from tests.routing.views import model, provider, snapshot

pytestmark = pytest.mark.django_db
HELD = snapshot(model("a", of=provider("at-a")), model("b", of=provider("at-b")))


def views(notes=None):
    return policy_views.build(HELD.models, HELD.by_name, [] if notes is None else notes)


def create(name="p", targets=("a",), **more):
    return Policy.objects.create(name=name, document={"targets": list(targets)}, **more)


def test_a_policy_is_there_by_its_name_and_by_its_kind_and_name():
    create(kind="node", description="writes")
    found = views()
    assert set(found) == {"p", "node/p"}
    assert (found["p"].kind, found["p"].active.number, found["p"].description) == ("node", 1, "writes")
    assert [target.model.model_id for target in found["p"].active.targets] == ["a"]


def test_a_policy_that_is_switched_off_is_not_there():
    create(enabled=False)
    assert views() == {}


def test_a_document_that_does_not_read_is_left_out_and_named():
    Policy.objects.create(name="p", document={"strategy": 5})
    create("q")
    notes = []
    assert set(views(notes)) == {"q", "policy/q"}
    assert "policy p" in notes[0]
    assert "strategy" in notes[0]


def test_a_version_on_trial_stands_beside_the_active_one_with_its_share():
    create(candidate={"targets": ["b"]}, candidate_version=2, candidate_percentage=Decimal("12.5"))
    found = views()["p"]
    assert (found.share, found.candidate.number) == (1250, 2)
    assert [target.model.model_id for target in found.candidate.targets] == ["b"]


def test_an_override_stands_over_its_policy_until_it_runs_out():
    over, past = create(), create("q")
    ends = timezone.now() + timedelta(hours=1)
    Override.objects.create(policy=over, target="b", expires_at=ends)
    Override.objects.create(policy=past, target="b", expires_at=timezone.now() - timedelta(seconds=1))
    found = views()
    assert found["p"].override.expires_at == ends.timestamp()
    assert [target.model.model_id for target in found["p"].override.targets] == ["b"]
    assert found["q"].override is None
