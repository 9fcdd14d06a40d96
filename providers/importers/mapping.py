"""What a legacy row means here: each row to a draft, or to the reason why it makes none. Pure: time and users are arguments.

Nothing is silent: a value that was repaired, guessed or lost has a finding, which names the place and never a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from typing import Any

from providers.importers import legacy_times
from providers.importers.drafts import Draft, Kind, Origin
from providers.importers.findings import (
    AUTHOR_UNKNOWN,
    CONNECTION_ADAPTED,
    DISABLED_FOR_SAFETY,
    DOUBLE_ENCRYPTED,
    EMPTY_SECRET,
    ENCRYPTED_FLAG_WRONG,
    ENVIRONMENT_MISSING,
    EXPIRED,
    JSON_BROKEN,
    JSON_REPAIRED,
    MAX_TOKENS_DISAGREE,
    MAX_TOKENS_FALLBACK,
    NAME_MISSING,
    PLACEHOLDER,
    REFERENCE_PLAIN,
    SECRET_UNUSABLE,
    SENSITIVE_GUESSED,
    TEXT_REPAIRED,
    TIME_BROKEN,
    TIME_GUESSED,
    TIME_MISSING,
    TYPE_RENAMED,
    TYPE_UNKNOWN,
    UNDECRYPTABLE,
    Code,
    Finding,
)
from providers.importers.legacy import ABSENT, LegacyKey, LegacyModel, LegacyParameter, LegacyProvider
from providers.importers.legacy_connection import ADDRESSES, RENAMED_TYPES, adapted
from providers.importers.legacy_json import Read, read_object, read_words
from providers.importers.legacy_keys import LegacyKeys
from providers.importers.legacy_texts import flag, identifier, line, prose, readable, storable, usable_id, whole_number
from providers.importers.object_secrets import (
    FoundKey,
    Taken,
    can_be_sent,
    looks_like_key,
    out_of_connection,
    out_of_settings,
    reads_like_secret,
)
from providers.importers.remarks import Remarks
from providers.placeholders import looks_like_placeholder
from providers.secrets import Secret

DEFAULT_ENVIRONMENT = "development"
"""What the legacy's own code sets; rows written by SQL hold NULL."""
DEFAULT_MODEL_TYPE = "chat"
REFERENCES = {"api_key_env_var", "api_key_secret"}
"""Parameters that say where a key is found."""
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(:[\w.\-]+)?", re.ASCII)
LONGEST_LINE, LONGEST_WORD, LONGEST_NUMBER = 255, 50, 18


@dataclass(frozen=True, slots=True)
class Ways:
    """What the rows alone do not say."""

    naive_timezone: tzinfo
    """Zone of times that name none."""
    default_environment: str
    """For keys that stand in an object and so have no environment: the gateway's own."""
    now: datetime
    """Time of the run, aware."""
    users: Mapping[int, str]
    """User name by the source's user id."""
    opener: LegacyKeys
    known_types: Collection[str]
    """Names of the registered provider types."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """A row without `draft` is rejected, and the findings say why. `keys` are keys found inside the row's objects."""

    draft: Draft | None
    findings: tuple[Finding, ...] = ()
    keys: tuple[Draft, ...] = ()


def provider(record: LegacyProvider, origin: Origin, ways: Ways) -> Mapped:
    """A provider; `keys` are the API key of its connection parameters and, disabled, secrets of its request settings."""
    remarks = Remarks(origin)
    provider_id = identifier(record.provider_id, "provider_id", remarks)
    if provider_id is None:
        return Mapped(None, tuple(remarks.found))
    provider_type = _provider_type(record.provider_type, ways, remarks)
    facts: dict[str, Any] = {
        "provider_type": provider_type,
        "display_name": _display_name(record.display_name, provider_id, remarks),
        "description": prose(record.description, "description", remarks),
        "enabled": flag(record.enabled, "enabled", remarks, default=True, safe=False),
    }
    secrets: Mapping[str, Secret] = {}
    found: list[FoundKey] = []
    if record.connection_params is not ABSENT:
        taken = _connection(record.connection_params, provider_type, ways, remarks)
        if taken is None or taken.lost & set(ADDRESSES):
            remarks.say("enabled", DISABLED_FOR_SAFETY, "disabled", "Where its prompts should go is not known.")
            facts["enabled"] = False
        facts["connection_params"] = taken.value if taken else {}
        secrets, found = (taken.secrets, taken.keys) if taken else (secrets, found)
    if record.request_settings is not ABSENT:
        settings = _object(record.request_settings, "request_settings", remarks)
        taken_settings = out_of_settings(settings, ways.opener, "request_settings", remarks)
        facts["request_settings"] = taken_settings.value
        found = found + taken_settings.keys
    updated_at = _times(record, facts, ways, remarks)
    if record.created_by_user_id is not ABSENT:
        facts["created_by"] = _author(record.created_by_user_id, ways, remarks)
    draft = Draft(Kind.PROVIDER, origin, provider_id, facts, secrets=secrets, updated_at=updated_at)
    return Mapped(draft, tuple(remarks.found), tuple(_found_key(each, draft, ways) for each in found))


