import pytest

from routing import trial_gates
from routing.trial_gates import BadGate, Figures, Gate, judge

GATE = Gate(max_error_rate_increase=0.02, max_latency_ratio=1.5, min_requests=100)
WELL = Figures(requests=1000, errors=10, latency_ms=200.0)


@pytest.mark.parametrize(
    ("candidate", "outcome"),
    [
        (Figures(1000, 10, 200.0), "kept"),
        (Figures(1000, 0, 20.0), "kept"),
        (Figures(1000, 30, 200.0), "kept"),
        (Figures(1000, 31, 200.0), "broken"),
        (Figures(1000, 10, 300.0), "kept"),
        (Figures(1000, 10, 301.0), "broken"),
        (Figures(100, 100, None), "broken"),
        (Figures(99, 99, None), "waiting"),
    ],
)
def test_a_candidate_is_judged_by_the_version_that_counts(candidate, outcome):
    assert judge(GATE, candidate, WELL).outcome == outcome


def test_a_few_unlucky_requests_are_no_breach():
    assert judge(GATE, Figures(100, 3, 200.0), Figures(1000, 8, 200.0)).outcome == "broken"
    assert judge(GATE, Figures(100, 3, 200.0), Figures(100, 0, 200.0)).outcome == "kept"
    assert judge(GATE, Figures(100, 5, 200.0), Figures(100, 0, 200.0)).outcome == "broken"


def test_nothing_is_concluded_without_something_to_compare_with():
    verdict = judge(GATE, Figures(1000, 500, 9.0), Figures(5, 0, 1.0))
    assert (verdict.outcome, "5 of 100" in verdict.sentence) == ("waiting", True)


def test_a_gate_may_look_at_one_thing_only():
    slow_and_broken = Figures(1000, 900, 9000.0)
    assert judge(Gate(None, None), slow_and_broken, WELL).outcome == "kept"
    assert "answers in" not in judge(Gate(0.02, None), slow_and_broken, WELL).sentence
    assert "failed" not in judge(Gate(None, 1.5), slow_and_broken, WELL).sentence


def test_the_sentence_holds_the_figures():
    sentence = judge(GATE, Figures(1000, 200, 900.0), WELL).sentence
    assert "20.0% of the candidate's requests failed, 1.0% of the others'" in sentence
    assert "in 900 ms, the others in 200 ms" in sentence


@pytest.mark.parametrize(
    ("told", "member"),
    [
        ({"max_error_rate_increase": 2}, "max_error_rate_increase"),
        ({"max_error_rate_increase": "a"}, "max_error_rate_increase"),
        ({"max_latency_ratio": 0.5}, "max_latency_ratio"),
        ({"min_requests": 0}, "min_requests"),
        ({"min_requests": None}, "min_requests"),
        ({"min_requests": 1.5}, "min_requests"),
        ({"min_requests": True}, "min_requests"),
        ({"window_seconds": 1}, "window_seconds"),
        ({"max_errors": 1}, "max_errors"),
        ([], ""),
    ],
)
def test_what_is_wrong_with_a_gate_is_told_by_its_name(told, member):
    with pytest.raises(BadGate) as caught:
        trial_gates.read(told)
    assert set(caught.value.problems) == {member}


def test_a_gate_comes_back_from_its_document():
    gate = Gate(None, 2.0, 7, 600.0)
    assert trial_gates.read(trial_gates.as_document(gate)) == gate
    assert trial_gates.read(None) == Gate()
