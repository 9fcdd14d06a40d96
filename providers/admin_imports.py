"""Imports in the admin: check a source, read the plan, apply it, verify it, take it back.

A worker does each run; the pages ask for one and show what became of it. Whoever may view runs sees everything here;
starting one needs the right to add import runs. What is secret goes into a sealed field and is on no page.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, QueryDict, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from providers import actor, cells, config_sections, import_reports, import_steps, import_summaries, pages, streaming
from providers.import_forms import StartForm, UndoForm
from providers.import_runs import ImportRun
from providers.importers import runs
from providers.importers.findings import Level
from providers.tables import ReadOnlyAdmin

SMOKE = "manage.py migrate_backoffice --smoke"
MAIN_FIELDS = ("source_url", "legacy_keys")
MORE_FIELDS = ("naive_timezone", "environments", "only", "batch_size")
CHOSEN = ("table", "code", "level")
LEADS = {
    ImportRun.Kind.DRY_RUN: (
        gettext_lazy("Check a source"),
        gettext_lazy("A worker reads the legacy database and shows what would happen to each row. Nothing is written."),
        gettext_lazy("Check the source and show the plan"),
    ),
    ImportRun.Kind.VERIFY: (
        gettext_lazy("Verify an import"),
        gettext_lazy("A worker reads both sides again and compares every value and every secret. Nothing is written."),
        gettext_lazy("Compare both sides"),
    ),
    ImportRun.Kind.DELTA: (
        gettext_lazy("Bring later changes"),
        gettext_lazy("A worker brings what changed in the source since it was imported, and nothing else."),
        gettext_lazy("Bring later changes"),
    ),
}


@dataclass(frozen=True, slots=True)
class Button:
    """Something to do next with a run: a page to go to, or a kind of run to begin."""

    label: str
    hint: str
    kind: str = ""
    link: str = ""
    primary: bool = False
    danger: bool = False


class SourceFilter(admin.SimpleListFilter):
    title = gettext_lazy("verdict")
    parameter_name = "verdict"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("well", _("all well")),
            ("person", _("needs a person")),
            ("failed", _("failed")),
            ("open", _("not over")),
        ]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        done = queryset.filter(state=ImportRun.State.DONE)
        return {
            "well": lambda: done.filter(exit_status=0),
            "person": lambda: done.filter(exit_status=2),
            "failed": lambda: queryset.exclude(state__in=[ImportRun.State.QUEUED, ImportRun.State.RUNNING]).exclude(
                state=ImportRun.State.DONE, exit_status__in=[0, 2]
            ),
            "open": lambda: queryset.filter(state__in=[ImportRun.State.QUEUED, ImportRun.State.RUNNING]),
        }.get(self.value() or "", lambda: queryset)()


@admin.register(ImportRun)
class ImportRunAdmin(ReadOnlyAdmin):
    list_display = ("title", "state_cell", "rows_cell", "created_cell", "updated_cell", "person_cell", "when", "took")
    list_filter = (SourceFilter, "kind")
    search_fields = ("source_label", "actor")
    search_help_text = gettext_lazy("Search by source or by whom")
    ordering = ("-id",)
    show_add_link = False
    list_before_template = "admin/providers/importrun/list_before.html"
    list_after_template = "admin/providers/importrun/list_after.html"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("providers.add_importrun")

    # The list

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        twins = _twins(
            import_summaries.command_of(ImportRun.Kind.DRY_RUN, {"legacy_keys": 1}),
            (_("Over REST"), _rest("GET", "/api/v1/imports")),
        )
        return super().changelist_view(request, {"twins": twins, **(extra_context or {})})

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).defer("sealed").select_related("undoes")

    @admin.display(description=gettext_lazy("Run"), ordering="id")
    def title(self, run: ImportRun) -> SafeString:
        return format_html(
            '<span class="gw-name"><strong>{}</strong><small title="{}">{}</small></span>',
            import_summaries.title_of(run),
            run.source_label,
            run.source_label,
        )

    @admin.display(description=gettext_lazy("State"))
    def state_cell(self, run: ImportRun) -> SafeString:
        verdict = import_summaries.verdict(run)
        return format_html(
            '<span class="gw-list-state" title="{0}">{1}<small>{0}</small></span>',
            verdict.why,
            cells.pill(verdict.word, verdict.tone),
        )

    @admin.display(description=gettext_lazy("Rows"))
    def rows_cell(self, run: ImportRun) -> SafeString:
        return cells.number(import_summaries.rows_of(run))

    @admin.display(description=gettext_lazy("Created"))
    def created_cell(self, run: ImportRun) -> SafeString:
        return cells.number(import_summaries.rows_of(run, "created"))

    @admin.display(description=gettext_lazy("Updated"))
    def updated_cell(self, run: ImportRun) -> SafeString:
        return cells.number(import_summaries.rows_of(run, "updated"))

    @admin.display(description=gettext_lazy("For a person"))
    def person_cell(self, run: ImportRun) -> SafeString:
        return cells.number(run.for_a_person)

    @admin.display(description=gettext_lazy("When"), ordering="created_at")
    def when(self, run: ImportRun) -> SafeString:
        by = _(" by %s") % cells.who(run.actor) if run.actor else ""
        return format_html("{}{}", cells.ago(run.created_at), by)

    @admin.display(description=gettext_lazy("Took"))
    def took(self, run: ImportRun) -> SafeString:
        seconds = import_summaries.seconds_of(run)
        return format_html(
            '<span class="gw-num">{}</span>', cells.EMPTY if seconds is None else import_summaries.span(seconds)
        )

    # Starting

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """Asks for a source and begins a run on it; what may be known of an earlier run fills the rest of the form."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        like = ImportRun.objects.defer("sealed").filter(pk=_whole(request.GET.get("like"))).first()
        if request.method == "POST":
            form = StartForm(request.POST)
            try:
                import_steps.refuse_while_running()
            except import_steps.NotNow as error:
                return self._elsewhere(request, error)
            if form.is_valid():
                kind, name = form.cleaned_data["kind"], actor.current().name
                run = runs.start(kind, form.label, actor=name, options=form.options(), for_worker=True)
                return _to(import_steps.begin(run).pk)
        else:
            form = StartForm(initial=_initial(request.GET, like))
        return self._start_page(request, form, like)

    def _start_page(self, request: HttpRequest, form: StartForm, like: ImportRun | None) -> HttpResponse:
        kind = form["kind"].value()
        title, lead, button = LEADS.get(kind, LEADS[ImportRun.Kind.DRY_RUN])
        more = [form[name] for name in MORE_FIELDS]
        return self._page(
            request,
            "admin/providers/importrun/start.html",
            title,
            form=form,
            main=[form[name] for name in MAIN_FIELDS],
            more=more,
            more_open=any(field.errors for field in more) or like is not None,
            lead=lead,
            button=button,
            like=like,
            above=_above(like),
            twins=_twins(
                import_summaries.command_of(kind, {"legacy_keys": 1}),
                (_("Over REST"), _rest("POST", "/api/v1/imports", {"kind": kind, "source_url": "$SOURCE_URL"})),
            ),
        )

    # One run

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        run = get_object_or_404(ImportRun.objects.select_related("undoes"), pk=_whole(object_id))
        if not self.has_view_permission(request, run):
            raise PermissionDenied
        if run.state == ImportRun.State.RUNNING and runs.mark_interrupted():
            run.refresh_from_db()
        rows = import_summaries.table_rows(run)
        shown = {
            "run": run,
            "verdict": import_summaries.verdict(run),
            "progress": _meter(run),
            "facts": _facts(run),
            "has_secrets": import_steps.has_secrets(run),
            "above": _above(run.undoes),
            "outcomes": import_summaries.outcomes_of(run),
            "details": import_summaries.details_of(run).values(),
            "tables": rows,
            "totals": import_summaries.totals_of(rows) if len(rows) > 1 else None,
            "twins": [
                *_twins(
                    import_summaries.command_of(run.kind, run.options, undoes=run.undoes_id),
                    (_("This run"), _rest("GET", f"/api/v1/imports/{run.pk}")),
                    (_("Its report"), _rest("GET", f"/api/v1/imports/{run.pk}/report")),
                    *(_next_twins(run) if self.has_add_permission(request) else []),
                ),
                *(
                    [(_("Ask every imported provider for an answer"), SMOKE)]
                    if run.kind == ImportRun.Kind.APPLY
                    else []
                ),
            ],
            **_timing(run),
            **(self._findings(request, run) if run.is_over else {}),
            **(self._steps(run) if run.is_over and self.has_add_permission(request) else {}),
        }
        return self._page(request, "admin/providers/importrun/run.html", import_summaries.title_of(run), **shown)

    def _findings(self, request: HttpRequest, run: ImportRun) -> dict[str, Any]:
        chosen = {name: request.GET.get(name, "")[:64] for name in CHOSEN}
        if not request.GET and run.for_a_person:
            chosen["level"] = Level.PERSON.value
        began_after = _whole(request.GET.get("after"))
        page = import_summaries.findings_page(run, **chosen, after=began_after)
        conflict = run.kind == ImportRun.Kind.VERIFY
        return {
            "groups": import_summaries.groups_of(run),
            "without_findings": import_summaries.without_findings(run),
            "chosen": chosen,
            "filtered": any(chosen.values()),
            "table_names": import_summaries.tables_with_findings(run),
            "findings": [(finding, import_summaries.changes_of(finding)) for finding in page.findings],
            "before_label": _("Source") if conflict else _("Before"),
            "after_label": _("Here") if conflict else _("After"),
            "began_later": began_after > 0,
            "first_link": _link(chosen),
            "after_link": _link(chosen, after=page.after) if page.after else "",
        }

    def _steps(self, run: ImportRun) -> dict[str, Any]:
        return {"steps": _steps(run), "may_forget": import_steps.has_secrets(run)}

    def live_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The part of a run's page that moves. Says in a header when the run is over, so that the page is loaded anew."""
        run = get_object_or_404(ImportRun.objects.defer("sealed"), pk=pk)
        if not self.has_view_permission(request, run):
            raise PermissionDenied
        context = {"run": run, "verdict": import_summaries.verdict(run), "progress": _meter(run)}
        response = TemplateResponse(request, "admin/providers/importrun/live.html", context)
        response["Cache-Control"] = "no-store"
        if run.is_over:
            response["X-Live"] = "over"
        return response

    def report_view(self, request: HttpRequest, pk: int) -> StreamingHttpResponse:
        run = get_object_or_404(ImportRun.objects.defer("sealed"), pk=pk)
        if not self.has_view_permission(request, run):
            raise PermissionDenied
        if not run.is_over:
            raise Http404
        parts = streaming.parts_for(request, import_reports.pieces(run))
        named = f"import-{run.pk}-{run.kind}.json"
        return StreamingHttpResponse(
            parts, content_type="application/json", headers={"Content-Disposition": f'attachment; filename="{named}"'}
        )

    # What can be done next

    def next_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Begin another run on the same source, with the credentials that this one still has."""
        run, kind = self._mine(request, pk), request.POST.get("kind", "")
        try:
            return _to(import_steps.follow(run, kind).pk)
        except import_steps.NotNow as error:
            return self._elsewhere(request, error)
        except import_steps.NoSuchStep as error:
            messages.error(request, str(error))
            return _to(pk)
        except import_steps.NoCredentials as error:
            messages.error(request, str(error))
            return redirect(_asking(kind, run))

    def _elsewhere(self, request: HttpRequest, error: import_steps.NotNow) -> HttpResponse:
        messages.error(request, str(error))
        return _to(error.run.pk)

    def forget_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        run = self._mine(request, pk)
        runs.forget_secrets(run)
        messages.success(request, _("The credentials of the source are forgotten."))
        return _to(pk)

    def undo_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        run = self._mine(request, pk)
        if why := import_steps.why_not_undone(run) or _not_theirs(request, run):
            messages.error(request, why)
            return _to(pk)
        form = UndoForm(run, request.POST or None)
        if request.method == "POST" and form.is_valid():
            try:
                return _to(import_steps.take_back(run, form.cleaned_data["reason"]).pk)
            except import_steps.NotNow as error:
                return self._elsewhere(request, error)
            except import_steps.NoSuchStep as error:  # another one came later meanwhile
                messages.error(request, str(error))
                return _to(pk)
        rows = {name: import_summaries.rows_of(run, name) for name in ("created", "updated")}
        return self._page(
            request,
            "admin/providers/importrun/undo.html",
            _("Undo %s") % import_summaries.title_of(run),
            run=run,
            above=_above(run),
            run_title=import_summaries.title_of(run),
            form=form,
            effects=[(count, name) for name, count in rows.items() if count],
            twins=_twins(
                import_summaries.command_of(ImportRun.Kind.UNDO, {}, undoes=run.pk),
                (_("Over REST"), _rest("POST", f"/api/v1/imports/{run.pk}/undo", {"reason": "why"})),
            ),
        )

    # Parts of these

    def get_urls(self) -> list:
        wrap = self.admin_site.admin_view
        own = [
            path("<int:pk>/live/", wrap(self.live_view), name="providers_importrun_live"),
            path("<int:pk>/report/", wrap(self.report_view), name="providers_importrun_report"),
            path("<int:pk>/next/", wrap(require_POST(self.next_view)), name="providers_importrun_next"),
            path("<int:pk>/forget/", wrap(require_POST(self.forget_view)), name="providers_importrun_forget"),
            path("<int:pk>/undo/", wrap(self.undo_view), name="providers_importrun_undo"),
        ]
        return own + super().get_urls()

    def _mine(self, request: HttpRequest, pk: int) -> ImportRun:
        """The run, for somebody who may begin others."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        return get_object_or_404(ImportRun, pk=pk)

    def _page(self, request: HttpRequest, template: str, title: str, **context: Any) -> TemplateResponse:
        return pages.render(request, template, {"title": title, "media": self.media, **context})


