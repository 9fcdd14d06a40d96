"""Runs the checks: the quick ones whenever somebody looks, those that ask others when somebody wants to know, within two seconds.

A check that cannot look because a store is away is passed over: the store's own check says that.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from datetime import datetime

import redis
from django.core.cache import cache
from django.db import DatabaseError
from django.utils import timezone

from gateway_project.doctor import access, books, registry, stores, surroundings, workers
from gateway_project.doctor.findings import AREAS, ERROR, LEVELS, WARNING, Check, Finding, Fix, registered

logger = logging.getLogger("gateway.doctor")

WELL = "well"
QUICK_SECONDS, LIVE_SECONDS = 30, 15
"""How long what was found is told again without another look."""
PATIENCE_SECONDS = 2.0
"""In all, for those who are asked and do not answer."""
_MODULES = (stores, workers, registry, access, books, surroundings)
"""Where checks are; to import them registers theirs."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one check found. Without findings, `seen` says what is well; `passed_over` why it could not look."""

    name: str
    title: str
    area: str
    findings: tuple[Finding, ...] = ()
    seen: str = ""
    passed_over: str = ""
    took_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Report:
    at: datetime
    live: bool
    """Also those were asked who have to answer."""
    verdicts: tuple[Verdict, ...]

    @property
    def findings(self) -> list[tuple[Verdict, Finding]]:
        """The worst first."""
        found = [(verdict, finding) for verdict in self.verdicts for finding in verdict.findings]
        return sorted(found, key=lambda pair: LEVELS.index(pair[1].level))

    @property
    def well(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if not verdict.findings and not verdict.passed_over]

    @property
    def passed_over(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.passed_over and not verdict.findings]

    def count(self, level: str) -> int:
        return sum(finding.level == level for _, finding in self.findings)

    @property
    def errors(self) -> int:
        return self.count(ERROR)

    @property
    def warnings(self) -> int:
        return self.count(WARNING)

    @property
    def state(self) -> str:
        """`error`, `warning` or `well`."""
        return next((level for level in LEVELS if self.count(level)), WELL)


def known() -> Report:
    """What the quick checks say, at most half a minute old."""
    found: Report | None = cache.get("doctor-quick")
    if found is None:
        found = examine()
        cache.set("doctor-quick", found, QUICK_SECONDS)
    return found


def probed() -> Report:
    """What all checks say, asked now or some seconds ago."""
    found: Report | None = cache.get("doctor-live")
    if found is None:
        found = examine(live=True)
        cache.set("doctor-live", found, LIVE_SECONDS)
        # The line on the first page would else contradict what was just seen.
        cache.delete("doctor-quick")
    return found


def examine(*, live: bool = False, only: Iterable[str] = ()) -> Report:
    """Look now. `only` names the checks to run; without, all quick ones, and with `live` all."""
    wanted = set(only)
    checks = [one for one in registered() if (one.name in wanted if wanted else live or not one.live)]
    began = time.monotonic()
    apart = [one for one in checks if one.apart]
    pool = ThreadPoolExecutor(max(1, len(apart)), thread_name_prefix="doctor")
    asked = {one.name: pool.submit(_look, one) for one in apart}
    verdicts = {one.name: _look(one) for one in checks if not one.apart}
    wait_for(asked.values(), timeout=max(0.0, PATIENCE_SECONDS - (time.monotonic() - began)))
    pool.shutdown(wait=False, cancel_futures=True)
    verdicts |= {one.name: _answer(one, asked[one.name]) for one in apart}
    return Report(timezone.now(), live, tuple(verdicts[one.name] for one in checks))


def names() -> Sequence[str]:
    return [one.name for one in registered()]


def by_area(verdicts: Iterable[Verdict]) -> list[tuple[str, list[Verdict]]]:
    told = list(verdicts)
    areas = [(area, [verdict for verdict in told if verdict.area == area]) for area in AREAS]
    return [(area, some) for area, some in areas if some]


def _look(check: Check) -> Verdict:
    began, findings, seen = time.perf_counter(), [], []
    away = ""
    try:
        for told in check.look():
            (findings if isinstance(told, Finding) else seen).append(told)
    except (redis.RedisError, ConnectionError):
        away = "Redis does not answer."
    except DatabaseError as error:
        away = f"The database does not tell ({type(error).__name__}): it is away, or lacks a migration."
    except Exception as error:  # one check that breaks must not hide what the others found
        logger.exception("the check %s broke", check.name)
        findings.append(_broken(check, f"{type(error).__name__}: {error}"))
    took = 1000 * (time.perf_counter() - began)
    return Verdict(check.name, check.title, check.area, tuple(findings), " ".join(map(str, seen)), away, round(took, 1))


def _answer(check: Check, asked: Future[Verdict]) -> Verdict:
    if asked.done() and not asked.cancelled():
        return asked.result()
    late = Finding(
        WARNING,
        f"{check.title}: no answer within {PATIENCE_SECONDS:g} seconds.",
        "Nobody knows how this is while it does not answer.",
        Fix("Look again in a moment.", command="manage.py doctor --live"),
    )
    return Verdict(check.name, check.title, check.area, (late,), took_ms=1000 * PATIENCE_SECONDS)


def _broken(check: Check, error: str) -> Finding:
    return Finding(
        ERROR,
        f"{check.title}: it could not be looked at.",
        error[:500],
        Fix("The log of the web process says more.", command=f"manage.py doctor --only {check.name}"),
    )