def model(record: LegacyModel, origin: Origin, ways: Ways) -> Mapped:
    """A model; `keys` are the secrets found in its parameters, disabled."""
    remarks = Remarks(origin)
    model_id = identifier(record.model_id, "model_id", remarks)
    provider_id = usable_id(record.provider_id)
    if model_id is None or provider_id is None:
        if provider_id is None:
            identifier(record.provider_id, "provider_id", remarks)
        return Mapped(None, tuple(remarks.found))
    facts: dict[str, Any] = {
        "display_name": _display_name(record.display_name, model_id, remarks),
        "model_type": line(record.model_type, LONGEST_WORD, "model_type", remarks) or DEFAULT_MODEL_TYPE,
        "context_window": whole_number(record.context_window, "context_window", remarks),
        "max_tokens": _max_tokens(record, remarks),
        "enabled": flag(record.enabled, "enabled", remarks, default=True, safe=False),
    }
    found: list[FoundKey] = []
    if record.capabilities is not ABSENT:
        facts["capabilities"] = _words(record.capabilities, "capabilities", remarks)
    if record.parameters is not ABSENT:
        parameters = _object(record.parameters, "parameters", remarks)
        if parameters:
            taken = out_of_settings(parameters, ways.opener, "parameters", remarks)
            parameters, found = taken.value, taken.keys
        facts["parameters"] = parameters
    updated_at = _times(record, facts, ways, remarks)
    draft = Draft(Kind.MODEL, origin, provider_id, facts, name=model_id, updated_at=updated_at)
    if not remarks.found:
        return Mapped(draft)
    return Mapped(draft, tuple(remarks.found), tuple(_found_key(each, draft, ways) for each in found))


def key(record: LegacyKey, origin: Origin, ways: Ways) -> Mapped:
    """A key that can be read, whatever its flag says; others are rejected."""
    remarks = Remarks(origin)
    provider_id = identifier(record.provider_id, "provider_id", remarks)
    secret = _key_value(record, ways, remarks)
    if provider_id is None or secret is None:
        return Mapped(None, tuple(remarks.found))
    facts: dict[str, Any] = {"enabled": True, "expires_at": None}
    if record.expires_at is not None and record.expires_at is not ABSENT:
        facts["expires_at"] = _moment(record.expires_at, "expires_at", ways, remarks, "none was taken, and disabled")
        facts["enabled"] = facts["expires_at"] is not None
    if facts["expires_at"] and facts["expires_at"] <= ways.now:
        remarks.say("expires_at", EXPIRED, "kept", "Imported with its expiry.")
    environment = _environment(record.environment, remarks)
    updated_at = _times(record, facts, ways, remarks)
    if record.created_by_user_id is not ABSENT:
        facts["created_by"] = _author(record.created_by_user_id, ways, remarks)
    draft = Draft(
        Kind.KEY, origin, provider_id, facts, environment=environment, secrets={"secret": secret}, updated_at=updated_at
    )
    return Mapped(draft, tuple(remarks.found))


def parameter(record: LegacyParameter, origin: Origin, ways: Ways) -> Mapped:
    """A parameter of one environment, encrypted when it is flagged sensitive, or named or shaped like a secret."""
    remarks = Remarks(origin)
    provider_id = identifier(record.provider_id, "provider_id", remarks)
    name = identifier(record.param_name, "param_name", remarks)
    raw = prose(record.param_value, "param_value", remarks)
    opened = ways.opener.peel(raw)
    if opened.value is None:
        remarks.say("param_value", UNDECRYPTABLE, "rejected", "None of the legacy keys opens it.")
    if provider_id is None or name is None or opened.value is None:
        return Mapped(None, tuple(remarks.found))
    if opened.layers > 1:
        remarks.say("param_value", DOUBLE_ENCRYPTED, "repaired", f"{opened.layers} layers were opened.")
    value = Secret(storable(opened.value.reveal()))
    is_flagged = flag(record.is_sensitive, "is_sensitive", remarks, default=False, safe=True)
    is_sensitive = _is_sensitive(name, value.reveal(), is_flagged, opened.layers > 0, remarks)
    facts: dict[str, Any] = {"is_sensitive": is_sensitive}
    if not is_sensitive:
        facts["plain_value"] = value.reveal()
    environment = _environment(record.environment, remarks)
    updated_at = _times(record, facts, ways, remarks)
    draft = Draft(
        Kind.PARAMETER,
        origin,
        provider_id,
        facts,
        name=name,
        environment=environment,
        secrets={"value": value} if is_sensitive else {},
        updated_at=updated_at,
    )
    return Mapped(draft, tuple(remarks.found))


