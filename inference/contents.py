"""What was asked and answered, of those who opted in: heard on the request path, and kept by the recorder's thread.

Off for everybody until a client key or a policy says otherwise, and then only for the share of requests that is sampled. The request path
copies bytes up to a bound and no more; the thread makes text of them, strikes secrets out, cuts, and hands it on to be encrypted. It is
no ledger: what does not fit, or cannot be written, is dropped and counted.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import orjson
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric

from inference import shadow_texts
from inference.backends.refusals import Reader
from inference.deciding import Ruling
from inference.wire.errors import without_credentials
from inference.wire.openai import ParsedRequest
from providers.connection import secrets_in
from routing.snapshot import current
from routing.types import Identity, Snapshot

logger = logging.getLogger("gateway.recording")

LONGEST_TEXT = 65_536
"""Characters of each that are kept."""
_MOST_HEARD = 1_048_576
"""Bytes of each that are held until the text is made of them."""
_MOST_WAITING_BYTES = 32 * 1_048_576
_AT_ONCE = 50


class Kept(NamedTuple):
    """As it is to be stored."""

    request_id: str
    at: datetime
    request: str
    answer: str
    cut: bool


Write = Callable[[Sequence[Kept]], None]


class Capture:
    """One request that is listened to."""

    __slots__ = ("_pieces", "_room", "at", "cut", "operation", "question", "request_id", "secrets", "stream", "subject")

    def __init__(self, request_id: str, at: float, request: ParsedRequest, secrets: Iterable[str]) -> None:
        self.request_id = request_id
        self.at = at
        self.operation = request.operation.name
        self.subject = request.operation.subject
        self.stream = request.stream
        self.secrets = tuple(secrets)
        asked = memoryview(request.fields[self.subject])
        self.question = bytes(asked[:_MOST_HEARD])
        self.cut = len(asked) > _MOST_HEARD
        self._pieces: list[bytes] = []
        self._room = _MOST_HEARD

    def hear(self, piece: bytes) -> None:
        if self._room > 0:
            self._pieces.append(piece[: self._room])
        self._room -= len(piece)

    def hear_no_more(self) -> None:
        """Of an answer that is no text."""
        self._room = 0

    @property
    def answer(self) -> bytes:
        return b"".join(self._pieces)

    @property
    def size(self) -> int:
        return len(self.question) + sum(map(len, self._pieces))

    @property
    def answer_cut(self) -> bool:
        return self._room < 0


class Contents:
    """For one process. `begin` and `end` are the request path's, `write_waiting` the recorder thread's."""

    def __init__(self, write: Write, sampling: float) -> None:
        self._write = write
        self._sampling = sampling
        self._waiting: deque[Capture] = deque()
        self._bytes = 0
        self._counting = threading.Lock()
        self._under: Snapshot | None = None
        self._policies: frozenset[tuple[str, int]] = frozenset()
        self.dropped = 0

    def begin(
        self,
        request_id: str,
        at: float,
        request: ParsedRequest,
        identity: Identity | None,
        ruling: Ruling,
        secret: str = "",
    ) -> Capture | None:
        """None, as for almost all requests, when nothing is to be kept. `secret` is the key that the client showed."""
        if identity is None or not identity.captures_content:
            if self._under is not ruling.snapshot:
                self._under, self._policies = ruling.snapshot, _capturing(ruling.snapshot)
            if not self._policies or (ruling.decision.policy, ruling.decision.version) not in self._policies:
                return None
        if self._sampling < 1 and random.random() >= self._sampling:
            return None
        return Capture(request_id, at, request, (secret,) if secret else ())

    def end(self, capture: Capture) -> None:
        with self._counting:
            if self._bytes + capture.size > _MOST_WAITING_BYTES:
                self.dropped += 1
                return
            self._bytes += capture.size
        self._waiting.append(capture)

    def write_waiting(self) -> None:
        """Never raises: a trace without its content is a trace all the same."""
        while self._waiting:
            some = [self._waiting.popleft() for _ in range(min(len(self._waiting), _AT_ONCE))]
            with self._counting:
                self._bytes -= sum(one.size for one in some)
            try:
                own = _live_secrets()
                self._write([kept(one, own) for one in some])
            except Exception as error:
                self.dropped += len(some)
                logger.warning("%d captured contents were not written: %s", len(some), type(error).__name__)

    def families(self) -> Iterator[Metric]:
        dropped = CounterMetricFamily("gateway_contents_dropped", "Captured prompts and answers that were not kept.")
        dropped.add_metric([], self.dropped)
        yield dropped


def kept(capture: Capture, own: Sequence[str]) -> Kept:
    """The texts, without the secrets of this installation, the client's own, and whatever looks like one."""
    strike = Reader([*own, *capture.secrets])
    asked, asked_cut = _fitting(strike.redacted_text(_question(capture)))
    said, said_cut = _fitting(strike.redacted_text(_answer(capture)))
    return Kept(
        capture.request_id,
        datetime.fromtimestamp(capture.at, UTC),
        asked,
        said,
        capture.cut or capture.answer_cut or asked_cut or said_cut,
    )


def _question(capture: Capture) -> str:
    raw = capture.question
    try:
        told = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return raw.decode("utf-8", "replace")
    if capture.operation in ("chat", "completions"):
        return shadow_texts.Asked(capture.operation, {capture.subject: told}, None, len(raw)).text
    return told if isinstance(told, str) else raw.decode("utf-8", "replace")


def _answer(capture: Capture) -> str:
    raw = capture.answer
    if not raw or capture.operation == "embeddings":  # numbers tell nobody anything
        return ""
    try:
        return shadow_texts.said(raw, stream=capture.stream).text
    except shadow_texts.Unreadable:
        return raw.decode("utf-8", "replace")


def _fitting(text: str) -> tuple[str, bool]:
    text = without_credentials(text).replace("\0", "")
    return text[:LONGEST_TEXT], len(text) > LONGEST_TEXT


def _live_secrets() -> list[str]:
    """Every key that this installation shows upstream, and the secret parts of its connections."""
    providers = {model.provider.provider_id: model.provider for model in current().models}
    return [
        secret.reveal()
        for provider in providers.values()
        for secret in (*(key.secret for key in provider.keys), *secrets_in(provider.connection))
    ]


def _capturing(snapshot: Snapshot) -> frozenset[tuple[str, int]]:
    """Policies by name and version of which the contents are kept."""
    versions = (
        (policy.name, version)
        for policy in snapshot.each_policy()
        for version in (policy.active, policy.candidate)
        if version is not None
    )
    return frozenset((name, version.number) for name, version in versions if version.document.captures_content)
