"""How an explanation looks on a page: the document's values as rows with tones, figures and sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import groupby
from typing import Any

from django.utils.dateparse import parse_datetime
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from inference.refusing import PASSING
from providers import cells, provider_tabs
from providers.models import Provider
from providers.pricing import USD
from routing import strategies

BUCKETS = 10_000
NAMED = 8
"""Models that are named for each reason before the others are folded away."""

_KEYLESS = "no_usable_key"
_CURED_BY_WAITING = PASSING - {_KEYLESS}
_ROLES = {"override": "override", "preferred": "preferred", "target": "", "fallback": "fallback"}
_BREAKERS = {"closed": "good", "half_open": "warn", "open": "bad"}


@dataclass(frozen=True, slots=True)
class CandidateRow:
    place: int
    provider_id: str
    model_id: str
    route: str
    via: str
    role: str
    reason: str
    score: str
    parts: str
    cost: Any
    cost_width: str
    """Percent of the dearest candidate's cost, for a bar; empty where there is none."""
    tier: str
    breaker: SafeString
    latency: Any
    """p95 of the last day, else the moving average."""
    latency_is: str
    success: str
    keys: str
    permit: bool


@dataclass(frozen=True, slots=True)
class DroppedGroup:
    """All that were left out for one reason; `passes` tells that waiting may cure it, `mends` are providers that need somebody, each
    with the page for it."""

    reason: str
    passes: bool
    count: int
    rows: list[dict[str, Any]]
    folded: list[dict[str, Any]]
    mends: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Stop:
    """A step on the way from the request to who serves it."""

    label: str
    value: str
    hint: str = ""
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Looks:
    """One explanation. `facts` are pairs of a label and a value, `path` the steps to the choice."""

    reason: str
    served: bool
    facts: list[tuple[str, Any]]
    notices: list[str]
    nearest: list[str]
    candidates: list[CandidateRow]
    dropped: list[DroppedGroup]
    left_out: Mapping[str, int]
    demands: list[str] = field(default_factory=list)
    bucket: dict[str, Any] | None = None
    asked: list[tuple[str, Any]] = field(default_factory=list)
    path: list[Stop] = field(default_factory=list)


def looks(told: Mapping[str, Any]) -> Looks:
    return Looks(
        reason=_sentence(told["reason"]),
        served=bool(told["candidates"]),
        facts=_facts(told),
        notices=[_sentence(notice) for notice in told["notices"]],
        nearest=list(told["nearest"]),
        candidates=_candidates(told["candidates"]),
        dropped=_dropped(told["dropped"]),
        left_out=told["left_out"],
        demands=_demands(told.get("demands", {})),
        bucket=_bucket(told["bucket"]),
        asked=[(name, _plain(value)) for name, value in told.get("request", {}).items()],
        path=_path(told),
    )


def _path(told: Mapping[str, Any]) -> list[Stop]:
    """Asked, decided by, narrowed down, put in order, served: each in a word."""
    asked, policy, bucket = told.get("request", {}), told["policy"], told["bucket"]
    stops = [Stop(_("Asked for"), str(asked.get("model") or _("any model")), str(asked.get("operation", "")))]
    if policy is not None:
        name = _("%(name)s · version %(number)s") % {"name": policy["name"], "number": policy["version"]}
        stops.append(Stop(policy["kind"].capitalize(), name, _hint_of_bucket(bucket)))
        if policy["override"]:
            until = _until(policy["override"]["expires_at"])
            stops.append(Stop(_("Overridden by"), policy["override"]["target"], until.strip(), "warn"))
    fit = len(told["candidates"]) + told["left_out"]["candidates"]
    out = len(told["dropped"]) + told["left_out"]["dropped"]
    left = ngettext("%s left out", "%s left out", out) % _grouped(out) if out else _("nobody left out")
    stops.append(Stop(_("May serve"), _grouped(fit), left, "" if fit else "bad"))
    if told["strategy"] and fit > 1:
        stops.append(Stop(_("In order"), strategies.find(told["strategy"]).label))
    if told["candidates"]:
        first = told["candidates"][0]
        stops.append(Stop(_("First"), first["model_id"], first["provider_id"], "good"))
    else:
        stops.append(Stop(_("First"), _("nobody"), "", "bad"))
    return stops


def _hint_of_bucket(bucket: Mapping[str, Any] | None) -> str:
    if bucket is None or bucket.get("number") is None:
        return ""
    return _("bucket %(number)s of %(all)s") % {"number": _grouped(bucket["number"]), "all": _grouped(BUCKETS)}


def _grouped(number: int) -> str:
    return f"{number:,}".replace(",", "\u202f")


def _facts(told: Mapping[str, Any]) -> list[tuple[str, Any]]:
    estimate = told.get("estimate")
    facts: list[tuple[str, Any]] = []
    if told["candidates"]:
        facts.append((_("Confidence"), f"{told['confidence'] * 100:.0f}\u202f%"))
    if estimate:
        tokens = _("%(in)s in, %(out)s out") % {
            "in": _grouped(estimate["input_tokens"]),
            "out": _grouped(estimate["output_tokens"]),
        }
        facts += [(_("Estimated tokens"), tokens), (_("Estimated cost"), _money(estimate["cost_usd"]))]
    return facts


