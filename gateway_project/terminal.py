"""What the person at the terminal sees of the process tree: warnings and worse of the children, and what happens to them.

The rest of what the children write is in their log files. Plain text without colours where the output is not a terminal.
"""

from __future__ import annotations

import contextlib
import re

from rich.console import Console
from rich.text import Text

from gateway_project.first_run import FirstRun
from gateway_project.serving import Plan

_DJANGO_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ (?P<level>[A-Z]+)")
_STEP = re.compile(r"\[(?P<step>\d+)/(?P<steps>\d+)\] (?P<message>.*)")
_LOUD = {"WARNING", "ERROR", "CRITICAL"}
_COLOURS = {"redis": "red", "worker": "cyan", "beat": "magenta", "web": "green", "engine": "yellow", "gateway": "bold"}


class Loudness:
    """Decides line by line; a line without a level of its own, as of a traceback, follows the one before it.

    Redis is never loud: it calls an orderly shutdown a warning, and what ends it is told by the supervisor.
    """

    def __init__(self, verbose: bool = False) -> None:
        self._verbose = verbose
        self._loud: dict[str, bool] = {}

    def shows(self, program: str, line: str) -> bool:
        if self._verbose:
            return True
        found = _DJANGO_LINE.match(line)
        if found:
            self._loud[program] = found["level"] in _LOUD
        elif line.startswith("Traceback (most recent call last)"):
            self._loud[program] = True
        return self._loud.get(program, False) and bool(line.strip())


class Terminal:
    """`heard` and `told` are the supervisor's callables."""

    def __init__(self, console: Console, *, verbose: bool = False) -> None:
        self._console = console
        self._loudness = Loudness(verbose)
        self._tenth = -1

    def heard(self, program: str, line: str) -> None:
        if program == "engine":
            self._progress(line)
        elif self._loudness.shows(program, line):
            self._say(program, line)

    def told(self, program: str, sentence: str) -> None:
        self._say(program, sentence)

    def announce(self, first: FirstRun, plan: Plan, seconds: float) -> None:
        self._line()
        self._line(f"The gateway serves on {first.base_url} (ready after {seconds:.1f} s).", "bold")
        self._line()
        self._line("  Admin", "bold")
        if first.admin_login_link:
            self._line(f"    {first.admin_login_link}")
            self._line(f"    signs {first.admin_username} in, once; set a password there", "dim")
        else:
            self._line(f"    {first.admin_url} as {first.admin_username}")
        self._line()
        self._line("  Ask the built-in model", "bold")
        for line in curl(first):
            self._line(f"    {line}")
        self._line()
        self._line("  The same from Python, with OpenAI's client", "bold")
        for line in snippet(first):
            self._line(f"    {line}")
        self._line()
        self._line(
            f"  Keys are kept in {plan.data_dir / 'quickstart.json'}, logs in {plan.data_dir / 'logs'}. ctrl-C stops everything.",
            "dim",
        )
        self._line()

    def _progress(self, line: str) -> None:
        """Of a compile's hundred steps, every tenth part."""
        found = _STEP.match(line)
        if not found:
            self._say("engine", line)
            return
        step, steps = int(found["step"]), int(found["steps"])
        tenth = 10 * step // max(1, steps)
        if tenth != self._tenth:
            self._tenth = tenth
            filled = "█" * (2 * tenth) + "░" * (20 - 2 * tenth)
            self._say("engine", f"{found['message']} {filled} {100 * step // max(1, steps)} %")

    def _say(self, program: str, sentence: str) -> None:
        self._print(Text(f"{program:<8}", _COLOURS.get(program, "")) + Text(sentence))

    def _line(self, text: str = "", style: str = "") -> None:
        self._print(Text(text, style))

    def _print(self, text: Text) -> None:
        """Nobody is told on a terminal that was closed, whose SIGHUP is still to be followed."""
        with contextlib.suppress(OSError):
            self._console.print(text, soft_wrap=True)


def curl(first: FirstRun) -> list[str]:
    body = '{"model": "demo", "stream": true, "messages": [{"role": "user", "content": "What is this gateway?"}]}'
    return [
        f"curl -N {first.base_url}/v1/chat/completions -H 'Authorization: Bearer {first.client_key}' "
        f"-H 'Content-Type: application/json' -d '{body}'"
    ]


def snippet(first: FirstRun) -> list[str]:
    return [
        "from openai import OpenAI",
        f'client = OpenAI(base_url="{first.base_url}/v1", api_key="{first.client_key}")',
        'question = [{"role": "user", "content": "What is this gateway?"}]',
        'for chunk in client.chat.completions.create(model="demo", messages=question, stream=True):',
        '    print(chunk.choices[0].delta.content or "", end="", flush=True)',
    ]
