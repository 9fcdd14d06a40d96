"""What migrating needs of a vector store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from inference.vector_stores.naming import Collection

Heard = Callable[[int], object]
"""Told how many more records are copied."""


class StoreFailed(Exception):
    """A sentence for the operator, without secrets: what the store did not do."""


class Store(Protocol):
    label: str
    """The store's place, fit to be shown."""

    def collections(self) -> list[Collection]: ...

    def resumable(self) -> list[str]:
        """Names of copies that were begun and not ended: they may be written on."""
        ...

    def rename(self, collection: Collection, target: str) -> None:
        """Verified: raises `StoreFailed` unless everything is there under the new name."""
        ...

    def copy(self, collection: Collection, target: str, heard: Heard) -> None:
        """Verified: raises `StoreFailed` unless the copy is equal, record by record. The old one stays."""
        ...

    def split(self, collection: Collection, target: str) -> None:
        """Move the vectors of this collection's dimension, verified."""
        ...