def _demands(told: Mapping[str, Any]) -> list[str]:
    words = [*told.get("capabilities", ()), *(name for name in ("vision", "reasoning") if told.get(name))]
    if least := told.get("min_context_window"):
        words.append(_("a context of %s tokens") % _grouped(least))
    if told.get("task"):
        words.append(_("the task %s") % told["task"])
    if told.get("max_cost_tier"):
        words.append(_("tier %s at most") % told["max_cost_tier"])
    if told.get("local_only"):
        words.append(_("local only"))
    words += [_("allowed for %s") % tag for tag in told.get("data_tags", ())]
    if told.get("max_cost_usd") is not None:
        words.append(_("%s USD at most") % f"{told['max_cost_usd']:.4g}")
    return words + [_("%s, if there is one") % name for name in told.get("preferred_capabilities", ())]


def _until(iso: str | None) -> str:
    at = parse_datetime(iso) if iso else None
    return "" if at is None else " " + _("until %s") % f"{at:%Y-%m-%d %H:%M}Z"


def _bucket(told: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if told is None:
        return None
    number = told.get("number")
    return {
        **told,
        "percentage": f"{100 * told['share'] / BUCKETS:g}",
        "width": f"{100 * told['share'] / BUCKETS:.2f}",
        "at": None if number is None else f"{100 * number / BUCKETS:.2f}",
        "number": number,
    }


def _candidates(told: list[Mapping[str, Any]]) -> list[CandidateRow]:
    dearest = max((one.get("estimated_cost_usd") or 0 for one in told), default=0)
    return [_candidate(one, dearest) for one in told]


def _candidate(one: Mapping[str, Any], dearest: float) -> CandidateRow:
    latency, success, p95 = one["latency_seconds"], one["success_rate"], one.get("p95_ms")
    if p95 is not None:
        latency, latency_is = cells.milliseconds(p95), _("p95 of the last 24 hours")
    else:
        latency, latency_is = None if latency is None else cells.milliseconds(latency * 1000), _("moving average")
    cost = one.get("estimated_cost_usd")
    return CandidateRow(
        place=one["place"],
        provider_id=one["provider_id"],
        model_id=one["model_id"],
        route=one["route"],
        via=one["via"],
        role=_ROLES.get(one["role"], one["role"]),
        reason=_sentence(one["reason"]),
        score="" if one["score"] is None else f"{one['score']:.4g}",
        parts=" · ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in one["parts"].items()),
        cost=_money(cost) if "estimated_cost_usd" in one else None,
        cost_width=f"{max(2.0, 100 * cost / dearest):.1f}" if cost and dearest else "",
        tier=one["cost_tier"],
        breaker=cells.pill(one["breaker"].replace("_", "-"), _BREAKERS.get(one["breaker"], "")),
        latency=latency,
        latency_is=latency_is,
        success="" if success is None else f"{100 * success:.3g}\u202f%",
        keys=_keys(one.get("keys") or []),
        permit=one["needs_permit"],
    )


def _keys(keys: list[Mapping[str, Any]]) -> str:
    if len(keys) == 1:
        return _("key %s") % keys[0]["key_id"]
    return ", ".join(
        _("key %s") % key["key_id"] + f" {key['share'] * 100:.0f}\u202f%" for key in keys if key["share"] is not None
    )


def _dropped(dropped: list[dict[str, Any]]) -> list[DroppedGroup]:
    """What waiting cures first, then by code."""
    rows = [
        {**one, "detail": _sentence(one["detail"]), "back": _back(one.get("back_at"))}
        for one in sorted(dropped, key=lambda one: (one["reason"] not in _CURED_BY_WAITING, one["reason"]))
    ]
    groups = []
    for reason, members in groupby(rows, key=lambda one: one["reason"]):
        told = list(members)
        mends = _key_pages(told) if reason == _KEYLESS else []
        groups.append(DroppedGroup(reason, reason in _CURED_BY_WAITING, len(told), told[:NAMED], told[NAMED:], mends))
    return groups


def _key_pages(dropped: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Where keys of these models' providers are stored."""
    ids = {one["route"].partition("/")[0] for one in dropped}
    found = Provider.objects.filter(provider_id__in=ids).order_by("provider_id").only("provider_id")[:NAMED]
    return [(row.provider_id, provider_tabs.link(row, provider_tabs.KEYS)) for row in found]


def _back(iso: str | None) -> SafeString | None:
    at = parse_datetime(iso) if iso else None
    return None if at is None else cells.ago(at)


def _money(amount: float | None) -> Any:
    if amount is None:
        return _("price unknown")
    return _("free") if amount == 0 else cells.money(Decimal(repr(amount)), USD)


def _sentence(text: str) -> str:
    """With a capital only where the text does not begin with a name."""
    first = text.split(" ", 1)[0]
    return text[:1].upper() + text[1:] if first.isalpha() else text


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
