"""How policies look in the admin: targets with their shares, who could serve now, what stands over them, what was served."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from providers import cells
from routing import strategies
from routing.models import Policy, PolicyVersion
from routing.policy_documents import PolicyDocument
from routing.policy_standing import Standing
from routing.policy_traffic import Traffic
from routing.validation import Validation

NAMES_IN_A_CELL = 3
COLOURS = 6
"""Parts of a bar with a colour of their own, as charts have."""


def title(row: Policy, validation: Validation) -> SafeString:
    """The name, what is the matter with it, if anything, and what it is for."""
    more = _("from %(file)s") % {"file": row.managed_by} if row.managed_by else row.description
    return format_html(
        '<span class="gw-name"><span><strong>{}</strong>{}</span><small title="{}">{}</small></span>',
        row.name,
        state(row, validation),
        more,
        f"{row.kind} · {more}" if more else row.kind,
    )


def label_of(strategy: str) -> str:
    held = strategies.registered().get(strategy)
    return held.label if held is not None else _("%(name)s (not registered)") % {"name": strategy}


def targets(document: Mapping[str, Any]) -> SafeString:
    """The targets by name, under `weighted` with a bar of their shares, and what follows when they fail."""
    told = document.get("targets", [])
    names = [target_in_words(target) for target in told]
    if not names:
        body = format_html('<span class="gw-quiet">{}</span>', _("every model that fits"))
    elif document.get("strategy") == "weighted" and len(names) > 1:
        body = shares(list(zip(names, [target.get("weight", 1) for target in told], strict=True)))
    else:
        body = _listed(names)
    later = document.get("fallbacks", [])
    if not later:
        return body
    shown = ", ".join(later[:2]) + (f" +{len(later) - 2}" if len(later) > 2 else "")
    small = format_html('<small class="gw-then" title="{}">{}</small>', ", ".join(later), _("then %s") % shown)
    return format_html('<span class="gw-target-cell">{}{}</span>', body, small)


def target_in_words(target: Mapping[str, Any]) -> str:
    if target.get("kind"):
        return _("every %s") % target["kind"]
    return f"{target['provider']}/{target['model']}" if target.get("provider") else str(target["model"])


def shares(weighed: Sequence[tuple[str, int]]) -> SafeString:
    """One bar in the shares of the weights, and each name with its own."""
    whole = sum(weight for _name, weight in weighed)
    if not whole:
        return _listed([name for name, _weight in weighed])
    parts = [(n % COLOURS, 100 * weight / whole, name) for n, (name, weight) in enumerate(weighed) if weight]
    bar = format_html_join(
        "", '<i class="gw-back-{}" style="width:{}%"></i>', ((n, f"{share:.2f}") for n, share, _name in parts)
    )
    lines = format_html_join(
        "",
        '<span><b class="gw-back-{}" aria-hidden="true"></b>{} <em>{}\u202f%</em></span>',
        ((n, name, f"{share:.3g}") for n, share, name in parts[:NAMES_IN_A_CELL]),
    )
    more = len(parts) - NAMES_IN_A_CELL
    rest = format_html('<small class="gw-quiet">+{}</small>', more) if more > 0 else ""
    told = ", ".join(f"{name} {share:.3g} %" for _n, share, name in parts)
    return format_html(
        '<span class="gw-names" title="{}"><span class="gw-shares" aria-hidden="true">{}</span>{}{}</span>',
        told,
        bar,
        lines,
        rest,
    )


def _listed(names: Sequence[str]) -> SafeString:
    lines = format_html_join("", "<span>{}</span>", ((name,) for name in names[:NAMES_IN_A_CELL]))
    more = len(names) - NAMES_IN_A_CELL
    rest = format_html('<small class="gw-quiet">+{}</small>', more) if more > 0 else ""
    return format_html('<span class="gw-names" title="{}">{}{}</span>', ", ".join(names[:50]), lines, rest)


def standing(found: Standing | None) -> SafeString:
    """How many targets could serve now, and why the others cannot."""
    if found is None:
        return cells.EMPTY
    if not found.targets:
        return cells.pill(_("nobody"), "bad", _("No target is a model that is switched on."))
    why = "\n".join(f"{one.route}: {one.detail}" for one in found.lost[:12])
    if found.fallbacks:
        why += "\n" + ngettext("%s fallback can serve.", "%s fallbacks can serve.", found.fallbacks) % found.fallbacks
    tone = "good" if not found.lost else "warn" if found.is_served else "bad"
    whole = str(found.targets) if found.is_whole else f"{found.targets}+"
    return cells.pill(f"{found.serving} / {whole}", tone, why.strip() or _("Every target can serve now."))


def requests(told: Traffic | None) -> SafeString:
    if told is None:
        return cells.number(None)
    sentence = _("%(failed)s failed, %(rescued)s rescued by a fallback or a retry")
    return format_html(
        '<span title="{}">{}</span>',
        sentence % {"failed": told.failed, "rescued": told.rescued},
        cells.number(told.requests),
    )


def rescued(told: Traffic | None) -> SafeString:
    """The share of requests that only another try answered."""
    if told is None or not told.requests:
        return cells.number(None)
    share = 100 * told.rescued / told.requests
    shown = cells.number(share, "%", 1 if share < 10 else 0)
    return format_html('<span class="gw-warn-text">{}</span>', shown) if share >= 5 else shown


def failed(told: Traffic | None) -> SafeString:
    if told is None or not told.requests:
        return cells.number(None)
    share = 100 * told.failed / told.requests
    shown = cells.number(share, "%", 1 if share < 10 else 0)
    return format_html('<span class="gw-bad-text">{}</span>', shown) if share >= 2 else shown


def over_it(row: Policy, *, may_override: bool = False) -> SafeString:
    """An override and a trial: what keeps clients from getting what the policy says; and the way to an override."""
    pills: list[SafeString] = []
    if (override := override_pill(row)) is not None:
        pills.append(override)
    if row.candidate_version is not None:
        share = f"{float(row.candidate_percentage):g}\u202f%"
        words = _("v%(number)s on trial at %(share)s") % {"number": row.candidate_version, "share": share}
        link = reverse("admin:routing_policy_trial", args=[row.pk])
        pill = cells.pill(words, "warn", _("Some clients get it already."))
        pills.append(format_html('<a href="{}">{}</a>', link, pill))
    if may_override and override is None:
        link = f"{reverse('admin:stop')}?{urlencode({'policy': row.name})}"
        label = _("Send %s elsewhere") % row.name
        pills.append(
            format_html(
                '<a class="gw-quiet-link" data-dialog href="{}" aria-label="{}">{}</a>',
                link,
                label,
                _("Send elsewhere…"),
            )
        )
    return format_html_join("", '<span class="gw-over">{}</span>', ((pill,) for pill in pills)) or cells.EMPTY


def override_pill(row: Policy) -> SafeString | None:
    override = getattr(row, "override", None)
    if override is None:
        return None
    told = _("by %s") % cells.who(override.created_by) + (f": {override.reason}" if override.reason else "")
    if override.expires_at is None:
        return format_html("{}", cells.pill(override.target, "warn", _("until it is removed, %s") % told))
    left = cells.relative(override.expires_at)
    if not left.startswith("in "):
        return cells.pill(_("expired"), "", f"{override.target}, {told}")
    return format_html(
        '{} <span class="gw-quiet">{}</span>',
        cells.pill(override.target, "warn", told),
        _("%s left") % left.removeprefix("in "),
    )


def changed(row: Policy, version: PolicyVersion | None) -> SafeString:
    """The version that counts, since when and by whom."""
    if version is None:
        return format_html("v{}", row.version)
    by = version.created_by.partition(":")[2] or version.created_by or _("system")
    return format_html(
        '<span class="gw-name" title="{}"><span>v{} · {}</span><small>{}</small></span>',
        version.note,
        row.version,
        cells.ago(version.created_at),
        by,
    )


def state(row: Policy, validation: Validation) -> SafeString | str:
    """Nothing, where somebody can serve it and every name in it is defined."""
    if not row.enabled:
        return cells.pill(_("off"), "", _("Clients are told that there is no such model."))
    found = validation.of(row.name)
    if found.issues:
        count = len(found.issues)
        return cells.pill(ngettext("%s issue", "%s issues", count) % count, "bad", _sentences(found.issues))
    if found.warnings:
        count = len(found.warnings)
        return cells.pill(ngettext("%s warning", "%s warnings", count) % count, "warn", _sentences(found.warnings))
    return ""


def strategy(document: Mapping[str, Any]) -> str:
    return label_of(document.get("strategy", PolicyDocument().strategy))


def _sentences(issues: Iterable[Any]) -> str:
    return "\n".join(issue.sentence for issue in issues)
