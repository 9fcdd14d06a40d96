"""The section `prices` of a configuration file: prices of one's own, each for a beginning of model ids and from a day on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError

from providers import exporting
from providers.config_sections import Document, Entry, ListSection, Part
from providers.importers.config_forms import Problem
from providers.importers.config_values import LeftOut, Read, Reader, Unusable, moment, price, text
from providers.importers.documents import place
from providers.models import PriceOverride, Provider
from providers.pricing import USD


def _currency(value: Any) -> Read:
    """As it is stored; without one, the usual one."""
    return Read(text(3)(value).value.upper() or USD)


_FIELDS: Mapping[str, Reader] = {
    "input_cost_per_million": price,
    "output_cost_per_million": price,
    "cached_input_cost_per_million": price,
    "currency": _currency,
    "note": text(500),
}
_NAMES = ("provider", "model_prefix", "valid_from")


class Prices(ListSection):
    """A list; what it is about (`provider`, or any without one; `model_prefix`; `valid_from`) tells one price from another."""

    name = "prices"
    kind = "price"
    permission = "providers.change_priceoverride"
    goes_with_its_file = False

    def read_one(self, raw: Any, at: str, part: Part) -> None:
        if not isinstance(raw, dict):
            part.problems.append(Problem(at, "an object with model_prefix and prices is needed."))
            return
        wrong = [
            Problem(place(at, name), "there is no such member.") for name in raw if name not in {*_NAMES, *_FIELDS}
        ]
        provider, prefix = raw.get("provider") or None, raw.get("model_prefix")
        if not isinstance(prefix, str) or not prefix.strip():
            wrong.append(Problem(place(at, "model_prefix"), "the beginning of a model's id is needed."))
        elif prefix != prefix.strip():
            wrong.append(Problem(place(at, "model_prefix"), "there are blanks at its ends."))
        if provider is not None and not isinstance(provider, str):
            wrong.append(Problem(place(at, "provider"), "a provider's id is needed, or none for any."))
        document: dict[str, Any] = {"provider": provider, "model_prefix": prefix}
        for name, reader in {"valid_from": moment, **_FIELDS}.items():
            if name not in raw and name != "valid_from":
                continue
            try:
                document[name] = exporting.written(reader(raw.get(name)).value)
            except Unusable as error:
                wrong.append(Problem(place(at, name), f"{error}."))
            except LeftOut:
                continue
        if document.get("valid_from") is None and not wrong:
            wrong.append(Problem(place(at, "valid_from"), "the time from which it holds is needed."))
        name = _name(document)
        part.named.add(name)
        if name in {entry.name for entry in part.entries}:
            wrong.append(Problem(at, "a price for the same models from the same time stands in this file already."))
        if wrong:
            part.problems += wrong
        else:
            part.entries.append(Entry(at, name, document))

    def stored(self) -> dict[str, dict[str, Any]]:
        rows = PriceOverride.objects.select_related("provider")
        documents = map(_document, rows)
        return {_name(one): one for one in sorted(documents, key=lambda one: [one[name] or "" for name in _NAMES])}

    def put(self, name: str, document: Document) -> None:
        row = _row(document) or PriceOverride()
        if document["provider"] is not None:
            row.provider = Provider.objects.filter(provider_id=document["provider"]).first()
            if row.provider is None:
                raise ValidationError({"provider": f"There is no provider {document['provider']!r}."})
        row.model_prefix = document["model_prefix"]
        row.valid_from = datetime.fromisoformat(document["valid_from"])
        for field in _FIELDS:
            value = document.get(field)
            setattr(row, field, price(value).value if field.endswith("_per_million") else value or _usual(field))
        row.full_clean()
        row.save()

    def remove(self, name: str) -> None:
        for row in PriceOverride.objects.select_related("provider"):
            if _name(_document(row)) == name:
                row.delete()

    def written(self, stored: Mapping[str, dict[str, Any]]) -> Any:
        return list(stored.values())

    def owners(self) -> dict[str, str]:
        owned = PriceOverride.objects.select_related("provider").exclude(managed_by="")
        return {_name(_document(row)): row.managed_by for row in owned}

    def own(self, names: Collection[str], path: str) -> None:
        for row in PriceOverride.objects.select_related("provider").filter(managed_by__in=["", path]):
            owner = path if _name(_document(row)) in names else ""
            if row.managed_by != owner:
                row.managed_by = owner
                row.save(update_fields=["managed_by"])


def _document(row: PriceOverride) -> dict[str, Any]:
    provider = row.provider.provider_id if row.provider is not None else None
    facts = exporting.facts_document(row, ("model_prefix", "valid_from", *_FIELDS))
    return {"provider": provider, **facts}


def _row(document: Document) -> PriceOverride | None:
    rows = PriceOverride.objects.filter(
        model_prefix=document["model_prefix"], valid_from=datetime.fromisoformat(document["valid_from"])
    )
    if document["provider"] is None:
        return rows.filter(provider=None).first()
    return rows.filter(provider__provider_id=document["provider"]).first()


def _name(document: Document) -> str:
    return f"{document['provider'] or '*'}:{document['model_prefix']}@{document.get('valid_from')}"


def _usual(field: str) -> str:
    return USD if field == "currency" else ""
