"""One set of counters for all processes of a machine: whichever of them is asked shows the sum.

Each process writes what it counted into a file of its own, in a thread and when it is asked for, never on the request path. A file
lock tells the living from the dead; what a dead process counted is added to a total, so that no counter ever goes back, however
often processes are replaced or killed. What a killed process counted in its last seconds is missing.

Several machines are several targets for Prometheus, as usual.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric

logger = logging.getLogger("gateway.metrics")

WRITE_SECONDS = 2.0
_TOTAL, _LOCK = "total.json", "folder.lock"
_SUMMED = frozenset(
    f"gateway_{name}"
    for name in (
        "allowance_grants_open",
        "inflight_requests",
        "records_unprotected",
        "records_waiting",
        "spool_bytes",
    )
)
_LEAST = frozenset({"gateway_allowances_shared", "gateway_snapshot_revision"})
"""Gauges of which the sum, or the least, over the processes tells something. Of all others it is the greatest."""

Sample = tuple[str, tuple[tuple[str, str], ...]]
Collect = Callable[[], Iterable[Metric]]


class Families:
    """Metric families that several processes told, added up."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[str, str]] = {}
        self._values: dict[str, dict[Sample, float]] = {}

    def add(self, families: Iterable[Metric]) -> Families:
        for family in families:
            self._add(
                family.name,
                family.type,
                family.documentation,
                (((sample.name, tuple(sorted(sample.labels.items()))), sample.value) for sample in family.samples),
            )
        return self

    def read(self, written: Any) -> Families:
        """Add what `document` made."""
        for name, kind, text, samples in written:
            told = (((sample, tuple((key, value) for key, value in labels)), float(n)) for sample, labels, n in samples)
            self._add(name, kind, text, told)
        return self

    def document(self, *, counters_only: bool = False) -> list[Any]:
        return [
            [name, kind, text, [[sample, labels, value] for (sample, labels), value in self._values[name].items()]]
            for name, (kind, text) in self._told.items()
            if not counters_only or kind != "gauge"
        ]

    def collect(self) -> Iterator[Metric]:
        for name, (kind, text) in self._told.items():
            family = Metric(name, text, kind)
            for (sample, labels), value in self._values[name].items():
                family.add_sample(sample, dict(labels), value)
            yield family

    def _add(self, name: str, kind: str, text: str, samples: Iterable[tuple[Sample, float]]) -> None:
        self._told.setdefault(name, (kind, text))
        known = self._values.setdefault(name, {})
        for sample, value in samples:
            before = known.get(sample)
            known[sample] = value if before is None else _together(name, kind, before, value)


def _together(name: str, kind: str, one: float, other: float) -> float:
    if kind != "gauge" or name in _SUMMED:
        return one + other
    return min(one, other) if name in _LEAST else max(one, other)


class SharedMetrics:
    """One per process. `collect` tells what this process counted."""

    def __init__(self, folder: Path, collect: Collect) -> None:
        self._folder, self._collect = folder, collect
        self._name = f"{os.getpid()}-{time.time_ns()}"
        self._alive: int | None = None
        self._writing = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep_writing, name="metrics", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Write for the last time; what was counted is added to the total."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        with self._writing, contextlib.suppress(OSError), self._locked():
            self._write()
            self.disown()
            self._bury_the_dead()

    def disown(self) -> None:
        """Let go of the lock that says that this process lives; a forked child must, or its copy would outlive the parent's."""
        if self._alive is not None:
            os.close(self._alive)
            self._alive = None

    def families(self) -> Families:
        """The sum over all processes, this one as it is now. When the folder cannot be used: this one alone."""
        try:
            with self._writing, self._locked():
                self._write()
                self._bury_the_dead()
                total = _read(self._folder / _TOTAL)
                summed = Families().read(total["families"] if total else ())
                for path in self._folder.glob("*-*.json"):
                    summed.read(_read(path) or ())
            return summed
        except OSError as error:
            logger.warning("counters of other processes are not shown: %s", error)
            return Families().add(self._collect())

    def _keep_writing(self) -> None:
        while not self._stopping.wait(WRITE_SECONDS):
            try:
                with self._writing:
                    if self._alive is None:
                        with self._locked():  # an open file without its lock yet would look dead
                            self._write()
                    else:
                        self._write()
            except Exception as error:  # whatever it is, the next turn may do better
                logger.warning("counters were not shared: %s", error)

    def _write(self) -> None:
        if self._alive is None:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._alive = os.open(self._folder / f"{self._name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._alive, fcntl.LOCK_EX)
        _write(self._folder / f"{self._name}.json", Families().add(self._collect()).document())

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Nobody else sums or buries meanwhile, so that nothing is seen in two places or in none."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            fcntl.flock(handle, fcntl.LOCK_UN)  # a child that was forked meanwhile has the file open, too
            os.close(handle)

    def _bury_the_dead(self) -> None:
        """Add to the total what processes counted that are gone. The total names them, so that one whose file outlived a crash
        at this very place is not added twice."""
        total = _read(self._folder / _TOTAL) or {"families": [], "buried": []}
        dead = [path.stem for path in self._folder.glob("*-*.lock") if self._is_dead(path)]
        new = [name for name in dead if name not in total["buried"]]
        if new:
            summed = Families().read(total["families"])
            for name in new:
                summed.read(_read(self._folder / f"{name}.json") or ())
            _write(self._folder / _TOTAL, {"families": summed.document(counters_only=True), "buried": dead})
        for name in dead:
            (self._folder / f"{name}.json").unlink(missing_ok=True)
            (self._folder / f"{name}.lock").unlink(missing_ok=True)

    def _is_dead(self, path: Path) -> bool:
        if self._alive is not None and path.stem == self._name:
            return False
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(handle)
        return True


def _read(path: Path) -> Any:
    try:
        return orjson.loads(path.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return None


def _write(path: Path, document: Any) -> None:
    beside = path.with_suffix(".new")
    beside.write_bytes(orjson.dumps(document))
    beside.replace(path)


def text(families: Families, further: Iterable[Metric] = ()) -> bytes:
    """In Prometheus' format; `further` are families that are no process's own."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_All(families, tuple(further)))
    return generate_latest(registry)


class _All:
    def __init__(self, families: Families, further: tuple[Metric, ...]) -> None:
        self._families, self._further = families, further

    def collect(self) -> Iterator[Metric]:
        yield from self._families.collect()
        yield from self._further


_shared: SharedMetrics | None = None
_lock = threading.Lock()


def join(folder: Path, collect: Collect) -> SharedMetrics:
    """This process's own; made and started at the first call."""
    global _shared
    with _lock:
        if _shared is None:
            _shared = SharedMetrics(folder, collect)
            _shared.start()
        return _shared


def leave() -> None:
    global _shared
    with _lock:
        left, _shared = _shared, None
    if left is not None:
        left.stop()


def _forget_after_fork() -> None:
    """The thread stays with the parent, and so does its file: a child counts from its own beginning."""
    global _shared, _lock
    if _shared is not None:
        _shared.disown()
    _shared, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget_after_fork)
