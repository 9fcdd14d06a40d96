"""Is a provider well? A walk in stages: DNS, TCP, TLS, auth, list of models, one token, one stream.

Each stage has its time and, when it fails, the upstream's own words. A fatal stage skips the later ones; a list of models
that fails is only a warning when generation works. Generation is asked for through a callable that the layer above
registers, so that a probe goes the way of real traffic; it happens when it costs nothing, when the provider allows paid
probes, or when a person asked for it. A probe writes its result and nothing else: no revision, no audit entry.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from django.conf import settings
from django.utils import timezone

from providers import capabilities, dialling, discovery, holding, provider_types, upstream
from providers.addresses import ParsedURL
from providers.models import ApiKey, ProbeResult, Provider, ProviderModel

STAGES = ("dns", "tcp", "tls", "auth", "list_models", "one_token", "one_stream")
KEPT_PER_PROVIDER = 200
ASKED_BY_PEOPLE = frozenset({"admin", "api"})
_NO_SUCH_LIST = frozenset({404, 405, 501})


class Generation(Protocol):
    """Ask a model for one token (an embedding model for one vector). Raises an exception with `message` and `detail`."""

    def __call__(self, provider_id: str, model_id: str, stream: bool) -> Mapping[str, Any]:
        """`text`, `first_token_ms` and `total_ms`."""
        ...


@dataclass(frozen=True, slots=True)
class Stage:
    """`status` is ok, failed, skipped or warning."""

    name: str
    status: str
    ms: float = 0.0
    message: str = ""


_generation: Generation | None = None
_listeners: list[Callable[[ProbeResult], None]] = []


def register_generation(generation: Generation | None) -> None:
    """Say how this process generates; called at start-up by the layer that can."""
    global _generation
    _generation = generation


def on_result(listener: Callable[[ProbeResult], None]) -> None:
    """Call `listener` with each result once it is stored. Registered at start-up, from above."""
    if listener not in _listeners:
        _listeners.append(listener)


def probe(provider: Provider, *, trigger: str = "schedule", generate: bool | None = None) -> ProbeResult:
    """Walk the stages now and store what they found.

    `trigger` is schedule, admin or api. `generate=True` of the latter two asks for a token even where it is billed,
    `False` for none anywhere; None generates where it is free or allowed.
    """
    started = time.perf_counter()
    walk = _Walk(provider, may_generate=_may_generate(provider, trigger, generate))
    walk.run()
    stages = [walk.stages[name] for name in STAGES]
    result = ProbeResult.objects.create(
        provider=provider,
        at=timezone.now(),
        healthy=all(stage.status != "failed" for stage in stages),
        trigger=trigger,
        duration_ms=_milliseconds_since(started),
        model_tested=walk.model_tested,
        message=_summary(stages),
        stages=[asdict(stage) for stage in stages],
    )
    prune(provider)
    for listener in _listeners:
        listener(result)
    return result


def prune(provider: Provider) -> int:
    """Forget all but the last results; returns how many went."""
    oldest = provider.probes.order_by("-id").values_list("id", flat=True)[KEPT_PER_PROVIDER - 1 : KEPT_PER_PROVIDER]
    kept_from = next(iter(oldest), None)
    return provider.probes.filter(id__lt=kept_from).delete()[0] if kept_from else 0


def model_to_test(provider: Provider) -> tuple[ProviderModel | None, str]:
    """The enabled model to ask and the operation: chat before completions before embeddings, the cheapest of its kind."""
    rows = sorted(provider.models.filter(enabled=True), key=_cheapest_first)
    for operation in ("chat", "completions", "embeddings"):
        for row in rows:
            declared = capabilities.canonical(row.capabilities if isinstance(row.capabilities, list) else ())
            if capabilities.serves(row.model_type, declared, operation):
                return row, operation
    return None, ""


def _cheapest_first(row: ProviderModel) -> tuple[bool, Any, str]:
    return row.output_cost_per_million is None, row.output_cost_per_million or 0, row.model_id


def _may_generate(provider: Provider, trigger: str, wish: bool | None) -> str:
    """Empty when a token may be asked for, else the reason why not."""
    kind = provider_types.find(provider.provider_type)
    if wish is False:
        return "not asked for"
    if kind is None or kind.free or provider.allow_paid_probes or (wish and trigger in ASKED_BY_PEOPLE):
        return ""
    return "a call may be billed: allow paid probes, or ask for it in the test"


class _Fatal(Exception):
    """The stage failed and the later ones make no sense."""


class _Walk:
    """One probe under way. A stage that was never reached is skipped, with the reason of the one that stopped the walk."""

    def __init__(self, provider: Provider, *, may_generate: str) -> None:
        self.provider = provider
        self.stages: dict[str, Stage] = {}
        self.model_tested = ""
        self._why_not_generate = may_generate
        self._list_failure = ""
        self._generated = False

    def run(self) -> None:
        try:
            facts = upstream.load(self.provider)
        except upstream.UnusableProvider as error:
            self._put("dns", "failed", message=str(error))
            self._skip_rest("the configuration cannot be used")
            return
        try:
            if discovery.runs_here(facts):
                self._look_here()
            else:
                self._reach(facts)
            self._generate(facts)
        except _Fatal as failure:
            self._skip_rest(str(failure))
        self._judge_the_list()
        self._skip_rest("")

    # What is done

    def _look_here(self) -> None:
        for name in ("dns", "tcp", "tls", "auth"):
            self._put(name, "skipped", message="runs here")
        with self._stage("list_models", fatal="") as said:
            said.append(_count(discovery.offered(self.provider)))

    def _reach(self, facts: upstream.Upstream) -> None:
        with self._stage("dns", fatal="the address cannot be used") as said:
            url = dialling.address_of(facts)
            if dialling.proxy_of(facts):
                addresses = []
            else:
                addresses = dialling.resolve(url, allow_private=dialling.may_dial_private(facts))
                said.append(", ".join(addresses[:4]))
        if not addresses:
            for name in ("dns", "tcp", "tls"):
                self._put(name, "skipped", message="the provider's proxy does it")
            self._ask_for_models(facts, url, None)
            return
        with self._stage("tcp", fatal="there is no connection") as said:
            connection, address = dialling.connect(url, addresses)
            said.append(f"{address} port {url.port}")
        with connection:
            if url.scheme == "https":
                with self._stage("tls", fatal="TLS failed") as said:
                    said.append(dialling.handshake(connection, url, dialling.tls_context(facts)))
            else:
                self._put("tls", "skipped", message="plain HTTP")
        self._ask_for_models(facts, url, address)

    def _ask_for_models(self, facts: upstream.Upstream, url: ParsedURL, address: str | None) -> None:
        if facts.kind.needs_key and not facts.keys:
            self._put("auth", "failed", message=why_no_key(self.provider, facts))
            raise _Fatal("there is no key")
        started = time.perf_counter()
        try:
            facts = dialling.signed_in(facts, address)
            with dialling.model_list(facts, address) as response:
                waited = _milliseconds_since(started)
                started = time.perf_counter()
                if response.status_code == 401:
                    self._refuse_key(facts, response, waited)
                models = dialling.read_models(response, facts)
        except dialling.SignInFailed as error:
            self._put("auth", "failed", _milliseconds_since(started), str(error))
            raise _Fatal("the sign-in was refused") from error
        except dialling.DialFailed as error:
            self._list_failure = str(error)
            status = getattr(error, "status", 0)
            harmless = status in _NO_SUCH_LIST
            self._put("list_models", "warning" if harmless else "failed", _milliseconds_since(started), str(error))
            return
        self._put("auth", "ok", waited, "the key was accepted" if facts.keys else "no key is needed to list models")
        self._put(
            "list_models",
            "ok",
            _milliseconds_since(started),
            f"{len(models)} models" if len(models) != 1 else "1 model",
        )

    def _refuse_key(self, facts: upstream.Upstream, response: Any, waited: float) -> None:
        try:
            dialling.read_models(response, facts)
        except dialling.DialFailed as error:
            hint = "" if facts.keys else " No key was sent: there is none for this environment."
            self._put("auth", "failed", waited, f"{error}{hint}")
        raise _Fatal("the key was refused")

    def _generate(self, facts: upstream.Upstream) -> None:
        reason = self._why_not_generate
        if not self.provider.enabled:
            reason = "the provider is disabled: only its connection was tested"
        row, operation = (None, "") if reason else model_to_test(self.provider)
        if not reason and row is None:
            reason = "no enabled model: discover models, or add one"
        if not reason and _generation is None:
            reason = "this process does not generate"
        if reason or row is None:
            self._skip_rest(reason, only=("one_token", "one_stream"))
            return
        self.model_tested = row.model_id
        self._ask_model("one_token", facts, row, stream=False, operation=operation)
        if operation == "embeddings":
            self._put("one_stream", "skipped", message="embeddings are not streamed")
        elif self.stages["one_token"].status == "failed":
            self._put("one_stream", "skipped", message="the whole answer failed already")
        else:
            self._ask_model("one_stream", facts, row, stream=True, operation=operation)

    def _ask_model(
        self, name: str, facts: upstream.Upstream, row: ProviderModel, *, stream: bool, operation: str
    ) -> None:
        assert _generation is not None
        started = time.perf_counter()
        try:
            answer = _generation(self.provider.provider_id, row.model_id, stream)
        except Exception as error:  # whatever goes wrong in generating is the finding
            text = str(getattr(error, "detail", "") or getattr(error, "message", "") or error or type(error).__name__)
            text = dialling.quoted(f"{row.model_id}: {text}", facts.secrets())
            self._put(name, "failed", _milliseconds_since(started), text)
            if getattr(error, "code", "") == "upstream_auth_failed":
                self._put("auth", "failed", self._ms("auth"), text)
            return
        self._generated = True
        self._put(
            name,
            "ok",
            float(answer.get("total_ms") or _milliseconds_since(started)),
            _answered(row, answer, operation, stream),
        )

    def _judge_the_list(self) -> None:
        """A list that fails is a warning when generation works; what generation proves of the key counts."""
        listing = self.stages.get("list_models")
        if listing and listing.status == "failed" and self._generated:
            self._put("list_models", "warning", listing.ms, f"{listing.message} (generation works)")
        if "auth" not in self.stages and self._list_failure:
            proven = "the key was accepted by a generation" if self._generated else "neither proven nor refuted"
            self._put("auth", "ok" if self._generated else "skipped", message=proven)

    # Book-keeping

    @contextmanager
    def _stage(self, name: str, *, fatal: str) -> Iterator[list[str]]:
        """Time a stage; what is appended is its message. A failure ends the walk for the reason `fatal`, if one is given."""
        said: list[str] = []
        started = time.perf_counter()
        try:
            yield said
        except discovery.NowhereToLook as error:
            self._put(name, "skipped", message=str(error))
            return
        except (dialling.DialFailed, discovery.DiscoveryFailed) as error:
            self._put(name, "failed", _milliseconds_since(started), str(error))
            if fatal:
                raise _Fatal(fatal) from error
            return
        self._put(name, "ok", _milliseconds_since(started), "; ".join(said))

    def _put(self, name: str, status: str, ms: float = 0.0, message: str = "") -> None:
        self.stages[name] = Stage(name, status, round(ms, 2), message)

    def _ms(self, name: str) -> float:
        return self.stages[name].ms if name in self.stages else 0.0

    def _skip_rest(self, reason: str, only: tuple[str, ...] = STAGES) -> None:
        for name in only:
            if name not in self.stages:
                self._put(name, "skipped", message=reason)


def _answered(row: ProviderModel, answer: Mapping[str, Any], operation: str, stream: bool) -> str:
    if operation == "embeddings":
        return f"{row.model_id} made an embedding: this provider has no chat model enabled"
    first = answer.get("first_token_ms")
    return (
        f"{row.model_id}, first token after {first:.0f} ms"
        if stream and first is not None
        else f"{row.model_id} answered"
    )


def why_no_key(provider: Provider, facts: upstream.Upstream) -> str:
    """What stands between this provider and a usable key."""
    if facts.notes:
        return "; ".join(facts.notes)
    now, environment = timezone.now(), settings.GATEWAY_ENVIRONMENT
    rows: list[ApiKey] = list(provider.api_keys.all())
    here = [row for row in rows if row.environment == environment]
    if not rows:
        return "There is no key: add one."
    if not here:
        others = ", ".join(sorted({row.environment for row in rows}))
        return f"There is no key for the environment {environment!r}, only for: {others}."
    if told := holding.warning(here):
        return told
    expired = sum(1 for row in here if row.expires_at and row.expires_at <= now)
    disabled = sum(1 for row in here if not row.enabled)
    return f"No key of the environment {environment!r} is usable: {expired} expired, {disabled} disabled."


def _summary(stages: list[Stage]) -> str:
    """Why the provider is as it is: the first failure, else the first warning."""
    for status in ("failed", "warning"):
        for stage in stages:
            if stage.status == status:
                return f"{stage.name}: {stage.message}"
    return ""


def _count(offers: list[discovery.Offered]) -> str:
    return "1 model" if len(offers) == 1 else f"{len(offers)} models"


def _milliseconds_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
