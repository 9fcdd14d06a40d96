"""How an import was asked for, in one value that command, admin and worker share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from providers.secrets import Secret

LARGEST_BATCH = 10_000


@dataclass(frozen=True, slots=True)
class Options:
    """`source_url` and `legacy_keys` are secrets; the rest may be shown and stored."""

    source_url: Secret
    legacy_keys: tuple[Secret, ...] = ()
    naive_timezone: str = "UTC"
    """Zone of the source's times that name none, as of the IANA database."""
    environments: tuple[str, ...] = ()
    """Whose keys and parameters are imported; empty means all."""
    only: tuple[str, ...] = ()
    """Provider ids; empty means all."""
    batch_size: int = 1000
    """Rows that are read, compared and written at a time."""

    def shown(self) -> dict[str, Any]:
        """What a run keeps of it in the clear."""
        return {
            "naive_timezone": self.naive_timezone,
            "environments": list(self.environments),
            "only": list(self.only),
            "batch_size": self.batch_size,
            "legacy_keys": len(self.legacy_keys),
        }
