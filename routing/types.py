"""What routing talks about: frozen values that the snapshot holds, the request states and the decision returns.

No ORM, no clock, no settings. Built by `routing.snapshot`, read by the data plane.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from providers.breaker_settings import BreakerSettings
from providers.prices import Prices as Prices
from providers.secrets import Secret
from routing.allowances import EMPTY, AllowanceIndex
from routing.policy_documents import Cache, PolicyDocument, Requirements, Retries, Timeouts

BUCKETS = 10_000
"""Of clients, wherever only a share of them is served in one way: a hundredth of a percent each."""


@dataclass(frozen=True, slots=True)
class UpstreamKey:
    """One of our secrets for a provider. `expires_at` is in epoch seconds."""

    key_id: int
    secret: Secret
    weight: int = 1
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class ProviderView:
    """A provider as the data plane sees it: everything decided that can be decided before a request comes.

    `connection` merges the type's defaults, the provider's connection_params and the rows of this environment, in that
    order of precedence from low to high; sensitive values are `Secret`. `fingerprint` changes when anything that a
    backend was built from changes, so connection pools outlive unrelated edits.
    """

    provider_id: str
    provider_type: str
    backend: str
    """Dotted path of the backend class."""
    runs_in: str
    """`web` or `worker`."""
    priority: int
    connection: Mapping[str, Any]
    settings: Mapping[str, Any]
    keys: tuple[UpstreamKey, ...]
    fingerprint: str
    display_name: str = ""
    lacks_key: bool = False
    """It has keys, but none that may be used here and now: a call without one would only carry the prompt away."""
    local: bool = False
    """What is sent there stays in this installation's own hands; see `providers.locality`."""
    data_tags: frozenset[str] = frozenset()
    """Kinds of data that it may get."""
    breaker: BreakerSettings = field(default_factory=BreakerSettings)
    operations: frozenset[str] | None = None
    """What its type can pass on; None rules nothing out."""


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model at one provider, ready to be called."""

    provider: ProviderView
    model_id: str
    display_name: str
    model_type: str
    context_window: int | None
    max_tokens: int | None
    dimension: int | None
    capabilities: frozenset[str]
    tasks: frozenset[str]
    parameters: Mapping[str, Any]
    prices: Prices
    created: int
    """Epoch seconds, as `/v1/models` shows it."""
    cost_tier: str = "MEDIUM"
    auto_disabled: str = ""
    """Why the gateway itself took it out of service; empty when it did not."""
    route: str = field(init=False, compare=False)
    """`provider/model`: what the model is called wherever something is known of it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "route", f"{self.provider.provider_id}/{self.model_id}")

    @property
    def upstream_model_id(self) -> str:
        """The name the upstream knows: parameter `upstream_model_id`, else the model id."""
        return str(self.parameters.get("upstream_model_id") or self.model_id)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls: what admission found for a client key."""

    key_id: int
    prefix: str
    name: str
    scopes: frozenset[str]
    allowed_models: tuple[str, ...] | None = None
    """Patterns of model names; None allows all."""
    allowed_policies: tuple[str, ...] | None = None
    """Patterns of policy names; None allows all that its models allow. Models it may then name only by `allowed_models`."""
    allowed_providers: tuple[str, ...] | None = None
    """Patterns of provider ids, which hold for whatever a policy chooses, too; None allows all."""
    team_id: int | None = None
    tags: tuple[str, ...] = ()
    """Put on every request of the key."""
    role: str = ""
    """`free`, `user`, `pro` or `premium`: what budgets by role are multiplied by; empty counts as `user`."""
    captures_content: bool = False
    """Prompts and answers of its requests are kept, redacted."""

    def may(self, scope: str) -> bool:
        """`admin` holds every scope."""
        return scope in self.scopes or "admin" in self.scopes


@dataclass(frozen=True, slots=True)
class ClientKeyView:
    """A client key as admission checks it; `digest` is the HMAC of the whole key under the pepper `pepper_id`."""

    identity: Identity
    digest: bytes
    pepper_id: str
    enabled: bool
    expires_at: float | None
    previous_digest: bytes = b""
    previous_pepper_id: str = ""
    previous_until: float | None = None
    """Epoch second until which the key before the last rotation is good as well."""
    revoked: bool = False
    team_enabled: bool = True
    networks: tuple[IPv4Network | IPv6Network, ...] | None = None
    """Where it may come from; None is anywhere."""

    def has_expired(self, now: float) -> bool:
        return self.expires_at is not None and self.expires_at <= now

    def refusal(self, now: float) -> str:
        """Why it lets nobody in: revoked, disabled, team_disabled or expired; empty when it does."""
        if self.revoked:
            return "revoked"
        if not self.enabled:
            return "disabled"
        if not self.team_enabled:
            return "team_disabled"
        return "expired" if self.has_expired(now) else ""


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """What routing may know of a request."""

    model: str = ""
    """A model id, `provider/model`, a policy's name or `kind/name`; empty lets the gateway choose."""
    operation: str = "chat"
    """`chat`, `completions` or `embeddings`."""
    stream: bool = False
    provider_id: str | None = None
    """A pin: only this provider may serve."""
    identity: Identity | None = None
    session_id: str | None = None
    preferred_model: str | None = None
    """Asked first when it may serve at all."""
    require_vision: bool = False
    images: int = 0
    max_cost: Decimal | None = None
    """USD that the estimate may reach."""
    prompt_bytes: int = 0
    """Of the prompt as it was sent, pictures left out: what its tokens are estimated from."""
    prompt_tokens: int | None = None
    """Of a long prompt, as guessed from its text, which tells more than its length; see `routing.estimates.tokens_in`."""
    input_tokens: int | None = None
    """When they are known, the estimate is not made."""
    max_output_tokens: int | None = None
    """Of each answer."""
    choices: int = 1
    """How many answers are wanted."""
    task: str = ""
    capabilities: frozenset[str] = frozenset()
    """Demanded by the request, beside what the policy demands."""
    max_cost_tier: str = ""
    local_only: bool = False
    data_tags: frozenset[str] = frozenset()
    strategy: str = ""
    """In place of the policy's own; for trying out."""


