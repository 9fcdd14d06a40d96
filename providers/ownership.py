"""What a configuration file owns is changed in the file: everybody else may look at it and leave it alone."""

from __future__ import annotations

from typing import Any, Protocol

from django.db.models import CASCADE


class Owned(Protocol):
    """A row that may have come from a file; `managed_by` is the file's path, empty for what people entered."""

    managed_by: str


class OwnedByFile(Exception):
    """`path` is the file that has to be edited instead. The text is for whoever tried."""

    code = "owned_by_file"

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"The configuration file {path} owns this: change it there, then reload.")


def refuse_if_owned(row: Owned) -> None:
    """Call it at the edge (REST, admin) before a write. Raises `OwnedByFile`."""
    if row.managed_by:
        raise OwnedByFile(row.managed_by)


def owner_of_all(row: Any) -> str:
    """The file that owns the row, or one that owns something which would be deleted with it; empty when there is none."""
    if path := getattr(row, "managed_by", ""):
        return str(path)
    for relation in row._meta.related_objects:
        parts = relation.related_model
        if relation.on_delete is CASCADE and hasattr(parts, "managed_by"):
            owned = parts._base_manager.filter(**{relation.field.name: row}).exclude(managed_by="")
            if path := owned.values_list("managed_by", flat=True).first():
                return str(path)
    return ""


def refuse_removal_if_owned(row: Any) -> None:
    """Call it at the edge before a row is deleted. Raises `OwnedByFile`."""
    if path := owner_of_all(row):
        raise OwnedByFile(path)
