"""Spans and metrics for an OpenTelemetry collector, made of what the recorder's thread has written down. Off by default.

Only whoever switches it on imports this module, and with it the library. A request is one SERVER span with a CLIENT span for each
try at a provider; ids are those that `trace_ids` told the caller and the provider, so the spans of all three meet in one trace.
No content, no key beyond its prefix.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from inference import telemetry_names as names
from inference import trace_ids
from inference.attempts import Attempt
from providers.pricing import USD

if TYPE_CHECKING:
    from inference.recording import Entry, Row

_SCOPE = InstrumentationScope("llm_gateway")
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_QUEUE, _AT_ONCE, _PAUSE_MS = 20_000, 512, 2_000
_METRICS_SECONDS = 15.0
_PATIENCE_SECONDS = 5.0
"""For the collector, tries included; a stopping process waits as long."""


class Telemetry:
    """`tell` is called in the recorder's thread; what it makes is exported by threads of the library, and dropped when the collector
    cannot follow."""

    def __init__(self, spans: SpanExporter, metrics: Any, resource: Resource, sampling: float) -> None:
        self._resource = resource
        self._bound = round(sampling * 2**64)
        self._spans = BatchSpanProcessor(
            spans, max_queue_size=_QUEUE, max_export_batch_size=_AT_ONCE, schedule_delay_millis=_PAUSE_MS
        )
        reader = PeriodicExportingMetricReader(metrics, export_interval_millis=_METRICS_SECONDS * 1000)
        self._meters = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
        meter = self._meters.get_meter("llm_gateway")

        def histogram(name: str, unit: str, bounds: Sequence[float]) -> Any:
            return meter.create_histogram(name, unit, explicit_bucket_boundaries_advisory=bounds)

        self._server = histogram(names.SERVER_DURATION, "s", names.SECONDS)
        self._first = histogram(names.SERVER_FIRST, "s", names.FIRST_TOKEN_SECONDS)
        self._client = histogram(names.CLIENT_DURATION, "s", names.SECONDS)
        self._tokens = histogram(names.USAGE, "{token}", names.TOKENS)

    def tell(self, entries: Sequence[Entry], rows: Sequence[Row]) -> None:
        for entry, row in zip(entries, rows, strict=True):
            self._measure(entry, row)
            trace_id = int(trace_ids.w3c_trace_id(row.trace_id), 16)
            if row.parent_span_id or trace_id & (2**64 - 1) < self._bound:
                for span in self._spans_of(entry, row, trace_id):
                    self._spans.on_end(span)

    def close(self) -> None:
        """Export what is left."""
        self._spans.shutdown()
        self._meters.shutdown()

    def _measure(self, entry: Entry, row: Row) -> None:
        common = {
            names.OPERATION: names.operation_name(row.operation),
            names.REQUEST_MODEL: row.model_id or "-",
            names.PROVIDER: _provider(entry),
        }
        failed = {names.ERROR_TYPE: str(row.status)} if row.error_code else {}
        self._server.record(entry.duration, common | failed)
        if entry.first_byte is not None:
            self._first.record(entry.first_byte, common)
        if row.model_id:
            self._client.record(entry.duration - entry.overhead, common | failed)
            self._tokens.record(row.input_tokens, common | {names.KIND_OF_TOKENS: "input"})
            self._tokens.record(row.output_tokens, common | {names.KIND_OF_TOKENS: "output"})

    def _spans_of(self, entry: Entry, row: Row, trace_id: int) -> list[ReadableSpan]:
        own = int(trace_ids.span_id(row.request_id), 16)
        context = SpanContext(trace_id, own, is_remote=False, trace_flags=_SAMPLED)
        parent = None
        if row.parent_span_id:
            parent = SpanContext(trace_id, int(row.parent_span_id, 16), is_remote=True, trace_flags=_SAMPLED)
        spans = [self._attempt(row, one, number, context) for number, one in enumerate(_tries(entry, row), 1)]
        operation = names.operation_name(row.operation)
        server = self._span(
            f"{operation} {row.requested_model}".rstrip(),
            context,
            parent,
            SpanKind.SERVER,
            entry.at,
            entry.at + entry.duration,
            _about(entry, row),
            row.error_code,
        )
        return [server, *spans]

    def _attempt(self, row: Row, attempt: Attempt, number: int, parent: SpanContext) -> ReadableSpan:
        # Always the same for one attempt, and none of another's.
        span_id = (parent.span_id ^ (number * 0x9E3779B97F4A7C15)) & (2**64 - 1) or number
        context = SpanContext(parent.trace_id, span_id, is_remote=False, trace_flags=_SAMPLED)
        operation = names.operation_name(row.operation)
        attributes: dict[str, Any] = {
            names.OPERATION: operation,
            names.PROVIDER_ID: attempt.provider_id,
            names.REQUEST_MODEL: attempt.model_id,
            names.HTTP_STATUS: attempt.status,
            names.ATTEMPT: number,
            names.ATTEMPT_REASON: attempt.reason,
        }
        if attempt.first_byte is not None:
            attributes[names.RESPONSE_FIRST_CHUNK] = attempt.first_byte
        return self._span(
            f"{operation} {attempt.model_id}",
            context,
            parent,
            SpanKind.CLIENT,
            attempt.started,
            attempt.started + attempt.seconds,
            attributes,
            attempt.code,
        )

    def _span(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        kind: SpanKind,
        began: float,
        ended: float,
        attributes: dict[str, Any],
        error: str,
    ) -> ReadableSpan:
        status = Status(StatusCode.ERROR, error) if error else Status(StatusCode.UNSET)
        if error:
            attributes[names.ERROR_TYPE] = error
        return ReadableSpan(
            name=name,
            context=context,
            parent=parent,
            resource=self._resource,
            attributes=attributes,
            kind=kind,
            status=status,
            start_time=round(began * 1e9),
            end_time=round(ended * 1e9),
            instrumentation_scope=_SCOPE,
        )


def _provider(entry: Entry) -> str:
    return "-" if entry.model is None else names.provider_name(entry.model.provider.provider_type)


def _about(entry: Entry, row: Row) -> dict[str, Any]:
    told: dict[str, Any] = {
        names.OPERATION: names.operation_name(row.operation),
        names.PROVIDER: _provider(entry),
        names.REQUEST_MODEL: row.requested_model,
        names.REQUEST_STREAM: row.stream,
        names.INPUT_TOKENS: row.input_tokens,
        names.OUTPUT_TOKENS: row.output_tokens,
        names.HTTP_STATUS: row.status,
        names.REQUEST_ID: row.request_id,
        names.CLIENT_KEY: row.client_key_prefix,
        names.OVERHEAD: row.overhead_ms / 1000,
    }
    if entry.asked[1] is not None:
        told[names.REQUEST_MAX_TOKENS] = entry.asked[1]
    if row.first_byte_ms is not None:
        told[names.RESPONSE_FIRST_CHUNK] = row.first_byte_ms / 1000
    if row.cost is not None and row.currency == USD:
        told[names.COST] = float(row.cost)
    further = {
        names.RESPONSE_MODEL: row.model_id,
        names.PROVIDER_ID: row.provider_id,
        names.CACHED_TOKENS: row.cached_tokens,
        names.REASONING_TOKENS: row.reasoning_tokens,
        names.CONVERSATION: row.session_id,
        names.POLICY: row.policy,
        names.TEAM: row.team_id,
        names.OWNER: row.error_owner,
        names.QUEUED: row.queue_ms / 1000,
    }
    return told | {name: value for name, value in further.items() if value}


def _tries(entry: Entry, row: Row) -> list[Attempt]:
    """A request whose first try was answered leaves no log: the try is all that was not ours."""
    if entry.log is not None:
        return [one for one in entry.log if one.status]
    if not row.model_id or not row.attempts:
        return []
    began = entry.at + entry.queued
    waited = None if entry.first_byte is None else max(0.0, entry.first_byte - entry.overhead)
    seconds = max(0.0, entry.duration - entry.overhead)
    return [Attempt(row.provider_id, row.model_id, "first", row.status, row.error_code, began, seconds, waited)]


def connect(endpoint: str, headers: Mapping[str, str], service_name: str, sampling: float) -> Telemetry:
    """To the collector at `endpoint`, which takes OTLP over HTTP."""
    # The exporters say of each failed batch what they would have sent; once per failure is enough, and is the operator's.
    logging.getLogger("opentelemetry.exporter.otlp.proto.http").setLevel(logging.ERROR)
    base = endpoint.rstrip("/")
    told = dict(headers)
    return Telemetry(
        OTLPSpanExporter(endpoint=f"{base}/v1/traces", headers=told, timeout=_PATIENCE_SECONDS),
        OTLPMetricExporter(endpoint=f"{base}/v1/metrics", headers=told, timeout=_PATIENCE_SECONDS),
        Resource.create({"service.name": service_name}),
        sampling,
    )
