"""Secrets that stand inside objects: which they are, what opens them, and where those of a legacy row go. Pure.

Of connection parameters the API key goes to the key store and every other secret to the provider's own encrypted storage. An
object in which the gateway keeps no secrets loses them to disabled keys. A token that does not open is dropped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from providers import connection
from providers.importers.findings import (
    DOUBLE_ENCRYPTED,
    ENVIRONMENT_GUESSED,
    JSON_REPAIRED,
    PLACEHOLDER_DROPPED,
    SECRET_DISABLED,
    SECRET_MOVED,
    SECRET_UNUSABLE,
    UNDECRYPTABLE,
)
from providers.importers.legacy_json import read_object
from providers.importers.legacy_keys import LegacyKeys, looks_encrypted
from providers.importers.remarks import LONGEST_FIELD, Remarks
from providers.placeholders import looks_like_placeholder
from providers.secrets import Secret

_API_KEYS = {"apikey", "key"}
_BETWEEN_WORDS = re.compile(r"[\s_.\-]+")
_KEY_SHAPES = re.compile(
    r"(Bearer|Basic)\s+\S{8,}"
    r"|(sk|pk|rk)-[A-Za-z0-9_\-]{16,}|gsk_[A-Za-z0-9]{16,}|hf_[A-Za-z0-9]{16,}|xai-[A-Za-z0-9]{16,}|nvapi-\S{16,}"
    r"|gh[opsur]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|xox[abposr]-\S{8,}|AKIA[0-9A-Z]{16}|AIza[\w\-]{30,}"
    r"|eyJ[\w\-]{8,}\.eyJ[\w\-]{8,}\.[\w\-]*|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*"
)
"""How vendors' keys begin, so that one is found under whatever name."""
_SPECIAL_TOKEN = re.compile(
    r"(^|_)(bos|eos|eot|eom|pad|unk|sep|cls|mask|stop|start|end|begin|fim|prefix|suffix|middle|image|audio|special|think"
    r"|decoder_start|per|first)_token$",
    re.IGNORECASE,
)
"""Names of a tokenizer's tokens, which are no secrets."""

_Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A key in an object; `place` is its path, beginning with the field."""

    place: str
    secret: Secret
    is_enabled: bool


@dataclass(slots=True)
class Taken:
    """`value` is the object without its secrets; `secrets` are by JSON path, `lost` the members at the top that had to go."""

    value: dict[str, Any]
    secrets: dict[str, Secret] = field(default_factory=dict)
    keys: list[FoundKey] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)


def looks_like_key(text: str) -> bool:
    """Shaped like a secret, whatever its name."""
    return bool(_KEY_SHAPES.fullmatch(text.strip())) or looks_encrypted(text)


def reads_like_secret(name: str, text: str, provider_type: str | None = "") -> bool:
    """Named like a secret, shaped like one, or JSON that holds one.

    `provider_type` is None for an object in which the gateway keeps no secrets, where a tokenizer's tokens are none.
    """
    if not text:
        return False
    return _is_sensitive(name, provider_type) or _is_secret(text) or _holds_secret(text, provider_type)


def read_like_secrets(value: Any, provider_type: str | None = "") -> dict[str, str]:
    """The texts in an object that read like secrets, by their JSON path."""
    found: dict[str, str] = {}
    waiting: list[tuple[_Path, Any]] = [((), value)]
    while waiting:
        path, member = waiting.pop()
        if isinstance(member, Mapping):
            waiting.extend(((*path, name), inner) for name, inner in member.items())
        elif isinstance(member, list):
            waiting.extend(((*path, index), inner) for index, inner in enumerate(member))
        elif isinstance(member, str):
            name = path[-1] if path else ""
            if reads_like_secret(name if isinstance(name, str) else "", member, provider_type):
                found[json.dumps(path)] = member
    return found


def take_out(value: Any, provider_type: str | None = "") -> dict[str, str]:
    """Take them out of the object, which is changed; in a list an empty text keeps the place."""
    found = read_like_secrets(value, provider_type)
    for path in found:
        *parents, name = json.loads(path)
        holder = value
        for step in parents:
            holder = holder[step]
        if isinstance(holder, list):
            holder[name] = ""
        else:
            del holder[name]
    return found


def _holds_secret(text: str, provider_type: str | None) -> bool:
    return text.lstrip().startswith("{") and bool(read_like_secrets(read_object(text).value, provider_type))


def can_be_sent(key: str) -> bool:
    """Whether an HTTP header can carry it."""
    return key.isprintable() or not any(
        character < " " or character == "\x7f" or _is_odd(character) for character in key
    )


def _is_odd(character: str) -> bool:
    return "\x80" <= character <= "\x9f" or "\ud800" <= character <= "\udfff" or character in "\u2028\u2029"


def out_of_connection(
    params: dict[str, Any], provider_type: str, opener: LegacyKeys, place: str, remarks: Remarks
) -> Taken:
    """Take the secrets out of connection parameters, the API key apart from the others."""
    rest = dict(params)
    api_keys = {name: rest.pop(name) for name in params if _is_api_key(name, params[name])}
    walk = _Walk(provider_type, place, remarks)
    taken = Taken(walk.object(rest))
    for path, text in walk.found:
        secret = _opened(text, opener, _shown(place, path), remarks)
        if secret is None:
            taken.lost.add(str(path[0]))
        elif isinstance(path[-1], int):
            _disable(taken, _shown(place, path), secret, remarks)
        else:
            taken.secrets[json.dumps(path)] = secret
            remarks.say(_shown(place, path), SECRET_MOVED, "moved", "It is kept encrypted with the provider.")
    for name, value in api_keys.items():
        _take_api_key(taken, (name,), value, opener, place, remarks)
    return taken


def out_of_settings(value: dict[str, Any], opener: LegacyKeys, place: str, remarks: Remarks) -> Taken:
    """Take the secrets out of an object in which none are kept; they become disabled keys."""
    if not value:
        return Taken(value)
    walk = _Walk(None, place, remarks)
    taken = Taken(walk.object(value))
    for path, text in walk.found:
        secret = _usable_key(text, opener, _shown(place, path), remarks)
        if secret is not None:
            _disable(taken, _shown(place, path), secret, remarks)
    return taken


def _take_api_key(taken: Taken, path: _Path, value: Any, opener: LegacyKeys, place: str, remarks: Remarks) -> None:
    shown = _shown(place, path)
    if isinstance(value, dict | list):
        for inner, text in _leaves(value, path):
            secret = _usable_key(text, opener, _shown(place, inner), remarks)
            if secret is not None:
                _disable(taken, _shown(place, inner), secret, remarks)
        return
    secret = _usable_key("" if value is None else str(value), opener, shown, remarks)
    if secret is not None:
        taken.keys.append(FoundKey(shown, secret, is_enabled=True))
        remarks.say(shown, SECRET_MOVED, "moved", "It is a key of the provider now.")
        remarks.say(shown, ENVIRONMENT_GUESSED, "guessed", "The key is of the gateway's own environment.")


def _disable(taken: Taken, shown: str, secret: Secret, remarks: Remarks) -> None:
    taken.keys.append(FoundKey(shown, secret, is_enabled=False))
    remarks.say(shown, SECRET_DISABLED, "moved", "It is a disabled key of the provider, named for its place.")


def _usable_key(text: str, opener: LegacyKeys, shown: str, remarks: Remarks) -> Secret | None:
    secret = _opened(text, opener, shown, remarks)
    if secret is None:
        return None
    key = secret.reveal().strip()
    if not key or looks_like_placeholder(key):
        remarks.say(shown, PLACEHOLDER_DROPPED, "dropped", "It is empty or stands for a key.")
        return None
    if not can_be_sent(key):
        remarks.say(shown, SECRET_UNUSABLE, "dropped", "It holds control or half characters.")
        return None
    return Secret(key)


def _opened(text: str, opener: LegacyKeys, shown: str, remarks: Remarks) -> Secret | None:
    opened = opener.peel(text)
    if opened.value is None:
        remarks.say(shown, UNDECRYPTABLE, "dropped", "None of the legacy keys opens it.")
    elif opened.layers > 1:
        remarks.say(shown, DOUBLE_ENCRYPTED, "repaired", f"{opened.layers} layers were opened.")
    return opened.value


def _is_api_key(name: str, value: Any) -> bool:
    return _BETWEEN_WORDS.sub("", name).casefold() in _API_KEYS and not isinstance(value, bool | float)


def _leaves(value: Any, path: _Path) -> Iterator[tuple[_Path, str]]:
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if isinstance(value, str):
        yield path, value
    for step, member in members:
        yield from _leaves(member, (*path, step))


def _shown(place: str, path: _Path) -> str:
    """The path for people; a member's name that is itself shaped like a key is left out."""
    steps = ("…" if isinstance(step, str) and looks_like_key(step) else str(step) for step in path)
    return ".".join((place, *steps))[:LONGEST_FIELD]