# --- Reading a run ----------------------------------------------------------------------------------------------------------


def _meter(run: ImportRun) -> import_summaries.Meter | None:
    running = run.state == ImportRun.State.RUNNING
    return import_summaries.meter_of(runs.progress_of(run)) if running else None


def _timing(run: ImportRun) -> dict[str, str]:
    seconds, rows = import_summaries.seconds_of(run), import_summaries.rows_of(run)
    return {
        "took": "" if seconds is None else import_summaries.span(seconds),
        "rate": f"{rows / seconds:,.0f}".replace(",", "\u202f") if seconds and rows else "",
    }


def _facts(run: ImportRun) -> list[tuple[str, str]]:
    """What the source turned out to be, and how it was read."""
    told = {name: value for name, value in run.source_facts.items() if name not in _TOLD_ELSEWHERE}
    shown = [(name.replace("_", " ").capitalize(), _in_words(value)) for name, value in told.items()]
    asked = run.options
    if asked.get("legacy_keys"):
        shown.append((_("Legacy keys"), str(asked["legacy_keys"])))
    if asked.get("naive_timezone"):
        shown.append((_("Time zone"), str(asked["naive_timezone"])))
    shown += [(str(label), _in_words(asked[name])) for name, label in _ASKED.items() if asked.get(name)]
    return [(name, value) for name, value in shown if value]


