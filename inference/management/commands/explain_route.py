"""`manage.py explain_route`: which model a request would get and why not another, or why a past request was served as it was."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from inference import explaining, route_times
from inference.errors import GatewayError
from inference.explaining import Past, Question
from providers.importers.runs import FOR_A_PERSON
from providers.management.teaching import TeachingCommand

_NAMED = 5
"""Models that are named for each reason, without --all."""


class Command(TeachingCommand):
    help = (
        "Say which model a request would get, in which order the others would be asked, and why each of the rest is left "
        "out. Calls nobody and changes nothing. With --trace, why a past request was served as it was, and what would be "
        "decided today."
    )
    examples = """
examples:
  manage.py explain_route --model gpt-4o
  manage.py explain_route --node writer --prompt "Write a poem" --max-cost 0.01
  manage.py explain_route --task vision --wanted openai/gpt-4o     what would make it choose that one?
  manage.py explain_route --file request.json --key gw-0123456789ab
  cat request.json | manage.py explain_route --file -
  manage.py explain_route --trace req_01J...                       why was this one served so?
  manage.py explain_route --model gpt-4o --json | jq '.dropped'

The exit status is 0 when a model would serve, and 2 when none would.
The same over REST is POST /api/v1/route; in the admin it is "Explain a route"; docs/explaining.md tells what each member means.
"""

    def add_arguments(self, parser: CommandParser) -> None:
        asked = parser.add_argument_group("the request")
        asked.add_argument("--model", help="A model, provider/model, or a policy's name.")
        asked.add_argument("--node", help="A node's name, in place of a model.")
        asked.add_argument("--task", help="What the model must be meant for, such as vision.")
        asked.add_argument("--prompt", help="The text of the prompt.")
        asked.add_argument(
            "--file", metavar="PATH", help="The body of a request to /v1 as JSON; - reads standard input."
        )
        asked.add_argument("--preferred", metavar="MODEL", help="preferred_model of the request.")
        asked.add_argument("--vision", action="store_true", help="require_vision of the request.")
        asked.add_argument("--max-cost", metavar="USD", help="max_cost of the request.")
        asked.add_argument("--context", type=int, metavar="TOKENS", help="Length of a prompt that is not given.")
        asked.add_argument("--operation", choices=["chat", "completions", "embeddings"])
        asked.add_argument("--session", help="The session's name; it decides buckets and sticky sessions.")
        asked.add_argument("--strategy", help="In place of the policy's own, to try it out.")
        asked.add_argument("--key", metavar="PREFIX", help="Ask in the name of this client key.")
        parser.add_argument("--trace", metavar="REQUEST_ID", help="A past request, by its x-gateway-request-id.")
        parser.add_argument("--wanted", metavar="ROUTE", help="Tell what would have to change for this model to win.")
        parser.add_argument("--all", action="store_true", help="Name every model that is left out.")
        parser.add_argument("--json", action="store_true", help="Print the document itself.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            past, question = _question(options)
            told, serves = self._explained(past, question)
        except GatewayError as error:
            raise CommandError(error.message) from error
        if options["json"]:
            self.stdout.write(json.dumps(told, indent=2, ensure_ascii=False))
        else:
            self._print(past, told, _NAMED if not options["all"] else None)
        if not serves:
            sys.exit(FOR_A_PERSON)

    def _explained(self, past: Past | None, question: Question | None) -> tuple[dict[str, Any], bool]:
        now = None if question is None else explaining.explained(question)
        if now is not None:
            route_times.tell(now.document)
        if past is None:
            assert now is not None
            return now.document, now.refusal is None
        told = {"trace": past.usage.request_id, "then": past.document, "attempts": past.attempts}
        return told | {"now": None if now is None else now.document}, True

    def _print(self, past: Past | None, told: Mapping[str, Any], named: int | None) -> None:
        console = Console(file=self.stdout._out, highlight=False)
        if past is None:
            console.print(Group(*_document(told, named)))
            return
        usage = past.usage
        served = f"{usage.provider_id}/{usage.model_id}" if usage.provider_id else "nobody"
        console.print(Text(f"{usage.request_id}: {usage.status} {usage.error_code}".rstrip(), "bold"))
        console.print(
            f"  asked for {escape(usage.requested_model or 'any model')} at {usage.at:%Y-%m-%d %H:%M:%S}Z, served by {escape(served)}"
        )
        if past.attempts:
            console.print(_attempts(past.attempts))
        console.print(Text("\nThen", "bold underline"))
        if told["then"] is None:
            console.print("  No explanation is kept of it.")
        else:
            console.print(Group(*_document(told["then"], named)))
        console.print(Text("\nNow", "bold underline"))
        if told["now"] is None:
            console.print(f"  It cannot be asked again: {escape(past.problem)}.")
        else:
            console.print(Group(*_document(told["now"], named)))


def _question(options: Mapping[str, Any]) -> tuple[Past | None, Question | None]:
    if options["trace"]:
        past = explaining.past(options["trace"])
        if past is None:
            raise CommandError(f"No request {options['trace']} is recorded. Rows are written within a second.")
        question = past.question
        if question is not None and options["wanted"]:
            question = Question(question.facts, options["wanted"])
        return past, question
    body = _body(options["file"])
    for option, member in _MEMBERS.items():
        if options[option]:
            body[member] = options[option]
    if options["prompt"] is not None:
        body["messages"] = [{"role": "user", "content": options["prompt"]}]
    return None, explaining.read(body, None)


_MEMBERS = {
    "model": "model",
    "node": "node",
    "task": "task",
    "preferred": "preferred_model",
    "vision": "require_vision",
    "max_cost": "max_cost",
    "context": "context_size",
    "operation": "operation",
    "session": "session_id",
    "strategy": "strategy",
    "key": "client_key",
    "wanted": "wanted",
}


def _body(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
        body = json.loads(text)
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise CommandError(f"{path} holds no JSON: {error}.") from error
    if not isinstance(body, dict):
        raise CommandError(f"{path} must hold a JSON object.")
    return body


# --- Printing ---------------------------------------------------------------------------------------------------------------


def _document(told: Mapping[str, Any], named: int | None) -> Iterator[Any]:
    if told["candidates"]:
        yield Text(told["reason"], "bold green")
    else:
        yield Text(told["reason"], "bold red")
        if told["nearest"]:
            yield f"  Did you mean {escape(', '.join(told['nearest']))}?"
    if by := _by(told):
        yield f"  {escape(by)}"
    if told.get("demands"):
        wishes = (f"{name} {_plain(value)}" for name, value in told["demands"].items())
        yield Text(f"  demands: {'; '.join(wishes)}", "dim")
    for notice in told["notices"]:
        yield Text(f"  {notice}", "yellow")
    if told["candidates"]:
        yield ""
        yield _candidates(told["candidates"])
    if told["dropped"]:
        yield ""
        yield _dropped(told["dropped"], named)
    for what, count in told["left_out"].items():
        if count:
            yield f"  and {count:,} more {what}"
    if "what_would_change" in told:
        yield ""
        yield from _what_would_change(told["what_would_change"])


def _by(told: Mapping[str, Any]) -> str:
    policy, bucket = told["policy"], told["bucket"]
    parts = []
    if policy is not None:
        parts.append(f"{policy['kind']} {policy['name']}, version {policy['version']}")
        if policy["override"]:
            until = policy["override"]["expires_at"]
            parts.append(f"overridden by {policy['override']['target']}" + (f" until {until}" if until else ""))
    if bucket is not None:
        parts.append(
            f"bucket {bucket.get('number', '?')} of 10,000, below {bucket['share']} gets version {bucket['candidate_version']}"
        )
    if told["strategy"]:
        parts.append(f"strategy {told['strategy']}")
    estimate = told.get("estimate")
    if estimate:
        cost = _money(estimate["cost_usd"])
        parts.append(f"about {estimate['input_tokens']:,} tokens in, {estimate['output_tokens']:,} out, {cost}")
    return "; ".join(parts)


def _candidates(candidates: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("", justify="right")
    table.add_column("model", overflow="fold")
    table.add_column("score", justify="right")
    table.add_column("cost", justify="right")
    table.add_column("tier", no_wrap=True)
    table.add_column("breaker", no_wrap=True)
    table.add_column("latency", justify="right", no_wrap=True)
    table.add_column("p95, 24 h", justify="right", no_wrap=True)
    table.add_column("why")
    for one in candidates:
        name = f"{one['route']} via {one['via']}" if one["via"] else one["route"]
        table.add_row(
            str(one["place"]),
            Text(name, "bold green" if one["place"] == 1 else ""),
            "" if one["score"] is None else f"{one['score']:.4g}",
            _money(one["estimated_cost_usd"]) if "estimated_cost_usd" in one else "–",
            one["cost_tier"],
            Text(one["breaker"], "" if one["breaker"] == "closed" else "yellow"),
            "–" if one["latency_seconds"] is None else f"{one['latency_seconds']:.3g} s",
            "–" if one.get("p95_ms") is None else f"{one['p95_ms'] / 1000:.3g} s",
            Text(one["reason"]),
        )
    return table


def _dropped(dropped: list[dict[str, Any]], named: int | None) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("left out", no_wrap=True)
    table.add_column("model", overflow="fold")
    table.add_column("why")
    by_reason = sorted(dropped, key=lambda one: one["reason"])
    for reason, group in groupby(by_reason, key=lambda one: one["reason"]):
        members = list(group)
        shown = members[:named]
        for number, one in enumerate(shown):
            back = f" (back {one['back_at']})" if one.get("back_at") else ""
            table.add_row(
                Text(reason if number == 0 else "", "red"), Text(one["route"]), Text(f"{one['detail']}{back}", "dim")
            )
        if len(members) > len(shown):
            table.add_row("", Text(f"and {len(members) - len(shown):,} more", "dim"), "")
    return table


def _what_would_change(told: Mapping[str, Any]) -> Iterator[Any]:
    yield Text(told["sentence"], "bold")
    for step in told["steps"]:
        yield Text.assemble("  ", (f"{step['reason']}: ", "red"), f"{step['detail']}. ", (step["remedy"], "cyan"))
    if told["ways"]:
        yield "  Any one of these brings it to the front:"
        for way in told["ways"]:
            yield Text.assemble("  • ", (way["remedy"], "cyan"), (f" ({way['where']})", "dim"))


def _attempts(attempts: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("try", "model", "reason", "status", "took"):
        table.add_column(name)
    for number, one in enumerate(attempts, 1):
        took = one.get("duration_ms")
        table.add_row(
            str(number),
            Text(f"{one['provider_id']}/{one['model_id']}"),
            one["reason"],
            f"{one['status'] or '–'} {one.get('code', '')}".rstrip(),
            "" if took is None else f"{took:,.1f} ms",
        )
    return table


def _plain(value: Any) -> str:
    return (
        ", ".join(value) if isinstance(value, list) else str(value).lower() if isinstance(value, bool) else str(value)
    )


def _money(amount: float | None) -> str:
    return "price unknown" if amount is None else "free" if amount == 0 else f"{amount:.4g} USD"
