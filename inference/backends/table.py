"""Which backend object serves a provider: one per configuration and event loop, made on first use.

A backend owns connection pools, which belong to one loop. It is keyed by `ProviderView.fingerprint`, so an edit that does
not touch a provider keeps its pools; a replaced one is closed when its last request has ended.
"""

from __future__ import annotations

import asyncio
import logging
from importlib import import_module

from inference.backends.base import Backend
from inference.errors import ConfigurationError
from routing.types import ProviderView, Snapshot

logger = logging.getLogger("gateway.backends")

RELAY = "inference.backends.worker_relay.WorkerRelay"


class Shared:
    """A backend and how many requests it serves at this moment."""

    __slots__ = ("backend", "in_flight", "retired")

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.in_flight = 0
        self.retired = False


class BackendTable:
    """For one event loop, which alone may touch it. `inside_worker` says that local engines run here, not over the relay."""

    def __init__(self, *, inside_worker: bool = False) -> None:
        self._shared: dict[str, Shared] = {}
        self._revision = -1
        self._closing: set[asyncio.Task[None]] = set()
        self._inside_worker = inside_worker

    def take(self, provider: ProviderView) -> Shared:
        """The caller gives it back with `give_back`, whatever happens."""
        shared = self._of(provider)
        shared.in_flight += 1
        return shared

    def speaks(self, provider: ProviderView, api: str) -> bool:
        """Whether the provider takes calls in the protocol as they came."""
        return api in self._of(provider).backend.speaks

    def give_back(self, shared: Shared) -> None:
        shared.in_flight -= 1
        if shared.retired and shared.in_flight == 0:
            self._close(shared)

    def follow(self, snapshot: Snapshot) -> None:
        """Retire what the new revision no longer names."""
        if snapshot.revision == self._revision:
            return
        self._revision = snapshot.revision
        named = {provider.fingerprint for provider in snapshot.providers.values()}
        for fingerprint in [known for known in self._shared if known not in named]:
            shared = self._shared.pop(fingerprint)
            shared.retired = True
            if shared.in_flight == 0:
                self._close(shared)

    async def aclose(self) -> None:
        for shared in self._shared.values():
            self._close(shared)
        self._shared.clear()
        if self._closing:
            await asyncio.gather(*self._closing, return_exceptions=True)

    def _of(self, provider: ProviderView) -> Shared:
        shared = self._shared.get(provider.fingerprint)
        if shared is None:
            shared = self._shared[provider.fingerprint] = Shared(self._make(provider))
        return shared

    def _make(self, provider: ProviderView) -> Backend:
        path = provider.backend if provider.runs_in == "web" or self._inside_worker else RELAY
        module, _, name = path.rpartition(".")
        try:
            backend_class = getattr(import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigurationError(
                f"The provider '{provider.provider_id}' cannot be used: its type '{provider.provider_type}' does not load.",
                detail=f"backend {path}: {error}",
            ) from error
        try:
            backend: Backend = backend_class(provider)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"The provider '{provider.provider_id}' cannot be used: one of its parameters has a value that cannot work.",
                detail=f"{type(error).__name__} in {path}",
            ) from error
        return backend

    def _close(self, shared: Shared) -> None:
        task = asyncio.get_running_loop().create_task(_close_quietly(shared.backend))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def _close_quietly(backend: Backend) -> None:
    try:
        await backend.aclose()
    except Exception:
        logger.exception("a retired backend did not close")
