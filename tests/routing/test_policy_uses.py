import pytest

from providers.policy_uses import Losses
from routing import health, policy_uses
from routing import snapshot as snapshots
from routing.types import Conditions, RouteCondition
from tests.routing.policy_snapshots import with_policies
from tests.routing.views import model, provider

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def served(monkeypatch):
    first, second = provider("first"), provider("second")
    seen = with_policies(
        model("m", first),
        model("n", second),
        policies={
            "alone": {"targets": [{"model": "m", "provider": "first"}]},
            "rescued": {
                "targets": [{"model": "m", "provider": "first"}],
                "fallbacks": ["n"],
            },
            "elsewhere": {"targets": [{"model": "n", "provider": "second"}]},
        },
    )
    monkeypatch.setattr(snapshots, "current", lambda: seen)
    conditions = {}
    monkeypatch.setattr(health, "read", lambda: Conditions(routes=conditions))
    return conditions


def test_policies_are_stranded_or_weakened_without_a_provider():
    assert policy_uses.lost_without(["first"]) == Losses(("alone",), ("rescued",))
    assert policy_uses.lost_without(["first", "second"]).stranded == ("alone", "elsewhere", "rescued")


def test_what_cannot_serve_now_is_not_lost(served):
    served["first/m"] = RouteCondition(breaker="open")
    assert policy_uses.lost_without(["first"]) == Losses()


def test_uses_name_the_models_and_what_is_left():
    told = {use.name: (use.models, use.as_fallback, use.others) for use in policy_uses.of("second")}
    assert told == {"rescued": (("n",), True, 1), "elsewhere": (("n",), False, 0)}
