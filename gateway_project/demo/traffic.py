"""A month of requests, as the request path would have left them behind: decided by the real decision, under breakers that open and
close by the real rules. Only who calls, and what providers answer, is made up.

The same registry, moment and seed give the same requests.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from gateway_project.demo import clients, rhythm, upstreams
from gateway_project.demo.clients import Ask, Client
from gateway_project.demo.upstreams import Failure, Outage
from inference.attempts import Attempt, Paid
from inference.backends.base import Usage
from inference.deciding import Ruling
from inference.recording import Entry
from routing import breakers, performance
from routing.breakers import OPEN, WELL, Breaker, Step
from routing.decide import decide
from routing.performance import Batch, Figures
from routing.rollout import GATEWAY, LEGACY
from routing.types import Candidate, Conditions, Identity, ModelView, RequestFacts, RouteCondition, Snapshot

CLIENT_LEFT = 499
_BYTES_PER_TOKEN = 4
_LEAVES = 0.013
"""Share of streams whose reader goes away."""
_BREAKS = 0.0012
"""Share of streams that end in the middle."""
_PAID_FAILURES = 0.05
_REFUSED_IN_A_BURST = 0.45
_MISTAKES = (
    (400, "invalid_request", 0.0030),
    (400, "context_length_exceeded", 0.0012),
    (400, "upstream_rejected", 0.0008),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request before it is decided."""

    request_id: str
    at: datetime
    client: Client
    ask: Ask
    identity: Identity
    stream: bool
    prompt: int
    answer: int
    session_id: str
    address: str


@dataclass(slots=True)
class Told:
    """What became of a request."""

    status: int = 200
    code: str = ""
    owner: str = ""
    model: ModelView | None = None
    attempts: int = 0
    seconds: float = 0.0
    first_byte: float | None = None
    upstream: float = 0.0
    usage: Usage | None = None
    guess: tuple[int, int] = (0, 0)
    log: list[Attempt] | None = None
    paid: tuple[Paid, ...] = ()


