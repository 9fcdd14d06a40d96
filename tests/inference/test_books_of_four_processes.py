"""Four web processes on one strict budget, and their books, under streams that end, are left, fail over, and die with their process.

The upstream keeps its own account of every token that it sold, and paces itself so that what the gateway has seen of an answer is
certain: a stream that is not to be finished says so many words and then waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest
import redis

from gateway_project import first_keys
from routing import metering_store
from tests import services
from tests.conftest import DATABASE

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("books_of_four_processes")]

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = 4
STREAMS = 200
PROMPT_BYTES = 800
GUESSED = PROMPT_BYTES // 4
"""Input tokens of an answer that was left: what the gateway guesses, and what the upstream asks for."""
TOLD = 211
"""Input tokens of an answer that tells them."""
PRICES = {"first": (Decimal("1.10"), Decimal("4.40")), "second": (Decimal("0.25"), Decimal("2.00"))}
AMOUNT = Decimal("0.02")
"""About seventy streams; sixteen of them may be under way at once, by what they cost at most."""
DEAREST = Decimal("0.00124")
PLENTY = Decimal(1000)
PATIENCE_SECONDS = 60.0
CLERK = f"""
import json, sys
import django
django.setup()
from decimal import Decimal
from django.core.management import call_command
call_command("migrate", verbosity=0)
from providers.models import Provider, ProviderModel, RegistryRevision
from routing import issuing
from routing.models import Budget, ClientKey
for priority, (name, prices) in enumerate({ {name: [str(price) for price in both] for name, both in PRICES.items()} }.items(), 1):
    provider = Provider.objects.create(
        provider_id=name, provider_type="openai_compatible", priority=priority,
        connection_params={{"base_url": sys.argv[1] + "/" + name + "/v1"}},
    )
    ProviderModel.objects.create(
        provider=provider, model_id="m", input_cost_per_million=Decimal(prices[0]), output_cost_per_million=Decimal(prices[1]),
        context_window=8192, max_tokens=64,
    )
