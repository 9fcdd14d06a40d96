"""How long clients waited for each route in the last day, from the roll-ups: what explanations tell beside the moving average."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from django.db.models import Q
from django.utils import timezone

from inference import rollup_windows
from inference.rollup_models import DURATION
from routing.rollout import GATEWAY

HOURS = 24


def tell(explanation: Mapping[str, Any]) -> None:
    """Put `p95_ms` beside each candidate of an explanation's document; None for one that served nothing."""
    candidates = explanation["candidates"]
    known = p95s((one["provider_id"], one["model_id"]) for one in candidates)
    for one in candidates:
        one["p95_ms"] = known.get((one["provider_id"], one["model_id"]))


def p95s(routes: Iterable[tuple[str, str]]) -> dict[tuple[str, str], float]:
    """Milliseconds by provider and model; those that served nothing are left out."""
    wanted = set(routes)
    if not wanted:
        return {}
    now = timezone.now()
    providers, models = {one for one, _ in wanted}, {other for _, other in wanted}
    where = Q(side=GATEWAY, provider_id__in=providers, model_id__in=models)
    found = rollup_windows.times(DURATION, now - timedelta(hours=HOURS), now, where, ["provider_id", "model_id"])
    known = {(str(provider), str(model)): times.percentile(95) for (provider, model), times in found.items()}
    return {route: p95 for route, p95 in known.items() if p95 is not None and route in wanted}
