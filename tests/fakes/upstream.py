"""A scriptable OpenAI-compatible upstream on a real socket, with every fault that a real one can have.

It listens on 127.0.0.1 at a free port, in a thread with an event loop of its own, so sync and async tests use it alike::

    with FakeUpstream(api_key="sk-upstream") as upstream:
        provider = make_provider(base_url=upstream.base_url)      # http://127.0.0.1:PORT/v1
        ...
        assert upstream.requests[-1].json["model"] == "gpt-test"
        assert upstream.requests[-1].headers["authorization"] == "Bearer sk-upstream"

Unscripted it behaves well: `/chat/completions` and `/completions` echo the last user message (whole or streamed, `n`,
`stop`, `max_tokens`, `logprobs`, `stream_options.include_usage`; with `tools` and no result yet they call the first tool, with a JSON
`response_format` they answer JSON), `/responses` do the same in their own words (`tests.fakes.responses`), `/embeddings` gives deterministic vectors (`float` and `base64`, `dimensions`), `/models`
lists `models`; what it says of pictures, sound, moderations and rerankings stands in `tests.fakes.media`. With `api_key`
every request must carry it, else 401. Paths are matched by their end, so Azure's work too.

Scripted answers are used up first, in order, one per request::

    upstream.script(rate_limited(retry_after=2), Answer())        # a 429, then a well-behaved answer
    upstream.reply_with(status=500, json={"error": {"message": "boom"}})
    upstream.reply_with(cut_after=2)                              # the default stream, cut after two events
    upstream.reply_with(events=[{"choices": []}, "[DONE]"], event_delay_seconds=0.05)
    upstream.reply_with(html(), times=None)                       # from now on, until `clear()`

An `Answer` without `json`, `body`, `events` or `raw` is the default answer with the faults of that `Answer`. `cut_after`,
`stall_after` and `reset_after` count events of a stream and bytes of a whole body. Ready-made faults are the functions at
the end: `rate_limited`, `failure`, `html`, `garbage`, `redirect`, `in_band_error`, `gzip_bomb`, `no_answer`.

What it saw stands in `requests` (method, path, query, headers, body, json, connection number, and whether and when the
client left before the answer was over: `request.wait_until_left(1.0)`). `output_tokens_sent` and each request's
`output_tokens` count the tokens whose bytes were really written; `reported_usage` is what the request's answer claimed.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import itertools
import json as json_module
import socket
import ssl
import struct
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.fakes import media, ollama, responses

CREATED = 1_700_000_000
DEFAULT_DIMENSIONS = 8


@dataclass(frozen=True)
class Answer:
    """What the upstream does with one request. Times are in seconds."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    body: bytes | str | None = None
    events: Sequence[Any] | None = None
    """A stream: dicts are JSON events, a str is the data of one, bytes are written as they are."""
    raw: bytes | None = None
    """Written instead of any HTTP reply."""
    content_type: str | None = None
    framing: str | None = None
    """`length`, `chunked` or `close`; by default streams are chunked and whole replies have a length."""
    encoding: str | None = None
    """`gzip` or `deflate` the body, with its header."""
    delay_seconds: float = 0.0
    """Before the first byte."""
    event_delay_seconds: float = 0.0
    """Before each event after the first."""
    header_byte_delay_seconds: float = 0.0
    """Between the single bytes of the reply's head."""
    interim: Sequence[bytes] = ()
    """1xx replies, written before the real one."""
    cut_after: int | None = None
    stall_after: int | None = None
    """Then nothing more, with the connection held open until the client leaves."""
    reset_after: int | None = None
    close: bool = False
    """Announce `connection: close` and close after the reply."""
    close_silently: bool = False
    """Close right after the reply without having announced it: the client's kept connection goes stale."""
    half_close: bool = False
    """Shut only our sending side down after the reply."""
    hang: bool = False
    """No answer at all until the client leaves."""


