"""Who still comes through the paths of the systems that the gateway replaces: counted per day, client and family of paths.

A request only adds to a table in memory; a thread of the serving process writes it every few seconds. What a killed process
had not written is lost, which at worst hides some seconds of a client that comes every day.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from django.db import DatabaseError, IntegrityError, InterfaceError, connection, models, transaction
from django.db.models import F
from django.utils import timezone

from routing import rollout

logger = logging.getLogger("gateway.old_paths")

_UNANSWERED = ("/api/login", "/api/user-providers", "/api/config")
"""Paths of the backoffice that the gateway does not serve: who asks for them still takes it for the backoffice."""

FAMILIES = tuple(
    prefix for prefix in (*rollout.GENERATION_PATHS, *rollout.REGISTRY_PATHS, *_UNANSWERED) if prefix != "/v1"
)
"""`/v1` is the gateway's own as well."""

KEPT_DAYS = 400
WRITE_SECONDS = 5.0
MOST_STRANGERS = 1000
"""Addresses without a key that are told apart in a process and a day; whoever comes after them is one."""
FURTHER_STRANGERS = "address:others"


class OldPathUse(models.Model):
    """The requests of one client to one family of old paths on one day (UTC)."""

    day = models.DateField()
    family = models.CharField(max_length=64, help_text="The prefix of the paths, such as /api/providers.")
    client = models.CharField(max_length=255, help_text="key:PREFIX, user:NAME or address:IP.")
    client_name = models.CharField(max_length=255, blank=True)
    requests = models.PositiveBigIntegerField(default=0)
    last_at = models.DateTimeField(db_index=True)

    class Meta:
        app_label = "inference"
        ordering = ["-last_at"]
        constraints = [models.UniqueConstraint(fields=["day", "client", "family"], name="one_count_per_client_and_day")]

    def __str__(self) -> str:
        return f"{self.client} used {self.family} {self.requests} times on {self.day}"


class OldPathTracking(models.Model):
    """Since when the uses are counted: one row, written by the first process that counts."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    since = models.DateTimeField(default=timezone.now)

    class Meta:
        app_label = "inference"
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="one_beginning_of_tracking")]

    def __str__(self) -> str:
        return f"since {self.since}"


@dataclass(slots=True)
class _Count:
    requests: int
    last_at: datetime
    client_name: str


def family_of(path: str) -> str:
    """The family that a path belongs to; empty for the gateway's own paths."""
    return next((family for family in FAMILIES if rollout.is_below(path, (family,))), "")


class Counting:
    """What one process has seen and not yet written, and the thread that writes it."""

    def __init__(self) -> None:
        self._counts: dict[tuple[date, str, str], _Count] = {}
        self._strangers: set[str] = set()
        self._strangers_of = date.min
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._pruned_on = date.min

    def note(self, family: str, client: str, client_name: str = "", *, now: datetime | None = None) -> None:
        """One request more. Never waits for the database."""
        at = now or timezone.now()
        day = at.astimezone(UTC).date()
        with self._lock:
            client = self._told_apart(client[:255], day)
            count = self._counts.get((day, client, family))
            if count is None:
                self._counts[day, client, family] = _Count(1, at, client_name[:255])
            else:
                count.requests += 1
                count.last_at, count.client_name = at, client_name[:255]

    def start(self) -> None:
        if self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, name="old-paths", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Write what is counted, then end."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def write(self, *, now: datetime | None = None) -> None:
        """Add what was counted to the rows. What the database does not take now is written next time."""
        at = now or timezone.now()
        OldPathTracking.objects.get_or_create(pk=1, defaults={"since": at})
        with self._lock:
            counts, self._counts = self._counts, {}
        try:
            while counts:
                key, count = next(iter(counts.items()))
                _add(*key, count)
                del counts[key]
        finally:
            self._take_back(counts)
        if self._pruned_on != at.date():
            prune(at)
            self._pruned_on = at.date()

    def _told_apart(self, client: str, day: date) -> str:
        if not client.startswith("address:"):
            return client
        if self._strangers_of != day:
            self._strangers_of, self._strangers = day, set()
        if client not in self._strangers and len(self._strangers) >= MOST_STRANGERS:
            return FURTHER_STRANGERS
        self._strangers.add(client)
        return client

    def _take_back(self, counts: dict[tuple[date, str, str], _Count]) -> None:
        with self._lock:
            for key, count in counts.items():
                newer = self._counts.setdefault(key, count)
                if newer is not count:
                    newer.requests += count.requests

    def _run(self) -> None:
        while True:
            stopping = self._stopping.wait(WRITE_SECONDS)
            try:
                if connection.errors_occurred:
                    connection.close_if_unusable_or_obsolete()
                self.write()
            except (DatabaseError, InterfaceError) as error:  # MariaDB's driver says the latter of a lost connection
                logger.warning("uses of old paths not written: %s", type(error).__name__)
            if stopping:
                connection.close()
                return


def _add(day: date, client: str, family: str, count: _Count) -> None:
    if _raise(day, client, family, count):
        return
    try:
        with transaction.atomic():
            OldPathUse.objects.create(
                day=day,
                client=client,
                family=family,
                client_name=count.client_name,
                requests=count.requests,
                last_at=count.last_at,
            )
    except IntegrityError:  # another process counted the first one of the day meanwhile
        _raise(day, client, family, count)


def _raise(day: date, client: str, family: str, count: _Count) -> int:
    return OldPathUse.objects.filter(day=day, client=client, family=family).update(
        requests=F("requests") + count.requests, last_at=count.last_at, client_name=count.client_name
    )


def prune(now: datetime) -> int:
    """Forget what is older than `KEPT_DAYS`; returns how many rows went."""
    return OldPathUse.objects.filter(day__lt=(now - timedelta(days=KEPT_DAYS)).date()).delete()[0]


counting = Counting()
"""This process's."""
