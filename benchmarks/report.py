"""Turns results into what a person reads: the promises first, as ratios and verdicts, then every figure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from benchmarks.measures import Results

Measured = dict[str, Results]
"""By the measure's name."""


@dataclass(frozen=True, slots=True)
class Promise:
    """A figure that the gateway must reach: `value` is None when this run lacks what it is made of."""

    what: str
    bound: str
    reached: Callable[[float], bool]
    value: Callable[[Measured], float | None]
    unit: str = ""
    form: str = ",.2f"


def figure(measured: Measured, measure: str, contender: str, name: str) -> float | None:
    return measured.get(measure, {}).get(contender, {}).get(name)


def ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


def _of_gateway(measure: str, name: str) -> Callable[[Measured], float | None]:
    return lambda measured: figure(measured, measure, "gateway", name)


def _per_core_against(peer: str) -> Callable[[Measured], float | None]:
    return lambda measured: ratio(
        figure(measured, "throughput", "gateway", "per_core"), figure(measured, "throughput", peer, "per_core")
    )


def _cut(measured: Measured) -> float | None:
    seen = [results["gateway"]["cut"] for results in measured.values() if "cut" in results.get("gateway", {})]
    return sum(seen) if seen else None


def _of_local(what: str, peer: str) -> Callable[[Measured], float | None]:
    name = f"tokens_per_second_{what}"
    return lambda measured: ratio(figure(measured, "local", "gateway", name), figure(measured, "local", peer, name))


def _worst_of_policies(measured: Measured) -> float | None:
    """Milliseconds."""
    results = measured.get("decisions", {})
    seen = [numbers["p99_us"] for what, numbers in results.items() if what.startswith("policy") and "p99_us" in numbers]
    return max(seen) / 1000 if seen else None


PROMISES = (
    Promise(
        "requests/s per core, against LiteLLM proxy",
        ">= 90 x",
        lambda x: x >= 90,
        _per_core_against("litellm"),
        "x",
        ",.1f",
    ),
    Promise(
        "requests/s per core, against nginx", ">= 0.12 x", lambda x: x >= 0.12, _per_core_against("nginx"), "x", ",.3f"
    ),
    Promise(
        "requests/s per core", ">= 12,000", lambda x: x >= 12_000, _of_gateway("throughput", "per_core"), "/s", ",.0f"
    ),
    Promise(
        "requests/s with limits, budgets, ledger and traces, against without",
        ">= 0.85 x",
        lambda x: x >= 0.85,
        lambda measured: figure(measured, "metered", "gateway, metered", "of_bare"),
        "x",
        ",.3f",
    ),
    Promise(
        "CPU per relayed chunk, flat out",
        "<= 12 us",
        lambda x: x <= 12,
        _of_gateway("streams_flat_out", "cpu_us_per_chunk"),
        "us",
    ),
    Promise(
        "added time to first token, low load",
        "<= 0.8 ms",
        lambda x: x <= 0.8,
        _of_gateway("first_token", "added_p50_ms"),
        "ms",
    ),
    Promise(
        "resident after the requests",
        "< 150 MB",
        lambda x: x < 150,
        _of_gateway("memory", "after_requests_mb"),
        "MB",
        ",.0f",
    ),
    Promise(
        "memory per held stream", "< 40 KB", lambda x: x < 40, _of_gateway("memory", "kb_per_held_stream"), "KB", ",.1f"
    ),
    Promise("streams cut", "none", lambda x: x == 0, _cut, "", ",.0f"),
    Promise(
        "others' p99 beside slow streams",
        "< 2 ms",
        lambda x: x < 2,
        _of_gateway("slow_neighbours", "beside_p99_ms"),
        "ms",
    ),
    Promise(
        "local tokens/s, 8 users, against one after another",
        ">= 1.9 x",
        lambda x: x >= 1.9,
        _of_local("plain_8", "direct"),
        "x",
    ),
    Promise(
        "local tokens/s, 8 users, shared system prompt, against one after another",
        ">= 1.85 x",
        lambda x: x >= 1.85,
        _of_local("shared_8", "direct"),
        "x",
    ),
    Promise(
        "local tokens/s, 8 users, prompts cached, against one after another",
        ">= 3.6 x",
        lambda x: x >= 3.6,
        _of_local("cached_8", "direct"),
        "x",
    ),
    Promise(
        "local tokens/s, 8 users, shared system prompt, against parallel slots",
        ">= 7 x",
        lambda x: x >= 7,
        _of_local("shared_8", "parallel slots"),
        "x",
    ),
    Promise(
        "local first token, 8 users, prompts new",
        "<= 1.9 s",
        lambda x: x <= 1.9,
        _of_gateway("local", "first_token_s_plain_8"),
        "s",
    ),
    Promise(
        "p99 of a decision by a policy, 10,000 models",
        "< 1 ms",
        lambda x: x < 1,
        _worst_of_policies,
        "ms",
        ",.3f",
    ),
    Promise(
        "snapshot of 1,000 providers and 10,000 models",
        "< 2 s",
        lambda x: x < 2,
        lambda measured: figure(measured, "decisions", "snapshot", "build_seconds"),
        "s",
    ),
)