@dataclass(frozen=True, slots=True)
class RouteCondition:
    """What was seen of a route lately, by all processes. Times in epoch seconds, spans in seconds."""

    breaker: str = "closed"
    """`closed`, `open` or `half_open`."""
    retry_at: float | None = None
    """When an open breaker turns half-open."""
    failures: int = 0
    """In a row."""
    last_failure_at: float | None = None
    opened_at: float | None = None
    keys_back_at: float | None = None
    """All keys of the provider are exhausted until then."""
    calls: int = 0
    success_rate: float | None = None
    latency_seconds: float | None = None
    """Moving average of the whole reply, of a stream to its first byte."""
    recent_failures: int = 0
    """0 to 10: raised by a failure, lowered by a success."""
    tokens_per_byte: float | None = None
    """As the upstream counted prompts of known length; see `routing.estimates`."""


UNSEEN = RouteCondition()


@dataclass(frozen=True, slots=True)
class Conditions:
    """The state of all routes at one moment, by route; a route that is missing is `UNSEEN`. Replaced, never changed, but for
    `in_flight`, which is a live count of this process."""

    routes: Mapping[str, RouteCondition] = field(default_factory=dict)
    in_flight: Mapping[str, int] = field(default_factory=dict)

    def of(self, route: str) -> RouteCondition:
        return self.routes.get(route, UNSEEN)


