"""Why the gateway itself refused a request, in words: what stands in a trace is a code."""

from __future__ import annotations

from django.utils.translation import gettext as _

from inference.models import Trace
from inference.outcomes import POLICY

_OF_BOUNDS = frozenset({"budget_exceeded", "concurrency_limit_exceeded", "insufficient_quota", "rate_limit_exceeded"})
"""What limits and budgets refuse, which the page of the client key shows beside what is used of them."""


def why(trace: Trace) -> str:
    """A sentence; empty for what was sent to a provider, or refused for another reason than a rule of the gateway's."""
    if trace.error_owner != POLICY or trace.attempts:
        return ""
    return _words().get(trace.error_code, "")


def is_bound(trace: Trace) -> bool:
    """Whether a limit or a budget refused it."""
    return trace.error_code in _OF_BOUNDS


def _words() -> dict[str, str]:
    spent = _(
        "What it might cost is more than was left of a budget: of its key, its team, a tag, the model or of everybody."
    )
    return {
        "address_not_allowed": _("Its key may not be used from the address that it came from."),
        "budget_exceeded": spent,
        "concurrency_limit_exceeded": _("As many requests as a limit allows were under way already."),
        "data_not_allowed": _("No provider that could serve it may get data of its kind."),
        "insufficient_quota": spent,
        "max_cost_exceeded": _("Whatever could serve it might cost more than its policy allows one request."),
        "not_local": _("It has to stay on local providers, and none of them could serve it."),
        "price_unknown": _("Nobody knows the price of what could serve it, so a limit of cost refused it."),
        "rate_limit_exceeded": _("A limit was reached: of its key, its team, a tag, the model or of everybody."),
        "team_disabled": _("The team of its key is switched off."),
    }
