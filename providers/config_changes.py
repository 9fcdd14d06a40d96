"""What a configuration file would make other than it is, row by row and field by field. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

ADD, CHANGE, REMOVE = "add", "change", "remove"


@dataclass(frozen=True, slots=True)
class Change:
    """One row that becomes other than it is. `fields` are names to [before, after]; secrets stand as references.

    What belongs to no provider, such as a policy, has an empty `provider_id`.
    """

    action: str
    kind: str
    provider_id: str
    name: str
    fields: Mapping[str, list]


def digest(changes: Iterable[Change]) -> str:
    """Tells whether two comparisons came to the same: what somebody saw, and what would be done now."""
    told = [[one.action, one.kind, one.provider_id, one.name, one.fields] for one in changes]
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


def difference(
    kind: str, provider_id: str, name: str, before: Mapping[str, Any] | None, wanted: Mapping[str, Any]
) -> Iterator[Change]:
    """The change from `before`, None for a row that is not there, to what `wanted` names; nothing when nothing changes."""
    new = dict(_flat(wanted))
    if before is None:
        fields = {field: [None, value] for field, value in new.items() if value not in (None, "", [], {})}
        yield Change(ADD, kind, provider_id, name, fields)
        return
    old = dict(_flat({field: before.get(field) for field in wanted}))
    differing = {
        field: [old.get(field), new.get(field)]
        for field in {**old, **new}
        if old.get(field) != new.get(field) and not (_is_nothing(old.get(field)) and _is_nothing(new.get(field)))
    }
    if differing:
        yield Change(CHANGE, kind, provider_id, name, differing)


def _is_nothing(value: Any) -> bool:
    return value is None or value in ([], {})


def _flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Members of objects under names of their own: a change names them and not the whole object."""
    for name, value in facts.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