NOMINAL = Conditions()
"""Nothing is known to be wrong."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that may serve, and how it came to its place."""

    model: ModelView
    via: str = ""
    """The logical model or policy through which it was reached, where that is not the one asked for."""
    role: str = "target"
    """`override`, `preferred`, `target` or `fallback`."""
    weight: int = 1
    order: int = 0
    """Its place in the configuration: what breaks the last tie."""
    group: int | None = None
    """Which of the policy's targets it came from, where several models came from one; they share its weight."""
    estimate: Decimal | None = None
    """USD that this request would cost here; None is unknown."""
    score: float | None = None
    parts: tuple[tuple[str, float], ...] = ()
    """What the score is made of, by name."""
    needs_permit: bool = False
    """Its breaker is half-open: whoever calls it has to be let through first."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A model that could not serve, and why; `reason` is a code, `detail` a sentence for people."""

    route: str
    reason: str
    detail: str
    back_at: float | None = None
    """Epoch second from which the reason will not hold any more, where that is known."""
    code: str = ""
    """Of a budget that is used up: the code that callers know its period by."""


@dataclass(frozen=True, slots=True)
class RouteDecision:
    """The order in which candidates are tried, and every one that was left out."""

    candidates: tuple[Candidate, ...]
    dropped: tuple[Dropped, ...] = ()
    unnamed: int = 0
    """How many further models, of a pool of very many, are neither candidates nor named as dropped."""
    reason: str = ""
    nearest: tuple[str, ...] = ()
    """Names like the unknown one, when no model has the name."""
    policy: str = ""
    """The name of the policy that decided; empty when a model was named or any would do."""
    version: int = 0
    bucket: int | None = None
    """Of `BUCKETS`, when a share of the clients gets another version of the policy."""
    strategy: str = ""
    confidence: float = 1.0
    notices: tuple[str, ...] = ()
    """What the caller should be told: a preferred model that does not exist, an unknown name that was mapped."""
    retries: Retries = field(default_factory=Retries)
    timeouts: Timeouts = field(default_factory=Timeouts)
    cache: Cache = field(default_factory=Cache)
    steady_bytes: int | None = None
    """The decision is the same for every prompt shorter than this; None when length does not matter."""
    varies: bool = False
    """It depends on more than names, keys and conditions (chance, session, cost, load): not to be used for another request."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What filters and strategies look at beside the models. `chance` is a number in [0, 1) that the caller drew."""

    facts: RequestFacts
    requirements: Requirements
    """The policy's and the request's together."""
    conditions: Conditions
    now: float
    chance: float = 0.0
    max_cost: Decimal | None = None
    """USD: the lowest of the request's, the policy's and the gateway's."""
    barred_types: frozenset[str] = frozenset()
    allowed_by_name: bool = False
    """The client key is allowed the policy, and with it whatever the policy chooses."""
    barred_policy: str = ""
    """The policy that was asked for, when the client key is limited to other ones."""


@dataclass(frozen=True, slots=True)
class PolicyTarget:
    """A model that a policy may choose, with the policy's targets resolved."""

    model: ModelView
    via: str = ""
    weight: int = 1
    order: int = 0
    group: int | None = None
    """Which target of the document it came from; its weight is that target's, for all of the group together."""


@dataclass(frozen=True, slots=True)
class PolicyVersionView:
    """One version of a policy, resolved against the registry of the snapshot."""

    number: int
    document: PolicyDocument
    targets: tuple[PolicyTarget, ...]
    fallbacks: tuple[PolicyTarget, ...]
    """The whole chain, each model once; cycles end."""
    chains: Mapping[str, tuple[PolicyTarget, ...]] = field(default_factory=dict)
    """By logical model: what is asked when that one was chosen and failed, before anything else."""


@dataclass(frozen=True, slots=True)
class OverrideView:
    target: str
    targets: tuple[PolicyTarget, ...]
    expires_at: float | None = None
    """Epoch seconds."""


