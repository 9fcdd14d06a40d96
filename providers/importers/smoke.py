"""Does every imported provider answer? The migration guide's own test request, sent through each of them.

It goes the way of real traffic, pinned to one provider: through a callable that the layer above registers, as for probes. A
provider that nobody can be asked through is told apart from one that was asked and did not answer: the first is left out
with its reason, the second is what the exit status speaks of. Every answer is billed by its provider.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from django.conf import settings
from django.db import connection

from providers import capabilities, dialling, probes, upstream
from providers.import_runs import ImportRecord
from providers.models import Provider, ProviderModel
from providers.secrets import Secret

PROMPT = "Hello, world!"
MAX_TOKENS = 32
TIMEOUT_SECONDS = 60.0
AT_ONCE = 8
COSTS_MONEY = "Every answer is asked for at the provider itself and billed by it."

_LONGEST_FIRST_WORDS = 80


class Generation(Protocol):
    """Ask one model of one provider, streamed. Raises an exception with `message` and `detail`."""

    def __call__(
        self, provider_id: str, model_id: str, prompt: str, *, max_tokens: int, timeout_seconds: float
    ) -> Mapping[str, Any]:
        """`text`, `first_token_ms`, `total_ms`, `input_tokens` and `output_tokens`."""
        ...


@dataclass(frozen=True, slots=True)
class Result:
    """`status` is answered, failed or left_out; `message` says why it is not answered. Spans in milliseconds."""

    provider_id: str
    model_id: str
    status: str
    message: str = ""
    first_token_ms: float | None = None
    duration_ms: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    first_words: str = ""


@dataclass(frozen=True, slots=True)
class _Question:
    """A provider that can be asked. `secrets` are what its words must not repeat."""

    provider_id: str
    model_id: str
    secrets: tuple[Secret, ...]


class CannotRun(Exception):
    """Nothing could be asked; the text says why."""


_generation: Generation | None = None


def register_generation(generation: Generation | None) -> None:
    """Say how this process generates; called at start-up by the layer that can."""
    global _generation
    _generation = generation


def run(
    *,
    only: Sequence[str] = (),
    every: bool = False,
    timeout_seconds: float = TIMEOUT_SECONDS,
    progress: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Ask every imported provider, or `every` provider, or the `only` named ones of them; the results in the order of ids.

    `progress` hears each result as it comes. Raises `CannotRun`.
    """
    generation = _generation
    if generation is None:
        raise CannotRun("This process does not generate.")
    results: list[Result] = []
    questions: list[_Question] = []
    for provider in _chosen(only, every):
        ready = _question(provider)
        if isinstance(ready, Result):
            progress(ready)
            results.append(ready)
        else:
            questions.append(ready)
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="smoke") as threads:
        asked = [threads.submit(_ask_in_a_thread, generation, question, timeout_seconds) for question in questions]
        for done in as_completed(asked):
            progress(done.result())
            results.append(done.result())
    return sorted(results, key=lambda result: result.provider_id)


def exit_status(results: Sequence[Result]) -> int:
    """0 when everybody who could be asked answered, 2 when somebody did not, 1 when there was nobody to ask."""
    if any(result.status == "failed" for result in results):
        return 2
    return 0 if any(result.status == "answered" for result in results) else 1


def report(results: Sequence[Result]) -> dict[str, Any]:
    """As `--report` writes it."""
    counts = {
        status: sum(result.status == status for result in results) for status in ("answered", "failed", "left_out")
    }
    return {
        "prompt": PROMPT,
        "max_tokens": MAX_TOKENS,
        "exit_status": exit_status(results),
        "counts": counts,
        "providers": [asdict(result) for result in results],
    }


def _chosen(only: Sequence[str], every: bool) -> list[Provider]:
    rows = Provider.objects.order_by("provider_id")
    if not every:
        rows = rows.filter(pk__in=_imported())
    if only:
        rows = rows.filter(provider_id__in=only)
    chosen = list(rows)
    whose = "provider" if every else "imported provider"
    if missing := sorted(set(only) - {provider.provider_id for provider in chosen}):
        raise CannotRun(f"There is no {whose} named: {', '.join(missing)}.")
    if not chosen:
        raise CannotRun(f"There is no {whose}." + ("" if every else " Import first, or take all."))
    return chosen


def _imported() -> Any:
    """Row ids of the providers that came with a run which still stands."""
    return ImportRecord.objects.filter(target_kind="provider", run__undone_at__isnull=True).values("target_id")


def _question(provider: Provider) -> _Question | Result:
    """What to ask the provider, or why there is nothing to ask or no way to ask it."""
    if not provider.enabled:
        return Result(provider.provider_id, "", "left_out", "The provider is disabled.")
    model = _chat_model(provider)
    if model is None:
        return Result(provider.provider_id, "", "left_out", _why_no_model(provider))
    try:
        facts = upstream.load(provider)
    except upstream.UnusableProvider as error:
        return Result(provider.provider_id, model.model_id, "failed", str(error))
    here = provider.api_keys.filter(environment=settings.GATEWAY_ENVIRONMENT)
    if not facts.keys and (facts.kind.needs_key or here.exists()):
        return Result(provider.provider_id, model.model_id, "failed", probes.why_no_key(provider, facts))
    return _Question(provider.provider_id, model.model_id, tuple(facts.secrets()))


def _chat_model(provider: Provider) -> ProviderModel | None:
    model, operation = probes.model_to_test(provider)
    return model if operation == "chat" else None


def _why_no_model(provider: Provider) -> str:
    rows = list(provider.models.all())
    enabled = [row for row in rows if row.enabled]
    if not rows:
        return "The provider has no models."
    if not enabled:
        return "All its models are disabled."
    if all(capabilities.serves(row.model_type, frozenset(), "embeddings") for row in enabled):
        return "It has embedding models only: there is nothing to chat with."
    kinds = ", ".join(sorted({row.model_type for row in enabled}))
    return f"No enabled model can chat; there are: {kinds}."


def _ask_in_a_thread(generation: Generation, question: _Question, timeout_seconds: float) -> Result:
    try:
        return _ask(generation, question, timeout_seconds)
    finally:
        connection.close()  # to generate is to read the registry


def _ask(generation: Generation, question: _Question, timeout_seconds: float) -> Result:
    started = time.perf_counter()
    try:
        answer = generation(
            question.provider_id, question.model_id, PROMPT, max_tokens=MAX_TOKENS, timeout_seconds=timeout_seconds
        )
    except TimeoutError:
        return _failed(question, started, f"No whole answer within {timeout_seconds:g} seconds.")
    except Exception as error:  # whatever goes wrong in generating is the finding
        text = str(getattr(error, "detail", "") or getattr(error, "message", "") or error or type(error).__name__)
        return _failed(question, started, text)
    if not answer["text"] and not answer["output_tokens"]:
        return _failed(question, started, "The answer is empty.")
    return Result(
        question.provider_id,
        question.model_id,
        "answered",
        "" if answer["text"] else "The model thought until its tokens were spent, and said nothing.",
        first_token_ms=answer["first_token_ms"],
        duration_ms=answer["total_ms"],
        input_tokens=answer["input_tokens"],
        output_tokens=answer["output_tokens"],
        first_words=dialling.quoted(str(answer["text"]), question.secrets, _LONGEST_FIRST_WORDS),
    )


def _failed(question: _Question, started: float, text: str) -> Result:
    return Result(
        question.provider_id,
        question.model_id,
        "failed",
        dialling.quoted(text, question.secrets),
        duration_ms=round((time.perf_counter() - started) * 1000, 3),
    )
