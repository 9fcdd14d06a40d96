"""`manage.py ask`: a question to a model, or to several side by side; the playground in a terminal."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Mapping
from time import time
from typing import Any

from django.core.management.base import CommandError, CommandParser
from rich.columns import Columns
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from inference import asked_by_hand
from inference import loop as bridge
from inference.asked_by_hand import Asked
from inference.errors import GatewayError
from providers import cells
from providers.importers.runs import FOR_A_PERSON
from providers.management.teaching import TeachingCommand
from routing import snapshot
from routing.types import Identity

MOST = 4
_LINES = 14
"""Of each answer while several grow beside each other."""


class Command(TeachingCommand):
    help = (
        "Ask a model, policy, task or node and read the answer as it is written; with --compare, up to four at once, each with its "
        "time to the first token, its tokens, its cost and who served it."
    )
    examples = """
examples:
  manage.py ask "Write a haiku" --model demo
  manage.py ask "Write a haiku" --model fast --compare gpt-4o,claude-sonnet
  manage.py ask "Name three colours" --model fast --system "Answer in JSON" --json-mode --max-tokens 50
  manage.py ask "Hello" --model fast --key gw-0123456789ab          by the limits and on the budget of this client key
  cat report.txt | manage.py ask - --model fast

The exit status is 0 when all answered, and 2 when one did not.
Without --key nobody's limits hold, and the books name no client; in the admin the same is the Playground (docs/playground.md).
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("prompt", help="What to ask; - reads standard input.")
        parser.add_argument("--model", required=True, help="A model, provider/model, or a policy's name.")
        parser.add_argument("--compare", default="", metavar="A,B", help="Further names to ask the same.")
        parser.add_argument("--key", metavar="PREFIX", help="The client key to ask as, by its prefix.")
        parser.add_argument("--system", help="The system prompt.")
        parser.add_argument("--temperature", type=float)
        parser.add_argument("--top-p", type=float)
        parser.add_argument("--max-tokens", type=int)
        parser.add_argument("--seed", type=int)
        parser.add_argument("--json-mode", action="store_true", help="Ask for an answer in JSON.")
        parser.add_argument("--extra", metavar="JSON", help="Further fields of the request.")

    def handle(self, *args: Any, **options: Any) -> None:
        names = list(
            dict.fromkeys([options["model"], *(one.strip() for one in options["compare"].split(",") if one.strip())])
        )
        if len(names) > MOST:
            raise CommandError(f"At most {MOST} names can be compared.")
        body, identity = _body(options), _identity(options["key"])
        console = Console(file=self.stdout._out, highlight=False)
        try:
            answers = (
                _alone(console, names[0], body, identity)
                if len(names) == 1
                else _beside(console, names, body, identity)
            )
        except GatewayError as error:
            raise CommandError(error.message) from error
        console.print(_figures(answers))
        if any(one.error for one in answers):
            sys.exit(FOR_A_PERSON)


def _alone(console: Console, name: str, body: Mapping[str, Any], identity: Identity | None) -> list[Asked]:
    shown = 0

    def write(asked: Asked) -> None:
        nonlocal shown
        if len(asked.text) > shown:
            console.file.write(_harmless(asked.text[shown:]))
            console.file.flush()
            shown = len(asked.text)

    answers = bridge.run(asked_by_hand.ask([name], body, identity, write))
    if shown:
        console.print("\n")
    return answers


def _beside(console: Console, names: list[str], body: Mapping[str, Any], identity: Identity | None) -> list[Asked]:
    growing: dict[str, Asked] = {}
    lock = threading.Lock()

    def keep(asked: Asked) -> None:
        with lock:
            growing[asked.model] = asked

    def panels(whole: bool = False) -> Columns | Group:
        with lock:
            made = [_panel(name, growing.get(name), whole) for name in names]
        return Columns(made, equal=True, expand=True) if console.width >= 40 * len(names) else Group(*made)

    if not console.is_terminal:
        answers = bridge.run(asked_by_hand.ask(names, body, identity, keep))
    else:
        with Live(get_renderable=panels, console=console, refresh_per_second=12, transient=True):
            answers = bridge.run(asked_by_hand.ask(names, body, identity, keep))
    for one in answers:
        growing[one.model] = one
    console.print(panels(whole=True))
    return answers


