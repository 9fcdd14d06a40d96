"""What was spent, by whom and on what: sums of hours, grouped and narrowed as asked.

Whatever becomes of traces, this stays: it reads what was summed with the ledger. Costs are by the prices of their moment; where a
price was corrected later, `correction` says what that adds or takes away.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import Max, Q, QuerySet, Sum
from django.db.models.functions import TruncDay, TruncHour, TruncMonth, TruncWeek

from inference.models import TagRollup, UsageRollup
from routing.models import ClientKey, Team
from routing.rollout import GATEWAY

KEY, TEAM, MODEL, PROVIDER, POLICY, TAG, OPERATION = "key", "team", "model", "provider", "policy", "tag", "operation"
HOUR, DAY, WEEK, MONTH = "hour", "day", "week", "month"
TIMES = (HOUR, DAY, WEEK, MONTH)
GROUPS = (KEY, TEAM, MODEL, PROVIDER, POLICY, TAG, OPERATION, *TIMES)
MOST_ROWS = 10_000
OTHERS = "\0others"
"""In place of a name: every group but those that are told by themselves."""
LONGEST = timedelta(days=3_660)
LONGEST_BY_HOUR = timedelta(days=62)
_YEARS = (1970, 9000)
"""In these every zone's time can be reckoned."""

_COLUMNS: Mapping[str, tuple[str, ...]] = {
    KEY: ("client_key_id", "client_key_prefix"),
    TEAM: ("team_id",),
    MODEL: ("provider_id", "model_id"),
    PROVIDER: ("provider_id",),
    POLICY: ("policy",),
    TAG: ("tag",),
    OPERATION: ("operation",),
}
_TRUNC = {HOUR: TruncHour, DAY: TruncDay, WEEK: TruncWeek, MONTH: TruncMonth}
_COUNTED = (
    *("requests", "failed", "left", "rescued", "estimated", "unpriced"),
    *("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens"),
)
_HOUR = timedelta(hours=1)


class BadReport(ValueError):
    """What was asked for cannot be told; `field` says which part of it is wrong."""

    def __init__(self, field: str, sentence: str) -> None:
        super().__init__(sentence)
        self.field = field


@dataclass(frozen=True, slots=True)
class Sight:
    """Whose spend may be seen: of these teams, or of this client key; everybody's when both are None."""

    teams: Collection[int] | None = None
    key_id: int | None = None


EVERYTHING = Sight()


@dataclass(frozen=True, slots=True)
class Question:
    """From the hour of `since` to the end of the hour of `until`, grouped by some of `GROUPS`; filters are exact, empty is any.

    Days, weeks (from Monday on) and months are those of `time_zone`. Raises `BadReport`.
    """

    since: datetime
    until: datetime
    group_by: tuple[str, ...] = (MODEL,)
    key: str = ""
    """A client key's prefix."""
    team: int | None = None
    model: str = ""
    """`provider/model`, or a model of whatever provider."""
    provider: str = ""
    policy: str = ""
    tag: str = ""
    operation: str = ""
    side: str = GATEWAY
    time_zone: str = "UTC"

    def __post_init__(self) -> None:
        if unknown := [name for name in self.group_by if name not in GROUPS]:
            raise BadReport("group_by", f"{unknown[0]!r} is no group: {', '.join(GROUPS)}.")
        if len(set(self.group_by)) != len(self.group_by) or len(self.times) > 1:
            raise BadReport("group_by", "Name each group once, and one of hour, day, week and month.")
        if self.since >= self.until:
            raise BadReport("since", "A report begins before it ends.")
        if self.until - self.since > (LONGEST_BY_HOUR if HOUR in self.group_by else LONGEST):
            raise BadReport("since", "Too long: ten years at most, or 62 days by hours.")
        for name, moment in (("since", self.since), ("until", self.until)):
            if not _YEARS[0] <= moment.year <= _YEARS[1]:
                raise BadReport(name, f"A year from {_YEARS[0]} to {_YEARS[1]} is needed.")
        try:
            ZoneInfo(self.time_zone)
        except (ValueError, OSError, KeyError) as error:
            raise BadReport(
                "time_zone", f"No time zone is called {self.time_zone!r}, such as Europe/Berlin."
            ) from error

    @property
    def times(self) -> tuple[str, ...]:
        return tuple(name for name in self.group_by if name in TIMES)

    @property
    def start(self) -> datetime:
        return _floor(self.since)

    @property
    def end(self) -> datetime:
        return _floor(self.until + _HOUR - timedelta.resolution)


@dataclass(frozen=True, slots=True)
class Line:
    """Sums of one group. `names` are for people and `by` for filters, both by group; a time's are the beginning, as ISO 8601."""

    names: Mapping[str, str]
    by: Mapping[str, Any]
    currency: str
    requests: int
    failed: int
    left: int
    rescued: int
    estimated: int
    unpriced: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    cost: Decimal
    correction: Decimal
    last_at: datetime | None

    @property
    def corrected_cost(self) -> Decimal:
        return self.cost + self.correction


@dataclass(frozen=True, slots=True)
class Report:
    """`totals` by currency: of everything that the filters let through, also where `lines` are of tags, which overlap."""

    question: Question
    lines: tuple[Line, ...]
    totals: tuple[Line, ...]
    cut: bool
    """There are more lines than were asked for; the totals are of all."""


def report(question: Question, sight: Sight = EVERYTHING, *, most: int = MOST_ROWS) -> Report:
    """The lines in the order of time where a time is among the groups, and then the dearest first."""
    of_tags = TAG in question.group_by or bool(question.tag)
    rows = _told(question, question.group_by, sight, of_tags, most + 1)
    lines, cut = _named(rows[:most], question.group_by), len(rows) > most
    if cut or (TAG in question.group_by and not question.tag):
        totals = _named(_told(question, (), sight, bool(question.tag), MOST_ROWS), ())
    else:
        totals = _regrouped(lines, ())
    return Report(question, tuple(lines), tuple(totals), cut)


def over_time(question: Question, apart: Sequence[Line], sight: Sight = EVERYTHING) -> Report:
    """The groups of these lines by the question's time; what all others come to is one more line of each time, under `OTHERS`.

    So a chart of a few groups asks for a few rows, however many groups there are.
    """
    groups = tuple(name for name in question.group_by if name not in TIMES)
    of_tags = TAG in groups or bool(question.tag)
    whole = _named(_told(question, question.times, sight, of_tags, MOST_ROWS), question.times)
    named = Q(pk__in=[])
    for line in apart:
        named |= _is_group(line)
    found = _named(_told(question, question.group_by, sight, of_tags, MOST_ROWS, named), question.group_by)
    told = {_moment(line): line for line in _regrouped(found, question.times)}
    rest = [_without(line, told.get(_moment(line)), groups) for line in whole]
    rest = [line for line in rest if line.cost or any(getattr(line, name) for name in _COUNTED)]
    return Report(question, (*found, *rest), tuple(_regrouped(whole, ())), False)


def _moment(line: Line) -> tuple[Any, ...]:
    return (line.currency, *line.by.values())


def _without(line: Line, some: Line | None, groups: Sequence[str]) -> Line:
    """What is left of a line when some of it is told by itself."""
    others = dict.fromkeys(groups, OTHERS)
    if some is not None:
        sums = {name: getattr(line, name) - getattr(some, name) for name in (*_COUNTED, "cost", "correction")}
        line = replace(line, **sums)
    return replace(line, names={**others, **line.names}, by={**others, **line.by})


def _is_group(line: Line) -> Q:
    it = Q(currency=line.currency)
    for group, value in line.by.items():
        if group == MODEL and value:
            it &= is_model(value)
        elif group == TEAM and value is None:
            it &= Q(team_id=None)
        else:
            it &= Q(
                **{{KEY: "client_key_prefix", TEAM: "team_id", MODEL: "model_id"}.get(group, _COLUMNS[group][0]): value}
            )
    return it


def _regrouped(lines: Iterable[Line], group_by: Sequence[str]) -> list[Line]:
    found: dict[tuple[Any, ...], list[Line]] = {}
    for line in lines:
        found.setdefault((line.currency, *(line.by[name] for name in group_by)), []).append(line)
    return [_added_up(some, group_by) for some in found.values()]


