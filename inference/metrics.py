"""What the data plane counts, and how Prometheus reads it.

The hot path adds to plain dicts; text is made when somebody asks. Labels are names from the registry and words from closed
vocabularies, never a key, a request id or a name that a client made up. Counters are per process: each web process is a
target of its own, or is told apart by the `process` that the scraper adds.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from inference import outcomes
from routing import health, snapshot
from routing.breakers import CLOSED, HALF_OPEN, OPEN
from routing.rollout import GATEWAY, LEGACY
from routing.types import ModelView, Snapshot

if TYPE_CHECKING:
    from inference.deciding import Ruling

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
OVERHEAD_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)

BREAKER_STATES = (CLOSED, HALF_OPEN, OPEN)


class Histogram:
    """Counts per bucket; the last bucket has no bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        cumulative, told = 0, []
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            cumulative += count
            told.append(("+Inf" if bound == float("inf") else repr(bound), float(cumulative)))
        return told


class Metrics:
    """One per process."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str, str, str], int] = defaultdict(int)
        """By policy, provider, model and outcome; `-` where there was none."""
        self.attempts: dict[tuple[str, str], int] = defaultdict(int)
        """By provider and outcome."""
        self.tokens: dict[tuple[str, str, str], int] = defaultdict(int)
        """By provider, model and direction: `input`, `output`. Written by the recorder's thread only, as are those that follow."""
        self.cost: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        """USD by provider and model."""
        self.unpriced: dict[tuple[str, str], int] = defaultdict(int)
        """Answers that nobody knows a price of."""
        self.answered: dict[tuple[str, str], Histogram] = defaultdict(lambda: Histogram(SECONDS))
        """Seconds from the arrival to the end of what a provider answered, by provider and model."""
        self.demanded: dict[str, int] = defaultdict(int)
        """Requests by the capability that they, or their policy, demanded."""
        self.duration: dict[str, Histogram] = defaultdict(lambda: Histogram(SECONDS))
        """By operation."""
        self.first_token = Histogram(SECONDS)
        self.overhead = Histogram(OVERHEAD_SECONDS)
        self.forwarded: dict[str, int] = defaultdict(int)
        """Requests that the legacy side served, by outcome."""
        self.forwarded_seconds = Histogram(SECONDS)
        self.cached: dict[tuple[str, str], int] = defaultdict(int)
        """Requests that looked for a cached answer, by policy and `hit` or `miss`."""
        self.cache_saved: dict[str, Decimal] = defaultdict(Decimal)
        """USD that the answers had cost which were given again, by policy."""
        self.shadow: dict[str, int] = defaultdict(int)
        """Copies for comparison, by what became of them: `stored`, or why there is none."""
        self.inflight: Callable[[], int] = lambda: 0
        self.sources: list[Callable[[], Iterable[Metric]]] = []
        """Further families that others own: the snapshot's age, the recorder's queue."""

    def ended(self, ruling: Ruling | None, model: ModelView | None, outcome: str) -> None:
        """Count a request, on its path."""
        policy = ruling.decision.policy if ruling is not None else ""
        if model is None:
            self.requests[policy or "-", "-", "-", outcome] += 1
        else:
            self.requests[policy or "-", model.provider.provider_id, model.model_id, outcome] += 1

    def collect(self) -> Iterator[Metric]:
        yield self._requests()
        yield self._errors()
        yield self._attempts()
        yield self._tokens()
        yield self._cost()
        yield self._unpriced()
        yield self._answered()
        yield self._demanded()
        durations = HistogramMetricFamily(
            "gateway_request_duration_seconds", "From a request's arrival to its reply's end.", labels=["operation"]
        )
        for operation, histogram in tuple(self.duration.items()):
            durations.add_metric([operation], histogram.buckets(), histogram.total)
        yield durations
        yield _histogram("gateway_time_to_first_token_seconds", "To the first bytes of a stream.", self.first_token)
        yield _histogram(
            "gateway_overhead_seconds", "Time to the reply that was ours, not the upstream's.", self.overhead
        )
        yield self._sides()
        yield self._shadow()
        yield from self._cached()
        yield _histogram(
            "gateway_legacy_duration_seconds",
            "From the arrival of a request for the legacy side to its reply's end.",
            self.forwarded_seconds,
        )
        yield GaugeMetricFamily("gateway_inflight_requests", "Requests being served now.", value=self.inflight())
        for source in self.sources:
            yield from source()

    def _requests(self) -> Metric:
        family = CounterMetricFamily(
            "gateway_requests", "Requests by what became of them.", labels=["policy", "provider", "model", "outcome"]
        )
        counts: dict[tuple[str, str, str, str], int] = defaultdict(int)
        for (policy, provider, model, outcome), count in tuple(self.requests.items()):
            counts[policy, provider, model, outcomes.label_of(outcome)] += count
        for labels, count in counts.items():
            family.add_metric(labels, count)
        return family

    def _errors(self) -> Metric:
        """Told of `requests`, so that whoever counts there need not count twice."""
        family = CounterMetricFamily(
            "gateway_errors", "Requests that failed, by whose fault it is.", labels=["owner", "code"]
        )
        counts: dict[tuple[str, str], int] = defaultdict(int)
        for (*_, outcome), count in tuple(self.requests.items()):
            if owner := outcomes.owner_of(outcome):
                counts[owner, outcomes.label_of(outcome)] += count
        for labels, count in counts.items():
            family.add_metric(labels, count)
        return family

    def _attempts(self) -> Metric:
        family = CounterMetricFamily(
            "gateway_upstream_attempts", "Tries at a provider, failed ones included.", labels=["provider", "outcome"]
        )
        for labels, count in tuple(self.attempts.items()):
            family.add_metric(labels, count)
        return family

    def _sides(self) -> Metric:
        """What is served here is counted by `requests` already, and costs no second count."""
        family = CounterMetricFamily(
            "gateway_rollout_requests",
            "Requests by the side of the parallel run that served them.",
            labels=["side", "outcome"],
        )
        here: dict[str, int] = defaultdict(int)
        for (*_, outcome), count in tuple(self.requests.items()):
            here[outcomes.label_of(outcome)] += count
        for side, counts in ((GATEWAY, here), (LEGACY, self.forwarded)):
            for outcome, count in tuple(counts.items()):
                family.add_metric([side, outcome], count)
        return family

    def _tokens(self) -> Metric:
        family = CounterMetricFamily("gateway_tokens", "Tokens as recorded.", labels=["provider", "model", "direction"])
        for labels, count in tuple(self.tokens.items()):
            family.add_metric(labels, count)
        return family

    def _cost(self) -> Metric:
        family = CounterMetricFamily(
            "gateway_cost_usd",
            "USD by the prices of the moment; what has no price is in gateway_unpriced_requests_total.",
            labels=["provider", "model"],
        )
        for labels, cost in tuple(self.cost.items()):
            family.add_metric(labels, float(cost))
        return family

    def _unpriced(self) -> Metric:
        family = CounterMetricFamily(
            "gateway_unpriced_requests", "Answers of models without a known price in USD.", labels=["provider", "model"]
        )
        for labels, count in tuple(self.unpriced.items()):
            family.add_metric(labels, count)
        return family

    def _answered(self) -> Metric:
        family = HistogramMetricFamily(
            "gateway_model_duration_seconds",
            "From a request's arrival to the end of the answer, by who gave it.",
            labels=["provider", "model"],
        )
        for labels, histogram in tuple(self.answered.items()):
            family.add_metric(labels, histogram.buckets(), histogram.total)
        return family

    def _demanded(self) -> Metric:
        family = CounterMetricFamily(
            "gateway_capability_requests",
            "Requests by what they demanded of a model; one may demand several.",
            labels=["capability"],
        )
        for capability, count in tuple(self.demanded.items()):
            family.add_metric([capability], count)
        return family

    def _shadow(self) -> Metric:
        family = CounterMetricFamily(
            "gateway_shadow_copies", "Sampled requests by what became of their copy.", labels=["outcome"]
        )
        for outcome, count in tuple(self.shadow.items()):
            family.add_metric([outcome], count)
        return family

    def _cached(self) -> Iterator[Metric]:
        for outcome, what in (("hit", "answered from the cache"), ("miss", "not found in the cache")):
            name = "gateway_cache_hits" if outcome == "hit" else "gateway_cache_misses"
            family = CounterMetricFamily(name, f"Requests under a policy that caches, {what}.", labels=["policy"])
            for (policy, ended), count in tuple(self.cached.items()):
                if ended == outcome:
                    family.add_metric([policy], count)
            yield family
        saved = CounterMetricFamily(
            "gateway_cache_saved_usd", "What answers from the cache had cost when they were made.", labels=["policy"]
        )
        for policy, cost in tuple(self.cache_saved.items()):
            saved.add_metric([policy], float(cost))
        yield saved

    def render(self) -> bytes:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)