@dataclass
class RecordedRequest:
    """A request as it came in; times are on `time.monotonic`."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int
    received_at: float
    finished_at: float | None = None
    left_at: float | None = None
    """When the client closed before the answer was over."""
    events_sent: int = 0
    output_tokens: int = 0
    reported_usage: dict[str, Any] | None = None
    _over: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return {name: values[-1] for name, values in parse_qs(urlsplit(self.target).query).items()}

    @property
    def json(self) -> Any:
        return json_module.loads(self.body)

    @property
    def disconnected(self) -> bool:
        return self.left_at is not None

    def wait_until_over(self, seconds: float = 60.0) -> bool:
        """Wait for the answer's end or the client's; False when neither came in time."""
        return self._over.wait(seconds)

    def wait_until_left(self, seconds: float = 60.0) -> bool:
        return self._over.wait(seconds) and self.disconnected

    async def until_left(self, seconds: float = 60.0) -> bool:
        return await asyncio.to_thread(self.wait_until_left, seconds)


class FakeUpstream:
    """The server. Use it as a context manager, or `start()` and `stop()`."""

    def __init__(
        self,
        *,
        api_key: str | None = None,
        models: Sequence[str] = ("gpt-test", "gpt-test-mini", "embed-test"),
        ssl_context: ssl.SSLContext | None = None,
        headers: Mapping[str, str] | None = None,
        event_delay_seconds: float = 0.0,
        keep_requests: bool = True,
    ) -> None:
        """`headers` go with every well-behaved answer; `keep_requests=False` records nothing, for load tests."""
        self.api_key = api_key
        self.models = list(models)
        self.headers = dict(headers or {})
        self.event_delay_seconds = event_delay_seconds
        self.answers: Callable[[RecordedRequest], Answer] | None = None
        """In place of a script: what to do with each request."""
        self.requests: list[RecordedRequest] = []
        self.connections = 0
        self.open_connections = 0
        self.most_open_connections = 0
        self.output_tokens_sent = 0
        self._keep_requests = keep_requests
        self._ssl_context = ssl_context
        self._scripted: deque[Answer] = deque()
        self._always: Answer | None = None
        self._changed = threading.Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._protocols: set[_Connection] = set()
        self.port = 0

    # Life

    def __enter__(self) -> FakeUpstream:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, port: int = 0) -> FakeUpstream:
        listening = socket.create_server(("127.0.0.1", port), backlog=512)
        self.port = listening.getsockname()[1]
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(listening, ready), name="fake-upstream", daemon=True)
        self._thread.start()
        ready.wait(60)
        return self

    def stop(self) -> None:
        if self._loop is None or self._thread is None:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop = self._thread = None

    def _run(self, listening: socket.socket, ready: threading.Event) -> None:
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda *_: None)  # clients that vanish in mid-handshake are part of the job
        server = loop.run_until_complete(
            loop.create_server(lambda: _Connection(self), sock=listening, ssl=self._ssl_context)
        )
        self._loop = loop
        ready.set()
        try:
            loop.run_forever()
        finally:
            loop.remove_reader(listening)
            # A connection that was accepted just now must have its transport first: a closed server would leave it open.
            loop.run_until_complete(asyncio.sleep(0))
            server.close()
            loop.run_until_complete(self._let_go())
            loop.close()

    async def _let_go(self) -> None:
        """End every connection, also those in their handshake, until none is left to the garbage collector."""
        myself = asyncio.current_task()
        while self._protocols or len(asyncio.all_tasks()) > 1:
            for task in asyncio.all_tasks():
                if task is not myself:
                    task.cancel()
            for protocol in list(self._protocols):
                protocol.abort()
            await asyncio.sleep(0)
        await asyncio.sleep(0)  # sockets are closed a turn after their transports

    # Addresses

    @property
    def scheme(self) -> str:
        return "https" if self._ssl_context else "http"

    @property
    def origin(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        return f"{self.origin}/v1"

    # Scripting

    def script(self, *answers: Answer) -> None:
        """Queue answers for the next requests, in order."""
        with self._changed:
            self._scripted.extend(answers)

    def reply_with(self, answer: Answer | None = None, *, times: int | None = 1, **changes: Any) -> None:
        """Queue one answer `times` times, or with `times=None` for every request until `clear()`."""
        answer = replace(answer or Answer(), **changes)
        with self._changed:
            if times is None:
                self._always = answer
            else:
                self._scripted.extend([answer] * times)

    def clear(self) -> None:
        """Forget the script and what was recorded."""
        with self._changed:
            self._scripted.clear()
            self._always = None
            self.requests.clear()

    def wait_for_requests(self, count: int, seconds: float = 60.0) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: len(self.requests) >= count, seconds)

    async def until_requests(self, count: int, seconds: float = 60.0) -> bool:
        return await asyncio.to_thread(self.wait_for_requests, count, seconds)

    def wait_for_open_connections(self, count: int, seconds: float = 60.0) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.open_connections == count, seconds)

    def drop_connections(self) -> None:
        """Close every open connection now, as a restarting server does."""
        assert self._loop is not None
        done = threading.Event()

        def drop() -> None:
            for protocol in list(self._protocols):
                protocol.transport.close()
            done.set()

        self._loop.call_soon_threadsafe(drop)
        done.wait(60)

    # Called by connections, on the server's loop

    def _next_answer(self, request: RecordedRequest) -> Answer:
        if self.answers is not None:
            return self.answers(request)
        with self._changed:
            if self._scripted:
                return self._scripted.popleft()
            return self._always or Answer()

    def _record(self, request: RecordedRequest) -> None:
        with self._changed:
            if self._keep_requests:
                self.requests.append(request)
            self._changed.notify_all()

    def _count_connection(self, change: int) -> None:
        with self._changed:
            self.open_connections += change
            if change > 0:
                self.connections += 1
            self.most_open_connections = max(self.most_open_connections, self.open_connections)
            self._changed.notify_all()


class _Connection(asyncio.Protocol):
    """One client connection: parse requests, answer them one after another."""

    def __init__(self, upstream: FakeUpstream) -> None:
        self.upstream = upstream
        self.number = 0
        self.buffer = b""
        self.current: RecordedRequest | None = None
        self.answering: asyncio.Task[None] | None = None
        self.left = asyncio.Event()
        self.drained = asyncio.Event()
        self.drained.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        # asyncio does so itself only for sockets that it made; without it each reply waits 40 ms for its body.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.upstream._count_connection(+1)
        self.number = self.upstream.connections
        self.upstream._protocols.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._client_left()
        self.upstream._protocols.discard(self)
        self.upstream._count_connection(-1)
        if self.answering is not None:
            self.answering.cancel()

    def eof_received(self) -> bool:
        self._client_left()
        return False

    def pause_writing(self) -> None:
        self.drained.clear()

    def resume_writing(self) -> None:
        self.drained.set()

    def abort(self) -> None:
        self.transport.abort()

    def _client_left(self) -> None:
        self.left.set()
        self.drained.set()
        if self.current is not None and self.current.left_at is None and self.current.finished_at is None:
            self.current.left_at = time.monotonic()
            self.current._over.set()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self._start_next()

    def _start_next(self) -> None:
        if self.answering is not None and not self.answering.done():
            return
        head, blank, rest = self.buffer.partition(b"\r\n\r\n")
        if not blank:
            return
        lines = head.decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ", 2)
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        if method == "CONNECT":
            self.transport.write(b"HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n")
            return
        length = int(headers.get("content-length", "0"))
        if len(rest) < length:
            return
        self.buffer = rest[length:]
        request = RecordedRequest(method, target, headers, rest[:length], self.number, time.monotonic())
        self.current = request
        self.upstream._record(request)
        self.answering = asyncio.get_running_loop().create_task(
            self._answer(request, self.upstream._next_answer(request))
        )

    async def _answer(self, request: RecordedRequest, answer: Answer) -> None:
        try:
            if answer.delay_seconds:
                await asyncio.sleep(answer.delay_seconds)
            if answer.hang:
                await self.left.wait()
                return
            await self._write(request, _complete(answer, request, self.upstream))
        except (ConnectionError, asyncio.CancelledError):
            return
        finally:
            if request.finished_at is None and request.left_at is None:
                request.finished_at = time.monotonic()
            request._over.set()
            self.answering = None
        if self.buffer and not self.transport.is_closing():
            self._start_next()

    async def _write(self, request: RecordedRequest, answer: Answer) -> None:
        if answer.raw is not None:
            self.transport.write(answer.raw)
            self.transport.close()
            return
        pieces = _pieces(answer)
        framing = answer.framing or ("length" if answer.events is None else "chunked")
        for interim in answer.interim:
            self.transport.write(interim)
        if answer.reset_after == 0:
            self._reset()
            return
        await self._write_head(answer, framing, sum(len(piece) for piece, _ in pieces))
        stopped = await self._write_pieces(request, answer, pieces, framing)
        if stopped:
            return
        if framing == "chunked":
            self.transport.write(b"0\r\n\r\n")
        await self.drained.wait()
        request.finished_at = time.monotonic()
        if answer.half_close:
            self.transport.write_eof()
        elif answer.close or answer.close_silently or framing == "close":
            self.transport.close()

    async def _write_head(self, answer: Answer, framing: str, length: int) -> None:
        default_type = "application/json" if answer.events is None else "text/event-stream"
        headers = {"content-type": answer.content_type or default_type, **answer.headers}
        if answer.encoding:
            headers["content-encoding"] = answer.encoding
        if framing == "length":
            headers.setdefault("content-length", str(length))
        elif framing == "chunked":
            headers["transfer-encoding"] = "chunked"
        if answer.close or framing == "close":
            headers["connection"] = "close"
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {answer.status} Status\r\n{lines}\r\n".encode("latin-1")
        if not answer.header_byte_delay_seconds:
            self.transport.write(head)
            return
        for position in range(len(head)):
            self.transport.write(head[position : position + 1])
            await asyncio.sleep(answer.header_byte_delay_seconds)

    async def _write_pieces(
        self, request: RecordedRequest, answer: Answer, pieces: list[tuple[bytes, int]], framing: str
    ) -> bool:
        """Write event by event, or the whole body in one; True when a fault ended it early."""
        if answer.events is None and pieces:
            body = pieces[0][0]
            limit = min(
                (n for n in (answer.cut_after, answer.stall_after, answer.reset_after) if n is not None), default=None
            )
            if limit is not None:
                pieces = [(body[:limit], 0), (body[limit:], pieces[0][1])]
        for position, (piece, tokens) in enumerate(pieces):
            done = position if answer.events is not None else sum(len(p) for p, _ in pieces[:position])
            if await self._fault_at(done, answer):
                return True
            if position and answer.event_delay_seconds:
                await asyncio.sleep(answer.event_delay_seconds)
            await self.drained.wait()
            if self.left.is_set():
                return True
            # Counted before the client can read it, whose test may look at once.
            request.events_sent += 1
            request.output_tokens += tokens
            self.upstream.output_tokens_sent += tokens
            if piece:
                self.transport.write(b"%x\r\n%b\r\n" % (len(piece), piece) if framing == "chunked" else piece)
            if answer.event_delay_seconds or position % 64 == 63:
                await asyncio.sleep(0)
        done = len(pieces) if answer.events is not None else sum(len(p) for p, _ in pieces)
        return await self._fault_at(done, answer)

    async def _fault_at(self, done: int, answer: Answer) -> bool:
        if answer.cut_after is not None and done >= answer.cut_after:
            self.transport.close()
            return True
        if answer.reset_after is not None and done >= answer.reset_after:
            await asyncio.sleep(0.02)  # let what was written arrive: a reset discards what the client has not read
            self._reset()
            return True
        if answer.stall_after is not None and done >= answer.stall_after:
            await self.left.wait()
            return True
        return False

    def _reset(self) -> None:
        handle = self.transport.get_extra_info("socket")
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


# Bytes of an answer


def _pieces(answer: Answer) -> list[tuple[bytes, int]]:
    """The body in the pieces it is written in, each with the output tokens it carries."""
    if answer.events is not None:
        pieces = [(_event(item), _tokens_of(item)) for item in answer.events]
        if answer.encoding:
            squeeze = zlib.compressobj(wbits=31 if answer.encoding == "gzip" else 15)
            pieces = [(squeeze.compress(p) + squeeze.flush(zlib.Z_SYNC_FLUSH), tokens) for p, tokens in pieces]
            pieces.append((squeeze.flush(), 0))
        return pieces
    if answer.json is not None:
        body, tokens = json_module.dumps(answer.json).encode(), _tokens_of(answer.json)
    else:
        body, tokens = answer.body.encode() if isinstance(answer.body, str) else (answer.body or b""), 0
    if answer.encoding == "gzip":
        body = gzip.compress(body, 1)
    elif answer.encoding == "deflate":
        body = zlib.compress(body, 1)
    return [(body, tokens)]


def _event(item: Any) -> bytes:
    if isinstance(item, bytes):
        return item
    data = item if isinstance(item, str) else json_module.dumps(item)
    return f"data: {data}\n\n".encode()


def _tokens_of(item: Any) -> int:
    """Each content chunk of ours is one token; a whole reply says its own."""
    if not isinstance(item, dict):
        return 0
    usage = item.get("usage")
    if usage and item.get("object") in ("chat.completion", "text_completion") and item.get("choices"):
        return usage.get("completion_tokens", 0)
    choices = item.get("choices") or ()
    return sum(
        1
        for c in choices
        if (c.get("delta") or {}).get("content") or (item.get("object") == "text_completion" and c.get("text"))
    )


# Well-behaved answers


def _complete(answer: Answer, request: RecordedRequest, upstream: FakeUpstream) -> Answer:
    if answer.raw is not None or any(part is not None for part in (answer.json, answer.body, answer.events)):
        return answer
    if answer.status != 200:
        if answer.status >= 400:
            return replace(answer, json=_error_body(f"scripted status {answer.status}"))
        return replace(answer, body=b"")
    default = _default_answer(request, upstream)
    if answer.events is None and default.events is not None:
        answer = replace(answer, event_delay_seconds=answer.event_delay_seconds or upstream.event_delay_seconds)
    return replace(
        answer,
        status=default.status,
        json=default.json,
        body=default.body,
        events=default.events,
        content_type=answer.content_type or default.content_type,
        headers={**upstream.headers, **default.headers, **answer.headers},
    )


def _default_answer(request: RecordedRequest, upstream: FakeUpstream) -> Answer:
    if upstream.api_key is not None and not _shows_key(request, upstream.api_key):
        message = f"Incorrect API key provided: {request.headers.get('authorization', '')[7:]}"
        return Answer(status=401, json=_error_body(message, "invalid_api_key"))
    path = request.path.rstrip("/")
    if path.startswith("/api/") and (own := _ollama(request, path, upstream)) is not None:
        return own
    if request.method == "GET" and path.endswith("/models"):
        listed = [{"id": name, "object": "model", "created": CREATED, "owned_by": "fake"} for name in upstream.models]
        return Answer(json={"object": "list", "data": listed})
    if request.method == "POST" and (told := media.answer(request)) is not None:
        return Answer(**told)
    if request.method == "POST" and path.endswith("/responses"):
        return Answer(**responses.answer(request.json))
    answers = {"/chat/completions": _chat, "/completions": _completion, "/embeddings": _embeddings}
    answering = next((make for end, make in answers.items() if path.endswith(end)), None)
    if request.method != "POST" or answering is None:
        return Answer(status=404, json=_error_body(f"no route {request.method} {path}", "not_found"))
    try:
        asked = request.json
    except ValueError:
        return Answer(status=400, json=_error_body("the body is not JSON"))
    answer = answering(asked)
    for part in (answer.json, *(answer.events or ())):
        if isinstance(part, dict) and part.get("usage"):
            request.reported_usage = part["usage"]
    return answer


def _ollama(request: RecordedRequest, path: str, upstream: FakeUpstream) -> Answer | None:
    """None where its API has no such path."""
    told = ollama.answer(request.method, path, request.json if request.body else {}, upstream.models)
    if told is None:
        return None
    status, said = told
    if isinstance(said, dict):
        return Answer(status=status, json=said)
    lines = [json_module.dumps(line).encode() + b"\n" for line in said]
    return Answer(status=status, events=lines, content_type="application/x-ndjson")


def _shows_key(request: RecordedRequest, key: str) -> bool:
    return request.headers.get("authorization") == f"Bearer {key}" or request.headers.get("api-key") == key


def _error_body(message: str, code: str | None = None, kind: str = "invalid_request_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


_numbers = itertools.count(1)


def _chat(asked: dict[str, Any]) -> Answer:
    base = {"id": f"chatcmpl-{next(_numbers)}", "created": CREATED, "model": asked.get("model")}
    input_tokens = sum(len(_text_of(m).split()) for m in asked.get("messages") or ())
    told_the_result = (asked.get("messages") or [{}])[-1].get("role") == "tool"
    if asked.get("tools") and asked.get("tool_choice") != "none" and not told_the_result:
        return _tool_call(asked, base, input_tokens)
    words, finish = _words(_chat_text(asked), asked)
    count = asked.get("n") or 1
    usage = _usage(input_tokens, len(words) * count)
    with_logprobs = bool(asked.get("logprobs"))
    if asked.get("stream"):
        return Answer(events=list(_chat_events(asked, base, words, finish, usage)))
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": "".join(words), "refusal": None},
            "logprobs": {"content": [_logprob(word) for word in words]} if with_logprobs else None,
            "finish_reason": finish,
        }
        for index in range(count)
    ]
    return Answer(json={**base, "object": "chat.completion", "choices": choices, "usage": usage})


def _chat_events(
    asked: dict[str, Any], base: dict[str, Any], words: list[str], finish: str, usage: dict[str, Any]
) -> Iterator[Any]:
    base = {**base, "object": "chat.completion.chunk"}
    include_usage = bool((asked.get("stream_options") or {}).get("include_usage"))
    null_usage = {"usage": None} if include_usage else {}
    with_logprobs = bool(asked.get("logprobs"))
    for index in range(asked.get("n") or 1):
        opening = {"index": index, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
        yield {**base, "choices": [opening], **null_usage}
        for word in words:
            choice = {"index": index, "delta": {"content": word}, "finish_reason": None}
            if with_logprobs:
                choice["logprobs"] = {"content": [_logprob(word)]}
            yield {**base, "choices": [choice], **null_usage}
        yield {**base, "choices": [{"index": index, "delta": {}, "finish_reason": finish}], **null_usage}
    if include_usage:
        yield {**base, "choices": [], "usage": usage}
    yield "[DONE]"


def _tool_call(asked: dict[str, Any], base: dict[str, Any], input_tokens: int) -> Answer:
    choice = asked.get("tool_choice")
    named = choice["function"]["name"] if isinstance(choice, dict) else None
    tool = next((t for t in asked["tools"] if t["function"]["name"] == named), asked["tools"][0])["function"]
    properties = (tool.get("parameters") or {}).get("properties") or {}
    arguments = json_module.dumps({name: _sample(schema) for name, schema in properties.items()})
    call = {"id": "call_1", "type": "function", "function": {"name": tool["name"], "arguments": arguments}}
    usage = _usage(input_tokens, 5)
    if not asked.get("stream"):
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        whole = {"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls"}
        return Answer(json={**base, "object": "chat.completion", "choices": [whole], "usage": usage})
    base = {**base, "object": "chat.completion.chunk"}
    opening = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"index": 0, **call, "function": {**call["function"], "arguments": ""}}],
    }
    middle = len(arguments) // 2
    deltas = [opening] + [
        {"tool_calls": [{"index": 0, "function": {"arguments": part}}]}
        for part in (arguments[:middle], arguments[middle:])
    ]
    events: list[Any] = [{**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    events.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    if (asked.get("stream_options") or {}).get("include_usage"):
        events.append({**base, "choices": [], "usage": usage})
    return Answer(events=[*events, "[DONE]"])


def _completion(asked: dict[str, Any]) -> Answer:
    base = {
        "id": f"cmpl-{next(_numbers)}",
        "object": "text_completion",
        "created": CREATED,
        "model": asked.get("model"),
    }
    prompt = asked.get("prompt") or ""
    prompt = prompt if isinstance(prompt, str) else " ".join(map(str, prompt))
    words, finish = _words(f"echo: {prompt}", asked)
    usage = _usage(len(prompt.split()), len(words))
    if not asked.get("stream"):
        choice = {"index": 0, "text": "".join(words), "logprobs": None, "finish_reason": finish}
        return Answer(json={**base, "choices": [choice], "usage": usage})
    events: list[Any] = [
        {**base, "choices": [{"index": 0, "text": word, "logprobs": None, "finish_reason": None}]} for word in words
    ]
    events.append({**base, "choices": [{"index": 0, "text": "", "logprobs": None, "finish_reason": finish}]})
    if (asked.get("stream_options") or {}).get("include_usage"):
        events.append({**base, "choices": [], "usage": usage})
    return Answer(events=[*events, "[DONE]"])


def _embeddings(asked: dict[str, Any]) -> Answer:
    given = asked.get("input")
    if isinstance(given, str) or (isinstance(given, list) and given and isinstance(given[0], int)):
        given = [given]
    inputs = list(given or ())
    dimensions = asked.get("dimensions") or DEFAULT_DIMENSIONS
    as_base64 = asked.get("encoding_format") == "base64"
    data = []
    for index, item in enumerate(inputs):
        vector = embedding_of(item, dimensions)
        packed = base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": packed if as_base64 else vector})
    tokens = sum(len(item.split()) if isinstance(item, str) else len(item) for item in inputs)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return Answer(json={"object": "list", "data": data, "model": asked.get("model"), "usage": usage})


def embedding_of(item: str | list[int], dimensions: int = DEFAULT_DIMENSIONS) -> list[float]:
    """The vector that the fake gives for an input; exact in 32-bit floats."""
    seed = item if isinstance(item, str) else json_module.dumps(item)
    digest = hashlib.sha256(seed.encode()).digest()
    return [(digest[position % 32] - 128 + position // 32) / 256 for position in range(dimensions)]


def _chat_text(asked: dict[str, Any]) -> str:
    last = next((m for m in reversed(asked.get("messages") or ()) if m.get("role") == "user"), {})
    shape = (asked.get("response_format") or {}).get("type")
    if shape == "json_schema":
        return json_module.dumps(_sample(asked["response_format"]["json_schema"].get("schema") or {}))
    if shape == "json_object":
        return json_module.dumps({"echo": _text_of(last)})
    return f"echo: {_text_of(last)}"


def _text_of(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return " ".join(part.get("text", f"[{part.get('type')}]") for part in content)
    return content or ""


def _words(text: str, asked: dict[str, Any]) -> tuple[list[str], str]:
    """The answer as tokens of one word each, with the reason it ends."""
    finish = "stop"
    stops = asked.get("stop") or []
    for stop in [stops] if isinstance(stops, str) else stops:
        text = text.partition(stop)[0]
    words = [f"{part} " for part in text.split(" ")]
    words[-1] = words[-1][:-1]
    limit = asked.get("max_completion_tokens") or asked.get("max_tokens")
    if limit is not None and limit < len(words):
        words, finish = words[:limit], "length"
    return words, finish


def _logprob(word: str) -> dict[str, Any]:
    return {"token": word, "logprob": -0.25, "bytes": list(word.encode()), "top_logprobs": []}


def _usage(input_tokens: int, output_tokens: int) -> dict[str, Any]:
    return {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "accepted_prediction_tokens": 0},
    }


def _sample(schema: dict[str, Any]) -> Any:
    """Some value that a JSON schema allows."""
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if kind == "object":
        return {name: _sample(inner) for name, inner in (schema.get("properties") or {}).items()}
    if kind == "array":
        return [_sample(schema.get("items") or {})]
    return {"integer": 1, "number": 1.5, "boolean": True, "null": None}.get(kind, "text")


# Ready-made faults


def failure(status: int, message: str = "scripted failure", code: str | None = None, **changes: Any) -> Answer:
    """An OpenAI style error."""
    return Answer(status=status, json=_error_body(message, code), **changes)


def rate_limited(retry_after: float | None = 1, **changes: Any) -> Answer:
    headers = {} if retry_after is None else {"retry-after": f"{retry_after:g}"}
    body = _error_body("Rate limit reached", "rate_limit_exceeded", "rate_limit_error")
    return Answer(status=429, headers=headers, json=body, **changes)


def html(status: int = 200) -> Answer:
    return Answer(status=status, body="<!doctype html><html><body>a login page</body></html>", content_type="text/html")


def garbage() -> Answer:
    return Answer(raw=b"\x16\x03\x01 this is no HTTP at all\r\n\r\n")


def redirect(to: str, status: int = 307) -> Answer:
    return Answer(status=status, headers={"location": to}, body=b"")


def in_band_error(after: int = 2, message: str = "The engine died", code: str = "server_error") -> Answer:
    """A stream of `after` content chunks, then an error event, then the end without `[DONE]`."""
    chunk = {"id": "chatcmpl-x", "object": "chat.completion.chunk", "created": CREATED, "model": "gpt-test"}
    events: list[Any] = [
        {**chunk, "choices": [{"index": 0, "delta": {"content": f"{n} "}, "finish_reason": None}]} for n in range(after)
    ]
    return Answer(events=[*events, _error_body(message, code, "server_error")])


def gzip_bomb(inflated_bytes: int = 200 * 1024 * 1024) -> Answer:
    """A small gzip body that inflates to `inflated_bytes`; made piece by piece, so making it costs no memory."""
    squeeze = zlib.compressobj(9, wbits=31)
    block = b" " * 1_048_576
    body = b"".join(squeeze.compress(block) for _ in range(inflated_bytes // len(block))) + squeeze.flush()
    return Answer(body=body, headers={"content-encoding": "gzip"})


def no_answer() -> Answer:
    return Answer(hang=True)
