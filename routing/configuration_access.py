"""Who may use how much, in configuration files: the sections `teams`, `client_keys`, `limits` and `budgets`.

A file never holds a client key itself, nor what would let one in: it says what the keys that were issued may do. Raises, which
hold for a while, are no configuration.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Collection, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar

from django.core.exceptions import ValidationError

from providers import exporting
from providers.config_sections import Document, Entry, ListSection, Part, Section
from providers.importers.config_forms import Problem
from providers.importers.config_values import (
    Read,
    Reader,
    Unusable,
    choice,
    flag,
    moment,
    price,
    text,
    whole,
    words,
)
from providers.importers.documents import place
from providers.models import Provider, ProviderModel, validate_identifier
from routing import scope_grants, subjects
from routing.budgets import PERIODS, ROLE_FACTORS, WHEN_AWAY
from routing.client_keys import SCOPES
from routing.configuration import read_fields
from routing.models import Budget, ClientKey, RateLimit, Team
from routing.rate_limits import LIMITS
from routing.subjects import Counted

_OBJECT = "an object of names and values is needed."


def _read_only(
    readers: Mapping[str, Reader], raw: Mapping[str, Any], at: str, wrong: list[Problem], beside: Collection[str] = ()
) -> dict[str, Any]:
    """What the file says; members that are neither read nor `beside` are mistakes, too."""
    wrong += [Problem(place(at, name), "there is no such member.") for name in raw if name not in {*readers, *beside}]
    return read_fields(readers, raw, at, wrong)


class _Named(Section):
    """A mapping of names to objects."""

    fields: ClassVar[Mapping[str, Reader]]

    def read(self, told: Any, where: str) -> Part:
        part = Part()
        if not isinstance(told, dict):
            part.problems.append(Problem(where, f"a mapping of names to {self.name.replace('_', ' ')} is needed."))
            return part
        for name, raw in told.items():
            at, wrong = place(where, name), []
            part.named.add(name)
            try:
                validate_identifier(name)
            except ValidationError as error:
                wrong.append(Problem(at, " ".join(error.messages)))
            if raw is not None and not isinstance(raw, dict):
                wrong.append(Problem(at, _OBJECT))
            document = _read_only(self.fields, raw if isinstance(raw, dict) else {}, at, wrong)
            part.problems += wrong
            if not wrong:
                part.entries.append(Entry(at, name, document))
        return part


class Teams(_Named):
    """What is removed here takes no keys with it: a team that has some stays."""

    name = "teams"
    kind = "team"
    permission = "routing.change_team"
    goes_with_its_file = False
    fields = {"description": text(), "enabled": flag}

    def merged(self, before: Document | None, told: Document) -> dict[str, Any]:
        return {**(before or {"description": "", "enabled": True}), **told}

    def stored(self) -> dict[str, dict[str, Any]]:
        rows = sorted(Team.objects.all(), key=lambda row: row.name)
        return {row.name: exporting.facts_document(row, self.fields) for row in rows}

    def put(self, name: str, document: Document) -> None:
        row = Team.objects.filter(name=name).first() or Team(name=name)
        row.description, row.enabled = document["description"], document["enabled"]
        row.full_clean()
        row.save()

    def remove(self, name: str) -> None:
        if ClientKey.objects.filter(team__name=name).exists():
            raise ValidationError(f"The team {name} has client keys: move or delete them first.")
        for row in Team.objects.filter(name=name):
            row.delete()

    def owners(self) -> dict[str, str]:
        return dict(Team.objects.exclude(managed_by="").values_list("name", "managed_by"))

    def own(self, names: Collection[str], path: str) -> None:
        Team.objects.filter(managed_by=path).exclude(name__in=names).update(managed_by="")
        Team.objects.filter(name__in=names).exclude(managed_by=path).update(managed_by=path)


def _words_or_all(value: Any) -> Read:
    return Read(None) if value is None else words(value)


def _scopes(value: Any) -> Read:
    found = words(value)
    if not found.value or set(found.value) - set(SCOPES):
        raise Unusable(f"one or more of {', '.join(SCOPES)} are needed")
    return found


class ClientKeys(_Named):
    """What issued keys may do, by their prefix. A file brings no key, takes none away and owns none: a leaked one must be
    stoppable at once, whatever a file says."""

    name = "client_keys"
    kind = "client key"
    permission = scope_grants.EVERY_SCOPE  # a document names any key of any team, with any scope
    goes_with_its_file = False
    is_pruned = False
    fields = {
        "name": text(255),
        "team": text(255),
        "scopes": _scopes,
        "allowed_models": _words_or_all,
        "allowed_policies": _words_or_all,
        "allowed_providers": _words_or_all,
        "ip_ranges": _words_or_all,
        "tags": words,
        "role": choice("", *ROLE_FACTORS),
        "captures_content": flag,
        "enabled": flag,
        "expires_at": moment,
    }

    def stored(self) -> dict[str, dict[str, Any]]:
        rows = ClientKey.objects.filter(revoked_at=None).select_related("team").order_by("prefix")
        return {row.prefix: self._document(row) for row in sorted(rows, key=lambda row: row.prefix)}

    def _document(self, row: ClientKey) -> dict[str, Any]:
        facts = exporting.facts_document(row, [name for name in self.fields if name != "team"])
        team = row.team.name if row.team is not None else ""
        return {name: team if name == "team" else facts[name] for name in self.fields}

    def put(self, name: str, document: Document) -> None:
        # Locked: what is saved here holds the secret's digest too, and whether it was revoked.
        row = ClientKey.objects.select_for_update().filter(prefix=name).first()
        if row is None:
            raise ValidationError("There is no such client key: a file cannot bring one. Issue it first.")
        for field, value in document.items():
            if field == "team":
                row.team = _named(Team, "team", name=value) if value else None
            elif field == "expires_at":
                row.expires_at = None if value is None else datetime.fromisoformat(value)
            else:
                setattr(row, field, value)
        row.full_clean()
        row.save()

    def remove(self, name: str) -> None:
        """Nothing: what a file does not name is not for it to take away."""

    def owners(self) -> dict[str, str]:
        return {}

    def own(self, names: Collection[str], path: str) -> None:
        """Nobody's file owns a key."""