LOCAL_ROUNDS = (
    ("plain_1", "1 user"),
    ("plain_2", "2"),
    ("plain_4", "4"),
    ("plain_8", "8"),
    ("cached_8", "8, asked again"),
    ("shared_8", "8, shared prompt"),
    ("shared_cached_8", "8, shared, again"),
)

LOCAL_COLUMNS = tuple(
    column
    for what, heading in LOCAL_ROUNDS
    for column in ((f"tokens_per_second_{what}", heading, ",.0f"), (f"first_token_s_{what}", "first", ",.2f"))
)

COLUMNS: dict[str, tuple[str, tuple[tuple[str, str, str], ...]]] = {
    "throughput": (
        "Small whole answers, closed loop",
        (
            ("per_core", "requests/s per core", ",.0f"),
            ("requests_per_second", "requests/s seen", ",.0f"),
            ("lowest", "lowest", ",.0f"),
            ("highest", "highest", ",.0f"),
            ("busy", "core busy", ".0%"),
            ("cpu_us_per_request", "CPU us/request", ",.1f"),
            ("p50_ms", "p50 ms", ",.2f"),
            ("p99_ms", "p99 ms", ",.2f"),
            ("failed", "failed", ",.0f"),
        ),
    ),
    "low_load": (
        "Whole answers, 50 requests/s",
        (
            ("added_p50_ms", "added p50 ms", ",.3f"),
            ("added_p99_ms", "added p99 ms", ",.3f"),
            ("p50_ms", "p50 ms", ",.3f"),
            ("p99_ms", "p99 ms", ",.3f"),
            ("failed", "failed", ",.0f"),
        ),
    ),
    "first_token": (
        "Time to first token, 20 streams/s",
        (
            ("added_p50_ms", "added p50 ms", ",.3f"),
            ("added_p99_ms", "added p99 ms", ",.3f"),
            ("p50_ms", "p50 ms", ",.3f"),
            ("p99_ms", "p99 ms", ",.3f"),
            ("failed", "failed", ",.0f"),
        ),
    ),
    "streams_flat_out": (
        "Streams as fast as they are taken",
        (
            ("chunks_per_second", "chunks/s", ",.0f"),
            ("cpu_us_per_chunk", "CPU us/chunk", ",.1f"),
            ("busy", "core busy", ".0%"),
            ("streams", "streams", ",.0f"),
            ("cut", "cut", ",.0f"),
        ),
    ),
    "streams_paced": (
        "50 streams, 20 chunks/s each",
        (
            ("chunks_per_second", "chunks/s", ",.0f"),
            ("cpu_us_per_chunk", "CPU us/chunk", ",.1f"),
            ("relay_p50_ms", "relay p50 ms", ",.3f"),
            ("relay_p99_ms", "relay p99 ms", ",.3f"),
            ("busy", "core busy", ".0%"),
            ("cut", "cut", ",.0f"),
        ),
    ),
    "memory": (
        "Memory",
        (
            ("start_mb", "at start MB", ",.0f"),
            ("held_streams", "held streams", ",.0f"),
            ("held_mb", "with them MB", ",.0f"),
            ("kb_per_held_stream", "KB/stream", ",.1f"),
            ("cut", "cut", ",.0f"),
            ("still_read_a_second_after_leaving", "still read 1 s after clients left", ",.0f"),
            ("requests", "requests", ",.0f"),
            ("after_requests_mb", "after them MB", ",.0f"),
        ),
    ),
    "slow_neighbours": (
        "Others' requests beside slow streams",
        (
            ("beside_p50_ms", "p50 ms", ",.2f"),
            ("beside_p99_ms", "p99 ms", ",.2f"),
            ("alone_p50_ms", "p50 alone", ",.2f"),
            ("alone_p99_ms", "p99 alone", ",.2f"),
            ("relay_p99_ms", "streams' relay p99 ms", ",.2f"),
            ("cut", "cut", ",.0f"),
            ("failed", "failed", ",.0f"),
        ),
    ),
    "metered": (
        "The books: without them, with them, with limits and budgets as well",
        (
            ("per_core", "requests/s per core", ",.0f"),
            ("cpu_us_per_request", "CPU us per request", ",.1f"),
            ("of_bare", "of bare", ",.3f"),
            ("p99_ms", "p99 ms", ",.2f"),
            ("failed", "failed", ",.0f"),
        ),
    ),
    "local": (
        "Local inference: tokens/s of all users together, and seconds to the first token",
        LOCAL_COLUMNS,
    ),
    "local_other": ("Local inference, another model than the promises are of", LOCAL_COLUMNS),
    "decisions": (
        "Decisions over 1,000 providers, 10,000 models and 500 policies",
        (
            ("p50_us", "p50 us", ",.0f"),
            ("p99_us", "p99 us", ",.0f"),
            ("worst_us", "worst us", ",.0f"),
            ("cpu_p99_us", "CPU p99 us", ",.0f"),
            ("per_second", "decisions/s", ",.0f"),
            ("build_seconds", "build s", ",.2f"),
            ("lag_ms", "loop's worst lag ms", ",.0f"),
        ),
    ),
    "imports": (
        "Import of a legacy backoffice",
        (
            ("rows", "rows", ",.0f"),
            ("rows_per_second", "rows/s", ",.0f"),
            ("peak_mb", "peak MB", ",.0f"),
            ("again_rows_per_second", "second run rows/s", ",.0f"),
            ("verify_rows_per_second", "verify rows/s", ",.0f"),
            ("verify_peak_mb", "verify peak MB", ",.0f"),
        ),
    ),
}


