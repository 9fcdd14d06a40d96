"""The configuration as YAML in the admin: taken out by sections, and brought in by two clicks, of which the first only shows.

What is pasted or uploaded may hold secrets: no page renders it again, not even after a mistake. Between the two clicks it is
sealed (`providers.config_envelope`), and the second writes exactly what the first has shown or nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_POST, require_safe
from unfold.widgets import UnfoldAdminTextInputWidget

from providers import (
    actor,
    config_envelope,
    config_review,
    config_sections,
    configuration,
    exporting,
    pages,
    revision,
    unread_secrets,
)
from providers.config_changes import Change, digest
from providers.config_envelope import NotOurs, Shown
from providers.configuration import Applied
from providers.import_forms import SecretLines
from providers.importers import findings
from providers.importers.config_forms import BadConfiguration
from providers.importers.documents import format_of
from providers.importers.drafts import SourceError
from providers.models import ConfigFile, ImportRun, Provider
from providers.secrets import SecretError

MAY = "providers.add_importrun"
"""Whoever may begin an import may take the configuration out and bring it in; each part needs its own right besides."""
LARGEST_BYTES = 4 * 1024 * 1024
MOST_SHOWN = 400
"""Entries of one comparison on a page; the command shows all."""
_MOST_MISTAKES = 100
_MOST_UNREAD = 10
_LATELY = 8
_MEANINGS = {
    "providers": gettext_lazy("Providers with their models, keys and parameters"),
    "prices": gettext_lazy("Prices of our own"),
    "policies": gettext_lazy("Policies with their targets"),
    "routing": gettext_lazy("Settings of the routing"),
    "teams": gettext_lazy("Teams"),
    "client_keys": gettext_lazy("What the client keys may do"),
    "limits": gettext_lazy("Limits"),
    "budgets": gettext_lazy("Budgets"),
    "alerts": gettext_lazy("Rules of the alerts"),
}


class DocumentForm(forms.Form):
    """What to compare: a file or a text."""

    text = forms.CharField(
        required=False,
        label=gettext_lazy("Paste it"),
        strip=False,
        widget=SecretLines("version: 1\npolicies:\n  fast: …"),
    )
    file = forms.FileField(required=False, label=gettext_lazy("or choose a file"), allow_empty_file=True)
    prune = forms.BooleanField(required=False, label=gettext_lazy("Also remove what the document does not name"))

    def clean(self) -> dict[str, Any]:
        told = super().clean() or self.cleaned_data
        file, text = told.get("file"), told.get("text", "")
        if file is None and not text.strip():
            raise forms.ValidationError(_("Paste a document or choose a file."))
        if file is not None and text.strip():
            raise forms.ValidationError(_("Paste a document or choose a file, not both."))
        content = file.read(LARGEST_BYTES + 1) if file is not None else text.encode()
        if len(content) > LARGEST_BYTES:
            raise forms.ValidationError(
                _("The document is larger than %(size)d MB: apply it by the command.") % {"size": LARGEST_BYTES >> 20}
            )
        try:
            told["content"] = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise forms.ValidationError(_("The document is not UTF-8.")) from None
        told["label"] = file.name if file is not None else "pasted in the admin"
        told["file_format"] = format_of(file.name) if file is not None else ""
        return told


class ReasonForm(forms.Form):
    reason = forms.CharField(
        max_length=500,
        label=gettext_lazy("Why"),
        help_text=gettext_lazy("Kept with every entry of the audit log that this writes."),
        widget=UnfoldAdminTextInputWidget,
    )


@require_safe
def page_view(request: HttpRequest) -> HttpResponse:
    _check(request)
    return _page(request, DocumentForm())


@require_safe
def export_view(request: HttpRequest) -> HttpResponse:
    """The document as a file to save: the same bytes as those of `export_config`."""
    _check(request)
    sections = [name for name in exporting.members() if name in request.GET.getlist("section")]
    file_format = "json" if request.GET.get("format") == "json" else "yaml"
    try:
        text = exporting.text(file_format, sections=sections)
    except SecretError:
        messages.error(request, _("A stored secret does not open, so no reference to it can be made."))
        return redirect("admin:configuration")
    response = HttpResponse(text, content_type=f"application/{file_format}; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="gateway.{file_format}"'
    response["Cache-Control"] = "no-store"
    return response


@require_POST
def compare_view(request: HttpRequest) -> HttpResponse:
    """What the document would change. Nothing is written."""
    _check(request)
    form = DocumentForm(request.POST, request.FILES)
    if not form.is_valid():
        return _page(request, form)
    told = form.cleaned_data
    return _compared(request, told["content"], told["label"], told["file_format"], told["prune"])


@require_POST
def apply_view(request: HttpRequest) -> HttpResponse:
    """Write what was shown, or, where the registry has changed since, show again what would be written now."""
    _check(request)
    try:
        shown = config_envelope.opened(request.POST.get("shown", ""), _reader(request))
    except NotOurs:
        messages.error(request, _("What was shown is no longer at hand: compare the document again."))
        return redirect("admin:configuration")
    form = ReasonForm(request.POST)
    again = (shown.content, shown.label, shown.file_format, shown.prune)
    if not form.is_valid():
        return _compared(request, *again, form=form)
    if shown.revision != revision.current():
        return _compared(request, *again, form=form, moved=True)
    try:
        if _lacking(request, _compare(shown).changes):
            raise PermissionDenied
        with actor.giving_reason(form.cleaned_data["reason"]):
            applied = configuration.apply_document(
                shown.content,
                label=shown.label,
                file_format=shown.file_format,
                prune=shown.prune,
                write=True,
                shown=shown.digest,
            )
    except configuration.NotAsShown:
        return _compared(request, *again, form=form, moved=True)
    except (SourceError, SecretError) as error:
        return _page(request, DocumentForm(), mistakes=_mistakes(error))
    _tell(request, applied)
    return redirect("admin:configuration")


def _compare(shown: Shown) -> Applied:
    return configuration.apply_document(
        shown.content, label=shown.label, file_format=shown.file_format, prune=shown.prune
    )


def _compared(
    request: HttpRequest,
    content: str,
    label: str,
    file_format: str,
    prune: bool,
    *,
    form: ReasonForm | None = None,
    moved: bool = False,
) -> HttpResponse:
    at = revision.current()  # before it is compared: a change in between is one that was not seen
    try:
        applied = configuration.apply_document(
            content, label=label, file_format=file_format, prune=prune, rehearse=True
        )
    except (SourceError, SecretError) as error:
        return _page(request, DocumentForm(), mistakes=_mistakes(error))
    if applied.exit_status == 1:
        return _page(request, DocumentForm(), mistakes=[("", applied.message)])
    found = config_review.review(applied.changes, _refusals(applied), applied.named, _kinds())
    shown = Shown(content, label, file_format, prune, digest(applied.changes), at)
    lacking = _lacking(request, applied.changes)
    return _answer(
        request,
        "compared",
        _("Compare a configuration"),
        label=label,
        prune=prune,
        review=found,
        entries=[one for one in found.entries if one.verdict != config_review.UNCHANGED][:MOST_SHOWN],
        unchanged=[one for one in found.entries if one.verdict == config_review.UNCHANGED],
        left_out=max(0, len(found.entries) - found.counts.get(config_review.UNCHANGED, 0) - MOST_SHOWN),
        remarks=[one for one in applied.findings if one.code not in (findings.ENTRY_REFUSED, findings.OWNED)],
        variables=applied.variables,
        lacking=lacking,
        moved=moved,
        rehearsed=applied.rehearsed,
        form=form or ReasonForm(),
        sealed=config_envelope.seal(shown, _reader(request)) if found.writes and not lacking else "",
        revision=at,
    )


def _refusals(applied: Applied) -> dict[tuple[str, str], str]:
    """Why, by kind and name; what was not taken at all is known by its place in the document."""
    kinds = _kinds()
    found = {(one.kind, one.name): one.finding.detail for one in applied.refused}
    told = [one.finding for one in applied.refused]
    for finding in applied.findings:
        if finding.code in (findings.ENTRY_REFUSED, findings.OWNED) and finding not in told:
            place = ".".join(filter(None, (finding.key, finding.field)))
            found[kinds.get(finding.table, finding.table), place] = finding.detail
    return found


def _lacking(request: HttpRequest, changes: Iterable[Change]) -> list[str]:
    """Kinds of what would be changed that are not for this user to change."""
    needed = _permissions()
    kinds = sorted({"provider" if one.provider_id else one.kind for one in changes})
    return [kind for kind in kinds if not request.user.has_perm(needed.get(kind, "") or "nobody.may")]


def _permissions() -> dict[str, str]:
    return {"provider": "providers.change_provider"} | {
        section.kind: section.permission for section in config_sections.registered()
    }


def _kinds() -> dict[str, str]:
    return {"providers": "provider"} | {section.name: section.kind for section in config_sections.registered()}


def _mistakes(error: Exception) -> list[tuple[str, str]]:
    if isinstance(error, BadConfiguration):
        return [(problem.place, problem.sentence) for problem in error.problems[:_MOST_MISTAKES]]
    return [("", str(error))]


def _tell(request: HttpRequest, applied: Applied) -> None:
    if not applied.written:
        messages.error(request, applied.message or _("Nothing was written."))
        return
    done = len(applied.changes) - len(applied.refused)
    told = ngettext("%(count)d change is written.", "%(count)d changes are written.", done) % {"count": done}
    messages.success(request, told)
    touched = Provider.objects.filter(provider_id__in={one.provider_id for one in applied.changes if one.provider_id})
    unread = itertools.chain.from_iterable(map(unread_secrets.of_provider, touched))
    for warning in itertools.islice(unread, _MOST_UNREAD):
        messages.warning(request, warning)
    for one in applied.refused[:10]:
        messages.warning(
            request,
            _("Refused: %(kind)s %(name)s. %(why)s") % {"kind": one.kind, "name": one.name, "why": one.finding.detail},
        )


def _page(request: HttpRequest, form: DocumentForm, mistakes: Iterable[tuple[str, str]] = ()) -> HttpResponse:
    written = ImportRun.objects.filter(kind=ImportRun.Kind.APPLY, source_identity__startswith="config:")
    last = configuration.last_written()
    return _answer(
        request,
        "page",
        _("Configuration"),
        status=422 if mistakes or form.errors else 200,
        form=form,
        mistakes=list(mistakes),
        sections=[(name, _MEANINGS.get(name, name)) for name in exporting.members()],
        runs=list(written.order_by("-pk")[:_LATELY]),
        may_be_undone=last.pk if last is not None else None,
        files=_files(),
        largest=LARGEST_BYTES >> 20,
        twins=_twins(request),
    )


def _files() -> list[tuple[str, ConfigFile | None]]:
    """Every file that owns what it names, with how its last reading went."""
    rows = {row.path: row for row in ConfigFile.objects.all()}
    return [(path, rows.get(path)) for path in configuration.files()]


def _answer(request: HttpRequest, name: str, title: str, status: int = 200, **context: Any) -> HttpResponse:
    shown = {"title": title, **context}
    response = pages.render(request, f"admin/configuration/{name}.html", shown, status=status)
    response["Cache-Control"] = "no-store"
    return response


def _check(request: HttpRequest) -> None:
    if not request.user.has_perm(MAY):
        raise PermissionDenied


def _reader(request: HttpRequest) -> str:
    return f"user {request.user.pk}"


def _twins(request: HttpRequest) -> list[tuple[str, str]]:
    base, key = request.build_absolute_uri("/api/v1/config"), '-H "Authorization: Bearer $GATEWAY_KEY"'
    return [
        (_("Take it out"), "python manage.py export_config gateway.yaml --sections policies limits"),
        (_("The same over HTTP"), f'curl {key} "{base}?section=policies&section=limits"'),
        (_("Compare"), "python manage.py apply_config gateway.yaml"),
        (_("The same over HTTP"), f"curl -X POST {key} --data-binary @gateway.yaml {base}"),
        (_("Apply"), "python manage.py apply_config gateway.yaml --apply"),
        (_("The same over HTTP"), f'curl -X POST {key} --data-binary @gateway.yaml "{base}?apply=true"'),
        (_("Take back what was written last"), "python manage.py apply_config --previous"),
    ]


pages.register("configuration/", "configuration", page_view)
pages.register("configuration/export/", "configuration_export", export_view)
pages.register("configuration/compare/", "configuration_compare", compare_view)
pages.register("configuration/apply/", "configuration_apply", apply_view)
