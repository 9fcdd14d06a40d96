"""The cache of answers: a request that is exactly like an earlier one is answered from Redis, where the policy says so.

Exactly means: the same operation under the same version of the same policy, the same members for the upstream whatever their order
and white space, the same wishes and permissions, within the policy's scope. How the reply is told (streamed or whole), who the end
user is and what a client notes for itself do not count, unless the answer repeats it. A cache that is away has nothing; it never fails a request.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from time import monotonic, time
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import orjson

from inference import allowing, kept_replies
from inference.attempts import Attempt
from inference.backends.base import Reply, Usage
from inference.cache_waiting import Waiting
from inference.errors import InvalidRequest
from inference.kept_replies import LARGEST_BYTES, KeptReplies
from inference.recording import cost_of
from inference.told_usage import read_usage
from inference.wire import native, retold
from inference.wire.openai import usage_object
from providers.pricing import USD
from routing.cached_answers import generation_key
from routing.loop_store import AWAY

if TYPE_CHECKING:
    from inference.attempts import Trail
    from inference.deciding import Ruling
    from inference.metrics import Metrics
    from inference.wire.native import Native
    from inference.wire.openai import ParsedRequest
    from routing.policy_documents import Cache
    from routing.types import Identity, ModelView

    Header = tuple[bytes, bytes]

HEADER = b"x-gateway-cache"
CONTROL = b"cache-control"
REASON = "answered_from_cache"
"""Why the provider stands in a trace without having been asked."""
FREE = Decimal(0)

HIT, MISS, BYPASS = b"hit", b"miss", b"bypass"

_CACHED = frozenset({"chat", "completions", "embeddings"})
_NOT_DECIDING = frozenset(
    {
        "stream",
        "stream_options",
        "user",
        "metadata",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "prompt_cache_options",
    }
)
"""Members that do not change what is answered, only how it is told, counted or paid."""
_TOLD_AGAIN = {native.RESPONSES: ("metadata", "prompt_cache_key", "safety_identifier", "user")}
"""Of these, members that an upstream's own answer repeats: one client's are not told to another."""
_LONG_NUMBER = re.compile(rb"\d{16}")
"""Beyond which two numbers may be read as one."""
_BARRED = re.compile(
    rb'"(?:finish_reason|stop_reason)"\s*:\s*"(?:content_filter|refusal)"'
    rb'|"type"\s*:\s*"response\.(?:incomplete|failed|cancelled)"'
)
"""What a filter of the moment cut, and what did not come to its end."""
_WAIT_SECONDS = 60.0
"""For the answer of an equal request that is under way."""
MOST_KEPT_BYTES = 256 * 1024 * 1024
"""Of answers that requests of one client key brought in within a day; those that come after are not kept. Redis holds what else the
gateway needs."""
_DAY_SECONDS = 24 * 3600
_PAUSE_SECONDS = 2.0
"""After Redis did not answer, requests do not ask it for so long."""

_KEEP = """
local day = redis.call('INCRBY', KEYS[2], #ARGV[1])
if day == #ARGV[1] then redis.call('EXPIRE', KEYS[2], ARGV[3]) end
if day > tonumber(ARGV[4]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
"""


class Entry(msgspec.Struct, array_like=True, frozen=True):
    """An answer as it is kept. `at` is the epoch second, `cost` what it cost in USD, `tokens` what the provider counted."""

    generation: bytes
    at: float
    api: str
    streamed: bool
    """It is a stream that could not be put together."""
    body: bytes
    provider_id: str
    model_id: str
    cost: str | None
    tokens: tuple[int, int]

    def reply(self, *, stream: bool, with_usage: bool) -> tuple[Reply, bytes | None] | None:
        """The reply and of a stream its first bytes; None when it cannot be told in this way."""
        if self.streamed != stream and (self.streamed or self.api):
            return None
        if not stream:
            return Reply(body=self.body, usage=Usage(), api=self.api), None
        if self.streamed:
            return Reply(chunks=_nothing_more(), usage=Usage(), api=self.api), self.body
        told = retold.events(self.body, with_usage=with_usage)
        if told is None:
            return None
        return Reply(chunks=_only(told[-1]), usage=Usage()), b"".join(told[:-1])


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode


class Found(NamedTuple):
    entry: Entry
    reply: Reply
    first: bytes | None


class Place:
    """Where the answer of one request is looked for, and put."""

    __slots__ = (
        "_generation",
        "_heard",
        "_is_kept",
        "_oldest",
        "_policy",
        "_reply",
        "_rule",
        "_size",
        "_stream",
        "_with_usage",
        "counter",
        "entry",
        "is_sought",
        "key",
        "over",
        "owner",
        "said",
    )

    def __init__(self, request: ParsedRequest, ruling: Ruling, identity: Identity, read: Mapping[bytes, bytes]) -> None:
        """Raises `InvalidRequest` for a wish that is none."""
        self._rule = ruling.decision.cache
        self._policy = ruling.decision.policy
        self._stream = request.stream
        self._with_usage = request.stream and _wants_usage(request)
        self._generation = b""
        self._heard: list[bytes] = []
        self._size = 0
        self._reply: Reply | None = None
        self.key = ""
        self.owner = identity.key_id
        """The client key's number."""
        self.counter = f"gw:cache-bytes:{identity.key_id}"
        """Of the bytes that its client key has had kept."""
        self.over: asyncio.Event | None = None
        """Set when it is known what came of it: of the first of equal requests."""
        self.entry: Entry | None = None
        """What was found."""
        self.is_sought, self._is_kept, self._oldest = _wishes(read)
        if request.operation.name not in _CACHED or _depends_on_more(request):
            self.is_sought = self._is_kept = False
        self.said = MISS if self._is_kept else BYPASS
        if self._is_kept:
            self.key = _key(request, ruling, identity, self._rule)

    @property
    def names(self) -> list[str]:
        """In which Redis holds what may serve; the last one first."""
        names = [generation_key(self._policy), self.key]
        return [*names, self.key + ":s"] if self._stream else names

    @property
    def waits_for_others(self) -> bool:
        """A stream does not: it would be silent until the other one's end."""
        return self.is_sought and not self._stream

    @property
    def headers(self) -> list[Header]:
        told = [(HEADER, self.said)]
        if self.entry is not None:
            told += [(b"age", b"%d" % max(0, time() - self.entry.at)), (b"x-gateway-cost-usd", b"0")]
        return told

    def read(self, told: list[bytes | None]) -> Found | None:
        """Of what stands under `names`, the entry that may serve."""
        self._generation = told[0] or b""
        for key, sealed in reversed(list(zip(self.names, told, strict=True))[1:]):
            entry = _opened(sealed, key) if sealed is not None else None
            if entry is None or entry.generation != self._generation or not self._is_fresh(entry):
                continue
            if (
                self.is_sought
                and (told_as := entry.reply(stream=self._stream, with_usage=self._with_usage)) is not None
            ):
                self.entry, self.said = entry, HIT
                return Found(entry, *told_as)
        return None

    def _is_fresh(self, entry: Entry) -> bool:
        age = time() - entry.at
        return age < self._rule.ttl_seconds and (self._oldest is None or age <= self._oldest)

    def hear(self, reply: Reply, first: bytes | None) -> None:
        """Listen to what the upstream answers."""
        if not self._is_kept:
            return
        self._reply = reply
        if first is not None and reply.chunks is not None:
            self.note(first)
            reply.chunks = _Heard(reply.chunks, self)

    def note(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size <= LARGEST_BYTES:
            self._heard.append(piece)

    @property
    def seconds(self) -> int:
        """For which an answer is kept."""
        return self._rule.ttl_seconds

    def made(self, model: ModelView, usage: Usage | bytes | None) -> tuple[str, bytes] | None:
        """The key and the sealed entry of the answer that was heard; None when it is not to be kept."""
        reply = self._reply
        if reply is None or reply.status != 200:
            return None
        counted = read_usage(usage) if isinstance(usage, bytes) else usage
        streamed = reply.body is None
        body = b"".join(self._heard) if streamed else reply.body or b""
        if max(self._size, len(body)) > LARGEST_BYTES or _BARRED.search(body) is not None:
            return None
        if streamed and not reply.api:
            known = usage_object(counted) if counted is not None and not counted.estimated else None
            put_together = retold.whole(body, known)
            streamed, body = put_together is None, put_together or body
        if not streamed and not _is_answer(body, reply.api):
            return None
        cost = cost_of(model, counted) if counted is not None else None
        entry = Entry(
            self._generation,
            time(),
            reply.api,
            streamed,
            body,
            model.provider.provider_id,
            model.model_id,
            None if cost is None or model.prices.currency != USD else str(cost),
            (0, 0) if counted is None else (counted.input_tokens, counted.output_tokens),
        )
        key = self.key + ":s" if streamed else self.key
        return key, kept_replies.seal(_encode(entry), key)


class ResponseCache:
    """For one event loop."""

    def __init__(self, kept: KeptReplies, metrics: Metrics) -> None:
        self._kept = kept
        self._metrics = metrics
        self._asked_again_at = 0.0
        self._waiting = Waiting()
        self._under_way: dict[str, asyncio.Event] = {}
        """Requests of this process that nobody has answered yet, by key: equal ones wait for the first."""

    async def find(self, place: Place, policy: str) -> Found | None:
        """One round trip, and none for a request that does not want the cache; never raises for what is the store's fault.

        Who is not answered from it says so afterwards, by `keep` or `leave`.
        """
        if place.said is BYPASS:
            return None
        found = await self._look(place)
        if found is None and not self._is_away:
            found = await self._after_the_first(place)
        self._metrics.cached[policy, "miss" if found is None else "hit"] += 1
        if found is not None and found.entry.cost is not None:
            self._metrics.cache_saved[policy] += Decimal(found.entry.cost)
        return found

    @property
    def _is_away(self) -> bool:
        return monotonic() < self._asked_again_at

    async def _after_the_first(self, place: Place) -> Found | None:
        """What an equal request that is under way is answered; None when this one is the first, or goes its own way."""
        found = None
        ahead = self._under_way.get(place.key)
        if ahead is not None and place.waits_for_others and self._waiting.has_room(place.owner):
            with contextlib.suppress(TimeoutError), self._waiting.one(place.owner):
                async with asyncio.timeout(_WAIT_SECONDS):
                    await ahead.wait()
            found = await self._look(place)
        if found is None and place.key not in self._under_way:
            self._under_way[place.key] = place.over = asyncio.Event()
        return found

    async def _look(self, place: Place) -> Found | None:
        if self._is_away:
            return None
        try:
            told: list[Any] = await self._kept.store.mget(place.names)
        except AWAY:
            self._asked_again_at = monotonic() + _PAUSE_SECONDS
            return None
        return place.read(told)

    def keep(self, place: Place, trail: Trail, usage: Usage | bytes | None) -> None:
        """The complete answer, after the reply, off its client's wait."""
        if trail.model is not None and not self._is_away:
            self._kept.afterwards(self._keep(place, trail.model, usage))
        else:
            self.leave(place)

    async def _keep(self, place: Place, model: ModelView, usage: Usage | bytes | None) -> None:
        try:
            made = place.made(model, usage)
            if made is not None:
                key, sealed = made
                numbers = (place.seconds, _DAY_SECONDS, MOST_KEPT_BYTES)
                await self._kept.store.eval(_KEEP, 2, key, place.counter, sealed, *numbers)  # type: ignore[misc]
        except AWAY:
            self._asked_again_at = monotonic() + _PAUSE_SECONDS
        finally:
            self.leave(place)

    def leave(self, place: Place) -> None:
        """There will be no answer of it, or it is there: those who waited for it go on."""
        if place.over is not None:
            self._under_way.pop(place.key, None)
            place.over.set()
            place.over = None


async def count(trail: Trail, ruling: Ruling, identity: Identity, tags: tuple[str, ...], entry: Entry) -> None:
    """Write a hit down: it counts as a request in limits, and takes nothing of budgets. Raises the limit's error."""
    saved = {"cost": entry.cost, "input_tokens": entry.tokens[0], "output_tokens": entry.tokens[1]}
    trail.ruling = ruling
    trail.route = f"{entry.provider_id}/{entry.model_id}"
    trail.log = [Attempt(entry.provider_id, entry.model_id, REASON, 0, "", time(), saved=saved)]
    await allowing.take_turn(trail, ruling.snapshot, identity, tags, ruling.candidates[0].model)


def _opened(sealed: bytes, key: str) -> Entry | None:
    """None of what another release wrote in its own way, or under a key that is gone."""
    told = kept_replies.unseal(sealed, key)
    try:
        return None if told is None else _decode(told)
    except msgspec.MsgspecError:
        return None


def _wishes(read: Mapping[bytes, bytes]) -> tuple[bool, bool, int | None]:
    """Whether an answer is looked for, whether this one is kept, and how old one may be in seconds."""
    own = read.get(HEADER)
    if own is not None:
        if own not in (b"off", b"refresh", b"on"):
            raise InvalidRequest("x-gateway-cache is on, off or refresh.", param="x-gateway-cache")
        return own == b"on", own != b"off", None
    told = read.get(CONTROL)
    if told is None:
        return True, True, None
    words = [word.strip() for word in told.lower().split(b",")]
    ages = [word[8:].strip(b'"') for word in words if word.startswith(b"max-age=")]
    oldest = min((int(age) for age in ages if age.isdigit() and len(age) < 12), default=None)
    if b"no-store" in words:
        return False, False, None
    return b"no-cache" not in words and oldest != 0, True, oldest


def _depends_on_more(request: ParsedRequest) -> bool:
    """What a chat completion cannot say (an earlier response, files of the provider) may be another thing tomorrow."""
    return request.native is not None and request.native.untranslatable is not None


def _wants_usage(request: ParsedRequest) -> bool:
    options = request.fields.get("stream_options")
    try:
        told = orjson.loads(bytes(options)) if options is not None else None
    except orjson.JSONDecodeError:
        return False
    return isinstance(told, dict) and told.get("include_usage") is True


def _key(request: ParsedRequest, ruling: Ruling, identity: Identity, rule: Cache) -> str:
    decision = ruling.decision
    policy = ruling.snapshot.policies.get(decision.policy)
    first = ruling.candidates[0]
    return "gw:cache:" + kept_replies.digest(
        "response-cache",
        _whose(identity, rule.scope),
        decision.policy.encode("utf-8", "surrogatepass"),
        b"%d" % decision.version,
        b"" if policy is None else policy.salt,
        first.model.route.encode() if first.role == "override" else b"",
        request.operation.name.encode(),
        repr(_routed_by(request, identity)).encode("utf-8", "surrogatepass"),
        *_canonical(request.fields),
        *(_of_native(request.native) if request.native is not None else ()),
    )


def _of_native(said: Native) -> list[bytes]:
    headers = repr(sorted(said.headers)).encode()
    notes = [name.encode() + bytes(said.fields[name]) for name in _TOLD_AGAIN.get(said.api, ()) if name in said.fields]
    return [said.api.encode(), headers, *_canonical(said.fields), b"%d" % len(notes), *notes]


def _whose(identity: Identity, scope: str) -> bytes:
    if scope == "everyone":
        return b"everyone"
    if scope == "team" and identity.team_id is not None:
        return b"team %d" % identity.team_id
    return b"key %d" % identity.key_id


def _routed_by(request: ParsedRequest, identity: Identity) -> tuple[object, ...]:
    """What the caller wishes and may have: another one could be given another model."""
    allowed = (identity.allowed_models, identity.allowed_policies, identity.allowed_providers)
    return (
        *(None if one is None else sorted(one) for one in allowed),
        request.provider_id,
        request.preferred_model,
        request.task,
        request.require_vision,
        request.max_cost,
        request.local_only,
        sorted(request.data_tags),
        sorted(request.capabilities),
        request.max_cost_tier,
        request.strategy,
    )


def _canonical(fields: Mapping[str, msgspec.Raw]) -> list[bytes]:
    told = []
    for name in sorted(fields.keys() - _NOT_DECIDING):
        told += [name.encode("utf-8", "surrogatepass"), _canonical_value(bytes(fields[name]))]
    return told


def _canonical_value(raw: bytes) -> bytes:
    """Equal for values that mean the same; of some that are not worth the doubt, the bytes as they were sent."""
    if _LONG_NUMBER.search(raw) is not None:
        return raw
    try:
        return orjson.dumps(orjson.loads(raw), option=orjson.OPT_SORT_KEYS)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return raw


def _is_answer(body: bytes, api: str) -> bool:
    """Whether it is a complete answer, and not something else under status 200."""
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    if not isinstance(told, dict) or told.get("error"):
        return False
    if api == native.MESSAGES:
        return bool(told.get("stop_reason"))
    if api == native.RESPONSES:
        return told.get("status") == "completed"
    if api:  # Ollama's two
        return told.get("done") is True
    choices = told.get("choices")
    if isinstance(choices, list):
        return bool(choices) and all(isinstance(one, dict) and one.get("finish_reason") for one in choices)
    return isinstance(told.get("data"), list)


class _Heard:
    """A reply's chunks on their way through."""

    def __init__(self, chunks: AsyncIterator[bytes], place: Place) -> None:
        self._chunks = chunks
        self._place = place

    def __aiter__(self) -> _Heard:
        return self

    async def __anext__(self) -> bytes:
        piece = await anext(self._chunks)
        self._place.note(piece)
        return piece

    async def aclose(self) -> None:
        close: Any = getattr(self._chunks, "aclose", None)
        if close is not None:
            await close()


async def _only(piece: bytes) -> AsyncIterator[bytes]:
    yield piece


async def _nothing_more() -> AsyncIterator[bytes]:
    return
    yield b""
