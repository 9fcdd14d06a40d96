"""Which secrets a text may refer to by `env:NAME` or `file:PATH`: asked before one is stored and again when it is followed.

Whoever writes the registry also says where its secrets are sent, so a reference is a way to read the gateway's own machine.
Nobody may refer to what the gateway itself is opened with: its variables, the files that they name, its data directory, the
identity of its pod, and what the kernel tells of processes. Whoever may not read the machine (`Actor.may_read_machine`) may only
refer to variables that are named like a provider's key; admins and commands to any other, and to files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings

from providers import actor
from providers.references import is_reference
from providers.secrets import is_ours

BY_NAME = "api_key_env_var"
"""The connection parameter that is itself the name of a variable."""

_NAMED_LIKE_A_KEY = re.compile(r"[A-Z0-9_]*(API_KEY|TOKEN)|LLM_KEY_[A-Z0-9_]+(_[0-9a-f]{8})?", re.ASCII)
"""The last is what an export writes in the place of a stored secret."""
_LOOKS_LIKE_ONE = re.compile(r"\s*(env|file)\s*:", re.IGNORECASE)
_OF_THE_KERNEL = (Path("/proc"), Path("/sys"))
_OF_THE_POD = "serviceaccount"
_TOKENS_OF_THE_POD = ("AWS_WEB_IDENTITY_TOKEN_FILE", "AZURE_FEDERATED_TOKEN_FILE")

_OURS = (
    "That {} belongs to the gateway itself and is never sent to a provider. Name where the provider's own key is kept."
)
_NO_VARIABLE = (
    "Only an admin may refer to a variable that is not named like a provider's key (…_API_KEY, …_TOKEN): enter the key itself, "
    "name the variable so, or have somebody do it who has the role admin or a key with the scope admin."
)
_NO_FILE = (
    "Only an admin may refer to a file: enter the key itself, or have somebody do it who has the role admin or a key with "
    "the scope admin."
)
_MISSPELT = "A reference is written env:NAME or file:/PATH, in small letters and without blanks."


def why_not(value: str, *, held: bool = False) -> str:
    """Why whoever acts now may not have this text stored in the place of a secret; empty where they may. `held` says that it
    stands there already: it was put there by somebody who was allowed to."""
    if _LOOKS_LIKE_ONE.match(value) and not _is_well_written(value) and not held:
        return _MISSPELT
    return _why_not_followed(value, held=held)


def why_not_variable(name: str, *, held: bool = False) -> str:
    """The same of a variable by its name."""
    if is_ours(name.strip()):
        return _OURS.format("variable")
    if held or actor.current().may_read_machine() or _NAMED_LIKE_A_KEY.fullmatch(name):
        return ""
    return _NO_VARIABLE


def why_not_parameter(name: str, value: Any, stored: Any = None) -> str:
    """Of a connection parameter with whatever is inside it: a type may come to take any of it for a secret. `stored` is its value
    until now."""
    told = why_not_variable if name == BY_NAME else _why_not_followed
    before = set(_texts(stored))
    return next(filter(None, (told(text, held=(path, text) in before) for path, text in _texts(value) if text)), "")


def own_file(path: str | Path) -> bool:
    """Whether the file is one of the gateway's own secrets, by whatever name: links are followed and their files compared."""
    try:
        real = Path(path).resolve()
    except (OSError, ValueError, RuntimeError):
        return False  # nothing is read by such a name
    real = Path("/", *real.parts[1:])  # of two slashes in front, POSIX keeps both
    if any(real.is_relative_to(folder) for folder in _OF_THE_KERNEL) or _OF_THE_POD in real.parts:
        return True
    if _is_in_data(real) and not any(_gives(folder, real) for folder in settings.GATEWAY_SECRET_FOLDERS):
        return True
    return any(_is_same(real, own) for own in _own_files())


def _why_not_followed(value: str, *, held: bool) -> str:
    """As the text is followed: what only looks like a reference is none."""
    prefix, _, name = value.partition(":")
    if prefix == "env":
        return why_not_variable(name, held=held)
    if prefix != "file":
        return ""
    if own_file(name):
        return _OURS.format("file")
    return "" if held or actor.current().may_read_machine() else _NO_FILE


def _texts(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Every text of a value, with its path."""
    if isinstance(value, str):
        yield path, value
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, member in members:
        yield from _texts(member, (*path, step))


def _is_well_written(value: str) -> bool:
    return is_reference(value) and value.startswith(("env:", "file:/"))


def _gives(folder: Path, real: Path) -> bool:
    """Whether the folder was set up inside the data directory to hold the secrets of providers."""
    return real.is_relative_to(folder) and _is_in_data(folder)


def _is_in_data(path: Path) -> bool:
    """Below the data directory, which may be mounted in a second place."""
    return any(folder == settings.DATA_DIR or _is_one(folder, settings.DATA_DIR) for folder in path.parents)


def _own_files() -> Iterator[Path]:
    yield settings.ENCRYPTION_KEYS_FILE
    yield settings.CLIENT_KEY_PEPPERS_FILE
    yield settings.DATA_DIR / "django.secret"
    for database in settings.DATABASES.values():
        if str(database.get("NAME", "")).startswith("/"):
            yield from (Path(f"{database['NAME']}{end}") for end in ("", "-wal", "-journal"))
    for name, value in os.environ.items():
        if is_ours(name) or name in _TOKENS_OF_THE_POD:
            is_path = name.endswith("_FILE")  # which may be a relative one
            yield from (Path(word.strip()) for word in value.split(",") if is_path or word.strip().startswith("/"))


def _is_same(real: Path, own: Path) -> bool:
    try:
        return real == own.resolve() or (not own.is_dir() and _is_one(real, own))
    except (OSError, ValueError, RuntimeError):
        return False


def _is_one(some: Path, other: Path) -> bool:
    try:
        return some.samefile(other)
    except (OSError, ValueError):
        return False
