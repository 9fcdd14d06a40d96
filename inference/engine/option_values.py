"""Which values the options of an engine may have: read one after the other for a model, or all looked at when they are registered."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

from inference.errors import ConfigurationError
from providers import connection

_LONGEST_SHOWN = 80


class Options:
    """A registry entry's parameters. Names that mean the same are tried in order; None, or empty, is not given.

    The first value that cannot work raises `ConfigurationError`, which names its parameter.
    """

    def __init__(self, parameters: Mapping[str, Any], model: str = "") -> None:
        self._parameters = parameters
        self._model = model

    def refuse(self, name: str, why: str) -> None:
        raise ConfigurationError(
            "This model is set up with a value that cannot work.",
            detail=f"{self._model}: `{name}`: {why}",
            param=name,
        )

    def given(self, *names: str) -> tuple[str, Any]:
        """The first of these names that has a value, with it."""
        found = ((name, self._parameters.get(name)) for name in names)
        return next(((name, value) for name, value in found if value is not None and value != ""), (names[0], None))

    def text(self, *names: str) -> str | None:
        _, value = self.given(*names)
        return None if value is None else str(value)

    def flag(self, *names: str, default: bool) -> bool:
        """What says neither yes nor no is no reason to leave a model that was registered long ago unloaded."""
        name, _ = self.given(*names)
        return connection.flag(self._parameters, name, default=default)

    def one_of(self, known: Collection[str], *names: str, plain: Callable[[str], str] = str) -> str | None:
        """`plain` brings other spellings to the known one."""
        name, value = self.given(*names)
        if value is None:
            return None
        if isinstance(value, str) and plain(value) in known:
            return plain(value)
        self.refuse(name, f"{shown(value)} is none of {', '.join(known)}")
        return None

    def matching(self, is_right: Callable[[str], Any], wanted: str, *names: str) -> str | None:
        name, value = self.given(*names)
        if value is None or (isinstance(value, str) and is_right(value)):
            return value
        self.refuse(name, f"{shown(value)} is not {wanted}")
        return None

    def whole(self, *names: str, least: int, most: int = 1 << 24) -> int | None:
        name, value = self.given(*names)
        if value is None:
            return None
        number = as_number(value)
        if not least <= number <= most or not self._is_whole(number):
            self.refuse(name, f"{shown(value)} is no whole number from {least} to {most}")
            return None
        return int(number)

    def _is_whole(self, number: float) -> bool:
        """Fractions were always cut off."""
        return True

    def positive(self, name: str, *, below: float = 1e12) -> float | None:
        _, value = self.given(name)
        if value is None:
            return None
        number = as_number(value)
        if not 0 < number < below:
            self.refuse(name, f"{shown(value)} is no number above 0 and below {below:,.0f}")
            return None
        return number


class Refusals(Options):
    """The same before anything depends on it: every value that cannot work is noted, by its name, and doubtful ones too."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        super().__init__(parameters)
        self.found: dict[str, str] = {}

    def refuse(self, name: str, why: str) -> None:
        self.found.setdefault(name, why)

    def text(self, *names: str) -> str | None:
        name, value = self.given(*names)
        if value is not None and not isinstance(value, str):
            self.refuse(name, f"{shown(value)} is no text")
        return super().text(*names)

    def flag(self, *names: str, default: bool) -> bool:
        name, value = self.given(*names)
        if value is not None and not connection.is_flag(value):
            self.refuse(name, f"{shown(value)} is neither true nor false")
        return super().flag(*names, default=default)

    def _is_whole(self, number: float) -> bool:
        return number.is_integer()


def as_number(value: Any) -> float:
    """Not a number where it is none, which no comparison finds in a range."""
    if isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def shown(value: Any) -> str:
    """A wrong value as a sentence can hold it."""
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