def _added_up(lines: Sequence[Line], group_by: Sequence[str]) -> Line:
    first = lines[0]
    sums: dict[str, Any] = {name: sum(getattr(line, name) for line in lines) for name in _COUNTED}
    sums |= {name: sum((getattr(line, name) for line in lines), Decimal(0)) for name in ("cost", "correction")}
    latest = max((line.last_at for line in lines if line.last_at is not None), default=None)
    named = {name: first.names[name] for name in group_by}
    return Line(named, {name: first.by[name] for name in group_by}, first.currency, **sums, last_at=latest)


def _told(
    question: Question, group_by: Sequence[str], sight: Sight, of_tags: bool, most: int, where: Q | None = None
) -> list[dict[str, Any]]:
    rows = narrowed(question, sight, TagRollup.objects.all() if of_tags else UsageRollup.objects.all())
    rows = rows if where is None else rows.filter(where)
    columns = ["currency", *(column for name in group_by for column in _COLUMNS.get(name, ()))]
    order = ["-sum_cost", "-sum_requests", *columns]
    for name in question.times if group_by else ():
        rows = rows.annotate(time=_TRUNC[name]("hour", tzinfo=ZoneInfo(question.time_zone)))
        columns.append("time")
        order.insert(0, "time")
    sums: dict[str, Any] = {f"sum_{name}": Sum(name) for name in (*_COUNTED, "cost", "correction")}
    found = rows.order_by().values(*dict.fromkeys(columns)).annotate(**sums, latest=Max("last_at"))
    return list(found.order_by(*dict.fromkeys(order))[:most])


def narrowed(question: Question, sight: Sight, rows: QuerySet[Any]) -> QuerySet[Any]:
    """Those of the sums by hour that the question is about and that may be seen."""
    rows = rows.filter(hour__gte=question.start, hour__lt=question.end, side=question.side)
    asked = {
        "client_key_prefix": question.key,
        "provider_id": question.provider,
        "policy": question.policy,
        "operation": question.operation,
        "tag": question.tag,
    }
    rows = rows.filter(**{name: value for name, value in asked.items() if value})
    if question.model:
        rows = rows.filter(is_model(question.model))
    if question.team is not None:
        rows = rows.filter(team_id=question.team)
    if sight.key_id is not None:
        rows = rows.filter(client_key_id=sight.key_id)
    return rows if sight.teams is None else rows.filter(team_id__in=sight.teams)


def is_model(name: str) -> Q:
    """Ids of providers and of models may both hold slashes, and a model may be named without its provider."""
    either = Q(model_id=name)
    for cut in (place for place, letter in enumerate(name) if letter == "/"):
        either |= Q(provider_id=name[:cut], model_id=name[cut + 1 :])
    return either


def _named(rows: Sequence[Mapping[str, Any]], group_by: Sequence[str]) -> list[Line]:
    keys = dict(ClientKey.objects.values_list("prefix", "name")) if KEY in group_by else {}
    teams = dict(Team.objects.values_list("pk", "name")) if TEAM in group_by else {}
    lines = []
    for row in rows:
        by = {name: _value(name, row) for name in group_by}
        names = {name: _name(name, value, keys, teams) for name, value in by.items()}
        sums: dict[str, Any] = {name: row[f"sum_{name}"] or 0 for name in _COUNTED}
        sums |= {name: row[f"sum_{name}"] or Decimal(0) for name in ("cost", "correction")}
        lines.append(Line(names, by, row["currency"], **sums, last_at=row["latest"]))
    return lines


def _value(group: str, row: Mapping[str, Any]) -> Any:
    if group in TIMES:
        return row["time"].isoformat()
    if group == MODEL:
        return f"{row['provider_id']}/{row['model_id']}" if row["model_id"] else ""
    return row[{KEY: "client_key_prefix", TEAM: "team_id"}.get(group, _COLUMNS[group][0])]


def _name(group: str, value: Any, keys: Mapping[str, str], teams: Mapping[int, str]) -> str:
    if group == KEY:
        return keys.get(value, value)
    if group == TEAM:
        return "" if value is None else teams.get(value, f"team {value}, which is gone")
    return str(value)


def _floor(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