def missed(measured: Measured) -> list[str]:
    """The promises this run measured and did not find kept."""
    values = ((promise, promise.value(measured)) for promise in PROMISES)
    return [promise.what for promise, value in values if value is not None and not promise.reached(value)]


def show(console: Console, measured: Measured) -> None:
    console.print(_promises(measured))
    for name, results in measured.items():
        if results:
            console.print(_figures(name, results))


def _promises(measured: Measured) -> Table:
    table = Table(title="Promises", title_justify="left", title_style="bold")
    for heading in ("", "this run", "must be", "", "nginx", "LiteLLM"):
        table.add_column(heading, justify="left" if not heading else "right")
    for promise in PROMISES:
        value = promise.value(measured)
        if value is None:
            table.add_row(promise.what, "not measured", promise.bound, "")
            continue
        verdict = "[green]kept[/]" if promise.reached(value) else "[red]MISSED[/]"
        peers = [_peer_value(promise, measured, peer) for peer in ("nginx", "litellm")]
        table.add_row(promise.what, f"{value:{promise.form}} {promise.unit}", promise.bound, verdict, *peers)
    return table


def _peer_value(promise: Promise, measured: Measured, peer: str) -> str:
    """The same figure for a peer: the promise is asked of results in which the peer stands in the gateway's place."""
    if "against" in promise.what:
        return ""
    swapped = {name: {"gateway": results[peer]} for name, results in measured.items() if peer in results}
    value = promise.value(swapped)
    return "" if value is None else f"{value:{promise.form}}"


def _figures(name: str, results: Results) -> Table:
    title, columns = COLUMNS[name]
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("")
    shown = [column for column in columns if any(column[0] in numbers for numbers in results.values())]
    for _, heading, _ in shown:
        table.add_column(heading, justify="right")
    for contender, numbers in results.items():
        cells = [f"{numbers[key]:{form}}" if key in numbers else "" for key, _, form in shown]
        table.add_row(contender, *cells)
    return table
