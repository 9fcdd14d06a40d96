"""`manage.py shadow_run FILE.jsonl [--model NAME] [--label NAME]`: ask both sides a set of prompts and keep both answers."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from inference import shadow_sets
from inference.shadow_sets import BadLine, Outcome
from routing import snapshot


class Command(BaseCommand):
    help = (
        "Send each prompt of a file to the gateway and to the legacy side, and keep both answers to be compared. Both are "
        "billed; the roll-out's daily cap for copies holds. The legacy side is asked with the roll-out's own headers. Exit "
        "status: 0 every pair was kept, 2 some were not, 1 failed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "file", type=Path, help='Lines of {"model", "prompt"}, or of bodies of /v1/chat/completions, as JSON.'
        )
        parser.add_argument("--model", default="", help="For lines that name none.")
        parser.add_argument("--label", default="", help="To find the pairs by; the time when none is given.")

    def handle(self, *args: Any, **options: Any) -> None:
        rollout = snapshot.refresh().rollout
        if rollout is None:
            raise CommandError("There is no legacy side: the roll-out names no base URL.")
        label = options["label"] or f"{options['file'].stem} {timezone.now():%Y-%m-%d %H:%M:%S}"
        if len(label) > 64:
            label = label[-64:]
        outcomes = shadow_sets.run(
            _prompts(options["file"], options["model"]),
            rollout,
            snapshot.current(),
            redis_url=settings.REDIS_URL,
            label=label,
            progress=self._tell,
        )
        told = Counter(outcome.status for outcome in outcomes)
        self.stdout.write(f"{told['stored']} of {len(outcomes)} pairs kept as run {label!r}.")
        if told["cap_reached"]:
            self.stdout.write(f"{told['cap_reached']} not asked: the day's money for copies is used up.")
        if told["store_away"]:
            self.stdout.write(f"{told['store_away']} not asked: Redis, which counts the money, does not answer.")
        if told["stored"] < len(outcomes):
            sys.exit(2)

    def _tell(self, outcome: Outcome) -> None:
        if outcome.pair_id is None:
            return
        alike = "one side failed" if outcome.similarity is None else f"similarity {outcome.similarity:.3f}"
        self.stdout.write(f"prompt {outcome.number}: pair {outcome.pair_id}, {'equal' if outcome.equal else alike}")


def _prompts(path: Path, model: str) -> list[shadow_sets.Asked]:
    try:
        prompts = shadow_sets.read(path.read_text().splitlines(), default_model=model)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise CommandError(f"{path} cannot be read: {reason}.") from error
    except BadLine as error:
        raise CommandError(str(error)) from error
    if not prompts:
        raise CommandError(f"{path} holds no prompt.")
    return prompts