def snapshot_families(current: Callable[[], Snapshot]) -> Iterator[Metric]:
    """Revision and age of the registry that this process serves from."""
    served = current()
    yield GaugeMetricFamily("gateway_snapshot_revision", "Registry revision being served.", value=served.revision)
    age = max(0.0, time.time() - served.built_at)
    yield GaugeMetricFamily("gateway_snapshot_age_seconds", "Since that revision was read.", value=age)


def health_families() -> Iterator[Metric]:
    """Breakers and keys as this process knows them, of models and providers that are in service."""
    known, held = health.current(), snapshot.held()
    states = GaugeMetricFamily("gateway_breaker_state", "0 closed, 1 half-open, 2 open.", labels=["provider", "model"])
    for model in held.models if held is not None else ():
        condition = known.conditions().routes.get(model.route)
        if condition is not None:
            states.add_metric([model.provider.provider_id, model.model_id], BREAKER_STATES.index(condition.breaker))
    yield states
    resting = GaugeMetricFamily(
        "gateway_upstream_keys_exhausted", "Keys of a provider that it refused for now.", labels=["provider"]
    )
    now = time.time()
    for provider in held.providers.values() if held is not None else ():
        if provider.keys:
            count = sum(known.key_is_exhausted(key.key_id, now) for key in provider.keys)
            resting.add_metric([provider.provider_id], count)
    yield resting


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    family = HistogramMetricFamily(name, text)
    family.add_metric([], histogram.buckets(), histogram.total)
    return family


metrics = Metrics()


def _begin_anew() -> None:
    """A forked child counts what it does itself."""
    metrics.__init__()  # type: ignore[misc]


os.register_at_fork(after_in_child=_begin_anew)
