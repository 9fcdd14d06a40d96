"""Which side serves a client while two systems run in parallel: stable buckets, and the paths that the share decides on.

A client's bucket depends on the roll-out's salt and on what the client is known by, and on nothing else. Whoever is below the
share is served here. So a client always comes to the same side, a larger share only ever moves clients to the gateway, and a
smaller one only back.

Two systems have two registries. A write that reached one of them by chance would be missing in the other, so the share never
decides on the paths of the old registry: they are served here, or, with the kill switch thrown, all by the legacy side.

Pure: no clock, no chance, no settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from hashlib import blake2b

from routing.types import BUCKETS as BUCKETS
from routing.types import RolloutView

GATEWAY = "gateway"
LEGACY = "legacy"
SHADOW = "shadow"
"""No side: a copy that the gateway served to compare, and that no client asked for."""
PROBE = "probe"
"""No side either: what the gateway itself asked a provider to find out whether it is well. It costs, and is no traffic."""

GENERATION_PATHS = ("/v1", "/generate", "/api/llm/gateway")
"""What clients generate by, here and at the legacy side, with everything below: decided by the share."""

REGISTRY_PATHS = ("/providers", "/api/providers", "/api/llm/gateway/config")
"""Where the old registry is written, with everything below: decided by the kill switch alone."""

SALT_BYTES = 16


def buckets_below(percentage: Decimal) -> int:
    """How many buckets a share in percent has; what is smaller than a hundredth of a percent is cut off."""
    return min(BUCKETS, max(0, int(percentage * BUCKETS / 100)))


def bucket(salt: bytes, identity: bytes) -> int:
    """0 to 9999, evenly spread. `identity` is whatever the client is known by; it cannot be read back from the bucket."""
    return int.from_bytes(blake2b(identity, digest_size=8, key=salt).digest(), "little") % BUCKETS


def side(rollout: RolloutView, identity: bytes) -> str:
    """`GATEWAY` or `LEGACY`, for a request on a path that the share decides on."""
    if not rollout.gateway_enabled:
        return LEGACY
    if rollout.share >= BUCKETS:
        return GATEWAY
    return GATEWAY if bucket(rollout.salt, identity) < rollout.share else LEGACY


def is_below(path: str, prefixes: Sequence[str]) -> bool:
    """Whether a path is one of the prefixes or lies under one: `/generate` and `/generate/x`, not `/generated`."""
    return any(path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in ("", "/") for prefix in prefixes)


def is_shared(rollout: RolloutView, path: str) -> bool:
    """Whether the share decides on a path."""
    return not is_switched(path) and (is_below(path, GENERATION_PATHS) or is_below(path, rollout.extra_paths))


def is_switched(path: str) -> bool:
    """Whether the kill switch alone decides on a path."""
    return is_below(path, REGISTRY_PATHS)
