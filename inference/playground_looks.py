"""What the playground is told in JSON: names that may be asked, keys that may be asked with, and the figures of what was asked."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.urls import reverse
from django.utils.translation import gettext as _

from inference import trace_details, trace_looks
from inference.models import Trace
from inference.offered import MODEL, ROUTE, Name, Offer
from providers import cells
from providers.pricing import USD
from routing.models import ClientKey
from routing.policy_documents import KINDS

NAMED = 3
"""Models or providers that a line names before it counts the others."""
_ROLES = {"": "user", "developer": "system"}
_ASKED_BY_HAND = ("system", "user", "assistant")


def group_titles() -> dict[str, str]:
    titles = {
        "policy": _("Policies"),
        "alias": _("Aliases"),
        "node": _("Nodes"),
        "task": _("Tasks"),
        "logical": _("Logical models"),
        MODEL: _("Models"),
        ROUTE: _("One provider's model"),
    }
    assert titles.keys() == {*KINDS, MODEL, ROUTE}
    return titles


def offer(told: Offer) -> dict[str, Any]:
    titles = group_titles()
    groups: dict[str, list[dict[str, Any]]] = {}
    for one in told.names:
        groups.setdefault(one.group, []).append(name(one))
    return {"groups": [{"title": titles[group], "names": names} for group, names in groups.items()], "more": told.more}


def name(one: Name) -> dict[str, Any]:
    return {"name": one.name, "note": _note(one), "sees": one.sees}


def _note(one: Name) -> str:
    if one.group not in (MODEL, ROUTE):
        return one.description or _listed([model.model_id for model in one.models])
    first = one.models[0]
    parts = [_listed([model.provider.display_name or model.provider.provider_id for model in one.models])]
    if first.context_window:
        parts.append(_("%(size)s context") % {"size": _thousands(first.context_window)})
    prices = first.prices
    if prices.input_cost_per_million is not None and prices.output_cost_per_million is not None:
        parts.append(_price(prices.input_cost_per_million, prices.output_cost_per_million, prices.currency))
    return " · ".join(parts)


def _price(asked: Decimal, answered: Decimal, currency: str) -> str:
    if not asked and not answered:
        return _("free")
    told = {"input": cells.amount(asked), "output": cells.amount(answered), "currency": currency}
    return _("%(input)s / %(output)s %(currency)s per M") % told


def _listed(names: list[str]) -> str:
    distinct = list(dict.fromkeys(names))
    shown = ", ".join(distinct[:NAMED])
    return f"{shown} +{len(distinct) - NAMED}" if len(distinct) > NAMED else shown


def _thousands(count: int) -> str:
    return f"{count // 1000}k" if count >= 1000 else str(count)


def key(row: ClientKey) -> dict[str, str]:
    return {"prefix": row.prefix, "name": row.name, "team": row.team.name if row.team else "", "state": row.state}


def figures(row: Trace, *, may_open: bool) -> dict[str, Any]:
    told = trace_details.summary(row)
    names = ("request_id", "status", "error", "error_owner", "served_by", "provider", "policy", "policy_version")
    names += ("attempts", "fallback", "input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "estimated")
    names += ("first_byte_ms", "duration_ms", "overhead_ms", "client_key")
    return {
        **{name: told[name] for name in names},
        "cost": "" if row.cost is None else f"{cells.amount(row.cost)}\u202f{row.currency}",
        "cost_usd": float(row.cost) if row.cost is not None and row.currency == USD else None,
        "tries": [
            {name: one.get(name) for name in ("provider_id", "model_id", "reason", "status", "code", "duration_ms")}
            for one in trace_details.attempts(row)
        ],
        "address": reverse("admin:inference_trace_change", args=[row.request_id]) if may_open else "",
    }


def turns(text: str) -> list[dict[str, str]]:
    """The messages of a captured request that can be asked again by hand; what has no role was the question."""
    told = [(_ROLES.get(role, role), said) for role, said in trace_looks.messages(text)]
    return [{"role": role, "content": said} for role, said in told if role in _ASKED_BY_HAND]