def _panel(name: str, asked: Asked | None, whole: bool) -> Panel:
    text = "" if asked is None else _harmless(asked.text)
    if not whole:
        text = "\n".join(text.splitlines()[-_LINES:])
    error = asked.error if asked is not None else None
    said = Text(text) if error is None else Text(f"{text}\n{error.status} {error.code}: {error.message}".strip(), "red")
    return Panel(said, title=Text(name, "bold"), title_align="left")


def _figures(answers: list[Asked]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for one in answers:
        table.add_column(Text(one.model), overflow="fold", header_style="bold")
    for name, told in _FIGURES.items():
        said = [told(one) for one in answers]
        if any(said):
            table.add_row(Text(name, "dim"), *said)
    return table


def _outcome(one: Asked) -> str | Text:
    return Text(f"{one.error.status} {one.error.code}: {one.error.message}", "red") if one.error else one.trail.route


def _used(name: str) -> Callable[[Asked], str]:
    def told(one: Asked) -> str:
        return "" if one.usage is None or not getattr(one.usage, name) else f"{getattr(one.usage, name):,}"

    return told


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def _cost(one: Asked) -> str:
    if one.usage is None:
        return ""
    assert one.trail.model is not None
    return "unknown" if one.cost is None else f"{cells.amount(one.cost)} {one.trail.model.prices.currency}"


_FIGURES: dict[str, Callable[[Asked], str | Text]] = {
    "served by": _outcome,
    "first token": lambda one: _seconds(one.first),
    "total": lambda one: _seconds(one.total),
    "tokens/s": lambda one: "" if one.tokens_a_second is None else f"{one.tokens_a_second:.1f}",
    "tokens in": _used("input_tokens"),
    "tokens out": _used("output_tokens"),
    "cached": _used("cached_tokens"),
    "reasoning": _used("reasoning_tokens"),
    "cost": _cost,
    "tries": lambda one: f"{one.trail.attempts}{' (fallback)' if one.trail.fallback else ''}",
    "request": lambda one: one.request_id,
}


def _harmless(text: str) -> str:
    """Without the control characters by which a text could write elsewhere on the screen."""
    return "".join(sign for sign in text if sign in "\n\t" or sign.isprintable())


def _body(options: Mapping[str, Any]) -> dict[str, Any]:
    prompt = sys.stdin.read() if options["prompt"] == "-" else options["prompt"]
    system = [{"role": "system", "content": options["system"]}] if options["system"] else []
    body: dict[str, Any] = {
        "messages": [*system, {"role": "user", "content": prompt}],
        "stream_options": {"include_usage": True},
    }
    body |= {
        name: options[name] for name in ("temperature", "top_p", "max_tokens", "seed") if options[name] is not None
    }
    if options["json_mode"]:
        body["response_format"] = {"type": "json_object"}
    if options["extra"]:
        try:
            extra = json.loads(options["extra"])
        except ValueError as error:
            raise CommandError(f"--extra holds no JSON: {error}.") from error
        if not isinstance(extra, dict):
            raise CommandError("--extra must be a JSON object.")
        body |= extra
    return body


def _identity(prefix: str | None) -> Identity | None:
    held = snapshot.refresh()  # also without a key: what is read now is not waited for by the first token
    if not prefix:
        return None
    view = held.client_keys.get(prefix)
    if view is None:
        raise CommandError(f"There is no client key with the prefix {prefix}.")
    if reason := view.refusal(time()):
        raise CommandError(f"The client key {prefix} lets nobody in: {reason}.")
    return view.identity
