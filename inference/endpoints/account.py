"""How a reply came about, for clients that ask for it in its body: OpenAI's libraries drop headers on the way to their users."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import orjson

from inference.attempts import Trail


def added_to(body: bytes, trail: Trail, cost: Decimal | None, *, why: bool) -> bytes:
    """The body with a member `x_gateway`; one that is no object stays as it is. `why` adds the decision's reason."""
    end = body.rstrip()
    if not end.endswith(b"}"):
        return body
    told = orjson.dumps({"x_gateway": _told(trail, cost, why)})
    rest = end[:-1].rstrip()
    comma = b"" if rest.endswith(b"{") else b","
    return rest + comma + told[1:]


def _told(trail: Trail, cost: Decimal | None, why: bool) -> dict[str, Any]:
    told: dict[str, Any] = {
        "route": trail.route,
        "policy": None,
        "attempts": trail.attempts,
        "fallback": trail.fallback,
        "cost": None if cost is None else float(cost),
        "currency": None if trail.model is None else trail.model.prices.currency,
    }
    if trail.ruling is None:
        return told
    decision = trail.ruling.decision
    if decision.policy:
        told["policy"] = f"{decision.policy}@{decision.version}"
    if decision.notices:
        told["notices"] = list(decision.notices)
    if why:
        told |= {"reason": decision.reason, "strategy": decision.strategy, "confidence": decision.confidence}
    return told
