"""What can be done next with an import run, and doing it: what the pages and the API share. A worker does each run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from celery import current_app
from django.db import transaction
from django.utils.translation import gettext as _
from kombu.exceptions import OperationalError

from providers import actor, import_summaries
from providers.import_runs import ImportRun
from providers.importers import runs
from providers.secrets import SecretError

TASK = "providers.tasks.run_import"
UNHEARD = "No worker could be told: Redis does not answer. Start it again once it does."

Kind, State = ImportRun.Kind, ImportRun.State


class NotNow(Exception):
    """Another import is running; `run` is that one."""

    def __init__(self, run: ImportRun) -> None:
        self.run = run
        super().__init__(f"{import_summaries.title_of(run)} is running: wait for it to end.")


class NoCredentials(Exception):
    """Address and keys of the source are forgotten, or cannot be read any more."""

    def __init__(self) -> None:
        super().__init__("The credentials are gone or cannot be read: give them again.")


class NoSuchStep(Exception):
    """The text says why."""


@dataclass(frozen=True, slots=True)
class Step:
    """Another run that may follow."""

    kind: str
    label: str
    hint: str
    primary: bool = False


def steps_of(run: ImportRun) -> list[Step]:
    """Which runs may follow one that is over; an undo is asked for apart, by `why_not_undone`."""
    kind, wrote = run.kind, run.kind in {Kind.APPLY, Kind.DELTA}
    if run.state in {State.FAILED, State.INTERRUPTED} and kind != Kind.UNDO:
        hint = _("The same once more; what was written already is left as it is.")
        return [Step(kind, _("Start again"), hint, primary=True)]
    if kind == Kind.DRY_RUN:
        return [
            Step(Kind.APPLY, _("Apply this plan"), _("Writes what the plan says, provider by provider."), primary=True),
            Step(Kind.DRY_RUN, _("Check again"), _("Reads the source anew.")),
        ]
    if run.undone_at or kind == Kind.UNDO:
        return []
    return [
        Step(Kind.VERIFY, _("Verify"), _("Reads both sides again and compares every value."), primary=wrote),
        Step(Kind.DELTA, _("Bring later changes"), _("Only what changed in the source since.")),
    ]


def refuse_while_running() -> None:
    """One at a time, and a dead one stands in nobody's way. Raises `NotNow`."""
    runs.mark_interrupted()
    running = ImportRun.objects.filter(state=State.RUNNING).defer("sealed").first()
    if running is not None:
        raise NotNow(running)


def begin(run: ImportRun) -> ImportRun:
    """Tell a worker; without Redis the run has failed, and says so."""
    try:
        current_app.send_task(TASK, args=[run.pk], retry=False, ignore_result=True)
    except OperationalError:
        # A worker may have heard of it all the same: what it began goes on.
        unheard = ImportRun.objects.filter(pk=run.pk, state=State.QUEUED)
        if unheard.update(state=State.FAILED, message=UNHEARD):
            runs.forget_secrets(run)
            run.state, run.message = State.FAILED, UNHEARD
    return run


def follow(run: ImportRun, kind: str) -> ImportRun:
    """Begin another run on the same source, with the credentials that this one still has.

    They move on, so that a second click finds none and one copy is kept at most. Raises `NoSuchStep`, `NotNow`, `NoCredentials`.
    """
    refuse_while_running()
    if not run.is_over or kind not in {step.kind for step in steps_of(run)}:
        raise NoSuchStep("That is not a next step of this run.")
    try:
        with transaction.atomic():
            locked = ImportRun.objects.select_for_update().get(pk=run.pk)
            options = runs.options_of(locked)
            runs.forget_secrets(locked)
            following = runs.start(
                kind, locked.source_label, actor=actor.current().name, options=options, for_worker=True
            )
    except (SecretError, ValueError) as error:
        raise NoCredentials from error
    return begin(following)


def why_not_undone(run: ImportRun) -> str:
    """Empty when it can be."""
    if run.undone_at:
        return "This run is undone already."
    undoable = runs.undoable()
    if run.pk in {other.pk for other in undoable[:1]}:
        return ""
    later = [other for other in undoable if other.pk > run.pk]
    if later:
        return f"{import_summaries.title_of(later[0])} came later: undo it first."
    return "This run left nothing that could be undone."


def take_back(run: ImportRun, reason: str) -> ImportRun:
    """Begin the run that undoes this one. Raises `NoSuchStep` and `NotNow`."""
    if why := why_not_undone(run):
        raise NoSuchStep(why)
    refuse_while_running()
    undo = runs.start(Kind.UNDO, run.source_label, actor=actor.current().name, undoes=run, for_worker=True)
    undo.options["reason"] = reason[:500]
    undo.save(update_fields=["options"])
    return begin(undo)


def has_secrets(run: Any) -> bool:
    """Without opening them."""
    return run.__dict__.get("sealed") is not None
