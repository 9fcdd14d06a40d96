import asyncio

import pytest

from benchmarks import decisions, report
from benchmarks.decisions import Size
from routing.building import build


@pytest.mark.django_db
def test_every_question_is_measured_over_a_registry_of_the_wanted_size():
    size = Size(providers=10, models=30, policies=4, client_keys=2)
    decisions.fill(size)
    held = build()
    assert (len(held.providers), len(held.models), len(held.client_keys)) == (10, 30, 2)
    measured = {what: decisions.measure_question(held, told, 3) for what, told in decisions.questions(held)}
    assert {"policy with targets", "policy that demands", "model", "no name", "unknown name"} <= set(measured)
    assert all(numbers["p99_us"] >= numbers["p50_us"] > 0 for numbers in measured.values())


def test_a_build_is_timed_while_the_loop_goes_on():
    figures = asyncio.run(decisions.measure_builds(lambda: None, 2))
    assert figures["build_seconds"] >= 0
    assert figures["lag_ms"] >= 0


def test_a_policy_that_takes_too_long_is_a_promise_missed():
    slow = {"policy with targets": {"p99_us": 100.0}, "policy that demands": {"p99_us": 1100.0}}
    assert report.missed({"decisions": {**slow, "snapshot": {"build_seconds": 2.5}}}) == [
        "p99 of a decision by a policy, 10,000 models",
        "snapshot of 1,000 providers and 10,000 models",
    ]
