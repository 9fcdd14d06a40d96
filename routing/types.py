"""What routing talks about: frozen values that the snapshot holds, the request states and the decision returns.

No ORM, no clock, no settings. Built by `routing.snapshot`, read by the data plane.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from providers.secrets import Secret


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


@dataclass(frozen=True, slots=True)
class Prices:
    """Money per million tokens; None is unknown, never zero."""

    input_cost_per_million: Decimal | None = None
    output_cost_per_million: Decimal | None = None
    cached_input_cost_per_million: Decimal | None = None
    currency: str = "USD"


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

    @property
    def route(self) -> str:
        return f"{self.provider.provider_id}/{self.model_id}"

    @property
    def upstream_model_id(self) -> str:
        """The name the upstream knows: parameter `upstream_model_id`, else the model id."""
        return self.parameters.get("upstream_model_id") or self.model_id


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls: what admission found for a client key."""

    key_id: int
    prefix: str
    name: str
    scopes: frozenset[str]
    allowed_models: tuple[str, ...] | None = None
    """Patterns of model names; None allows all."""

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

    def has_expired(self, now: float) -> bool:
        return self.expires_at is not None and self.expires_at <= now


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """What routing may know of a request."""

    model: str
    operation: str
    """`chat`, `completions` or `embeddings`."""
    stream: bool = False
    provider_id: str | None = None
    """A pin: only this provider may serve."""
    identity: Identity | None = None
    session_id: str | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    model: ModelView


@dataclass(frozen=True, slots=True)
class Dropped:
    """A model that could not serve, and why; `reason` is a code, `detail` a sentence for people."""

    route: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class RouteDecision:
    """The order in which candidates are tried, and every one that was left out."""

    candidates: tuple[Candidate, ...]
    dropped: tuple[Dropped, ...] = ()
    reason: str = ""
    nearest: tuple[str, ...] = ()
    """Names like the unknown one, when no model has the name."""


@dataclass(frozen=True, slots=True)
class RolloutView:
    """The parallel run with a legacy system, when one is configured: who is served there, and how it is reached."""

    legacy_base_url: str
    gateway_enabled: bool
    """Off sends everything that the legacy system knows to it."""
    share: int
    """Buckets served here: 0 to 10,000."""
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
    """Buckets of generating requests of which the other side gets a copy: 0 to 10,000."""
    shadow_daily_cap: Decimal = Decimal(0)
    """Money that the copies of a day may cost."""

    @property
    def parts(self) -> bool:
        """Whether any request goes to the legacy side."""
        return not self.gateway_enabled or self.share < 10_000


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
    peppers: Mapping[str, bytes] = field(default_factory=dict)
    rollout: RolloutView | None = None
    """None without a legacy side: the gateway serves everything."""
    notes: tuple[str, ...] = ()
    """What was left out while building, such as a key that does not decrypt: sentences without secrets."""