class Traffic:
    def __init__(
        self,
        snapshot: Snapshot,
        identities: Mapping[str, Identity],
        *,
        begin: datetime,
        until: datetime,
        count: int,
        seed: int,
    ) -> None:
        self._snapshot, self._identities = snapshot, identities
        self._begin, self._until, self._requests = begin, until, count
        self._chance = random.Random(seed)
        self._counts_from = until.timestamp() - performance.DAYS * 86_400
        self._outages: Sequence[Outage] = upstreams.outages(until)
        self._bursts = clients.bursts(until)
        self._breakers: dict[str, Breaker] = {}
        self._figures = {model.route: _figures(model) for model in snapshot.models}
        self._conditions = Conditions(self._figures)
        self._turned = False
        self._rulings: dict[tuple[str, int, bool], Ruling] = {}
        self._fared: dict[str, Figures] = {}
        self._sessions: dict[str, list[str]] = {}

    @property
    def unwell(self) -> Mapping[str, Breaker]:
        """Breakers that are not well after the last request."""
        return self._breakers

    def figures(self) -> dict[str, Figures]:
        """How the routes fared in the last days, as processes count it."""
        return self._fared

    def entries(self) -> Iterator[Entry]:
        moments = rhythm.arrivals(
            clients.paces(self._until), self._bursts, self._begin, self._until, self._requests, self._chance
        )
        for number, (at, who) in enumerate(moments):
            client = clients.CLIENTS[who]
            if not client.asks:  # at the very edge of a slot
                client = clients.CLIENTS[0]
            yield self._entry(self._asked(number, at, client), who)

    def _asked(self, number: int, at: datetime, client: Client) -> Asked:
        chance = self._chance
        ask = chance.choices(client.asks, [one.weight for one in client.asks])[0]
        return Asked(
            request_id=f"req_{int(at.timestamp() * 1000):012x}{number % 4096:03x}{chance.getrandbits(68):017x}",
            at=at,
            client=client,
            ask=ask,
            identity=self._identities[client.name],
            stream=chance.random() < ask.streamed,
            prompt=max(3, int(upstreams.spread(ask.prompt, 0.7, chance))),
            answer=int(upstreams.spread(ask.answer, 0.6, chance)) if ask.answer else 0,
            session_id=self._session(client, ask),
            address=f"{client.network}.{10 + chance.randrange(40)}",
        )

    def _session(self, client: Client, ask: Ask) -> str:
        if not ask.sessions:
            return ""
        known = self._sessions.setdefault(client.name, [])
        if not known or self._chance.random() < 0.3:
            known.append(f"chat-{self._chance.getrandbits(40):010x}")
            del known[:-12]
        return self._chance.choice(known)

    def _entry(self, asked: Asked, who: int) -> Entry:
        ruling = self._ruling(asked)
        side, queued = GATEWAY, 0.0
        if self._goes_to_legacy(asked):
            side, told = LEGACY, self._by_legacy(asked, ruling)
        elif self._is_refused(asked, who):
            told = Told(429, "rate_limit_exceeded", "policy", seconds=0.0008)
        elif not ruling.candidates:
            told = self._nobody(ruling)
        else:
            told = self._mistaken(asked, ruling) or self._walk(asked, ruling)
        if told.model is not None and told.model.provider.provider_id == "gpu-lab" and self._chance.random() < 0.2:
            queued = upstreams.spread(0.4, 0.8, self._chance)
        overhead = upstreams.spread(0.0009, 0.45, self._chance)
        tags = tuple(dict.fromkeys(asked.ask.tags))
        return Entry(
            request_id=asked.request_id,
            at=asked.at.timestamp(),
            operation=asked.ask.operation,
            identity=asked.identity,
            requested_model=asked.ask.model,
            model=told.model,
            upstream_key_id=None,
            stream=asked.stream,
            status=told.status,
            error_code=told.code,
            attempts=told.attempts,
            usage=told.usage,
            guess=told.guess,
            duration=told.seconds + queued + overhead,
            first_byte=None if told.first_byte is None else told.first_byte + queued + overhead,
            upstream=told.upstream,
            overhead=overhead,
            session_id=asked.session_id or None,
            side=side,
            ruling=None if side == LEGACY else ruling,
            asked=(asked.prompt * _BYTES_PER_TOKEN, asked.ask.max_output_tokens),
            log=told.log,
            owner=told.owner,
            tags=tags,
            address=asked.address,
            queued=queued,
            paid=told.paid,
        )

    # Deciding

    def _ruling(self, asked: Asked) -> Ruling:
        at = asked.at.timestamp()
        self._settle(at)
        key = (asked.client.name, asked.client.asks.index(asked.ask), asked.stream)
        kept = self._rulings.get(key)
        if kept is not None:
            steady = kept.decision.steady_bytes
            if steady is None or asked.prompt * _BYTES_PER_TOKEN < steady:
                return kept
        facts = RequestFacts(
            model=asked.ask.model,
            operation=asked.ask.operation,
            stream=asked.stream,
            identity=asked.identity,
            session_id=asked.session_id or None,
            require_vision=asked.ask.vision,
            images=0,
            prompt_bytes=asked.prompt * _BYTES_PER_TOKEN,
            max_output_tokens=asked.ask.max_output_tokens,
        )
        decision = decide(facts, self._snapshot, self._conditions, now=at, chance=self._chance.random())
        defaults = self._snapshot.defaults
        retries = decision.retries
        ruling = Ruling(
            decision,
            facts,
            self._snapshot,
            self._conditions,
            at,
            (),
            retries=defaults.retries if retries.attempts is None else retries.attempts,
            retries_each=retries.attempts is not None,
            retry_delay_seconds=defaults.retry_delay_seconds,
        )
        if not decision.varies:
            self._rulings[key] = ruling
        return ruling

    def _settle(self, at: float) -> None:
        """Open breakers turn half-open by time alone."""
        for route, known in self._breakers.items():
            if known.state == OPEN:
                settled = breakers.settle(known, self._settings(route), int(at * 1000))
                if settled is not known:
                    self._breakers[route], self._turned = settled, True
        if self._turned:
            self._turned = False
            routes = {**self._figures}
            for route, known in self._breakers.items():
                routes[route] = replace(
                    self._figures[route],
                    breaker=known.state,
                    retry_at=known.retry_at / 1000 or None,
                    failures=known.failures,
                    last_failure_at=known.failed_at / 1000 or None,
                    opened_at=known.opened_at / 1000 or None,
                )
            self._conditions, self._rulings = Conditions(routes), {}

    def _settings(self, route: str) -> breakers.BreakerSettings:
        return self._snapshot.by_name[route][0].provider.breaker

    def _step(self, model: ModelView, kind: str, at: float, code: str = "", lease: str = "") -> bool:
        if kind != "permit":
            self._count(model.route, kind == "good", at)
        known = self._breakers.get(model.route, WELL)
        if kind == "good" and known.is_well:
            return True
        if kind == "bad" and code not in breakers.COUNTING:
            return True
        step = Step(model.route, kind, model.provider.breaker, code=code, lease=lease)
        after, granted = breakers.after(known, step, int(at * 1000))
        if after is not known:
            self._turned = True
            if after.is_well:
                self._breakers.pop(model.route, None)
            else:
                self._breakers[model.route] = after
        return granted

    def _count(self, route: str, good: bool, at: float) -> None:
        if at < self._counts_from:
            return
        batch = Batch(int(good), int(not good), int(self._figures[route].latency_seconds * 1e6) if good else 0)
        self._fared[route] = performance.after(self._fared.get(route, performance.UNKNOWN), batch, int(at * 1000))

    # What becomes of it

    def _walk(self, asked: Asked, ruling: Ruling) -> Told:
        """The candidates one after the other, as `inference.dispatch` asks them."""
        chance, begin = self._chance, asked.at.timestamp()
        told = Told(log=None)
        last: Failure | None = None
        for place, candidate in enumerate(ruling.candidates):
            is_last = place == len(ruling.candidates) - 1
            for again in range(1 + (ruling.retries if is_last or ruling.retries_each else 0)):
                model, now = candidate.model, begin + told.seconds
                if candidate.needs_permit and not self._step(model, "permit", now, lease=asked.request_id):
                    _log(told).append(Attempt(*_names(model), "breaker_half_open", 0, "", now))
                    break
                wrong = upstreams.failure(model, asked.at, self._outages, chance)
                told.attempts += 1
                reason = "retry" if again else candidate.role
                if wrong is None:
                    self._step(model, "good", now, lease=asked.request_id)
                    self._answer(asked, told, candidate, reason, now)
                    return told
                self._step(model, "bad", now, wrong.code, lease=asked.request_id)
                attempt = Attempt(*_names(model), reason, wrong.status, wrong.code, now, wrong.seconds)
                _log(told).append(attempt)
                if wrong.code == "upstream_timeout" and chance.random() < _PAID_FAILURES:
                    used = Usage(asked.prompt, int(asked.answer * chance.random()), 0, 0)
                    told.paid = (*told.paid, Paid(model, used, wrong.status))
                told.seconds += wrong.seconds
                told.upstream += wrong.seconds
                told.model, last = model, wrong
                if wrong.seconds > 2:
                    break
                told.seconds += ruling.retry_delay_seconds
        if last is None:
            return Told(503, "no_healthy_target", "provider", seconds=0.001, log=told.log)
        told.status, told.code, told.owner = last.status, last.code, "provider"
        return told

    def _answer(self, asked: Asked, told: Told, candidate: Candidate, reason: str, now: float) -> None:
        chance, model = self._chance, candidate.model
        manner = upstreams.manner(model)
        first = upstreams.spread(manner.first_byte, 0.38, chance) + asked.prompt / 60_000
        rest = asked.answer / (manner.tokens_per_second * chance.uniform(0.75, 1.2))
        told.model, told.status, told.code, told.owner = model, 200, "", ""
        reasoning = int(asked.answer * chance.uniform(0.15, 0.9)) if "reasoning" in model.capabilities else 0
        if asked.ask.operation == "embeddings":
            reasoning = 0
        cached = 0
        if chance.random() < asked.ask.cached and asked.prompt > 1024:
            cached = int(asked.prompt * chance.uniform(0.5, 0.9)) // 128 * 128
        usage = Usage(asked.prompt, asked.answer + reasoning, cached, reasoning)
        seconds = first + rest + reasoning / manner.tokens_per_second
        streamed = asked.stream and asked.ask.operation != "embeddings"
        if streamed and chance.random() < _LEAVES:
            part = chance.random()
            seconds = first + (seconds - first) * part
            told.status, told.code, told.owner = CLIENT_LEFT, "client_disconnected", "caller"
            told.guess, told.usage = (asked.prompt, int(asked.answer * part)), None
        elif streamed and chance.random() < _BREAKS:
            part = chance.random()
            seconds = first + (seconds - first) * part
            told.code, told.owner = "upstream_broken", "provider"
            told.guess, told.usage = (asked.prompt, int(asked.answer * part)), None
        else:
            told.usage = usage
        if told.log is not None:
            told.log.append(
                Attempt(*_names(model), reason, told.status, told.code, now, seconds, first if streamed else None)
            )
        told.upstream += first if streamed else seconds
        if streamed:
            told.first_byte = told.seconds + first
        told.seconds += seconds

    def _mistaken(self, asked: Asked, ruling: Ruling) -> Told | None:
        """The caller's own mistakes, of which a provider or the gateway itself tells."""
        drawn = self._chance.random()
        for status, code, share in _MISTAKES:
            if drawn < share:
                if code == "invalid_request":
                    return Told(status, code, "caller", seconds=0.0009)
                model = ruling.candidates[0].model
                attempt = Attempt(*_names(model), ruling.candidates[0].role, status, code, asked.at.timestamp(), 0.21)
                return Told(status, code, "caller", model, 1, 0.21, upstream=0.21, log=[attempt])
            drawn -= share
        return None

    def _nobody(self, ruling: Ruling) -> Told:
        if ruling.decision.reason == "model_not_found" or not ruling.decision.dropped:
            return Told(404, "model_not_found", "caller", seconds=0.0006)
        return Told(503, "no_healthy_target", "provider", seconds=0.0007)

    def _is_refused(self, asked: Asked, who: int) -> bool:
        held = any(burst.who == who and burst.begin <= asked.at < burst.end for burst in self._bursts)
        return held and self._chance.random() < _REFUSED_IN_A_BURST

    # The side that is left behind

    def _goes_to_legacy(self, asked: Asked) -> bool:
        return asked.at < self._begin + (self._until - self._begin) * asked.client.moved

    def _by_legacy(self, asked: Asked, ruling: Ruling) -> Told:
        chance = self._chance
        model = ruling.candidates[0].model if ruling.candidates else None
        seconds = upstreams.spread(1.1, 0.5, chance) + asked.answer / 45
        if chance.random() < 0.021:
            return Told(502, "upstream_error", "provider", model, 1, upstreams.spread(2.0, 0.5, chance))
        return Told(
            model=model,
            attempts=1,
            seconds=seconds,
            upstream=seconds,
            first_byte=seconds / 2 if asked.stream else None,
            usage=Usage(asked.prompt, asked.answer),
        )


def _log(told: Told) -> list[Attempt]:
    if told.log is None:
        told.log = []
    return told.log


def _names(model: ModelView) -> tuple[str, str]:
    return model.provider.provider_id, model.model_id


def _figures(model: ModelView) -> RouteCondition:
    manner = upstreams.manner(model)
    return RouteCondition(
        calls=500, success_rate=1 - manner.failing, latency_seconds=manner.first_byte, tokens_per_byte=0.25
    )
