"""Runs of the command in processes of their own over one installation, to be killed or held at a chosen write.

Started as a module with an installation's environment; reads steps as JSON lines, answers each with one. Django is loaded once
and forked for each step, which costs milliseconds where a new process costs seconds. This process itself opens no database.

Steps: {"do": "run", "arguments": […], "at": ["write"|"commit", n]} is killed there, and with "hold": path it makes that file and
waits there until the file is gone; {"do": "join"} waits for a run that was held; {"do": "look"} tells the registry, without rows'
own ids, and the runs.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import django
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper

WRITES = ("INSERT", "UPDATE", "DELETE", "COPY")


class Counting:
    """Counts writes and commits of this process, and does something at a chosen one."""

    def __init__(self, at: tuple[str, int] | None, then: Callable[[], None]) -> None:
        self.seen = {"write": 0, "commit": 0}
        self._at, self._then = at, then

    def __call__(self, execute: Any, sql: Any, parameters: Any, many: bool, context: Any) -> Any:
        result = execute(sql, parameters, many, context)
        if str(sql).lstrip().upper().startswith(WRITES):
            self.count("write")
        return result

    def count(self, what: str) -> None:
        self.seen[what] += 1
        if self._at == (what, self.seen[what]):
            self._then()


@contextlib.contextmanager
def counted(counting: Counting) -> Iterator[None]:
    commit = BaseDatabaseWrapper._commit

    def counted_commit(self: Any) -> Any:
        result = commit(self)
        counting.count("commit")
        return result

    BaseDatabaseWrapper._commit = counted_commit
    with connection.execute_wrapper(counting):
        yield


def run(step: dict[str, Any]) -> dict[str, Any]:
    def killed() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def held() -> None:
        Path(step["hold"]).touch()
        while Path(step["hold"]).exists():
            time.sleep(0.01)

    counting = Counting(tuple(step["at"]) if step.get("at") else None, held if step.get("hold") else killed)
    screen = io.StringIO()
    with counted(counting):
        status = _status(screen, step["arguments"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"status": status, "screen": screen.getvalue(), "peak": peak, **counting.seen}


def _status(screen: io.StringIO, arguments: list[str]) -> int:
    try:
        call_command("migrate_backoffice", *arguments, stdout=screen, stderr=screen)
    except CommandError as error:
        screen.write(str(error))
        return error.returncode
    except SystemExit as error:
        return int(error.code or 0)
    return 0


def look(step: dict[str, Any]) -> dict[str, Any]:
    # Models can be imported only once Django is set up.
    from providers import audit
    from providers.models import ImportRun
    from tests.providers.importers.registry_view import registry, without_row_ids

    found = without_row_ids(registry())
    return {
        "registry": repr(
            (
                sorted(found.providers.items()),
                sorted(found.models.items()),
                found.keys,
                sorted(found.parameters.items()),
            )
        ),
        "rows": len(found.providers) + len(found.models) + len(found.keys) + len(found.parameters),
        "runs": [[run.pk, run.kind, run.state] for run in ImportRun.objects.order_by("pk")],
        "tampering": [str(found) for found in audit.verify()],
    }


def forked(work: Callable[[dict[str, Any]], dict[str, Any]], step: dict[str, Any], answer: Path) -> int:
    answer.unlink(missing_ok=True)
    pid = os.fork()
    if pid:
        return pid
    try:
        answer.write_text(json.dumps(work(step)))
    except BaseException:
        answer.write_text(json.dumps({"crash": traceback.format_exc()}))
    os._exit(0)


def joined(pid: int, answer: Path) -> dict[str, Any]:
    _, how = os.waitpid(pid, 0)
    if os.WIFSIGNALED(how):
        return {"killed": os.WTERMSIG(how)}
    return json.loads(answer.read_text())


def main(folder: Path) -> None:
    django.setup()
    held: tuple[int, Path] | None = None
    for line in sys.stdin:
        step = json.loads(line)
        answer = folder / f"{step['do']}-{'held' if step.get('hold') else 'step'}.json"
        if step["do"] == "join":
            assert held is not None
            said = joined(*held)
        else:
            pid = forked({"run": run, "look": look}[step["do"]], step, answer)
            if step.get("hold"):
                held, said = (pid, answer), {}
            else:
                said = joined(pid, answer)
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
