"""Where records of another system's client keys are read from: a file of CSV or JSON, or that system's own database, which is only
read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Text, cast, column, select, table

from providers.importers.drafts import SourceError
from providers.importers.readonly import ReadOnlyDatabase, open_database
from providers.secrets import Secret
from routing.foreign_keys import LITELLM, ONE_API
from routing.key_imports import BadSource

_LARGEST_FILE = 256 * 1024 * 1024
_TABLES = {
    LITELLM: "LiteLLM_VerificationToken",
    ONE_API: "tokens",
}
_TEAMS = "LiteLLM_TeamTable"
Records = list[Mapping[str, Any]]


def from_file(path: Path) -> Records:
    """A JSON list of objects (or an object with one as `keys` or `data`), else CSV whose first line names the columns. Raises
    `BadSource`."""
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise BadSource([f"{path} is larger than {_LARGEST_FILE // 1024**2} MiB."])
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadSource([f"{path} cannot be read: {error.strerror}."]) from None
    except UnicodeDecodeError:
        raise BadSource([f"{path} is not UTF-8."]) from None
    return _from_json(text) if text.lstrip()[:1] in ("[", "{") else _from_csv(text)


def _from_json(text: str) -> Records:
    try:
        told = json.loads(text)
    except ValueError as error:
        # Without the place's text, which may be a key's.
        place = f"line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else "somewhere"
        raise BadSource([f"The JSON cannot be read: {place}."]) from None
    if isinstance(told, dict):
        told = next((told[name] for name in ("keys", "data") if isinstance(told.get(name), list)), None)
    if not isinstance(told, list) or not all(isinstance(record, dict) for record in told):
        raise BadSource(["A list of objects is needed, or an object with one as 'keys'."])
    return told


def _from_csv(text: str) -> Records:
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        found = list(rows)
    except csv.Error as error:
        raise BadSource([f"The CSV cannot be read: line {rows.line_num}: {error}."]) from None
    if rows.fieldnames is None:
        raise BadSource(["The file is empty."])
    if uneven := [number for number, row in enumerate(found, 1) if None in row or None in row.values()]:
        raise BadSource([f"Record {uneven[0]} of the CSV has not as many values as there are columns."])
    return found


def from_database(system: str, url: Secret) -> Records:
    """The keys of a LiteLLM or one-api database. Raises `BadSource`, whose sentences hold no password."""
    if system not in _TABLES:
        raise BadSource([f"Of a database, the keys of {' and '.join(_TABLES)} can be read."])
    try:
        held = open_database(url)
        try:
            found = _table(held, _TABLES[system])
            return _with_teams(held, found) if system == LITELLM else found
        finally:
            held.close()
    except SourceError as error:
        raise BadSource([str(error)]) from None


def _table(held: ReadOnlyDatabase, name: str) -> Records:
    """Every value as text, as the database itself casts it."""
    columns = [one.name for one in held.columns().get(name, ())]
    if not columns:
        raise BadSource([f"{held.address.label} has no table {name}."])
    statement = select(*(cast(column(each), Text) for each in columns)).select_from(table(name))
    return [dict(zip(columns, map(_text, row), strict=True)) for row in held.fetch(statement)]


def _text(value: Any) -> str | None:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _with_teams(held: ReadOnlyDatabase, records: Records) -> Records:
    if _TEAMS not in held.columns():
        return records
    teams = {team["team_id"]: team for team in _table(held, _TEAMS)}
    return [{**record, **_of_team(teams.get(record.get("team_id")))} for record in records]


def _of_team(team: Mapping[str, Any] | None) -> dict[str, Any]:
    if team is None:
        return {}
    return {
        "team_alias": team.get("team_alias"),
        "team_models": team.get("models"),
        "team_blocked": team.get("blocked"),
    }
