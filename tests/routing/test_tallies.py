from providers.breaker_settings import DEFAULTS
from routing.performance import Batch
from routing.tallies import Sums, Tally


def test_sums_become_a_batch_with_the_mean():
    assert Sums(4, 1, 2.0).batch() == Batch(4, 1, 500_000)
    assert Sums(0, 3).batch() == Batch(0, 3, 0)
    assert not Sums()
    assert Sums(bad=1)


def test_what_is_fresh_is_taken_once_and_stays_untold():
    tally = Tally("p/m", DEFAULTS, watched=False, fresh=2, bad=1, seconds=0.5)
    assert tally.take_fresh() == Sums(2, 1, 0.5)
    assert not tally.take_fresh()
    assert tally.untold == Sums(2, 1, 0.5)
    tally.untold -= Sums(2, 1, 0.5)
    assert not tally.untold
