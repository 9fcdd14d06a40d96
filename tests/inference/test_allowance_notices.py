import time
from dataclasses import replace

import pytest

from inference import allowance_notices, explaining
from routing import metering_store
from routing.allowances import DAY, MONEY, AllowanceIndex
from routing.decide import decide
from routing.purses import span_ms
from routing.types import NOMINAL
from tests.inference import registry
from tests.routing.test_metering import allowance

KEY = registry.key_view().identity
MODEL = registry.model(registry.provider("p"), "m")


def budget(subject):
    return allowance(MONEY, DAY, 1000, "budget", subject, name=f"money of the {subject}")


def notices(held):
    facts = explaining.read({"model": "m"}, None).facts
    facts = replace(facts, identity=KEY)
    return allowance_notices.of(facts, decide(facts, held, NOMINAL, now=1.0), held)


@pytest.mark.django_db
def test_what_is_used_up_is_named_and_what_is_not_is_silent(redis_url, serve):
    own, target = budget("key"), budget("model")
    held = serve(MODEL, allowances=AllowanceIndex(keys={KEY.key_id: (own,)}, models={MODEL.route: (target,)}))
    assert notices(held) == []
    now_ms = round(time.time() * 1000)
    metering_store.raise_to(redis_url, [(one, *span_ms(one, now_ms), 1000) for one in (own, target)])
    assert notices(held) == [
        "refused at the moment, budget_exhausted: money of the key, per day",
        "p/m is passed over at the moment: budget_exhausted",
    ]