class _OfSubjects(ListSection):
    """A list: for whom each counts tells one from another, and what `beside` names."""

    goes_with_its_file = False
    rows: ClassVar[type[Counted]]
    fields: ClassVar[Mapping[str, Reader]]
    usual: ClassVar[Mapping[str, Any]]
    beside: ClassVar[tuple[str, ...]] = ()
    needed: ClassVar[tuple[str, ...]] = ()

    def read_one(self, raw: Any, at: str, part: Part) -> None:
        if not isinstance(raw, dict):
            part.problems.append(Problem(at, _OBJECT))
            return
        wrong: list[Problem] = []
        document = {
            **self._subject(raw, at, wrong),
            **_read_only(self.fields, raw, at, wrong, ("subject", *subjects.NAMED_BY.values())),
        }
        wrong += [
            Problem(place(at, name), "it is needed.")
            for name in self.needed
            if name not in document and not any(one.place == place(at, name) for one in wrong)
        ]
        name = self._name(document)
        part.named.add(name)
        if name in {entry.name for entry in part.entries}:
            wrong.append(Problem(at, f"one for the same ({name}) stands in this file already."))
        if wrong:
            part.problems += wrong
        else:
            part.entries.append(Entry(at, name, document))

    def _subject(self, raw: Mapping[str, Any], at: str, wrong: list[Problem]) -> dict[str, Any]:
        subject = raw.get("subject")
        if not isinstance(subject, str) or subject not in subjects.SUBJECTS:
            wrong.append(Problem(place(at, "subject"), f"one of {', '.join(subjects.SUBJECTS)} is needed."))
            return {}
        needed = subjects.NAMED_BY.get(subject)
        for name in subjects.NAMED_BY.values():
            if name in raw and name != needed:
                wrong.append(Problem(place(at, name), f"leave it out: this counts for {subjects.SUBJECTS[subject]}."))
        if needed is None:
            return {"subject": subject}
        if not isinstance(raw.get(needed), str) or not raw[needed]:
            wrong.append(Problem(place(at, needed), f"say which: this counts for {subjects.SUBJECTS[subject]}."))
        return {"subject": subject, needed: raw.get(needed)}

    def _name(self, document: Document) -> str:
        subject = document.get("subject", "")
        named = document.get(subjects.NAMED_BY.get(subject, ""))
        told = str(subject) if named is None else f"{subject} {named}"
        return ", ".join([told, *(str(document.get(field, self.usual.get(field))) for field in self.beside)])

    def merged(self, before: Document | None, told: Document) -> dict[str, Any]:
        subject = {name: told[name] for name in ("subject", *subjects.NAMED_BY.values()) if name in told}
        return {**subject, **(before or self.usual), **told}

    def _document(self, row: Counted) -> dict[str, Any]:
        document: dict[str, Any] = {"subject": row.subject}
        if field := subjects.NAMED_BY.get(row.subject):
            document[field] = _written_name(getattr(row, field))
        return {**document, **exporting.facts_document(row, self.fields)}

    def _rows(self) -> list[Counted]:
        return list(self.rows.objects.select_related("client_key", "team", "provider", "model__provider"))

    def stored(self) -> dict[str, dict[str, Any]]:
        documents = [self._document(row) for row in self._rows()]
        order = list(subjects.SUBJECTS)
        documents.sort(key=lambda one: (order.index(one["subject"]), self._name(one)))
        return {self._name(one): one for one in documents}

    def written(self, stored: Mapping[str, dict[str, Any]]) -> Any:
        return list(stored.values())

    def put(self, name: str, document: Document) -> None:
        told = {field: _value(field, value) for field, value in document.items()}
        same = {field: told[field] for field in ("subject", *subjects.NAMED_BY.values(), *self.beside) if field in told}
        row = self.rows.objects.filter(**same).first() or self.rows()
        for field, value in told.items():
            setattr(row, field, value)
        row.full_clean()
        row.save()

    def remove(self, name: str) -> None:
        for row in self._rows():
            if self._name(self._document(row)) == name:
                row.delete()

    def owners(self) -> dict[str, str]:
        return {self._name(self._document(row)): row.managed_by for row in self._rows() if row.managed_by}

    def own(self, names: Collection[str], path: str) -> None:
        for row in self._rows():
            if row.managed_by not in ("", path):
                continue
            owner = path if self._name(self._document(row)) in names else ""
            if row.managed_by != owner:
                row.managed_by = owner
                row.save(update_fields=["managed_by"])


