"""What a configuration file owns is changed in the file: everybody else may look at it and leave it alone."""

from __future__ import annotations

from typing import Protocol


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
