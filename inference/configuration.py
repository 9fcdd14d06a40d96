"""The section `alerts` of a configuration file: rules, as a list. What alerts.yaml of other systems says is read as it stands.

Channels hold secrets and are made in the admin or by REST; a rule may name one that is not there yet.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError

from inference import alert_signals
from inference.alert_models import AlertRule
from inference.alert_signals import ACTIONS, BadCondition, read_condition
from providers.config_sections import Document, Entry, ListSection, Part
from providers.importers.config_forms import Problem
from providers.importers.config_values import LeftOut, Reader, Unusable, flag, text, whole
from providers.importers.documents import place
from providers.models import validate_identifier

_FIELDS: Mapping[str, Reader] = {
    "description": text(500),
    "enabled": flag,
    "told_for": text(16),
    "window_minutes": whole(),
    "least_requests": whole(),
    "recover_minutes": whole(),
    "remind_minutes": whole(),
}
_MEMBERS = {"name", "condition", "action", "channels", *_FIELDS}


class Alerts(ListSection):
    """`action` is one of ours (`auto_disable_model`), or names the channel that is told, as `channels` does for several."""

    name = "alerts"
    kind = "alert rule"
    permission = "inference.change_alertrule"

    def read_one(self, raw: Any, at: str, part: Part) -> None:
        if not isinstance(raw, dict):
            part.problems.append(Problem(at, "an object with name and condition is needed."))
            return
        wrong = [Problem(place(at, name), "there is no such member.") for name in raw if name not in _MEMBERS]
        name, document = raw.get("name"), {}
        try:
            validate_identifier(name if isinstance(name, str) else "")
        except ValidationError as error:
            wrong.append(Problem(place(at, "name"), " ".join(error.messages)))
        try:
            signal, threshold = read_condition(str(raw.get("condition", "")))
            document["condition"] = alert_signals.condition(signal, threshold)
        except BadCondition as error:
            wrong.append(Problem(place(at, "condition"), f"{error}."))
        for field, reader in _FIELDS.items():
            if field in raw:
                try:
                    document[field] = reader(raw[field]).value
                except Unusable as error:
                    wrong.append(Problem(place(at, field), f"{error}."))
                except LeftOut:
                    continue
        document |= _told(raw, at, wrong)
        if isinstance(name, str):
            if name in part.named:
                wrong.append(Problem(place(at, "name"), "a rule of this name stands in this file already."))
            part.named.add(name)
        if wrong:
            part.problems += wrong
        else:
            part.entries.append(Entry(at, str(name), document))

    def merged(self, before: Document | None, told: Document) -> dict[str, Any]:
        kept = dict(before or _of(AlertRule(signal="error_rate", threshold=Decimal(0))))
        if before is None or told["condition"].split()[0] != before["condition"].split()[0]:
            kept["told_for"] = ""  # another signal is told for what is usual for it
        return {**kept, **told}

    def stored(self) -> dict[str, dict[str, Any]]:
        return {row.name: _of(row) for row in sorted(AlertRule.objects.all(), key=lambda row: row.name)}

    def put(self, name: str, document: Document) -> None:
        row = AlertRule.objects.filter(name=name).first() or AlertRule(name=name)
        signal, row.threshold = read_condition(document["condition"])
        row.signal = signal.name
        for field, value in document.items():
            if field != "condition":
                setattr(row, field, value)
        row.full_clean()
        row.save()

    def remove(self, name: str) -> None:
        for row in AlertRule.objects.filter(name=name):
            row.delete()

    def written(self, stored: Mapping[str, dict[str, Any]]) -> Any:
        return [{"name": name, **document} for name, document in stored.items()]

    def owners(self) -> dict[str, str]:
        return dict(AlertRule.objects.exclude(managed_by="").values_list("name", "managed_by"))

    def own(self, names: Collection[str], path: str) -> None:
        AlertRule.objects.filter(managed_by=path).exclude(name__in=names).update(managed_by="")
        AlertRule.objects.filter(name__in=names).exclude(managed_by=path).update(managed_by=path)


def _told(raw: dict[str, Any], at: str, wrong: list[Problem]) -> dict[str, Any]:
    """Whom the rule tells, and what it does."""
    action, channels = raw.get("action"), raw.get("channels")
    if channels is not None and (not isinstance(channels, list) or not all(isinstance(one, str) for one in channels)):
        wrong.append(Problem(place(at, "channels"), "a list of names is needed."))
        return {}
    if action is not None and not isinstance(action, str):
        wrong.append(Problem(place(at, "action"), "the name of an action or of a channel is needed."))
        return {}
    told: dict[str, Any] = {}
    if channels is not None:
        told["channels"] = channels
    if action in ACTIONS or action == "":
        told["action"] = action
    elif action:
        told["channels"] = [*(channels or []), action]
    return told


def _of(row: AlertRule) -> dict[str, Any]:
    document = {"condition": row.condition, **{name: getattr(row, name) for name in _FIELDS}}
    return document | {"action": row.action, "channels": row.channels}


SECTIONS = (Alerts(),)
