"""What a check of the doctor is, and what it tells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.urls import reverse

ERROR, WARNING = "error", "warning"
LEVELS = (ERROR, WARNING)
"""Something does not work; something will not, or not as it should. The worst first."""

STORES, WORKERS, REGISTRY, ACCESS, RECORDS, SETTINGS = "Stores", "Workers", "Registry", "Access", "Records", "Settings"
AREAS = (STORES, WORKERS, REGISTRY, ACCESS, RECORDS, SETTINGS)
MOST_ALIKE = 10
"""Findings of one kind that are told each by itself."""


@dataclass(frozen=True, slots=True)
class Fix:
    """What to do, and where: a page of the admin, a command, or both."""

    text: str
    link: str = ""
    command: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """`what` is one sentence, `why` says what follows from it; `since` is None where nobody knows."""

    level: str
    what: str
    why: str
    fix: Fix
    since: datetime | None = None


Told = Iterator[Finding | str]
"""A plain text is what was seen and is well."""


@dataclass(frozen=True, slots=True)
class Check:
    """`live` ones ask for an answer now, so they run when somebody wants it. `apart` ones wait for others and touch no database:
    they run beside each other."""

    name: str
    title: str
    area: str
    look: Callable[[], Told]
    live: bool = False
    apart: bool = False


_checks: dict[str, Check] = {}


def check(name: str, title: str, area: str, **how: Any) -> Callable[[Callable[[], Told]], Callable[[], Told]]:
    """Register what a function looks at."""

    def register(look: Callable[[], Told]) -> Callable[[], Told]:
        _checks[name] = Check(name, title, area, look, **how)
        return look

    return register


def registered() -> list[Check]:
    return sorted(_checks.values(), key=lambda one: AREAS.index(one.area))


def page(name: str, *args: Any, **query: Any) -> str:
    """The address of a page of the admin."""
    found = reverse(f"admin:{name}", args=args)
    return f"{found}?{urlencode(query)}" if query else found


def counted(number: int, one: str, many: str = "") -> str:
    """`1 key`, `2 keys`; `many` where that is not `one` with an s."""
    return f"{number:,}".replace(",", "\u202f") + f" {one if number == 1 else many or f'{one}s'}"
