"""The model that somebody chose for a session, until they choose another or the day is over: in Redis, for all processes.

A selection belongs to the client key that made it: a session of the same name under another key is another session. It counts
for requests that name no model; a model for texts and one for embeddings are selected apart. A store that is away has no selections; it never keeps a request from being served.
"""

from __future__ import annotations

import hashlib
import time

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from routing import loop_store
from routing.loop_store import AWAY

DAY_SECONDS = 24 * 3600
LONGEST_SECONDS = 30 * DAY_SECONDS
_PATIENCE_SECONDS = 1.0
_PAUSE_SECONDS = 2.0
"""After the store did not answer, requests do not ask it for so long."""

_REMEMBERED_SECONDS = 1.0
_MOST_REMEMBERED = 10_000
_of_keys: dict[tuple[str, bool], tuple[float, str | None]] = {}
"""By the prefix of a client key, and whether for embeddings: until when, and what it selected without a session."""

_changes = 0
"""How often this process changed a selection: what was asked before one is not remembered after it."""

_asked_again_at = 0.0


class SelectionsAway(Exception):
    """The store does not answer: nothing can be selected now."""


async def selected(identity_prefix: str, session_id: str | None, *, embeddings: bool = False) -> str | None:
    """The name selected for the session (for the client key itself, when there is no session); None without any.

    One round trip, bounded; never raises. What a key selected is remembered for a moment, since most
    requests that name neither model nor session have nothing selected.
    """
    if session_id:
        return await _asked(_key(identity_prefix, session_id, embeddings))
    remembered = _of_keys.get((identity_prefix, embeddings))
    if remembered is not None and time.monotonic() < remembered[0]:
        return remembered[1]
    before = _changes
    found = await _asked(_key(identity_prefix, None, embeddings))
    if before != _changes:
        return found
    if len(_of_keys) >= _MOST_REMEMBERED:
        _of_keys.clear()
    _of_keys[identity_prefix, embeddings] = time.monotonic() + _REMEMBERED_SECONDS, found
    return found


async def _asked(key: str) -> str | None:
    global _asked_again_at
    if time.monotonic() < _asked_again_at:
        return None
    try:
        return _text(await loop_store.current().get(key))
    except AWAY:
        _asked_again_at = time.monotonic() + _PAUSE_SECONDS
        return None


def read(identity_prefix: str, session_id: str | None, *, embeddings: bool = False) -> str | None:
    """As `selected`, for synchronous code. Raises `SelectionsAway`."""
    try:
        with _store() as store:
            return _text(store.get(_key(identity_prefix, session_id, embeddings)))
    except AWAY as error:
        raise SelectionsAway(type(error).__name__) from error


def select(
    identity_prefix: str,
    session_id: str | None,
    name: str,
    *,
    embeddings: bool = False,
    ttl_seconds: int = DAY_SECONDS,
) -> None:
    """From now on the session's requests without a model mean `name`; in other processes those of a key without a session
    within a second. Raises `SelectionsAway`."""
    try:
        with _store() as store:
            store.set(_key(identity_prefix, session_id, embeddings), name, ex=max(1, min(ttl_seconds, LONGEST_SECONDS)))
    except AWAY as error:
        raise SelectionsAway(type(error).__name__) from error
    finally:
        _changed(identity_prefix, embeddings)


def forget(identity_prefix: str, session_id: str | None, *, embeddings: bool = False) -> None:
    """Take a selection back. Raises `SelectionsAway`."""
    try:
        with _store() as store:
            store.delete(_key(identity_prefix, session_id, embeddings))
    except AWAY as error:
        raise SelectionsAway(type(error).__name__) from error
    finally:
        _changed(identity_prefix, embeddings)


def _changed(identity_prefix: str, embeddings: bool) -> None:
    global _changes
    _changes += 1
    _of_keys.pop((identity_prefix, embeddings), None)


def _store() -> redis.Redis:
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=_PATIENCE_SECONDS,
        socket_connect_timeout=_PATIENCE_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )


def _key(identity_prefix: str, session_id: str | None, embeddings: bool) -> str:
    """Of one length, whatever a client calls its session."""
    told = f"{identity_prefix}\0{embeddings:d}\0{session_id or ''}".encode("utf-8", "surrogatepass")
    return f"gw:selected:{hashlib.sha256(told).hexdigest()[:40]}"


def _text(value: bytes | str | None) -> str | None:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