@lru_cache(4096)
def _is_sensitive(name: str, provider_type: str | None) -> bool:
    """`provider_type` is None where the gateway keeps no secrets, and where a tokenizer's tokens may stand."""
    if provider_type is None and _SPECIAL_TOKEN.search(name):
        return False
    return connection.is_sensitive_name(name, provider_type or "")


class _Walk:
    """Goes through an object once; `found` are the secrets that it left out, by path."""

    def __init__(self, provider_type: str | None, place: str, remarks: Remarks) -> None:
        self._provider_type, self._place, self._remarks = provider_type, place, remarks
        self.found: list[tuple[_Path, str]] = []

    def object(self, value: dict[str, Any], path: _Path = (), is_secret: bool = False) -> dict[str, Any]:
        kept = {}
        for name, member in value.items():
            kind = type(member)
            if kind is int or kind is float or kind is bool:
                kept[name] = member
                continue
            here = (*path, name)
            is_named = is_secret or _is_sensitive(name, self._provider_type)
            if kind is dict:
                kept[name] = self.object(member, here, is_named)
            elif kind is list:
                kept[name] = self._list(member, here, is_named)
            elif is_named and (member is None or not member.strip()):
                self._remarks.say(_shown(self._place, here), PLACEHOLDER_DROPPED, "dropped", "It is empty.")
            elif member is not None and (is_named or _is_secret(member)):
                self.found.append((here, member))
            else:
                kept[name] = self._unfolded(member, here)
        return kept

    def _list(self, value: list[Any], path: _Path, is_secret: bool) -> list[Any]:
        kept: list[Any] = []
        for index, member in enumerate(value):
            here = (*path, index)
            if isinstance(member, dict):
                kept.append(self.object(member, here, is_secret))
            elif isinstance(member, list):
                kept.append(self._list(member, here, is_secret))
            elif isinstance(member, str) and member.strip() and (is_secret or _is_secret(member)):
                self.found.append((here, member))
                kept.append("")  # later members keep their places
            else:
                kept.append(member)
        return kept

    def _unfolded(self, member: Any, path: _Path) -> Any:
        """A text that is JSON with secrets in it, as the object that it is."""
        if not isinstance(member, str) or not member.lstrip().startswith("{"):
            return member
        inner = read_object(member)
        before = len(self.found)
        kept = self.object(inner.value, path)
        if len(self.found) == before:
            return member
        self._remarks.say(
            _shown(self._place, path), JSON_REPAIRED, "repaired", "A text that held an object with secrets."
        )
        return kept


def _is_secret(text: str) -> bool:
    return ("://" in text and connection.is_secret("", text)) or looks_like_key(text)