# --- Fields ---------------------------------------------------------------------------------------------------------------


def _provider_type(raw: Any, ways: Ways, remarks: Remarks) -> str:
    found = line(raw, LONGEST_LINE, "provider_type", remarks)
    if found in ways.known_types:
        return found
    if found in RENAMED_TYPES:
        remarks.say("provider_type", TYPE_RENAMED, "renamed", f"{found} is {RENAMED_TYPES[found]} here.")
        return RENAMED_TYPES[found]
    detail = "Kept as it is; the provider is not served until a type of that name is registered."
    if similar := next((known for known in ways.known_types if known.casefold() == found.casefold()), None):
        detail += f" There is {similar}."
    remarks.say("provider_type", TYPE_UNKNOWN, "kept", detail)
    return found


def _display_name(raw: Any, instead: str, remarks: Remarks) -> str:
    found = line(raw, LONGEST_LINE, "display_name", remarks)
    if not found:
        remarks.say("display_name", NAME_MISSING, "guessed", "The id was taken.")
    return found or instead


def _connection(raw: Any, provider_type: str, ways: Ways, remarks: Remarks) -> Taken | None:
    read = _read(read_object, raw, "connection_params", remarks)
    if read.is_broken:
        return None
    params, said = adapted(read.value, provider_type)
    for name, sentence in said:
        remarks.say(f"connection_params.{name}", CONNECTION_ADAPTED, "repaired", sentence)
    return out_of_connection(params, provider_type, ways.opener, "connection_params", remarks)


def _object(raw: Any, field: str, remarks: Remarks) -> dict[str, Any]:
    value: dict[str, Any] = _read(read_object, raw, field, remarks).value
    return value


def _words(raw: Any, field: str, remarks: Remarks) -> list[str]:
    value: list[str] = _read(read_words, raw, field, remarks).value
    return value


def _read(reader: Callable[[Any], Read], raw: Any, field: str, remarks: Remarks) -> Read:
    read = reader(raw)
    if read.is_broken:
        remarks.say(field, JSON_BROKEN, "dropped", "It could not be read; an empty value was taken.")
    elif read.is_repaired:
        remarks.say(field, JSON_REPAIRED, "repaired", "It was in another form than meant.")
    return read


def _max_tokens(record: LegacyModel, remarks: Remarks) -> int | None:
    asked = whole_number(record.max_tokens, "max_tokens", remarks)
    if record.max_output_tokens is None or record.max_output_tokens is ABSENT:
        return asked
    fallback = whole_number(record.max_output_tokens, "max_output_tokens", remarks)
    if asked is None and fallback is not None:
        remarks.say("max_tokens", MAX_TOKENS_FALLBACK, "repaired", "Taken from max_output_tokens.")
        return fallback
    if fallback is not None and fallback != asked:
        remarks.say("max_tokens", MAX_TOKENS_DISAGREE, "kept", f"{asked} was taken, max_output_tokens says {fallback}.")
    return asked


def _key_value(record: LegacyKey, ways: Ways, remarks: Remarks) -> Secret | None:
    raw = readable(record.key_value)
    opened = ways.opener.peel(raw)
    is_flagged = flag(record.is_encrypted, "is_encrypted", remarks, default=True, safe=True)
    if opened.value is None:
        remarks.say("key_value", UNDECRYPTABLE, "rejected", "None of the legacy keys opens it.")
        return None
    value = opened.value.reveal().strip()
    if refusal := _refusal(value):
        remarks.say("key_value", refusal[0], "rejected", refusal[1])
        return None
    if opened.layers > 1:
        remarks.say("key_value", DOUBLE_ENCRYPTED, "repaired", f"{opened.layers} layers were opened.")
    if value != opened.value.reveal():
        remarks.say("key_value", TEXT_REPAIRED, "repaired", "Blanks at the ends were taken out.")
    if record.is_encrypted is not None and is_flagged != (opened.layers > 0):
        what = "a token though flagged plain" if opened.layers else "plain though flagged encrypted"
        remarks.say("is_encrypted", ENCRYPTED_FLAG_WRONG, "repaired", f"The value is {what}.")
    return Secret(value)