row, secret = issuing.issue("test", ["generate", "admin"])
budget = Budget.objects.create(subject="key", client_key=row, amount=Decimal(sys.argv[2]), strict=True)
print("KEY", secret.reveal(), flush=True)
from django.db.models import Count, Sum
from inference.models import Trace, UsageRecord
from routing import allowances, metering_store, snapshot
from django.conf import settings
sums = dict(rows=Count("id"), input=Sum("input_tokens"), output=Sum("output_tokens"), cost=Sum("cost"))
for line in sys.stdin:
    if line.startswith("allow"):
        budget.amount = Decimal(line.split()[1])
        budget.save()
        print("REVISION", RegistryRevision.objects.get().number, flush=True)
        continue
    snapshot.read()
    identity = next(iter(snapshot.current().client_keys.values())).identity
    counted = metering_store.read(settings.REDIS_URL, snapshot.current().allowances.of_caller(identity, ()))
    print("BOOKS", json.dumps({{
    "ledger": UsageRecord.objects.aggregate(**sums),
    "traces": Trace.objects.aggregate(**sums),
    "by_provider": list(UsageRecord.objects.exclude(provider_id="").values("provider_id").order_by("provider_id").annotate(
        input=Sum("input_tokens"), output=Sum("output_tokens"), cost=Sum("cost"))),
    "lost": Trace.objects.filter(error_code="gateway_lost").count(),
    "ids": Trace.objects.values("request_id").distinct().count(),
    "budget": [value[:2] for value in counted.values()],
}}, default=str), flush=True)
"""
"""Prepares the database, and then tells for each line that it is given what stands in the books, or allows another amount."""


class Upstream:
    """Both providers. What a request asks for stands in its `user`: how it ends, and how many words it says before."""

    def __init__(self) -> None:
        self.sold: Counter[tuple[str, str]] = Counter()
        self.failed_and_sold = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.port = 0

    def __enter__(self) -> Upstream:
        self._thread.start()
        serving = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(serving, self._loop).result()
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line[16:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length: ")
                )
                asked = json.loads(await reader.readexactly(length))
                await self._answer(head.split(b"/")[1].decode(), asked["user"].split(":"), reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(
        self, provider: str, asked: list[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        end, words = asked[0], int(asked[1])
        if end == "fails" and provider == "first":
            writer.write(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
            return
        if end == "paid" and provider == "first":
            self._sell(provider, TOLD, 0)
            self.failed_and_sold += 1
            body = json.dumps({"error": {"message": "out of memory"}, "usage": _usage(0)}).encode()
            writer.write(b"HTTP/1.1 500 Oh\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s" % (len(body), body))
            return
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        for _ in range(words):
            writer.write(_event({"choices": [{"index": 0, "delta": {"content": "word "}}]}))
            await writer.drain()
            await asyncio.sleep(0.01)
        if end == "waits":
            self._sell(provider, GUESSED, words)
            await reader.read()  # until the gateway hangs up
            return
        self._sell(provider, TOLD, words)
        writer.write(_event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
        writer.write(_event({"choices": [], "usage": _usage(words)}) + b"data: [DONE]\n\n")
        await writer.drain()

    def _sell(self, provider: str, read: int, written: int) -> None:
        self.sold[provider, "input"] += read
        self.sold[provider, "output"] += written


def _usage(words: int) -> dict[str, int]:
    return {"prompt_tokens": TOLD, "completion_tokens": words, "total_tokens": TOLD + words}


def _event(content: object) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"


class Installation:
    """A data directory and a database of their own, and web processes on them."""

    def __init__(self, folder: Path, upstream: Upstream) -> None:
        first_keys.create_missing(folder)
        self._redis = services.private_redis(folder)
        self._database = services.postgresql(folder) if DATABASE == "postgresql" else None
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        self.environment |= {"GATEWAY_DATA_DIR": str(folder), "REDIS_URL": self._redis.url, "PYTHONPATH": str(ROOT)}
        self.environment["DJANGO_SETTINGS_MODULE"] = "gateway_project.settings"
        self.environment.pop("DATABASE_URL", None)
        if self._database is not None:
            self.environment["DATABASE_URL"] = self._database.url
        (folder / "static").mkdir(exist_ok=True)
        self.folder = folder
        self._clerk = self._start_clerk(f"http://127.0.0.1:{upstream.port}")
        self.key = self._told("KEY")
        self.ports = _free_ports(PROCESSES)
        self.processes = [self._serve(port) for port in self.ports]

    def wait_until_all_serve(self) -> None:
        assert _eventually(lambda: all(_revision(port) > 0 for port in self.ports), 3 * PATIENCE_SECONDS)

    def books(self) -> dict:
        return json.loads(self._ask("tell", "BOOKS"))

    def allow(self, amount: Decimal) -> None:
        """As the budget, and until every process knows."""
        told = int(self._ask(f"allow {amount}", "REVISION"))
        assert _eventually(lambda: all(_revision(port) >= told for port in self.ports))

    def kill_one(self) -> None:
        """The one that serves the first port."""
        self.processes[0].kill()
        self.processes[0].wait()

    def let_half_a_minute_pass(self) -> None:
        """Since the last word of the process that was killed."""
        with redis.Redis.from_url(self._redis.url) as store:
            for name, word in store.hgetall(metering_store.PROCESSES).items():
                if name.startswith(b"%d-" % self.processes[0].pid):
                    beat, number = map(int, word.split())
                    store.hset(metering_store.PROCESSES, name, f"{beat - 30_000} {number}")

    def rows(self) -> int:
        return self.books()["traces"]["rows"]

    def stop(self) -> None:
        self._clerk.communicate()
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait(timeout=120)
        self._redis.stop()
        if self._database is not None:
            self._database.stop()

    def _ask(self, line: str, word: str) -> str:
        assert self._clerk.stdin is not None
        self._clerk.stdin.write(f"{line}\n")
        self._clerk.stdin.flush()
        return self._told(word)

    def _start_clerk(self, upstream: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", CLERK, upstream, str(AMOUNT)]
        with open(self.folder / "clerk.log", "w") as log:
            return subprocess.Popen(
                command,
                env=self.environment,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def _told(self, word: str) -> str:
        assert self._clerk.stdout is not None
        for line in self._clerk.stdout:
            if line.startswith(word):
                return line.removeprefix(word).strip()
        raise AssertionError((self.folder / "clerk.log").read_text())

    def _serve(self, port: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "gateway_project.server", "--port", str(port)]
        with open(self.folder / f"{port}.log", "wb") as log:
            return subprocess.Popen(command, env=self.environment, cwd=ROOT, stdout=log, stderr=log)


def _free_ports(count: int) -> list[int]:
    """Taken all at once, so that no two are the same."""
    with contextlib.ExitStack() as taken:
        listening = [taken.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in listening]


def _revision(port: int) -> int:
    """Of the registry, as the process there knows it; 0: it does not serve yet."""
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as said:
        return json.load(said)["snapshot"]["revision"]
    return 0


def _eventually(condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return False


class Stream:
    """A client of one stream, which reads as it comes."""

    def __init__(self, port: int, key: str, end: str, words: int) -> None:
        self.port, self.end, self.words = port, end, words
        asked = [{"role": "user", "content": ""}]
        asked[0]["content"] = "x" * (PROMPT_BYTES - len(json.dumps(asked)))
        said = {"model": "m", "stream": True, "user": f"{end}:{words}", "messages": asked}
        self._body = json.dumps(said).encode()
        self._head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(self._body)}\r\n\r\n"
        ).encode()

    async def run(self, said: asyncio.Semaphore) -> None:
        """`said` is released when everything was read that is to come; one that waits is then left, unless its process dies."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(self._head + self._body)
        words = 0
        async for line in _lines(reader):
            words += line.startswith(b"data: ") and b"word " in line
            if line.startswith(b"data: [DONE]") or (self.end == "waits" and words == self.words):
                break
        else:
            raise AssertionError(f"the stream {self.end}:{self.words} broke off after {words} words")
        said.release()
        self._writer = writer

    async def leave(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while line := await reader.readline():
        yield line


class Asking(Stream):
    """Content with a refusal."""

    async def ask(self, ended: Counter[str]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(self._head + self._body)
        status = (await reader.readline()).split()[1].decode()
        words = 0
        while status == "200" and (line := await reader.readline()):
            words += line.startswith(b"data: ") and b"word " in line
            if line.startswith(b"data: [DONE]") or (self.end == "waits" and words == self.words):
                break
        ended[status] += 1
        self._writer = writer
        await self.leave()


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as serving:
        yield serving


@pytest.fixture(scope="module")
def installation(tmp_path_factory, upstream) -> Iterator[Installation]:
    made = Installation(tmp_path_factory.mktemp("four"), upstream)
    try:
        made.wait_until_all_serve()
        yield made
    finally:
        made.stop()


def _ends() -> list[str]:
    """Of a hundred: 30 are left, 10 fail over (half of them from a try that is on the bill), 60 end well."""
    return ["waits"] * 3 + ["fails"] * 1 + ["ends"] * 6 + ["waits"] * 3 + ["paid"] * 1 + ["ends"] * 6


def _streams(installation: Installation, count: int) -> list[Asking]:
    ends, ports = _ends(), installation.ports
    return [
        Asking(ports[number % PROCESSES], installation.key, ends[number // PROCESSES % len(ends)], 2 + number % 7)
        for number in range(count)
    ]


async def _ask_all(installation: Installation, count: int) -> Counter[str]:
    """How many were answered with which status."""
    ended: Counter[str] = Counter()
    await asyncio.gather(*[stream.ask(ended) for stream in _streams(installation, count)])
    return ended


async def _answer_all_and_kill_one(installation: Installation) -> None:
    streams = _streams(installation, STREAMS)
    said = asyncio.Semaphore(0)
    await asyncio.gather(*[stream.run(said) for stream in streams])
    installation.kill_one()
    for stream in streams:
        await stream.leave()
    assert sum(stream.port == installation.ports[0] and stream.end == "waits" for stream in streams) == 15


def _cost(upstream: Upstream) -> dict[str, Decimal]:
    return {
        name: (read * upstream.sold[name, "input"] + write * upstream.sold[name, "output"]) / 1_000_000
        for name, (read, write) in PRICES.items()
    }


def test_four_processes_never_spend_more_than_a_strict_budget(installation, upstream) -> None:
    ended = asyncio.run(_ask_all(installation, STREAMS))
    assert set(ended) == {"200", "429"}, json.dumps(ended)
    assert ended["200"] >= int(AMOUNT / DEAREST)
    asyncio.run(_ask_all(installation, STREAMS // 4))  # what was reserved and not used can be spent after all
    assert _eventually(lambda: installation.rows() == STREAMS + STREAMS // 4)
    cost = sum(_cost(upstream).values())
    assert cost <= AMOUNT
    assert _eventually(lambda: installation.books()["budget"] == [[int(cost * 10**9), 0]])


def test_ledger_traces_and_the_upstream_s_own_count_are_one_though_a_process_is_killed(installation, upstream) -> None:
    installation.allow(PLENTY)
    before = installation.rows()
    asyncio.run(_answer_all_and_kill_one(installation))
    requests = before + STREAMS
    assert _eventually(lambda: installation.rows() == requests)
    books = installation.books()
    sold = {name: {kind: upstream.sold[name, kind] for kind in ("input", "output")} for name in PRICES}
    cost = _cost(upstream)
    assert {
        one["provider_id"]: {"input": one["input"], "output": one["output"]} for one in books["by_provider"]
    } == sold
    assert {one["provider_id"]: Decimal(one["cost"]) for one in books["by_provider"]} == cost
    for total in ("input", "output"):
        assert books["ledger"][total] == books["traces"][total] == sum(one[total] for one in sold.values())
    assert Decimal(books["ledger"]["cost"]) == Decimal(books["traces"]["cost"]) == sum(cost.values())
    assert books["ids"] == requests
    assert books["ledger"]["rows"] == requests + upstream.failed_and_sold
    assert upstream.failed_and_sold > 0
    assert 15 <= books["lost"] <= STREAMS // PROCESSES
    used = [[int(sum(cost.values()) * 10**9), 0]]
    installation.let_half_a_minute_pass()
    _eventually(lambda: installation.books()["budget"] == used)
    assert installation.books()["budget"] == used, "what the strict budget counted, and what it still holds reserved"