@dataclass(frozen=True, slots=True)
class PolicyView:
    """A policy as requests meet it. `share` of `BUCKETS` get the `candidate` version."""

    name: str
    kind: str
    active: PolicyVersionView
    description: str = ""
    candidate: PolicyVersionView | None = None
    share: int = 0
    salt: bytes = b""
    override: OverrideView | None = None
    stands_for: str = ""
    """The policy that this one is only another name of: it decides in this one's place."""


@dataclass(frozen=True, slots=True)
class RoutingDefaults:
    """What holds where a policy says nothing."""

    max_cost: Decimal | None = None
    fallback_enabled: bool = True
    retries: int = 1
    retry_delay_seconds: float = 0.1
    default_policy: str = ""
    unknown_model: str = "refuse"
    """`refuse`, or `default` to serve unknown names by the default policy, saying so."""
    barred_types: frozenset[str] = frozenset()
    """Provider types that the environment switched off."""


@dataclass(frozen=True, slots=True)
class RolloutView:
    """The parallel run with a legacy system, when one is configured: who is served there, and how it is reached."""

    legacy_base_url: str
    gateway_enabled: bool
    """Off sends everything that the legacy system knows to it."""
    share: int
    """Buckets served here: 0 to `BUCKETS`."""
    salt: bytes
    digest_key: bytes
    """Under it, clients with credentials that are not ours are told apart without being known."""
    allow_private: bool = True
    verify_tls: bool = True
    connect_seconds: float = 5.0
    reply_seconds: float = 600.0
    idle_seconds: float = 60.0
    headers: tuple[tuple[str, Secret], ...] = ()
    """Sent to the legacy side with every request, in place of the client's of the same name."""
    own_cookies: frozenset[bytes] = frozenset()
    """The admin's session and the like: not for the legacy side to see or to set."""
    extra_paths: tuple[str, ...] = ()
    """Path prefixes beyond the known ones that the share decides on."""
    shadow_share: int = 0
    """Buckets of generating requests of which the other side gets a copy: 0 to `BUCKETS`."""
    shadow_daily_cap: Decimal = Decimal(0)
    """Money that the copies of a day may cost."""

    @property
    def parts(self) -> bool:
        """Whether any request goes to the legacy side."""
        return not self.gateway_enabled or self.share < BUCKETS


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The registry at one revision, immutable; replaced by one reference."""

    revision: int
    built_at: float
    environment: str
    providers: Mapping[str, ProviderView] = field(default_factory=dict)
    models: tuple[ModelView, ...] = ()
    by_name: Mapping[str, tuple[ModelView, ...]] = field(default_factory=dict)
    """`model_id` and `provider_id/model_id` to the models that answer to it, best priority first."""
    client_keys: Mapping[str, ClientKeyView] = field(default_factory=dict)
    """By prefix."""
    imported_keys: Mapping[bytes, str] = field(default_factory=dict)
    """Prefixes of keys that another system issued, by their digests."""
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    """Whose X-Forwarded-For is believed."""
    peppers: Mapping[str, bytes] = field(default_factory=dict)
    policies: Mapping[str, PolicyView] = field(default_factory=dict)
    """By name, and by `kind/name`."""
    defaults: RoutingDefaults = field(default_factory=RoutingDefaults)
    out_of_service: Mapping[str, tuple[Dropped, ...]] = field(default_factory=dict)
    """Models that are switched off, by the names that would mean them."""
    stale_at: float | None = None
    """Epoch second from which the same rows mean something else: a price begins, an override ends."""
    rollout: RolloutView | None = None
    """None without a legacy side: the gateway serves everything."""
    allowances: AllowanceIndex = EMPTY
    """Limits and budgets."""
    notes: tuple[str, ...] = ()
    """What was left out while building, such as a key that does not decrypt: sentences without secrets."""
    memory: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """What was worked out from the rest once and is true as long as the snapshot is; see `routing.shortlists`."""

    def each_policy(self) -> list[PolicyView]:
        """Every policy once, though it is found by `kind/name` too."""
        return [policy for name, policy in self.policies.items() if name == policy.name]
