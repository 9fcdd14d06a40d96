"""Which vector store an address means."""

from __future__ import annotations

from contextlib import AbstractContextManager
from urllib.parse import urlsplit

from inference.vector_stores.chroma import Chroma
from inference.vector_stores.pgvector import PgVector
from inference.vector_stores.store import Store, StoreFailed


def opened(address: str, **options: str) -> AbstractContextManager[Store]:
    """The store at `http(s)://…` (Chroma, which takes the options) or `postgresql://…` (pgvector). Raises `StoreFailed`."""
    scheme = urlsplit(address).scheme
    if scheme in ("http", "https"):
        return Chroma.opened(address, **options)
    if scheme in ("postgresql", "postgres"):
        return PgVector.opened(address)
    raise StoreFailed(
        "Say http://HOST:8000 for a Chroma server (`chroma run --path FOLDER` serves a folder) or postgresql://… for pgvector."
    )
