"""What is said about one row while it is mapped. Pure."""

from __future__ import annotations

from providers.importers.drafts import Origin
from providers.importers.findings import Code, Finding

LONGEST_FIELD = 255


class Remarks:
    """Findings of one row, in the order in which they were made."""

    __slots__ = ("found", "origin")

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.found: list[Finding] = []

    def say(self, field: str, code: Code, did: str, detail: str) -> None:
        """`detail` never holds what was found in a secret, an object or a parameter."""
        self.found.append(Finding(self.origin.table, self.origin.key, field[:LONGEST_FIELD], code, did, detail))
