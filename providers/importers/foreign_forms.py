"""What a configuration of another system says, told in the form of our own: shared by the readers of each. Pure.

A reader gives providers as the file of providers would name them, and sections as our own file writes them, so everything that
follows is the same for all forms. Whatever is wrong leaves out its own entry and is named.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from providers.importers.documents import place
from providers.importers.findings import ENTRY_REFUSED, NO_PLACE, VARIABLE_MISSING, Code, Finding
from providers.importers.object_secrets import reads_like_secret
from providers.secrets import is_ours

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


@dataclass(slots=True)
class Foreign:
    """`providers` are objects as a file of providers has them, each with its place; `sections` are members of our own file."""

    form: str
    providers: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    sections: dict[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    rejected: dict[str, int] = field(default_factory=dict)

    def find(self, table: str, where: str, code: Code, did: str, detail: str, name: str = "") -> None:
        self.findings.append(Finding(table, where, name, code, did, detail))

    def refuse(self, table: str, where: str, sentences: Sequence[str], code: Code = ENTRY_REFUSED) -> None:
        """The entry is left out for these reasons."""
        for sentence in sentences:
            self.find(table, where, code, "rejected", sentence)
        self.rejected[table] = self.rejected.get(table, 0) + 1

    def no_place(self, where: str, detail: str = "Nothing here reads it from this file.") -> None:
        self.find("settings", where, NO_PLACE, "rejected", detail)
        self.rejected["settings"] = self.rejected.get("settings", 0) + 1

    def section(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.sections.setdefault(name, {})
        return found


class Readable(dict[str, str]):
    """The environment, for a file that somebody brings; `withheld` are names that they may not have read into it."""

    def __init__(self, variables: Mapping[str, str], withheld: Collection[str]) -> None:
        super().__init__(variables)
        self.withheld = frozenset(withheld)


class Refused(ValueError):
    """The entry cannot be taken; `sentences` say why."""

    def __init__(self, sentences: Sequence[str], code: Code = ENTRY_REFUSED) -> None:
        self.sentences, self.code = tuple(sentences), code
        super().__init__(" ".join(sentences))


def expanded(told: Any, variables: Mapping[str, str], secret_names: Collection[str] = ()) -> Any:
    """The value with every ${NAME} and ${NAME:-otherwise} in it replaced by the variable; one that stands alone in the place of
    a secret stays, to become a reference. Raises `Refused` with every variable that is missing or may not be read: the gateway's
    own, and what `Readable` withholds."""
    missing: list[str] = []
    refused: list[str] = []
    result = _expanded(told, variables, set(secret_names), "", missing, refused)
    if missing:
        raise Refused(
            [f"The environment variable {name} is not set." for name in dict.fromkeys(missing)],
            VARIABLE_MISSING,
        )
    if refused:
        raise Refused(list(dict.fromkeys(refused)))
    return result


def _expanded(
    told: Any, variables: Mapping[str, str], secret_names: set[str], name: str, missing: list[str], refused: list[str]
) -> Any:
    if isinstance(told, dict):
        return {
            key: _expanded(value, variables, secret_names, str(key), missing, refused) for key, value in told.items()
        }
    if isinstance(told, list):
        return [_expanded(value, variables, secret_names, name, missing, refused) for value in told]
    if not isinstance(told, str):
        return told
    alone = _VARIABLE.fullmatch(told)
    if alone is not None and name in secret_names and alone[2] is None:
        if not variables.get(alone[1]):
            missing.append(alone[1])
        return told

    def value_of(found: re.Match[str]) -> str:
        variable, otherwise = found[1], found[2]
        if is_ours(variable):
            refused.append(f"The variable {variable} belongs to the gateway itself and is not read into a file.")
            return ""
        if isinstance(variables, Readable) and variable in variables.withheld:
            refused.append(f"Only an admin may have the variable {variable} read into a file: write its value.")
            return ""
        value = variables.get(variable) or otherwise
        if value is None:
            missing.append(variable)
            return ""
        if name not in secret_names and reads_like_secret(variable, value, ""):
            refused.append(
                f"The variable {variable} reads like a secret, and {name or 'this place'} is not kept secret."
            )
            return ""
        return value

    return _VARIABLE.sub(value_of, told)


def members(told: Any, where: str, known: Collection[str]) -> Mapping[str, Any]:
    """An object, if it has no other members than these. Raises `Refused`."""
    if not isinstance(told, dict):
        raise Refused(["an object of names and values is needed."])
    unknown = [name for name in told if name not in known]
    if unknown:
        raise Refused([f"{place('', name)} is not a name that is known here." for name in unknown])
    return told


def per_million(told: Any, name: str) -> str | None:
    """A price per thousand tokens as one per million, exactly."""
    if told is None:
        return None
    try:
        amount = Decimal(str(told)) if isinstance(told, str | int | float) and not isinstance(told, bool) else None
    except InvalidOperation:
        amount = None
    if amount is None or not amount.is_finite() or amount < 0:
        raise Refused([f"{name}: a price of 0 or more, such as 0.0015, is needed."])
    return format((amount * 1000).normalize() + 0, "f")


def whole(told: Any, name: str) -> int | None:
    if told is None:
        return None
    if isinstance(told, str) and told.strip().isdecimal() and len(told) < 15:
        return int(told)
    if isinstance(told, bool) or not isinstance(told, int) or told < 0:
        raise Refused([f"{name}: a whole number is needed."])
    return told


def words(told: Any, name: str) -> list[str]:
    if told is None:
        return []
    if not isinstance(told, list) or not all(isinstance(word, str) and word.strip() for word in told):
        raise Refused([f"{name}: a list of words is needed."])
    return [word.strip() for word in told]


def named(told: Any, where: str, key: str) -> Iterator[tuple[str, Any, Any]]:
    """Place, name and value of the members of a mapping, or of a list whose objects say their name as `key`."""
    if isinstance(told, dict):
        for name, one in told.items():
            yield place(where, name), name, one
    elif isinstance(told, list):
        for index, one in enumerate(told):
            yield place(where, index), one.get(key) if isinstance(one, dict) else None, one
