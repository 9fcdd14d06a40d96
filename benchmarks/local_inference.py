"""Tokens per second and time to first token of local models with 1 to 8 users, in one run on one machine:

* through the whole gateway (web process, Redis, Celery worker, engine),
* from llama-cpp-python's `Llama` called directly, one user after another,
* from an engine with parallel slots (llama.cpp's server, which the prebuilt xllamacpp brings).

Prompts are new to everybody, or share a long new system prompt, or have just been asked. The contenders take turns within
each of these, with the same model and as many threads. None is pinned: the engine's place is not the web process's core.

`python -m benchmarks local --help`
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import local_contenders
from benchmarks.local_contenders import Running
from benchmarks.local_rounds import Round, Seen, first_token, plain, shared, tokens_per_second
from benchmarks.measures import Results
from benchmarks.native import BUILD
from benchmarks.processes import DidNotStart

DEMO = Path(__file__).resolve().parent.parent / "inference" / "demo_model" / "demo-f16.gguf"
DIRECT, GATEWAY, SLOTS = "direct", "gateway", "parallel slots"
USERS = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class Size:
    """`model` is a file, `demo`, or `large`: random weights of 213 million parameters, made when they are not there yet."""

    model: str = "large"
    threads: int = max(1, os.cpu_count() or 1)
    context: int = 1024
    tokens: int = 48
    shared_letters: int = 400
    rounds: int = 1
    users: Sequence[int] = USERS

    @property
    def measure(self) -> str:
        """The promises are of the large model: the built-in one takes less time to compute than to send its tokens."""
        return "local" if self.model == "large" else "local_other"


QUICK = Size(model="demo")

FIGURES = ("tokens_per_second", "tokens_per_cpu_second", "first_token_s")


@dataclass(frozen=True, slots=True)
class Turn:
    """What one contender made of one round, and the processor's time that it took."""

    seen: list[Seen]
    cpu_seconds: float

    @property
    def tokens_per_second(self) -> float:
        return tokens_per_second(self.seen)

    @property
    def tokens_per_cpu_second(self) -> float:
        """On a machine that is busy with something else this is what comparisons can be made of, with one thread each."""
        return sum(one.tokens for one in self.seen) / max(self.cpu_seconds, 0.01)

    @property
    def first_token_s(self) -> float:
        return first_token(self.seen)

    def line(self) -> str:
        return (
            f"{self.tokens_per_second:,.1f} tokens/s, {self.tokens_per_cpu_second:,.1f} per CPU second, "
            f"first token {self.first_token_s:.2f} s, all in {max(one.ended for one in self.seen):.1f} s"
        )


def measure(size: Size, directory: Path, say: Callable[[str], None]) -> Results:
    """Figures by contender; who cannot be had is said and left out."""
    directory.mkdir(parents=True, exist_ok=True)
    model_file = _model_file(size.model, say)
    with contextlib.ExitStack() as running:
        contenders: dict[str, Running] = {}
        for name, start in _starts(model_file, size, directory).items():
            try:
                contenders[name] = running.enter_context(start())
                say(f"{name}: {contenders[name].how}")
            except (DidNotStart, OSError) as error:
                say(f"{name} is missing from this run: {error}")
        return _measured(contenders, size, say)


def _starts(
    model_file: Path, size: Size, directory: Path
) -> dict[str, Callable[[], contextlib.AbstractContextManager]]:
    given = [str(model_file), str(size.threads), str(size.context)]
    slots = [*given, str(max(size.users))]
    program = local_contenders.program
    return {
        DIRECT: lambda: program("benchmarks.direct_llama", given, directory / "direct.log"),
        GATEWAY: lambda: local_contenders.gateway(model_file, size.threads, size.context, directory / "gateway"),
        SLOTS: lambda: program("benchmarks.parallel_slots", slots, directory / "slots.log"),
    }


def _measured(contenders: dict[str, Running], size: Size, say: Callable[[str], None]) -> Results:
    seen: dict[str, dict[str, list[Turn]]] = {name: {} for name in contenders}

    def turn(what: str, asked: Round) -> None:
        for name, contender in contenders.items():
            cpu = contender.cpu_seconds()
            found = contender.ask_all(asked)
            taken = Turn(found, contender.cpu_seconds() - cpu)
            seen[name].setdefault(what, []).append(taken)
            say(f"{what}, {name}: {taken.line()}")

    most = max(size.users)
    for number in range(size.rounds):
        seed = int(time.time()) + number * 1000
        for users in size.users:
            asked = plain(users, size.tokens, seed + users)
            turn(f"plain_{users}", asked)
        turn(f"cached_{most}", asked)
        asked = shared(most, size.tokens, seed, letters=size.shared_letters)
        turn(f"shared_{most}", asked)
        turn(f"shared_cached_{most}", asked)
    return {name: _figures(rounds) for name, rounds in seen.items()}


def _figures(rounds: dict[str, list[Turn]]) -> dict[str, float]:
    """The medians over the rounds."""
    numbers = {}
    for what, turns in rounds.items():
        for name in FIGURES:
            numbers[f"{name}_{what}"] = statistics.median(getattr(turn, name) for turn in turns)
    return numbers


def _model_file(model: str, say: Callable[[str], None]) -> Path:
    if model == "demo":
        return DEMO
    if model != "large":
        return Path(model).resolve()
    path = BUILD / "local-213m-q8_0.gguf"
    if not path.exists():
        say("making a model of 213 million random weights, 227 MB")
        from inference.demo_model.build import random_model

        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        random_model(draft, dim=1024, layers=16, heads=16, kv_heads=4, ff=2816, extra_vocab=31744, quant="q8_0")
        draft.replace(path)
    return path


def main(arguments: list[str] | None = None) -> int:
    asked = _arguments(arguments)
    from rich.console import Console

    from benchmarks import machine, report

    console = Console(width=None if sys.stdout.isatty() else 160)
    facts = machine.describe()
    console.print(facts.line(), highlight=False)

    def say(sentence: str) -> None:
        console.print(sentence, highlight=False, markup=False)

    # Ended from outside, the programs that were started must still be stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    size = Size(
        asked.model,
        asked.threads,
        asked.context,
        asked.tokens,
        asked.shared_letters,
        asked.rounds,
        tuple(asked.users),
    )
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as folder:
        measured = {size.measure: measure(size, Path(folder), say)}
    report.show(console, measured)
    if asked.json is not None:
        asked.json.write_text(json.dumps({"machine": facts.as_dict(), "measures": measured}, indent=2) + "\n")
    return 1 if asked.strict and report.missed(measured) else 0


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    usual = Size()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks local", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=usual.model, help="large (213 M random weights), demo, or a GGUF file")
    parser.add_argument("--threads", type=int, default=usual.threads, help="compute threads of each contender")
    parser.add_argument("--context", type=int, default=usual.context, help="tokens of one request")
    parser.add_argument("--tokens", type=int, default=usual.tokens, help="tokens of an answer")
    parser.add_argument(
        "--shared-letters", type=int, default=usual.shared_letters, help="length of the system prompt that users share"
    )
    parser.add_argument("--rounds", type=int, default=usual.rounds, help="how often each contender has its turn")
    parser.add_argument("--users", type=_numbers, default=usual.users, metavar="N[,...]", help="how many ask at once")
    parser.add_argument("--json", type=Path, help="where to keep the figures")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a promise that was measured is missed")
    return parser.parse_args(arguments)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(","))


if __name__ == "__main__":
    sys.exit(main())