_TOLD_ELSEWHERE = {"options", "tables"}
_ASKED = {
    "environments": gettext_lazy("Environments"),
    "only": gettext_lazy("Only providers"),
    "prefer": gettext_lazy("On a conflict"),
    "reason": gettext_lazy("Reason"),
}


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_in_words(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_in_words, value))
    return "" if value is None else str(value)


# --- Next steps ---------------------------------------------------------------------------------------------------------------


def _steps(run: ImportRun) -> list[Button]:
    """With the credentials at hand a button, without them the way to the form that asks for them."""
    buttons = [_button(run, step) for step in import_steps.steps_of(run)]
    wrote = run.kind in {ImportRun.Kind.APPLY, ImportRun.Kind.DELTA}
    if wrote and not import_steps.why_not_undone(run):
        link = reverse("admin:providers_importrun_undo", args=[run.pk])
        buttons.append(Button(_("Undo…"), _("Restores the registry to what it was before."), link=link, danger=True))
    return buttons


def _button(run: ImportRun, step: import_steps.Step) -> Button:
    if import_steps.has_secrets(run):
        return Button(step.label, step.hint, kind=step.kind, primary=step.primary)
    hint = f"{step.hint} {_('Asks for the credentials again.')}"
    return Button(f"{step.label}…", hint, link=_asking(step.kind, run), primary=step.primary)


