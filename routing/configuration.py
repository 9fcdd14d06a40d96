"""Policies and the settings of routing in configuration files: the sections `policies` and `routing`.

What a trial has, and overrides, which stand for a while, are no configuration.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError

from providers import breaker_settings, exporting
from providers.config_sections import Document, Entry, Part, Section
from providers.importers.config_forms import Problem
from providers.importers.config_values import LeftOut, Reader, Unusable, an_object, flag, price, seconds, text, whole
from providers.importers.documents import place
from providers.models import validate_identifier
from routing import policy_documents, strategies
from routing.models import Policy, RoutingSettings
from routing.policy_documents import KINDS, BadPolicy

_OF_A_POLICY = ("kind", "description", "enabled")
"""What stands beside the document; every other member is the document's."""


class Policies(Section):
    """A mapping of names. What a policy says is one value: a file that names any of it names all of it."""

    name = "policies"
    kind = "policy"
    permission = "routing.change_policy"

    def read(self, told: Any, where: str) -> Part:
        part = Part()
        if not isinstance(told, dict):
            part.problems.append(Problem(where, "a mapping of names to policies is needed."))
            return part
        for name, raw in told.items():
            part.named.add(name)
            wrong, document = _read_policy(name, {} if raw is None else raw, place(where, name))
            if wrong:
                part.problems += wrong
            else:
                part.entries.append(Entry(place(where, name), name, document))
        return part

    def merged(self, before: Document | None, told: Document) -> dict[str, Any]:
        kept = before or {"kind": "policy", "description": "", "enabled": True, "strategy": "priority"}
        if told.keys() - set(_OF_A_POLICY):
            kept = {name: kept[name] for name in _OF_A_POLICY}
        return {**kept, **told}

    def stored(self) -> dict[str, dict[str, Any]]:
        rows = sorted(Policy.objects.all(), key=lambda row: row.name)  # a database has its own order of letters
        return {row.name: _document(row) for row in rows}

    def put(self, name: str, document: Document) -> None:
        # Locked: what is saved here holds the candidate of a trial too, which may be rolled back meanwhile.
        row = Policy.objects.select_for_update().filter(name=name).first() or Policy(name=name)
        row.kind, row.description, row.enabled = (document[field] for field in _OF_A_POLICY)
        row.document = {key: value for key, value in document.items() if key not in _OF_A_POLICY}
        row.full_clean()
        row.save()

    def remove(self, name: str) -> None:
        for row in Policy.objects.filter(name=name):
            row.delete()

    def owners(self) -> dict[str, str]:
        return dict(Policy.objects.exclude(managed_by="").values_list("name", "managed_by"))

    def own(self, names: Collection[str], path: str) -> None:
        Policy.objects.filter(managed_by=path).exclude(name__in=names).update(managed_by="")
        Policy.objects.filter(name__in=names).exclude(managed_by=path).update(managed_by=path)


def _document(row: Policy) -> dict[str, Any]:
    try:
        said = policy_documents.as_document(policy_documents.read(row.document))
    except BadPolicy:
        said = row.document  # as broken as it is: the snapshot says so
    return {"kind": row.kind, "description": row.description, "enabled": row.enabled, **said}


def _read_policy(name: str, raw: Any, at: str) -> tuple[list[Problem], dict[str, Any]]:
    if not isinstance(raw, dict):
        return [Problem(at, "an object of names and values is needed.")], {}
    wrong: list[Problem] = []
    document: dict[str, Any] = {}
    try:
        validate_identifier(name)
    except ValidationError as error:
        wrong.append(Problem(at, " ".join(error.messages)))
    readers: dict[str, Reader] = {"kind": text(16), "description": text(), "enabled": flag}
    for field, value in read_fields(readers, raw, at, wrong).items():
        document[field] = value
    if document.get("kind", KINDS[0]) not in KINDS:
        wrong.append(Problem(place(at, "kind"), f"{document['kind']!r} is none of: {', '.join(KINDS)}."))
    said = {field: value for field, value in raw.items() if field not in _OF_A_POLICY}
    if said:
        try:
            document |= policy_documents.as_document(policy_documents.read(said, strategies.names()))
        except BadPolicy as error:
            wrong += [Problem(f"{at}.{inner}" if inner else at, sentence) for inner, sentence in error.problems]
    return wrong, document


class Routing(Section):
    """The settings that hold where a policy says nothing: one object."""

    name = "routing"
    kind = "settings"
    permission = "routing.change_routingsettings"
    goes_with_its_file = False

    _fields: dict[str, Reader] = {
        "max_cost_per_request": price,
        "fallback_enabled": flag,
        "retries": whole(),
        "retry_delay_seconds": seconds,
        "default_policy": text(255),
        "unknown_model": text(8),
        "breaker": an_object,
    }

    def read(self, told: Any, where: str) -> Part:
        part = Part(named={self.name})
        if not isinstance(told, dict):
            part.problems.append(Problem(where, "an object of names and values is needed."))
            return part
        unknown = [Problem(place(where, name), "there is no such member.") for name in told if name not in self._fields]
        part.problems += unknown
        document = read_fields(self._fields, told, where, part.problems)
        if wrong := breaker_settings.problems(document.get("breaker", {})):
            part.problems += [Problem(place(f"{where}.breaker", name), why) for name, why in wrong.items()]
            document.pop("breaker")
        if document:
            part.entries.append(Entry(where, self.name, document))
        return part

    def merged(self, before: Document | None, told: Document) -> dict[str, Any]:
        return {**(before or self._of(RoutingSettings())), **told}

    def stored(self) -> dict[str, dict[str, Any]]:
        row = RoutingSettings.objects.first()
        return {} if row is None else {self.name: self._of(row)}

    def _of(self, row: RoutingSettings) -> dict[str, Any]:
        return exporting.facts_document(row, self._fields)

    def put(self, name: str, document: Document) -> None:
        row = RoutingSettings.load()
        for field, value in document.items():
            setattr(row, field, Decimal(value) if field == "max_cost_per_request" and value is not None else value)
        row.full_clean()
        row.save()

    def remove(self, name: str) -> None:
        for row in RoutingSettings.objects.all():
            row.delete()

    def written(self, stored: Any) -> Any:
        return stored[self.name]

    def owners(self) -> dict[str, str]:
        row = RoutingSettings.objects.exclude(managed_by="").first()
        return {} if row is None else {self.name: row.managed_by}

    def own(self, names: Collection[str], path: str) -> None:
        if self.name in names:
            RoutingSettings.objects.exclude(managed_by=path).update(managed_by=path)
        else:
            RoutingSettings.objects.filter(managed_by=path).update(managed_by="")


def read_fields(readers: Mapping[str, Reader], raw: Mapping[str, Any], at: str, wrong: list[Problem]) -> dict[str, Any]:
    """What the file says, member by member; mistakes go to `wrong`, other members are not looked at."""
    found: dict[str, Any] = {}
    for name, reader in readers.items():
        if name not in raw:
            continue
        try:
            found[name] = exporting.written(reader(raw[name]).value)
        except Unusable as error:
            wrong.append(Problem(place(at, name), f"{error}."))
        except LeftOut:
            continue
    return found


SECTIONS = (Policies(), Routing())
