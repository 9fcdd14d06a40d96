"""Typed readers of the environment. A bad value stops start-up with a sentence that names the variable.

Every reader also accepts `NAME_FILE`, the path of a file that holds the value, so secrets can be mounted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from routing.client_addresses import BadNetwork, Network, networks

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}
_HOURS = re.compile(r"(?:[01]\d|2[0-3]):[0-5]\d-(?:[01]\d|2[0-3]):[0-5]\d")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}
_ENGINES = {
    "postgresql": "django.db.backends.postgresql",
    "postgres": "django.db.backends.postgresql",
    "sqlite": "django.db.backends.sqlite3",
}


class BadSetting(Exception):
    """An environment variable holds what it must not hold."""


class Environment:
    def __init__(self, variables: Mapping[str, str] = os.environ) -> None:
        self._variables = variables

    def text(self, name: str, default: str = "") -> str:
        value = self._variables.get(name)
        if value is not None:
            return value.strip()
        path = self._variables.get(f"{name}_FILE")
        if path is None:
            return default
        try:
            return Path(path).read_text().strip()
        except OSError as error:
            raise BadSetting(f"{name}_FILE names {path}, which cannot be read: {error.strerror}") from error

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.text(name).lower()
        if not value:
            return default
        if value in _TRUE:
            return True
        if value in _FALSE:
            return False
        raise BadSetting(f"{name} is {value!r}; say true or false")

    def integer(self, name: str, default: int, *, least: int = 0, most: int | None = None) -> int:
        value = self.text(name)
        if not value:
            return default
        try:
            number = int(value)
        except ValueError as error:
            raise BadSetting(f"{name} is {value!r}; a whole number is needed") from error
        if number < least:
            raise BadSetting(f"{name} is {number}; at least {least} is needed")
        if most is not None and number > most:
            raise BadSetting(f"{name} is {number}; at most {most} is possible")
        return number

    def share(self, name: str, default: float) -> float:
        """A part of the whole: 0 for none, 1 for all."""
        value = self.text(name)
        if not value:
            return default
        try:
            share = float(value)
        except ValueError as error:
            raise BadSetting(f"{name} is {value!r}; a number from 0 to 1 is needed") from error
        if not 0 <= share <= 1:
            raise BadSetting(f"{name} is {value}; a number from 0 to 1 is needed")
        return share

    def seconds(self, name: str, default: float) -> float:
        """A duration: `30`, `30s`, `5m`, `1.5h`, `250ms`."""
        value = self.text(name).lower()
        if not value:
            return default
        match = _DURATION.fullmatch(value)
        if match is None:
            raise BadSetting(f"{name} is {value!r}; a duration such as 30s, 5m or 250ms is needed")
        return float(match[1]) * _SECONDS[match[2]]

    def hours(self, name: str) -> str:
        """A span of hours of the day, such as `22:00-06:00`; empty for none."""
        value = self.text(name)
        if value and (_HOURS.fullmatch(value) is None or value[:5] == value[6:]):
            raise BadSetting(f"{name} is {value!r}; a span of hours such as 22:00-06:00 is needed")
        return value

    def word(self, name: str, choices: tuple[str, ...]) -> str:
        """One of the choices, of which the first is the usual one."""
        value = self.text(name).lower() or choices[0]
        if value not in choices:
            raise BadSetting(f"{name} is {value!r}; one of {', '.join(choices)} is needed")
        return value

    def words(self, name: str, default: tuple[str, ...] = ()) -> list[str]:
        """A comma-separated list."""
        value = self.text(name)
        return [word.strip() for word in value.split(",") if word.strip()] if value else list(default)

    def networks(self, name: str) -> tuple[Network, ...]:
        """A comma-separated list of addresses and ranges: `10.0.0.0/8, 192.0.2.7`."""
        try:
            return networks(self.words(name))
        except BadNetwork as error:
            raise BadSetting(f"{name}: {error}") from error

    def paths(self, *names: str) -> list[str]:
        """The absolute paths that several variables list, each once."""
        found = (str(Path(word).expanduser().resolve()) for name in names for word in self.words(name))
        return list(dict.fromkeys(found))

    def database(self, name: str, *, default_path: Path) -> dict[str, Any]:
        """A Django database from a URL: `postgresql://user:password@host:port/name` or `sqlite:///path`."""
        url = self.text(name)
        if not url:
            return _sqlite(default_path)
        parts = urlsplit(url)
        scheme = parts.scheme.split("+")[0]
        if scheme not in _ENGINES:
            raise BadSetting(f"{name} begins with {parts.scheme!r}; postgresql:// and sqlite:/// are supported")
        if scheme == "sqlite":
            return _sqlite(Path(unquote(parts.path[1:]) or default_path))
        options = dict(parse_qsl(parts.query))
        return {
            "ENGINE": _ENGINES[scheme],
            "NAME": unquote(parts.path.lstrip("/")),
            "USER": unquote(parts.username or ""),
            "PASSWORD": unquote(parts.password or ""),
            "HOST": options.pop("host", "") or parts.hostname or "",
            "PORT": str(parts.port or ""),
            # No CONN_MAX_AGE: each request has a thread of its own under ASGI, and would leave its connection behind in it.
            "OPTIONS": options,
        }


def _sqlite(path: Path) -> dict[str, Any]:
    # WAL with IMMEDIATE transactions: without them concurrent writers fail with "database is locked".
    return {
        "ENGINE": _ENGINES["sqlite"],
        "NAME": str(path),
        "OPTIONS": {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }
