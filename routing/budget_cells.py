"""How budgets look in the admin: a bar of what is used, where the pace leads, when they begin anew."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from providers import cells
from providers.pricing import USD
from routing.allowances import CALLS, DAY, MINUTE, MONTH, REQUESTS, TOKENS, UNDER_WAY
from routing.budget_status import OK, Standing

UNITS = {
    (REQUESTS, MINUTE): _("requests / min"),
    (REQUESTS, DAY): _("requests / day"),
    (TOKENS, MINUTE): _("tokens / min"),
    (TOKENS, DAY): _("tokens / day"),
    (CALLS, UNDER_WAY): _("at once"),
}
"""What a limit counts, by unit and period."""
_CENT = Decimal("0.01")
_TONES = {"ok": "good", "warning": "warn", "spent": "bad"}


def bar(one: Standing, who: str = "") -> SafeString:
    """Used and held of the amount, in figures and as a bar; why and by whose word on hover. `who` stands below."""
    if one.span is None:
        return unused(one.amount, gettext("a request"))
    told = [
        gettext("%(percent)s %% used") % {"percent": f"{one.percent:.1f}"},
        gettext("%(amount)s left") % {"amount": _exact(one.left)},
    ]
    if one.reserved:
        told.append(gettext("%(amount)s held for requests under way") % {"amount": _exact(one.reserved)})
    if one.raised:
        told.append(gettext("%(amount)s of it is a raise") % {"amount": _exact(one.raised)})
    told.append(gettext("as all processes count it") if one.counted else gettext("by the ledger, some seconds behind"))
    held = 0.0 if not one.amount else min(100.0 - min(100.0, one.percent), float(one.reserved / one.amount * 100))
    return format_html(
        '<span class="gw-used gw-used-{}" title="{}"><span>{} / {}</span>'
        '<span class="gw-used-bar" role="img" aria-label="{}"><i style="width:{}%"></i><b style="width:{}%"></b></span>{}</span>',
        _TONES[one.state],
        "\n".join(told),
        _used(one),
        cells.money(one.amount, USD),
        told[0],
        f"{min(100.0, one.percent):.1f}",
        f"{held:.1f}",
        format_html("<small>{}</small>", who) if who else "",
    )


def _used(one: Standing) -> SafeString:
    """Beside dollars, parts of a cent would only widen the column: what is left says them on hover."""
    if one.amount >= 1 and 0 < one.used < _CENT:
        return format_html('<span class="gw-num">&lt;\u202f{}</span>', cells.amount(_CENT))
    return cells.money(one.used)


def share(used: int, amount: int, unit: str) -> SafeString:
    """Of a limit, what is used at this moment."""
    percent = 100 * used / amount
    tone = "bad" if percent >= 100 else "warn" if percent >= 80 else "good"
    return format_html(
        '<span class="gw-used gw-used-{}" title="{} %"><span>{} / {} {}</span>'
        '<span class="gw-used-bar" aria-hidden="true"><i style="width:{}%"></i></span></span>',
        tone,
        f"{percent:.1f}",
        cells.number(used),
        cells.number(amount),
        unit,
        f"{min(100.0, percent):.1f}",
    )


def unused(amount: Decimal, told: str) -> SafeString:
    return format_html('<span class="gw-used"><span>{}</span><small>{}</small></span>', cells.money(amount, USD), told)


def pace(one: Standing) -> SafeString:
    """`empty on 27 Nov`, or what is spent at the end."""
    if one.code != OK and one.span is not None:
        return cells.pill(gettext("spent"), "bad", one.code)
    if one.forecast is None or one.span is None:
        return cells.EMPTY
    at_end = gettext("At the pace of this %(period)s so far: %(amount)s at its end.") % {
        "period": one.allowance.period,
        "amount": _exact(one.forecast.at_end),
    }
    if one.forecast.empty_at is None:
        return format_html('<span class="gw-quiet" title="{}">{}</span>', at_end, gettext("lasts"))
    empty = gettext("empty %(when)s") % {"when": when(one.forecast.empty_at, one.allowance.period)}
    return cells.pill(empty, "warn", at_end)


def when(at: datetime, period: str) -> str:
    """`on 27 Nov`, within a day `at 14:30`, in the budget's zone."""
    if period == MONTH:
        return gettext("on %(day)s") % {"day": f"{at.day} {at:%b}"}
    return gettext("at %(time)s") % {"time": f"{at:%H:%M}"}


def anew(one: Standing) -> SafeString:
    if one.span is None:
        return cells.EMPTY
    at = one.span.end
    return format_html(
        '<time class="gw-time" datetime="{0}" title="{0}">{1}</time> <span class="gw-quiet">{2}</span>',
        at.isoformat(timespec="minutes"),
        f"{at.day} {at:%b %H:%M}",
        one.allowance.time_zone,
    )


def state(one: Standing) -> SafeString:
    words = {"ok": gettext("within"), "warning": gettext("nearly used"), "spent": gettext("spent")}
    return cells.pill(words[one.state], _TONES[one.state], one.code)


def _exact(amount: object) -> str:
    return f"{amount:,.4f}".rstrip("0").rstrip(".") + f" {USD}"
