"""A provider's own account of usage, as its console exports it: rows of a CSV file as figures by day and model. Pure.

What a column means is said by a `Layout`: the two that are known are OpenAI's usage and cost exports and Anthropic's, others are put
together from names of columns.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation

_NOTHING = Decimal(0)


class Unreadable(ValueError):
    """The file is not what its layout says; the text names the line and the column."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Which columns hold what; several columns of one meaning are added up. An empty tuple: the file does not tell."""

    day: tuple[str, ...] = ()
    """The first one that is there."""
    model: tuple[str, ...] = ()
    """The first one that is there."""
    input: tuple[str, ...] = ()
    """Input tokens, those out of a cache included."""
    cached: tuple[str, ...] = ()
    output: tuple[str, ...] = ()
    requests: tuple[str, ...] = ()
    cost: tuple[str, ...] = ()


OPENAI = Layout(
    day=("start_time_iso", "start_time"),
    model=("model", "line_item"),
    input=("input_tokens",),
    cached=("input_cached_tokens",),
    output=("output_tokens",),
    requests=("num_model_requests",),
    cost=("amount_value",),
)
ANTHROPIC = Layout(
    day=("usage_date_utc",),
    model=("model_version", "model"),
    input=(
        "usage_input_tokens_no_cache",
        "usage_input_tokens_cache_write_5m",
        "usage_input_tokens_cache_write_1h",
        "usage_input_tokens_cache_read",
    ),
    cached=("usage_input_tokens_cache_read",),
    output=("usage_output_tokens",),
    cost=("cost_usd",),
)
LAYOUTS: Mapping[str, Layout] = {"openai": OPENAI, "anthropic": ANTHROPIC}

_LINE_ITEM = "line_item"


@dataclass(slots=True)
class Billed:
    """Of a day and a model; None: the file does not tell."""

    requests: int | None = None
    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    cost: Decimal | None = None


@dataclass(slots=True)
class Invoice:
    billed: dict[tuple[date, str], Billed] = field(default_factory=dict)
    rows: int = 0
    empty: int = 0
    """Rows without a model or without a figure, such as a day on which nothing was used."""


def known_layout(columns: Sequence[str]) -> str:
    """`openai` or `anthropic`, by the columns; empty when neither is meant."""
    if "usage_date_utc" in columns:
        return "anthropic"
    return "openai" if {"start_time", "start_time_iso"} & set(columns) else ""


def named(layout: Layout, columns: Mapping[str, str]) -> Layout:
    """The layout with some meanings put on other columns: `{"cost": "total,tax"}`."""
    changes = {name: tuple(part.strip() for part in told.split(",") if part.strip()) for name, told in columns.items()}
    return replace(layout, **changes)


def read(lines: Iterable[str], layout: Layout | None, columns: Mapping[str, str]) -> Invoice:
    """The figures of a file. `layout` None tells it by the columns. Raises `Unreadable`."""
    table = csv.DictReader(lines)
    there = [name.strip().removeprefix("\ufeff") for name in table.fieldnames or ()]
    if not there:
        raise Unreadable("The file is empty: its first line has to name the columns.")
    table.fieldnames = there
    if layout is None:
        layout = LAYOUTS.get(known_layout(there), Layout())
    wanted = named(layout, columns)
    _check(wanted, there, columns)
    invoice = Invoice()
    for row in table:
        invoice.rows += 1
        _take(invoice, row, wanted, table.line_num)
    return invoice


def _check(layout: Layout, there: Sequence[str], columns: Mapping[str, str]) -> None:
    for name in columns:
        for column in getattr(layout, name):
            if column not in there:
                raise Unreadable(f"There is no column '{column}'; the file has: {', '.join(there)}.")
    for name in ("day", "model"):
        if not _first(getattr(layout, name), there):
            raise Unreadable(f"Say which column holds the {name}; the file has: {', '.join(there)}.")
    if not any(_first(getattr(layout, name), there) for name in ("input", "output", "cost", "requests")):
        raise Unreadable(f"No column holds tokens, requests or money; the file has: {', '.join(there)}.")


def _first(names: Sequence[str], there: Sequence[str]) -> str:
    return next((name for name in names if name in there), "")


def _take(invoice: Invoice, row: Mapping[str, str | None], layout: Layout, line: int) -> None:
    column = _first(layout.model, list(row))
    model = (row[column] or "").strip()
    if column == _LINE_ITEM:  # "gpt-5, input": one row for each kind of token
        model = model.partition(",")[0].strip()
    told = Billed(
        _whole(row, layout.requests, line),
        _whole(row, layout.input, line),
        _whole(row, layout.cached, line),
        _whole(row, layout.output, line),
        _money(row, layout.cost, line),
    )
    if not model or told == Billed():
        invoice.empty += 1
        return
    key = _day(row, _first(layout.day, list(row)), line), model
    before = invoice.billed.setdefault(key, Billed())
    for name in Billed.__slots__:
        figure = getattr(told, name)
        if figure is not None:
            setattr(before, name, (getattr(before, name) or 0) + figure)


def _whole(row: Mapping[str, str | None], columns: Sequence[str], line: int) -> int | None:
    amount = _amount(row, columns, line)
    if amount is None:
        return None
    if amount != int(amount) or amount < 0:
        raise Unreadable(f"Line {line}: {' and '.join(columns)} should be a whole number, not {amount}.")
    return int(amount)


def _money(row: Mapping[str, str | None], columns: Sequence[str], line: int) -> Decimal | None:
    return _amount(row, columns, line)


def _amount(row: Mapping[str, str | None], columns: Sequence[str], line: int) -> Decimal | None:
    total: Decimal | None = None
    for column in columns:
        text = (row.get(column) or "").replace(",", "").replace("$", "").strip()
        if not text:
            continue
        try:
            amount = Decimal(text)
        except InvalidOperation:
            amount = Decimal("NaN")
        if not amount.is_finite():
            raise Unreadable(f"Line {line}: '{text}' in column {column} is no number.")
        total = (total or _NOTHING) + amount
    return total


def _day(row: Mapping[str, str | None], column: str, line: int) -> date:
    text = (row[column] or "").strip()
    try:
        if text.isdigit() and len(text) > 8:
            return datetime.fromtimestamp(int(text), UTC).date()
        told = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError):
        raise Unreadable(f"Line {line}: '{text}' in column {column} is no date such as 2026-11-21.") from None
    return (told.astimezone(UTC) if told.tzinfo is not None else told).date()
