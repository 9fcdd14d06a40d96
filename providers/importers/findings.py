"""What an import has to say about single values: a closed list of reason codes, each with its meaning.

A finding names the row and the field, never a secret. Those of level `PERSON` want somebody to look, and make the command
end with status 2.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Outcome(enum.StrEnum):
    """What became of a source row."""

    IMPORTED = "imported"
    MERGED = "merged"
    REJECTED = "rejected"
    LEFT_OUT = "left_out"
    """Not asked for, by `--only` or `--environment`."""


class Level(enum.StrEnum):
    NOTE = "note"
    PERSON = "person"


@dataclass(frozen=True, slots=True)
class Code:
    name: str
    level: Level
    meaning: str


@dataclass(frozen=True, slots=True)
class Finding:
    """`did` is what was done about it (`rejected`, `merged`, `repaired`, `guessed`, `kept`, `updated`, …), `detail` a sentence."""

    table: str
    key: str
    field: str
    code: Code
    did: str
    detail: str
    changes: dict[str, list] | None = None
    """Field to [before, after], of updates and conflicts; secrets as fingerprints."""


CODES: dict[str, Code] = {}


def _code(name: str, level: Level, meaning: str) -> Code:
    CODES[name] = Code(name, level, meaning)
    return CODES[name]


_NOTE, _PERSON = Level.NOTE, Level.PERSON

# Keys
ENCRYPTED_FLAG_WRONG = _code(
    "encrypted_flag_wrong", _NOTE, "The value is plain though flagged encrypted, or a token though flagged plain."
)
DOUBLE_ENCRYPTED = _code("double_encrypted", _NOTE, "The key was encrypted more than once; every layer was opened.")
UNDECRYPTABLE = _code("undecryptable", _PERSON, "A Fernet token that none of the given legacy keys opens.")
EMPTY_SECRET = _code("empty_secret", _PERSON, "A key row without a value.")
PLACEHOLDER = _code("placeholder", _PERSON, "A text such as `your-api-key` where a key row should hold a key.")
PLACEHOLDER_DROPPED = _code(
    "placeholder_dropped", _NOTE, "An empty or placeholder secret inside an object was dropped."
)
EXPIRED = _code("expired", _NOTE, "The key is past its expiry: imported, never chosen.")
SECRET_MOVED = _code("secret_moved", _NOTE, "A secret inside an object was moved to encrypted storage.")
SECRET_DISABLED = _code(
    "secret_disabled", _PERSON, "A secret in a place where the gateway keeps none was stored as a disabled key."
)
SENSITIVE_GUESSED = _code(
    "sensitive_guessed", _NOTE, "A parameter that looks like a secret but was not flagged: encrypted."
)
ENVIRONMENT_GUESSED = _code(
    "environment_guessed", _NOTE, "The source does not say for which environment; the gateway's own was taken."
)
SECRET_UNUSABLE = _code(
    "secret_unusable", _PERSON, "The key holds control or half characters, which no HTTP header can carry."
)
REFERENCE_PLAIN = _code(
    "reference_plain", _NOTE, "Flagged sensitive, but it only names a variable and is read in the clear."
)
REFERENCE_REFUSED = _code(
    "reference_refused",
    _PERSON,
    "An env: or file: reference to the gateway's own secrets, or to what whoever imports may not refer to: left out.",
)

# Values
NULL_FLAG = _code("null_flag", _NOTE, "A flag without a value was read as its default.")
FLAG_BROKEN = _code("flag_broken", _PERSON, "A flag that says neither yes nor no; the safer of the two was taken.")
ENVIRONMENT_MISSING = _code(
    "environment_missing", _NOTE, "The row names no environment; `development` was taken, the legacy's default."
)
CONNECTION_ADAPTED = _code(
    "connection_adapted", _NOTE, "Connection parameters were given the names and forms that the gateway reads."
)
JSON_REPAIRED = _code(
    "json_repaired", _NOTE, "JSON in another shape than meant, such as encoded twice or a comma list, was understood."
)
JSON_BROKEN = _code("json_broken", _PERSON, "The text is not JSON of the needed kind; an empty value was taken.")
DISABLED_FOR_SAFETY = _code(
    "disabled_for_safety",
    _PERSON,
    "The provider's address was lost with its broken parameters, so it is imported disabled.",
)
MAX_TOKENS_FALLBACK = _code("max_tokens_fallback", _NOTE, "max_tokens was taken from max_output_tokens.")
MAX_TOKENS_DISAGREE = _code(
    "max_tokens_disagree", _PERSON, "max_tokens and max_output_tokens differ; max_tokens was taken."
)
NUMBER_REPAIRED = _code("number_repaired", _NOTE, "A number stored as text or with a fraction was understood.")
NUMBER_BROKEN = _code("number_broken", _PERSON, "Not a usable number; none was taken.")
TIME_MISSING = _code(
    "time_missing",
    _NOTE,
    "No creation time, or none of the last change; the other one or that of the import was taken.",
)
TIME_GUESSED = _code("time_guessed", _NOTE, "A local time that the clock change makes ambiguous or skips.")
TIME_BROKEN = _code("time_broken", _PERSON, "Not a time that can be read.")
TEXT_REPAIRED = _code(
    "text_repaired", _NOTE, "Blanks at the ends, control characters or half characters were taken out."
)
TEXT_CUT = _code("text_cut", _PERSON, "The text was longer than the field and was cut.")
NAME_MISSING = _code("name_missing", _NOTE, "No display name; the id was taken.")
AUTHOR_UNKNOWN = _code("author_unknown", _NOTE, "The author's id names no user; it was kept as a number.")
TYPE_UNKNOWN = _code(
    "type_unknown", _PERSON, "No registered provider type has that name: imported, not served until it has one."
)
TYPE_RENAMED = _code("type_renamed", _NOTE, "The provider type has another name here.")

# Rows
ID_UNUSABLE = _code("id_unusable", _PERSON, "The id is empty, too long or not printable.")
ORPHAN = _code("orphan", _PERSON, "The row belongs to a provider that the source does not have.")
PARENT_REJECTED = _code("parent_rejected", _PERSON, "The row belongs to a provider that was rejected.")
PARENT_MATCHED = _code(
    "parent_matched", _NOTE, "The provider's id differs in case or blanks; the database takes them as equal."
)
DUPLICATE = _code("duplicate", _NOTE, "The row says the same as another one; they became one.")
DUPLICATE_DIFFERS = _code(
    "duplicate_differs", _PERSON, "Another row of the same name won by the rule; this value was not imported."
)
DIFFERS_FROM_REGISTRY = _code(
    "differs_from_registry", _PERSON, "The older table family says something else than the newer one, which won."
)
ONLY_IN_OLDER = _code("only_in_older", _NOTE, "Only the older table family has the row: imported.")
NO_PLACE = _code("no_place", _NOTE, "The gateway has no place for these rows; they stay in the source.")
SIDE_ORPHAN = _code("side_orphan", _NOTE, "A row of a side table that names something which the source does not have.")

# Configuration files
TYPE_GUESSED = _code(
    "type_guessed", _NOTE, "The file names no provider type; it was guessed from the id or the address."
)
UNKNOWN_NAME = _code("unknown_name", _PERSON, "A name that the form does not have; its value was not imported.")
UNUSUAL_NAME = _code(
    "unusual_name", _NOTE, "Taken as a connection parameter, though it reads like a misspelt field of the provider."
)
ENABLED_BY_LIST = _code("enabled_by_list", _NOTE, "allowed_providers decided whether the provider is enabled.")
REFERENCE_TAKEN = _code("reference_taken", _NOTE, "A ${NAME} in a secret's place became a reference to that variable.")
NOT_EXPANDED = _code("not_expanded", _PERSON, "A ${NAME} outside a secret's place: nothing expands it here.")

OWNED = _code("owned", _PERSON, "A configuration file owns it, and only that file may change it.")
ENTRY_REFUSED = _code(
    "entry_refused", _PERSON, "An entry of the file with a mistake: left out, and everything else was taken."
)
VARIABLE_MISSING = _code(
    "variable_missing", _PERSON, "The file names an environment variable that is not set: the entry was left out."
)
ALWAYS_SO = _code("always_so", _NOTE, "A setting that says what the gateway does in any case.")
IGNORED_VARIABLE = _code(
    "ignored_variable", _NOTE, "An environment variable of the old configuration, which a file has replaced."
)

# What the engine decides
CREATED = _code("created", _NOTE, "A provider that the registry did not have, with its parts.")
UPDATED = _code("updated", _NOTE, "The source changed since the last import; the registry follows.")
EDITED_HERE = _code(
    "edited_here", _NOTE, "The registry was edited since the import and the source was not: the edit stays."
)
CONFLICT = _code(
    "conflict",
    _PERSON,
    "The registry and the source say different things and both may be right: the registry's value stays.",
)
GONE = _code("gone", _NOTE, "Imported before, no longer in the source: kept here.")
FAILED = _code("failed", _PERSON, "The database refused the provider; nothing of it was written.")
MISSING_HERE = _code("missing_here", _PERSON, "The source has the row and the registry does not.")
DIFFERS_HERE = _code("differs_here", _PERSON, "The registry holds another value than the source.")
EDITED_SINCE = _code("edited_since", _PERSON, "Edited since the run that is undone: kept.")
STILL_IN_USE = _code("still_in_use", _PERSON, "Other rows were added to it since: kept.")
