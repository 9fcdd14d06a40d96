"""What a comparison with a configuration file comes to, entry by entry, for somebody who is to agree to it. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from providers.config_changes import ADD, CHANGE, REMOVE, Change

CREATED, UPDATED, REMOVED, UNCHANGED, REFUSED = "create", "update", "remove", "unchanged", "refused"
VERDICTS = (REFUSED, REMOVED, UPDATED, CREATED, UNCHANGED)
"""What wants to be looked at first stands first."""
_OF_ACTION = {ADD: CREATED, CHANGE: UPDATED, REMOVE: REMOVED}
_PROVIDERS = "providers"


@dataclass(frozen=True, slots=True)
class Field:
    """Before and after as text, None where there is nothing."""

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One object: `kind` is what it is called (`provider`, `policy`), `why` says of a refused one what is wrong."""

    verdict: str
    kind: str
    name: str
    fields: tuple[Field, ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True)
class Review:
    entries: tuple[Entry, ...]

    @property
    def counts(self) -> dict[str, int]:
        """By verdict, those of none left out."""
        found = Counter(one.verdict for one in self.entries)
        return {verdict: found[verdict] for verdict in VERDICTS if found[verdict]}

    @property
    def writes(self) -> int:
        """How many entries would be written."""
        return sum(one.verdict in _OF_ACTION.values() for one in self.entries)


def review(
    changes: Collection[Change],
    refusals: Mapping[tuple[str, str], str],
    named: Mapping[str, Collection[str]],
    kinds: Mapping[str, str],
) -> Review:
    """`refusals` says why by kind and name, also of what is no change; `named` is what the file speaks of by its members, and
    `kinds` what one of a member is called."""
    found = [*_changed(changes, refusals), *_unchanged(changes, refusals, named, kinds)]
    touched = {(one.kind, one.name) for one in changes if not one.provider_id}
    found += [
        Entry(REFUSED, kind, name, why=why) for (kind, name), why in refusals.items() if (kind, name) not in touched
    ]
    return Review(tuple(sorted(found, key=lambda one: VERDICTS.index(one.verdict))))


def _changed(changes: Collection[Change], refusals: Mapping[tuple[str, str], str]) -> Iterator[Entry]:
    for change in changes:
        why = "" if change.provider_id else refusals.get((change.kind, change.name), "")
        name = " / ".join(filter(None, (change.provider_id, change.name)))
        fields = tuple(Field(field, _text(before), _text(after)) for field, (before, after) in change.fields.items())
        yield Entry(REFUSED if why else _OF_ACTION[change.action], change.kind, name, fields, why)


def _unchanged(
    changes: Collection[Change],
    refusals: Mapping[tuple[str, str], str],
    named: Mapping[str, Collection[str]],
    kinds: Mapping[str, str],
) -> Iterator[Entry]:
    of_providers = {one.provider_id for one in changes if one.provider_id}
    of_sections = {(one.kind, one.name) for one in changes if not one.provider_id} | set(refusals)
    for member, names in named.items():
        kind = kinds.get(member, member)
        for name in names:
            if name not in of_providers if member == _PROVIDERS else (kind, name) not in of_sections:
                yield Entry(UNCHANGED, kind, name)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
