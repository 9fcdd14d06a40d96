"""Reports of spend as files: CSV for tables, JSON for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Any

from inference.savings_reports import CURRENCY, Saving
from inference.spend_reports import KEY, Line, Question, Report

_FIGURES = (
    *("requests", "failed", "left", "rescued", "estimated", "unpriced"),
    *("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens"),
)
_MONEY = ("cost", "correction", "corrected_cost")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_lines(told: Report) -> Iterator[str]:
    """With a first line of names. Texts that a table would take for a formula begin with an apostrophe."""
    groups = told.question.group_by
    head = [column for name in groups for column in ([name, "key_prefix"] if name == KEY else [name])]
    yield _line([*head, "currency", *_FIGURES, *_MONEY])
    for line in told.lines:
        yield _line([*_texts(line, groups), line.currency, *_numbers(line)])


def spend_document(told: Report) -> dict[str, Any]:
    """Amounts are texts, so that no program rounds them."""
    asked = told.question
    return {
        "since": asked.start.isoformat(),
        "until": asked.end.isoformat(),
        "time_zone": asked.time_zone,
        "group_by": list(asked.group_by),
        "totals": [_document(line) for line in told.totals],
        "lines": [_document(line) for line in told.lines],
        "cut": told.cut,
    }


def _document(line: Line) -> dict[str, Any]:
    by = {name: {"value": value, "name": line.names[name]} for name, value in line.by.items()}
    return {
        **({"by": by} if by else {}),
        "currency": line.currency,
        **{name: getattr(line, name) for name in _FIGURES},
        **{name: f"{getattr(line, name):f}" for name in _MONEY},
        "last_at": None if line.last_at is None else line.last_at.isoformat(),
    }


def _texts(line: Line, groups: tuple[str, ...]) -> Iterator[str]:
    for name in groups:
        yield _safe(line.names[name])
        if name == KEY:
            yield _safe(str(line.by[name]))


def _numbers(line: Line) -> list[Any]:
    return [*(getattr(line, name) for name in _FIGURES), *(f"{getattr(line, name):f}" for name in _MONEY)]


def _safe(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _line(values: list[Any]) -> str:
    written = io.StringIO()
    csv.writer(written).writerow(values)
    return written.getvalue()


def savings_document(question: Question, savings: Iterable[Saving]) -> dict[str, Any]:
    return {
        "since": question.start.isoformat(),
        "until": question.end.isoformat(),
        "currency": CURRENCY,
        "policies": [_of_policy(saving) for saving in savings],
    }


def _of_policy(saving: Saving) -> dict[str, Any]:
    return {
        "policy": saving.policy,
        "operation": saving.operation,
        "requests": saving.requests,
        "requests_of_unknown_price": saving.unknown,
        "input_tokens": saving.tokens.input_tokens,
        "output_tokens": saving.tokens.output_tokens,
        "charged": f"{saving.charged:f}",
        "cost_at_todays_prices": f"{saving.cost:f}",
        "elsewhere": [
            {
                "model": one.route,
                "cost": f"{one.cost:f}",
                "saved": f"{one.saved:f}",
                "saved_percent": f"{one.percent:.2f}",
            }
            for one in saving.elsewhere
        ],
    }
