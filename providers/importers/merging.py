"""Which source rows are one row here, and which of their values win. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from providers.importers.drafts import Draft, Kind, Origin
from providers.importers.findings import DUPLICATE, DUPLICATE_DIFFERS, Finding
from providers.secrets import Secret

_NEVER = datetime.max.replace(tzinfo=UTC)
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_NOT_COMPARED = {"created_at", "created_by"}


class Merged(NamedTuple):
    """`rejected` are rows that lost to another one of the same name and said something else: the source counts them."""

    drafts: tuple[Draft, ...]
    findings: tuple[Finding, ...] = ()
    rejected: tuple[Origin, ...] = ()


def merge_keys(drafts: Iterable[Draft]) -> Merged:
    """One key for each provider, environment and secret.

    The key is enabled when one of them is, expires when the last of the enabled ones does (one without expiry never does) and
    was made when the first was. It has the origin of the first row in the order given, of a row rather than of a value that was
    found inside one, and that row's name and author.
    """
    kept, findings = [], []
    for group in _groups(drafts, lambda draft: (draft.provider_id, draft.environment, draft.secrets["secret"])):
        first, *others = sorted(group, key=lambda draft: draft.origin.inside)
        if not others:
            kept.append(first)
            continue
        counting = [draft for draft in group if draft.facts.get("enabled", True)] or group
        facts = dict(first.facts) | {
            "enabled": any(draft.facts.get("enabled", True) for draft in group),
            "expires_at": _latest_expiry(counting),
        }
        if made := [draft.facts["created_at"] for draft in group if draft.facts.get("created_at")]:
            facts["created_at"] = min(made)
        kept.append(_one(first, others, facts))
        differ = len({(draft.facts.get("expires_at"), draft.facts.get("enabled", True)) for draft in group}) > 1
        rule = "; the latest expiry and the earliest creation were taken" if differ else ""
        findings += [_duplicate(draft, first, f"the same key in the same environment{rule}") for draft in others]
    return Merged(tuple(kept), tuple(findings))


def merge_parameters(drafts: Iterable[Draft]) -> Merged:
    """One parameter for each provider, environment and name: the one changed last, of those the one with the highest param_id.

    Those of the same value are merged into it, and it is sensitive when one of them is; those of another value are rejected.
    """
    kept: list[Draft] = []
    findings: list[Finding] = []
    rejected: list[Origin] = []
    for group in _groups(drafts, lambda draft: (draft.provider_id, draft.environment, draft.name)):
        *others, winner = sorted(group, key=_by_change)
        equal = [draft for draft in others if _value(draft) == _value(winner)]
        different = [draft for draft in others if _value(draft) != _value(winner)]
        findings += [_duplicate(draft, winner, "the same value of the same name") for draft in equal]
        for draft in different:
            detail = f"{_named(winner.origin)} has the same name and environment and was changed last."
            findings.append(_finding(draft.origin, "param_value", DUPLICATE_DIFFERS, "rejected", detail))
            rejected += [draft.origin, *draft.merged]
        sensitive = next((draft for draft in equal if draft.facts.get("is_sensitive")), None)
        if sensitive is not None and not winner.facts.get("is_sensitive"):
            winner = replace(winner, secrets=sensitive.secrets, facts=_sensitive(winner.facts))
        kept.append(_one(winner, equal, dict(winner.facts)) if equal else winner)
    return Merged(tuple(kept), tuple(findings), tuple(rejected))


def differences(older: Draft, newer: Draft) -> tuple[str, ...]:
    """Names of the fields in which the newer row says something else than the older one, of those that the older one has.

    Times of creation and authors are not compared: each family wrote its own. A value is the same whether it is kept plain or
    encrypted.
    """
    names = [
        name
        for name, value in older.facts.items()
        if name not in _NOT_COMPARED and name != "plain_value" and newer.facts.get(name) != value
    ]
    if older.kind is Kind.PARAMETER:
        names += ["param_value"] if _value(older) != _value(newer) else []
    else:
        names += [name for name, secret in older.secrets.items() if newer.secrets.get(name) != secret]
    return tuple(names)


def _groups(drafts: Iterable[Draft], same: Any) -> Iterable[list[Draft]]:
    groups: dict[Hashable, list[Draft]] = {}
    for draft in drafts:
        groups.setdefault(same(draft), []).append(draft)
    return groups.values()


def _one(winner: Draft, others: Iterable[Draft], facts: dict[str, Any]) -> Draft:
    merged = [origin for draft in others for origin in (draft.origin, *draft.merged)]
    return replace(winner, facts=facts, merged=(*winner.merged, *merged))


def _latest_expiry(drafts: Iterable[Draft]) -> datetime | None:
    latest = max(draft.facts.get("expires_at") or _NEVER for draft in drafts)
    return None if latest == _NEVER else latest


def _by_change(draft: Draft) -> tuple[datetime, int, str]:
    key = draft.origin.key
    is_number = key.isascii() and key.isdigit() and len(key) < 40
    return draft.updated_at or _LONG_AGO, int(key) if is_number else -1, key


def _value(draft: Draft) -> Secret:
    return draft.secrets.get("value") or Secret(draft.facts.get("plain_value") or "")


def _sensitive(facts: Any) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if name != "plain_value"} | {"is_sensitive": True}


def _duplicate(draft: Draft, winner: Draft, what: str) -> Finding:
    return _finding(draft.origin, "", DUPLICATE, "merged", f"{_named(winner.origin)} has {what}.")


def _named(origin: Origin) -> str:
    return f"{origin.table} {origin.key}"


def _finding(origin: Origin, field: str, code: Any, did: str, detail: str) -> Finding:
    return Finding(origin.table, origin.key, field, code, did, detail)
