"""Which local models are loaded in this worker: each once, within a memory budget, the longest unused unloaded first.

A model is held by a *lease* while a request uses it and never unloaded meanwhile. Plans are made with estimates from the
file, or with what the engine's process takes where that is more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from inference import model_folders
from inference.engine.spec import ModelSpec
from inference.engine.supervised import EngineChoice, SupervisedEngine
from inference.engine.transformers_spec import TransformersSpec
from inference.errors import ModelUnavailable, OutOfMemory

_MEGABYTE = 1024 * 1024
_LEAST_LIMIT = 1024 * _MEGABYTE
_WAIT_SECONDS = 30.0

Spec = ModelSpec | TransformersSpec


@dataclass(frozen=True, slots=True)
class ResidentModel:
    """A line of the status page. `engine` is empty while the model is being loaded."""

    name: str
    path: str
    engine: str
    memory_bytes: int
    users: int
    load_seconds: float
    last_used_at: float
    """Epoch seconds."""
    notes: tuple[str, ...] = ()
    id: str = ""
    """Of this very spec, however often it is loaded."""
    context_size: int | None = None
    cache_tokens: int | None = None
    gpu_layers: int = 0
    """-1: all of them."""


@dataclass(slots=True)
class _Resident:
    spec: Spec
    engine: SupervisedEngine
    bytes: int
    device_bytes: int = 0
    users: int = 0
    last_used_at: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True)
class _TooMuch:
    """`alone`: it would not fit either if nothing else were loaded. `on_device`: only models of its library are in its way."""

    error: OutOfMemory
    alone: bool
    on_device: bool = False


class Residency:
    """`choose` says which engine this machine can trust; it may be slow the first time and is asked at every load."""

    def __init__(
        self,
        *,
        choose: Callable[[], EngineChoice],
        memory_budget_mb: int | None = None,
        folders: Sequence[Path] = (),
        start: Callable[..., SupervisedEngine] = SupervisedEngine,
        wait_seconds: float = _WAIT_SECONDS,
    ) -> None:
        self._choose = choose
        self._budget = memory_budget_mb * _MEGABYTE if memory_budget_mb else None
        self._folders = model_folders.named(folders)
        self._start = start
        self._wait_seconds = wait_seconds
        self._changed = threading.Condition()
        self._residents: dict[Spec, _Resident] = {}
        self._closed = False

    @contextmanager
    def lease(self, spec: Spec) -> Iterator[SupervisedEngine]:
        """The model's engine, loaded, for as long as the block runs.

        Raises `ModelUnavailable` when it cannot be loaded, `OutOfMemory` when it does not fit beside models in use.
        """
        resident = self._take(spec)
        try:
            ready = resident.engine.start()
            resident.bytes = max(resident.bytes, ready.memory_bytes)
            resident.device_bytes = max(resident.device_bytes, ready.device_bytes)
            yield resident.engine
        finally:
            self._give_back(resident)

    def _take(self, spec: Spec) -> _Resident:
        choice = EngineChoice(spec.library) if spec.library else self._choose()
        with self._changed:
            resident = self._residents.get(spec.key)
            if resident is not None and resident.users == 0 and resident.engine.choice.name != choice.name:
                # Another engine has become the better one, such as when a build got ready.
                self._unload(resident)
                resident = None
            if resident is None:
                resident = self._make_place(spec, choice)
            resident.users += 1
            resident.last_used_at = time.time()
            return resident

    def _check_folder(self, spec: Spec) -> None:
        """A model file is parsed by C++: where an operator names folders, nobody's registry entry reaches beyond them."""
        adapters = spec.options.files if isinstance(spec, ModelSpec) else ()
        for file in (spec.path, *adapters):
            if not model_folders.is_allowed(file, self._folders):
                raise ModelUnavailable(
                    "The model's file lies where models may not be loaded from.",
                    detail=f"{spec.name or spec.path}: {file} is outside GATEWAY_MODEL_FOLDERS",
                )

    def _make_place(self, spec: Spec, choice: EngineChoice) -> _Resident:
        self._check_folder(spec)
        needed, on_device = spec.estimated_bytes(), spec.device_bytes()
        deadline = time.monotonic() + self._wait_seconds
        while (why := self._too_much(spec, needed, on_device)) is not None:
            idle = [
                resident
                for resident in self._residents.values()
                if resident.users == 0 and (not why.on_device or resident.spec.library == spec.library)
            ]
            remaining = deadline - time.monotonic()
            if why.alone or (not idle and (not self._residents or remaining <= 0)):
                raise why.error
            if idle:
                self._unload(min(idle, key=lambda resident: resident.last_used_at))
                continue
            self._changed.wait(remaining)
            if spec.key in self._residents:
                return self._residents[spec.key]
        if self._closed:
            raise ModelUnavailable(
                "The model was unloaded.", detail=f"{spec.name or spec.path}: all models were unloaded"
            )
        limit = max(self._budget, _LEAST_LIMIT) if self._budget is not None else None
        resident = _Resident(spec, self._start(spec, choice, memory_limit=limit), needed, on_device)
        self._residents[spec.key] = resident
        return resident

    def _used(self) -> int:
        return sum(resident.bytes for resident in self._residents.values())

    def _too_much(self, spec: Spec, needed: int, on_device: int) -> _TooMuch | None:
        """Why there is no room now: this worker's budget, or the memory that the model may share with others of its library."""
        remedy = "lower `context_size`, or start another worker"
        if self._budget is not None and self._used() + needed > self._budget:
            error = _does_not_fit(spec, needed, self._used(), self._budget, f"Raise GATEWAY_LOCAL_MEMORY_MB, {remedy}")
            return _TooMuch(error, alone=needed > self._budget)
        used, most = self._used_on_device(spec), spec.max_memory_bytes
        if most is not None and used + on_device > most:
            error = _does_not_fit(spec, on_device, used, most, f"Raise `max_memory_gb`, {remedy}")
            return _TooMuch(error, alone=on_device > most, on_device=True)
        return None

    def _used_on_device(self, spec: Spec) -> int:
        return sum(other.device_bytes for other in self._residents.values() if other.spec.library == spec.library)

    def _give_back(self, resident: _Resident) -> None:
        with self._changed:
            resident.users -= 1
            resident.last_used_at = time.time()
            if resident.users == 0 and resident.engine.ready is None:
                # It never loaded, or its child has died: the next request begins anew, and its memory is free.
                self._forget(resident)
            self._changed.notify_all()

    def _unload(self, resident: _Resident) -> None:
        self._forget(resident)
        resident.engine.close()

    def _forget(self, resident: _Resident) -> None:
        if self._residents.get(resident.spec.key) is resident:
            del self._residents[resident.spec.key]

    def preload(self, spec: Spec) -> None:
        """Load a model before anybody asks; the same errors as `lease`."""
        with self.lease(spec):
            pass

    def unload(self, spec: Spec) -> bool:
        """Unload a model that nobody uses; False when it is in use or not loaded."""
        with self._changed:
            resident = self._residents.get(spec.key)
            if resident is None or resident.users:
                return False
            self._unload(resident)
            self._changed.notify_all()
            return True

    def unload_by_id(self, model_id: str) -> bool:
        """The same of one that `resident` told of."""
        with self._changed:
            spec = next((spec for spec in self._residents if _id(spec) == model_id), None)
        return spec is not None and self.unload(spec)

    @property
    def budget_bytes(self) -> int | None:
        return self._budget

    def resident(self) -> list[ResidentModel]:
        """The loaded models, the last used first."""
        with self._changed:
            residents = sorted(self._residents.values(), key=lambda resident: -resident.last_used_at)
            return [_shown(resident) for resident in residents]

    def close(self) -> None:
        """Unload everything, in use or not, and load nothing more."""
        with self._changed:
            self._closed = True
            residents, self._residents = list(self._residents.values()), {}
            self._changed.notify_all()
        for resident in residents:
            resident.engine.close()


def _shown(resident: _Resident) -> ResidentModel:
    ready = resident.engine.ready
    return ResidentModel(
        name=resident.spec.name,
        path=str(resident.spec.path),
        engine=ready.engine if ready else "",
        memory_bytes=resident.bytes,
        users=resident.users,
        load_seconds=ready.load_seconds if ready else 0.0,
        last_used_at=resident.last_used_at,
        notes=ready.notes if ready else (),
        id=_id(resident.spec),
        context_size=getattr(ready, "context_size", None) or resident.spec.context_size,
        cache_tokens=getattr(ready, "cache_tokens", None) or resident.spec.cache_tokens,
        gpu_layers=resident.spec.gpu_layers,
    )


def _does_not_fit(spec: Spec, needed: int, used: int, limit: int, remedy: str) -> OutOfMemory:
    return OutOfMemory(
        "There is not enough memory for this model on the worker.",
        detail=(
            f"{spec.name or spec.path} needs about {needed // _MEGABYTE} MB; {used // _MEGABYTE} of "
            f"{limit // _MEGABYTE} MB are in use. {remedy}"
        ),
        retry_after=5.0,
    )


def _id(spec: Spec) -> str:
    return blake2b(repr(spec.key).encode(), digest_size=6).hexdigest()
