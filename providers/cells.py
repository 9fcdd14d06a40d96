"""How values look in the admin's lists: times relative with the exact one on hover, numbers to the right, states as pills."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from providers.models import ProbeResult

EMPTY = format_html('<span class="{}">–</span>', "gw-quiet")


def ago(at: datetime | None) -> SafeString:
    """`3 min ago`, the ISO time on hover."""
    if at is None:
        return EMPTY
    iso = timezone.localtime(at).isoformat(timespec="seconds")
    return format_html('<time class="gw-time" datetime="{0}" title="{0}">{1}</time>', iso, relative(at))


def relative(at: datetime) -> str:
    seconds = (timezone.now() - at).total_seconds()
    size = _span(abs(seconds))
    if abs(seconds) < 1:
        return "now"
    return f"in {size}" if seconds < 0 else f"{size} ago"


def who(actor: str) -> str:
    """Of a person the name; what is no person says what it is: `command`, `client_key:gw-1a2b`."""
    return actor.removeprefix("user:")


def pill(text: str, tone: str = "", title: str = "") -> SafeString:
    """`tone` is good, bad, warn or empty."""
    return format_html('<span class="gw-pill {}" title="{}">{}</span>', f"gw-{tone}" if tone else "", title, text)


def number(value: float | None, unit: str = "", digits: int = 0) -> SafeString:
    if value is None:
        return format_html('<span class="gw-num">{}</span>', EMPTY)
    text = f"{value:,.{digits}f}".replace(",", "\u202f")
    return format_html('<span class="gw-num">{}{}</span>', text, f"\u202f{unit}" if unit else "")


def milliseconds(value: float | None) -> SafeString:
    if value is not None and value >= 10_000:
        return number(value / 1000, "s", 1)
    return number(value, "ms", 1 if value is not None and value < 10 else 0)


def money(value: Decimal | None, currency: str = "") -> SafeString:
    """Two decimals; below one cent, four significant digits."""
    if value is None:
        return format_html('<span class="gw-num">{}</span>', EMPTY)
    return format_html('<span class="gw-num">{}{}</span>', amount(value), f"\u202f{currency}" if currency else "")


def on_or_off(enabled: bool) -> SafeString:
    return pill("on", "good", "enabled") if enabled else pill("off", "", "disabled")


def health(enabled: bool, last: ProbeResult | None, since: datetime | None) -> SafeString:
    """The state of a provider: why and since when on hover."""
    if last is None:
        return pill("unknown", "", "No probe has run yet.")
    word, tone = state_of(last)
    lines = [last.message or "Every stage that ran passed.", f"probed {timezone.localtime(last.at):%Y-%m-%d %H:%M:%S}"]
    if since:
        lines.insert(1, f"since {timezone.localtime(since):%Y-%m-%d %H:%M:%S}")
    if not enabled:
        lines.append("The provider is disabled: this was its last probe.")
    return format_html('{} <span class="gw-quiet">{}</span>', pill(word, tone, "\n".join(lines)), ago(since or last.at))


def state_of(last: ProbeResult | None) -> tuple[str, str]:
    """The word and the tone of a probe's finding."""
    if last is None:
        return "unknown", ""
    if not last.healthy:
        return "unhealthy", "bad"
    warned = any(stage.get("status") == "warning" for stage in last.stages)
    return ("warning", "warn") if warned else ("healthy", "good")


def latency_of(last: ProbeResult | None) -> float | None:
    """The time of the deepest stage that an upstream answered, in milliseconds."""
    if last is None:
        return None
    times = {stage["name"]: stage["ms"] for stage in last.stages if stage["status"] in {"ok", "warning"}}
    for name in ("one_token", "auth", "tcp"):
        if times.get(name):
            return times[name]
    return None


def _span(seconds: float) -> str:
    for size, name in ((86400 * 365, "y"), (86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)}\u202f{name}"
    return f"{int(seconds)}\u202fs"


def amount(value: Decimal) -> str:
    """As `money` shows it, without the currency."""
    if value == 0 or abs(value) >= Decimal("0.01"):
        return f"{value:,.2f}".replace(",", "\u202f")
    digits = 3 - value.adjusted()
    return f"{value:.{digits}f}".rstrip("0")