def _refusal(value: str) -> tuple[Code, str] | None:
    if not value:
        return EMPTY_SECRET, "There is no value."
    if looks_like_placeholder(value):
        return PLACEHOLDER, "The value stands for a key and is none."
    if not can_be_sent(value):
        return SECRET_UNUSABLE, "It holds control or half characters."
    return None


def _is_sensitive(name: str, value: str, is_flagged: bool, was_encrypted: bool, remarks: Remarks) -> bool:
    if name in REFERENCES and VARIABLE.fullmatch(value) and not looks_like_key(value):
        if is_flagged:
            remarks.say("is_sensitive", REFERENCE_PLAIN, "repaired", "The value names where a key is found.")
        return False
    if is_flagged:
        return True
    if was_encrypted or reads_like_secret(name, value):
        remarks.say("is_sensitive", SENSITIVE_GUESSED, "guessed", "It is encrypted here.")
        return True
    return False


def _environment(raw: Any, remarks: Remarks) -> str:
    found = line(raw, LONGEST_WORD, "environment", remarks)
    if not found:
        remarks.say("environment", ENVIRONMENT_MISSING, "guessed", f"{DEFAULT_ENVIRONMENT} was taken.")
    return found or DEFAULT_ENVIRONMENT


def _author(raw: Any, ways: Ways, remarks: Remarks) -> str:
    if raw is None:
        return ""
    text = readable(raw).strip()
    if text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER and (name := ways.users.get(int(text))):
        return line(name, LONGEST_LINE, "created_by_user_id", remarks)
    remarks.say("created_by_user_id", AUTHOR_UNKNOWN, "kept", "The source has no user of that id.")
    return f"legacy user {storable(text)}"[:LONGEST_LINE] if text.isprintable() else "legacy user"


# --- Times ----------------------------------------------------------------------------------------------------------------


def _times(
    record: LegacyProvider | LegacyModel | LegacyKey | LegacyParameter,
    facts: dict[str, Any],
    ways: Ways,
    remarks: Remarks,
) -> datetime | None:
    """Set `created_at` among the facts and give the time of the last change; each stands in for the other.

    Without either, no fact is set and the registry's own clock counts, so that a second import finds nothing to change.
    """
    raw_created, raw_updated = record.created_at, record.updated_at
    created = _moment(raw_created, "created_at", ways, remarks) if _is_there(raw_created) else None
    updated = _moment(raw_updated, "updated_at", ways, remarks) if _is_there(raw_updated) else None
    if created is None and updated is None:
        if not _is_there(raw_created):
            remarks.say("created_at", TIME_MISSING, "guessed", "Neither it nor updated_at; the import's time is taken.")
        return None
    if not _is_there(raw_created):
        remarks.say("created_at", TIME_MISSING, "guessed", "Taken from updated_at.")
    elif raw_updated is None:
        remarks.say("updated_at", TIME_MISSING, "guessed", "Taken from created_at.")
    facts["created_at"] = created or updated
    return updated or created


def _is_there(raw: Any) -> bool:
    return raw is not None and raw is not ABSENT


def _moment(
    raw: Any, field: str, ways: Ways, remarks: Remarks, instead: str = "another time is taken"
) -> datetime | None:
    found = legacy_times.read(raw, ways.naive_timezone)
    if found.at is None:
        remarks.say(field, TIME_BROKEN, "dropped", f"It could not be read; {instead}.")
    elif found.is_guessed:
        remarks.say(field, TIME_GUESSED, "guessed", "The clock change makes it ambiguous or skips it.")
    return found.at


# --- Keys within rows -----------------------------------------------------------------------------------------------------


def _found_key(found: FoundKey, row: Draft, ways: Ways) -> Draft:
    origin = replace(row.origin, key=f"{row.origin.key}#{found.place}", inside=True)
    facts = {"name": found.place, "enabled": found.is_enabled, "expires_at": None}
    facts |= {name: row.facts[name] for name in ("created_at", "created_by") if name in row.facts}
    return Draft(
        Kind.KEY,
        origin,
        row.provider_id,
        facts,
        environment=ways.default_environment,
        secrets={"secret": found.secret},
        updated_at=row.updated_at,
    )
