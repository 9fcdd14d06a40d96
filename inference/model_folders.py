"""Which files models may be loaded from: where an operator names folders (GATEWAY_MODEL_FOLDERS), those and what is built in."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from inference.engine.spec import DEMO_PATH


def named(folders: Iterable[Path | str]) -> tuple[Path, ...]:
    """As they are compared: `~` is the home of who runs this process, and links are followed."""
    return tuple(Path(folder).expanduser().resolve() for folder in folders)


def is_allowed(file: Path, folders: tuple[Path, ...]) -> bool:
    """`folders` are `named`; without any, every place is as good."""
    path = file.expanduser().resolve()
    return not folders or path == DEMO_PATH or any(path.is_relative_to(folder) for folder in folders)
