"""What an OpenTelemetry collector gets, over its own protocol."""

from __future__ import annotations

import gzip
import subprocess
import sys
import threading
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from inference import listeners, telemetry, trace_ids
from inference import telemetry_names as names
from inference.attempts import Attempt
from inference.backends.base import Usage
from inference.recording import row_of
from tests.inference.test_recording import entry

REQUEST_ID = "req_" + "0af7651916cd43dd8448eb211c80319c"


class Collector(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.spans: list[Any] = []
        self.metrics: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.raw = b""

    def span(self, kind: int) -> list[Any]:
        return [one for one in self.spans if one.kind == kind]


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.raw += body
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        if self.path == "/v1/traces":
            for told in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.server.spans += [span for scope in told.scope_spans for span in scope.spans]
        elif self.path == "/v1/metrics":
            for told in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                self.server.metrics += [metric for scope in told.scope_metrics for metric in scope.metrics]
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    monkeypatch.setattr(telemetry, "_PATIENCE_SECONDS", 60.0)
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


SERVER, CLIENT = 2, 3


def told(collector: Collector, *entries: Any, sampling: float = 1.0) -> None:
    connected = telemetry.connect(collector.url, {"x-token": "abc"}, "gateway-test", sampling)
    connected.tell(entries, [row_of(one) for one in entries])
    connected.close()


def attributes(span: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


def test_a_request_is_a_span_with_one_for_its_try(collector: Collector) -> None:
    told(collector, entry(1, request_id=REQUEST_ID, usage=Usage(10, 4), cost=Decimal("0.25"), session_id="s1"))
    [server], [client] = collector.span(SERVER), collector.span(CLIENT)
    assert server.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
    assert server.span_id.hex() == trace_ids.span_id(REQUEST_ID)
    assert (client.trace_id, client.parent_span_id) == (server.trace_id, server.span_id)
    about = attributes(server)
    assert (about[names.INPUT_TOKENS], about[names.OUTPUT_TOKENS], about[names.COST]) == (10, 4, 0.25)
    assert (about[names.OPERATION], about[names.CONVERSATION]) == ("chat", "s1")
    assert client.name == "chat m"
    assert server.start_time_unix_nano <= client.start_time_unix_nano < client.end_time_unix_nano
    assert all(head["x-token"] == "abc" for head in collector.headers)


def test_the_span_hangs_below_the_callers(collector: Collector) -> None:
    told(
        collector,
        entry(1, trace_id="4bf92f3577b34da6a3ce929d0e0e4736", parent_span_id="00f067aa0ba902b7"),
        sampling=0,
    )
    [server] = collector.span(SERVER)
    assert server.trace_id.hex() == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert server.parent_span_id.hex() == "00f067aa0ba902b7"


def test_each_try_has_a_span_and_failures_say_so(collector: Collector) -> None:
    log = [
        Attempt("a", "m1", "first", 503, "upstream_error", 100.0, 0.5),
        Attempt("b", "m2", "breaker_open", 0, "", 100.5),
        Attempt("c", "m3", "fallback", 200, "", 100.5, 1.0, 0.2),
    ]
    told(collector, entry(1, log=log, attempts=2))
    first, second = collector.span(CLIENT)
    assert first.span_id != second.span_id
    assert (first.status.code, attributes(first)[names.ERROR_TYPE]) == (2, "upstream_error")
    assert (attributes(second)[names.PROVIDER_ID], attributes(second)[names.ATTEMPT_REASON]) == ("c", "fallback")


def test_without_sampling_there_are_metrics_alone(collector: Collector) -> None:
    told(collector, entry(1, usage=Usage(10, 4)), sampling=0)
    assert collector.spans == []
    found = {metric.name: metric for metric in collector.metrics}
    assert set(found) == {names.SERVER_DURATION, names.CLIENT_DURATION, names.USAGE}
    points = found[names.USAGE].histogram.data_points
    assert sorted(point.sum for point in points) == [4, 10]
    assert list(points[0].explicit_bounds) == list(names.TOKENS)


@pytest.mark.parametrize(
    ("told", "read"),
    [("", {}), ("a=b", {"a": "b"}), ("authorization=Basic eA==, x = y", {"authorization": "Basic eA==", "x": "y"})],
)
def test_headers_are_read_as_opentelemetry_has_them(told: str, read: dict[str, str]) -> None:
    assert listeners.headers(told) == read


def test_switched_on_it_is_told_and_off_it_is_not(settings: Any, collector: Collector) -> None:
    assert listeners.wanted() == []
    settings.GATEWAY_OTEL_ENDPOINT = collector.url
    [tell] = listeners.wanted()
    one = entry(1)
    tell([one], [row_of(one)])
    listeners.close()
    assert len(collector.span(SERVER)) == 1


def test_switched_off_nothing_of_it_is_imported() -> None:
    code = "import sys, django; django.setup(); import inference.recorders; print([*sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300).stdout
    assert "'inference.listeners'" in shown
    assert "'inference.telemetry'" not in shown
    # The Redis client looks by itself whether there is an SDK; the exporters are ours alone.
    assert "opentelemetry.exporter" not in shown
