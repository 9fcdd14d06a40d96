"""Kept files as Anthropic's clients see them. Pure.

Source: https://platform.claude.com/docs/en/api/beta/files. What a client says of a file's type is not kept: its name tells it.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from inference.errors import InvalidRequest

LEAST_SECONDS, MOST_SECONDS = 3600, 90 * 24 * 3600
MOST_IDS = 100

_UNKNOWN = "application/octet-stream"
_CURSOR, _TIME = "page_", "%Y-%m-%dT%H:%M:%S.%fZ"
_TYPES = mimetypes.MimeTypes(filenames=())
"""Without those of the machine: a file is the same everywhere."""
for _ending, _type in {
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".jsonl": "application/x-jsonl",
    ".md": "text/markdown",
    ".webp": "image/webp",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}.items():
    _TYPES.add_type(_type, _ending)


def metadata(
    file_id: str, filename: str, size: int, created_at: datetime, expires_at: datetime | None
) -> dict[str, Any]:
    return {
        "type": "file",
        "id": file_id,
        "filename": filename,
        "mime_type": mime_type(filename),
        "size_bytes": size,
        "created_at": time_of(created_at),
        "expires_at": None if expires_at is None else time_of(expires_at),
        "downloadable": True,
    }


def deleted(file_id: str) -> dict[str, Any]:
    return {"id": file_id, "type": "file_deleted"}


def mime_type(filename: str) -> str:
    told, packed = _TYPES.guess_type(f"/{filename}")
    return told if told is not None and packed is None else _UNKNOWN


def time_of(at: datetime) -> str:
    return at.astimezone(UTC).strftime(_TIME)


def seconds_kept(told: Any) -> int | None:
    """Of `expires_in_seconds`. Raises `InvalidRequest`."""
    if told is None:
        return None
    name = "expires_in_seconds"
    if not str(told).isdecimal() or len(str(told)) > 9 or not LEAST_SECONDS <= int(told) <= MOST_SECONDS:
        raise InvalidRequest(f"{name}: Input should be a number from {LEAST_SECONDS} to {MOST_SECONDS}", param=name)
    return int(told)


def ids_of(told: Sequence[str]) -> list[str]:
    """Those that a list is asked for. Raises `InvalidRequest`."""
    found = list(dict.fromkeys(told))
    if len(found) > MOST_IDS:
        raise InvalidRequest(f"ids: List should have at most {MOST_IDS} items after validation", param="ids")
    return found


def cursor_after(last: Mapping[str, Any]) -> str:
    """By which the page after a file is asked for; also when that is deleted meanwhile, as by who deletes what is listed."""
    return f"{_CURSOR}{last['created_at']}_{last['id']}"


def place_of(cursor: str) -> tuple[datetime, str]:
    """The time and the id of the file that such a page comes after. Raises `InvalidRequest`."""
    at, _, file_id = cursor.removeprefix(_CURSOR).partition("_")
    try:
        return datetime.strptime(at, _TIME).replace(tzinfo=UTC), file_id
    except ValueError:
        raise InvalidRequest("page: Input should be the 'next_page' of a list", param="page") from None
