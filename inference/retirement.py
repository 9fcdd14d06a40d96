"""May the legacy systems' code go? Who still used their paths in the last days, and for how long nobody has.

Two ways lead there: requests that the roll-out forwarded to the legacy side, and the old paths that the gateway itself
answers. Whoever talks to the legacy system directly, past the gateway, cannot be seen from here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Max, Sum

from inference.models import OldPathTracking, OldPathUse, UsageRollup
from routing import rollout
from routing.models import ClientKey, Rollout

FORWARDED = "forwarded to the legacy side"
LONGEST_DAYS = 400
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Use:
    """What one client did through one family of paths."""

    family: str
    client: str
    client_name: str
    requests: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Report:
    """`since` is when counting began, or None when no process has counted yet."""

    days: int
    since: datetime | None
    safe: bool
    verdict: str
    uses: tuple[Use, ...]

    @property
    def exit_status(self) -> int:
        """0 when the old code may go, else 2."""
        return 0 if self.safe else 2

    def as_dict(self) -> dict[str, Any]:
        return {
            "days": self.days,
            "since": None if self.since is None else self.since.isoformat(),
            "safe": self.safe,
            "verdict": self.verdict,
            "uses": [asdict(use) | {"last_at": use.last_at.isoformat()} for use in self.uses],
        }


def report(days: int, now: datetime) -> Report:
    """The last `days`, 1 to `LONGEST_DAYS`, up to `now`."""
    after = now - timedelta(days=days)
    uses = tuple(sorted([*_forwarded(after), *_served(after)], key=lambda use: (use.family, -use.requests, use.client)))
    tracking = OldPathTracking.objects.first()
    since = None if tracking is None else tracking.since
    return Report(days, since, *_judge(days, after, since, uses), uses)


def _judge(days: int, after: datetime, since: datetime | None, uses: Iterable[Use]) -> tuple[bool, str]:
    """Whether it is safe, and the sentence that says why."""
    clients = {use.client for use in uses}
    if clients:
        who = "1 client" if len(clients) == 1 else f"{len(clients)} clients"
        return False, f"The old paths are in use: {who} came through them within {_span(days)}."
    if since is None:
        return False, "Not known yet: no serving process has begun to count the old paths."
    if since > after:
        return False, f"Not known for long enough: the old paths are counted since {since:%Y-%m-%d %H:%M} UTC only."
    if still := _still_forwarded():
        return False, still
    return True, f"No request used the old paths for {_span(days)}: safe to remove."


def _still_forwarded() -> str:
    """Why a client that comes tomorrow would be sent to the legacy side; empty when none would."""
    row = Rollout.load()
    if not row.legacy_base_url:
        return ""
    if not (row.gateway_enabled and settings.GATEWAY_V2_ENABLED):
        return "Nobody came, but the kill switch sends every request to the legacy side."
    if rollout.buckets_below(row.percentage) < rollout.BUCKETS:
        return f"Nobody came, but the roll-out keeps only {row.percentage.normalize():f} % of the clients here."
    return ""


def _span(days: int) -> str:
    return "1 day" if days == 1 else f"{days} days"


def _served(after: datetime) -> list[Use]:
    rows = (
        OldPathUse.objects.filter(last_at__gte=after)
        .order_by()
        .values("family", "client")
        .annotate(total=Sum("requests"), last=Max("last_at"), name=Max("client_name"))
    )
    return [Use(row["family"], row["client"], row["name"] or "", row["total"], row["last"]) for row in rows]


def _forwarded(after: datetime) -> list[Use]:
    rows = (
        UsageRollup.objects.filter(side=rollout.LEGACY, hour__gte=after - _HOUR, last_at__gte=after)
        .order_by()
        .values("client_key_prefix")
        .annotate(total=Sum("requests"), last=Max("last_at"))
    )
    names = dict(ClientKey.objects.values_list("prefix", "name"))
    return [
        Use(FORWARDED, _known_by(shown, names), names.get(shown, ""), row["total"], row["last"])
        for row in rows
        for shown in [row["client_key_prefix"]]
    ]


def _known_by(shown: str, names: dict[str, str]) -> str:
    """A client key of ours by its prefix, anybody else by the name that the forwarding told strangers apart by."""
    return f"key:{shown}" if shown in names else shown or "unknown"