def _not_theirs(request: HttpRequest, run: ImportRun) -> str:
    """Taking back is writing: each section that the run wrote needs its own right. Empty where nothing is missing."""
    written = set(run.section_records.values_list("section", flat=True))
    kinds = ", ".join(config_sections.lacking(request.user, written))
    return _("Your roles do not write what this run wrote: %(kinds)s.") % {"kinds": kinds} if kinds else ""


def _to(pk: int) -> HttpResponse:
    return redirect("admin:providers_importrun_change", pk)


def _asking(kind: str, run: ImportRun) -> str:
    return f"{reverse('admin:providers_importrun_add')}?{_encoded(kind=kind, like=run.pk)}"


# --- Requests -------------------------------------------------------------------------------------------------------------------


def _initial(query: QueryDict, like: ImportRun | None) -> dict[str, Any]:
    kind = query.get("kind", "")
    asked = like.options if like else {}
    kept = {name: asked[name] for name in MORE_FIELDS if asked.get(name)}
    return {**({"kind": kind} if kind in LEADS else {}), **kept}


def _whole(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else 0


def _link(chosen: dict[str, str], after: int = 0) -> str:
    return f"?{_encoded(**chosen, after=after)}#findings"


def _encoded(**given: Any) -> str:
    return urlencode({name: value for name, value in given.items() if value})


def _twins(command: str, *further: tuple[str, str]) -> list[tuple[str, str]]:
    return [(_("The same in a terminal"), command), *further]


def _next_twins(run: ImportRun) -> list[tuple[str, str]]:
    if not run.is_over:
        return []
    steps = import_steps.steps_of(run)
    return [(step.label, _rest("POST", f"/api/v1/imports/{run.pk}/next", {"kind": str(step.kind)})) for step in steps]


def _rest(method: str, path: str, body: dict[str, str] | None = None) -> str:
    """A request to copy. What it names in capitals is the shell's to fill in."""
    asked = f'curl -X {method} "$GATEWAY{path}" -H "Authorization: Bearer $ADMIN_KEY"'
    if body is None:
        return asked.replace("-X GET ", "")
    told = json.dumps(body).replace('"', '\\"')
    return f'{asked} \\\n  -H "Content-Type: application/json" -d "{told}"'


def _above(run: ImportRun | None = None) -> list[tuple[str, str]]:
    """What a page stands below: the list, and the run that it goes on from."""
    below = (
        [(import_summaries.title_of(run), reverse("admin:providers_importrun_change", args=[run.pk]))] if run else []
    )
    return [(_("Import"), reverse("admin:providers_importrun_changelist")), *below]