def _written_name(value: Any) -> str:
    if isinstance(value, ProviderModel):
        return value.route
    if isinstance(value, ClientKey):
        return value.prefix
    return str(value.audit_name()) if hasattr(value, "audit_name") else str(value)


def _value(field: str, value: Any) -> Any:
    """As the row has it: an object for its name, an amount for its text."""
    match field:
        case "amount" | "away_amount":
            return None if value is None else Decimal(value)
        case "client_key":
            return _named(ClientKey, field, prefix=value)
        case "team":
            return _named(Team, field, name=value)
        case "provider":
            return _named(Provider, field, provider_id=value)
        case "model":
            found = ProviderModel.of_route(value)
            if found is None:
                raise ValidationError({field: f"There is no model {value!r}; name it as provider/model."})
            return found
    return value


def _named(model: Any, field: str, **name: str) -> Any:
    row = model.objects.filter(**name).first()
    if row is None:
        [(_, value)] = name.items()
        raise ValidationError({field: f"There is no {field.replace('_', ' ')} {value!r}."})
    return row


def _count(value: Any) -> Read:
    """A limit; nothing is no limit."""
    if value is None:
        return Read(None)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**53:
        raise Unusable("a whole number of 1 or more is needed, or nothing for no limit")
    return Read(value)


def _amount(value: Any) -> Read:
    try:
        found = price(value)
    except Unusable:
        raise Unusable("an amount of money of 0 or more, such as '2.50', is needed") from None
    if found.value is None:
        raise Unusable("an amount of money is needed")
    return found


def _zone(value: Any) -> Read:
    if not isinstance(value, str) or value not in zoneinfo.available_timezones():
        raise Unusable("a time zone such as Europe/Berlin is needed")
    return Read(value)


def _percent(value: Any) -> Read:
    found = whole(1)(value)
    if found.value > 100:
        raise Unusable("a whole number from 1 to 100 is needed")
    return found


class Limits(_OfSubjects):
    name = "limits"
    kind = "limit"
    permission = "routing.change_ratelimit"
    rows = RateLimit
    fields = {**dict.fromkeys(LIMITS, _count), "enabled": flag}
    usual = {**dict.fromkeys(LIMITS), "enabled": True}


class Budgets(_OfSubjects):
    name = "budgets"
    kind = "budget"
    permission = "routing.change_budget"
    rows = Budget
    beside = ("period",)
    needed = ("period", "amount")
    fields = {
        "period": choice(*PERIODS),
        "amount": _amount,
        "name": text(255),
        "hard": flag,
        "strict": flag,
        "warn_percent": _percent,
        "time_zone": _zone,
        "when_away": choice(*WHEN_AWAY),
        "away_amount": lambda value: Read(None) if value is None else _amount(value),
        "refuse_unpriced": flag,
        "by_role": flag,
        "enabled": flag,
    }
    usual = {
        "name": "",
        "hard": True,
        "strict": False,
        "warn_percent": 80,
        "time_zone": "UTC",
        "when_away": "closed",
        "away_amount": None,
        "refuse_unpriced": False,
        "by_role": False,
        "enabled": True,
    }


SECTIONS = (Teams(), ClientKeys(), Limits(), Budgets())
