"""Rounds of questions that come at once, what is seen of their answers, and the talk with the programs that answer them."""

from __future__ import annotations

import json
import random
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

_LETTERS = "abcdefghijklmnopqrstuvwxyz     "


@dataclass(frozen=True, slots=True)
class Round:
    """As many users as there are `messages`, all asking at the same moment for `tokens` tokens each."""

    messages: list[list[dict[str, str]]]
    tokens: int


@dataclass(frozen=True, slots=True)
class Seen:
    """Of one answer. Seconds since the round began, so that standing in line counts."""

    first_token: float
    ended: float
    tokens: int


def plain(users: int, tokens: int, seed: int, *, letters: int = 104) -> Round:
    """Prompts that share nothing, about 130 tokens each for a tokenizer of bytes."""
    chance = random.Random(seed)
    return Round([[_user(_noise(chance, letters))] for _ in range(users)], tokens)


def shared(users: int, tokens: int, seed: int, *, letters: int) -> Round:
    """The same system prompt before each question, as one application's users have it."""
    chance = random.Random(seed)
    system = {"role": "system", "content": _noise(chance, letters)}
    return Round([[system, _user(_noise(chance, 104))] for _ in range(users)], tokens)


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _noise(chance: random.Random, letters: int) -> str:
    return "".join(chance.choices(_LETTERS, k=letters)).strip()


def tokens_per_second(seen: Sequence[Seen]) -> float:
    """Of all users together, their prompts' reading included."""
    return sum(one.tokens for one in seen) / max(one.ended for one in seen)


def first_token(seen: Sequence[Seen]) -> float:
    return statistics.median(one.first_token for one in seen)


def answer_rounds(name: str, ask_all: Callable[[Round], list[Seen]]) -> None:
    """In the program: say the name when ready, then answer a round a line until the input ends."""
    ask_all(plain(1, 4, seed=-1))
    _say(name)
    for line in sys.stdin:
        _say([asdict(seen) for seen in ask_all(Round(**json.loads(line)))])


def _say(what: object) -> None:
    sys.stdout.write(f"{json.dumps(what)}\n")
    sys.stdout.flush()
