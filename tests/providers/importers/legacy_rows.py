"""The rows of a legacy database, clean ones and every known kind of mess, each with what has to become of it.

What a row becomes is stated beside the row, by somebody who read about the legacy system and not the importer.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cryptography.fernet import Fernet

from providers.importers.legacy import model_key
from tests.providers.importers.legacy_tables import OLDER, Family

KEY_ONE = base64.urlsafe_b64encode(b"legacy key number one, 32 bytes!").decode()
PASSPHRASE = "a passphrase of 27 letters!"
LONG_PASSPHRASE = "a passphrase that is a good deal longer than thirty-two bytes"
LEGACY_KEYS = (KEY_ONE, PASSPHRASE, LONG_PASSPHRASE)
_LOST = base64.urlsafe_b64encode(b"the key of a process that ended.").decode()

MOMENT = "2023-05-06 07:08:09"
"""When every row was made, unless it says otherwise; UTC, as the legacy programs ran."""
LATER = "2023-06-07 08:09:10"
AT = datetime(2023, 5, 6, 7, 8, 9, tzinfo=UTC)
APART = "apart"
"""The outcome of a row whose fate is stated together with another row's."""
AUTHOR, AUTHOR_NAME = 7, "ada"
STRANGER = 4711


def sealed(text: str, with_key: str = KEY_ONE) -> str:
    """A Fernet token as the legacy gateway makes it, of a key or of a passphrase by its padding rule."""
    material = with_key if len(with_key) == 44 else base64.urlsafe_b64encode(with_key.encode()[:32].ljust(32, b"\0"))
    return Fernet(material).encrypt(text.encode()).decode()


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of one row, or of several of which one wins."""

    table: str
    keys: tuple[str, ...]
    outcomes: Mapping[str, int] | None
    """How many are imported, merged, rejected; None where the documents leave it open."""
    codes: frozenset[str]
    """Reason codes that the report gives for one of the keys at least."""


@dataclass(slots=True)
class Expected:
    """What the registry holds after the import, field by field, as far as the fixture states it."""

    fates: list[Fate] = field(default_factory=list)
    rows: Counter[str] = field(default_factory=Counter)
    """Source rows by table, the side tables included."""
    side_tables: set[str] = field(default_factory=set)
    providers: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By provider id: fields of the Django model; `params` is connection_params with its secrets in their places."""
    models: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    keys: dict[tuple[str, str | None, str], dict[str, Any]] = field(default_factory=dict)
    """By provider, environment (None: the source does not say) and the key in the clear."""
    parameters: dict[tuple[str, str, str], tuple[set[str], bool | None]] = field(default_factory=dict)
    """By provider, name and environment: the values of which one is right, and whether it is kept encrypted."""
    secrets: set[str] = field(default_factory=set)
    """Texts that may stand nowhere in the clear."""
    unusable: set[str] = field(default_factory=set)
    """Texts that may be no key of the registry: lost tokens, placeholders."""

    def outcomes_of(self, table: str) -> tuple[Counter[str], int]:
        """How many rows of a table are imported, merged, rejected, and of how many that is open."""
        stated: Counter[str] = Counter()
        fates = [fate for fate in self.fates if fate.table == table]
        for fate in fates:
            stated.update(fate.outcomes or {})
        return stated, sum(fate.outcomes is None for fate in fates)


class Rows:
    """Collects rows of one family and what is expected of them."""

    def __init__(self, family: Family, engine: str, expected: Expected) -> None:
        self.family, self.engine, self.expected = family, engine, expected
        self.inserts: list[tuple[str, dict[str, Any]]] = []
        self._next_id = 0

    def add(self, table: str, values: Mapping[str, Any]) -> None:
        self.expected.rows[table] += 1
        self.inserts.append((table, dict(values)))

    def side(self, table: str, *rows: Mapping[str, Any]) -> None:
        self.expected.side_tables.add(table)
        self.expected.rows[table] += 0
        for row in rows:
            self.add(table, row)

    def next_id(self) -> int:
        self._next_id += 1
        return self._next_id

    def fate(self, table: str, keys: Iterable[str], outcome: str | Mapping[str, int] | None, codes: str = "") -> None:
        outcomes = {outcome: 1} if isinstance(outcome, str) else outcome
        self.expected.fates.append(Fate(table, tuple(keys), outcomes, frozenset(codes.split())))

    def _known(self, table: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """What this generation has columns for."""
        return {name: value for name, value in values.items() if self.family.has(table, name)}

    def has(self, role: str, column: str) -> bool:
        """`role` is providers, models, keys or parameters."""
        return self.family.has(getattr(self.family, role), column)

    def provider(
        self,
        provider_id: str,
        *,
        becomes: Mapping[str, Any] | None = None,
        outcome: str | None = "imported",
        codes: str = "",
        as_id: str | None = None,
        key: str | None = None,
        **columns: Any,
    ) -> None:
        table = self.family.providers
        values = {
            "provider_id": provider_id,
            "provider_type": "openai_compatible",
            "display_name": f"{provider_id.strip()} for short"[:100],
            "description": f"What {provider_id.strip()} is",
            "enabled": True,
            "connection_params": json.dumps({"base_url": "https://legacy.example/v1", "timeout_seconds": 30}),
            "request_settings": json.dumps({"retries": 2}),
            "created_at": MOMENT,
            "updated_at": LATER,
            "created_by_user_id": None,
        } | columns
        self.add(table, self._known(table, values))
        self.fate(table, [provider_id if key is None else key], outcome, codes)
        if outcome != "imported":
            return
        facts = {
            "provider_type": values["provider_type"],
            "display_name": values["display_name"],
            "description": values["description"],
            "enabled": values["enabled"],
            "created_at": AT,
        }
        if self.has("providers", "connection_params"):
            facts |= {
                "params": {"base_url": "https://legacy.example/v1", "timeout_seconds": 30},
                "request_settings": {"retries": 2},
            }
        self.expected.providers[as_id or provider_id] = facts | dict(becomes or {})

    def model(
        self,
        provider_id: str,
        model_id: str,
        *,
        becomes: Mapping[str, Any] | None = None,
        outcome: str | None = "imported",
        codes: str = "",
        as_id: str | None = None,
        of: str | None = None,
        **columns: Any,
    ) -> None:
        table = self.family.models
        values = {
            "model_id": model_id,
            "provider_id": provider_id,
            "display_name": f"{model_id.strip()} by name"[:100],
            "model_type": "chat",
            "context_window": 128000,
            "max_tokens": 4096,
            "max_output_tokens": None,
            "enabled": True,
            "capabilities": '["chat", "tools"]',
            "parameters": '{"temperature": 0.5}',
            "created_at": MOMENT,
            "updated_at": LATER,
        } | columns
        self.add(table, self._known(table, values))
        spellings = dict.fromkeys([model_key(provider_id, model_id), model_key(of or provider_id, model_id)])
        self.expected.fates.append(
            Fate(table, tuple(spellings), {outcome: 1} if outcome else None, frozenset(codes.split()))
        )
        if outcome != "imported":
            return
        facts = {
            name: values[name] for name in ("display_name", "model_type", "context_window", "max_tokens", "enabled")
        }
        facts["created_at"] = AT
        if self.has("models", "capabilities"):
            facts |= {"capabilities": ["chat", "tools"], "parameters": {"temperature": 0.5}}
        self.expected.models[of or provider_id, as_id or model_id] = facts | dict(becomes or {})

    def key(
        self,
        provider_id: str,
        value: str,
        *,
        is_now: str | None = None,
        outcome: str | None = "imported",
        codes: str = "",
        of: str | None = None,
        becomes: Mapping[str, Any] | None = None,
        **columns: Any,
    ) -> str:
        """A row of a key; `is_now` is the key in the clear that the registry has after it."""
        table, key_id = self.family.keys, self.next_id()
        values = {
            "key_id": key_id,
            "provider_id": provider_id,
            "key_value": value,
            "is_encrypted": True,
            "environment": "development",
            "expires_at": None,
            "created_at": MOMENT,
            "updated_at": LATER,
            "created_by_user_id": None,
        } | columns
        self.add(table, self._known(table, values))
        if outcome != APART:
            self.fate(table, [str(key_id)], outcome, codes)
        if is_now is not None:
            self.expected.secrets.add(is_now)
            if outcome == "imported":
                facts = {"enabled": True, "created_at": AT} | dict(becomes or {})
                self.expected.keys[of or provider_id, values["environment"], is_now] = facts
        if outcome == "rejected" and value.strip():
            self.expected.unusable.add(value.strip())
        return str(key_id)

    def parameter(
        self,
        provider_id: str,
        name: str,
        value: str | None,
        *,
        outcome: str | None = "imported",
        codes: str = "",
        sensitive: bool | None = False,
        of: str | None = None,
        as_name: str | None = None,
        **columns: Any,
    ) -> str:
        """A row of a parameter; `sensitive` says whether the registry has to keep it encrypted."""
        table, param_id = self.family.parameters, self.next_id()
        values = {
            "param_id": param_id,
            "provider_id": provider_id,
            "param_name": name,
            "param_value": value,
            "is_sensitive": False,
            "environment": "development",
            "created_at": MOMENT,
            "updated_at": LATER,
        } | columns
        self.add(table, self._known(table, values))
        if outcome != APART:
            self.fate(table, [str(param_id)], outcome, codes)
        if outcome == "imported" and value is not None:
            where = (of or provider_id, as_name or name, values["environment"])
            self.expected.parameters[where] = ({value}, sensitive)
            if sensitive:
                self.expected.secrets.add(value)
        return str(param_id)


def clean_rows(rows: Rows) -> None:
    """What a well-kept installation holds."""
    rows.provider("openai-main", display_name="OpenAI", description="The first one")
    rows.provider("azure/prod:eu", enabled=False, description=None, becomes={"description": ""})
    older = rows.family is OLDER
    rows.model("openai-main", "gpt-4o")
    rows.model("openai-main", "text-embedding-3", model_type="embedding", context_window=8191, max_tokens=None)
    rows.model("azure/prod:eu", "azure-gpt-4o" if older else "gpt-4o", max_tokens=2048, enabled=False)
    rows.key("openai-main", sealed("sk-clean-openai-main"), is_now="sk-clean-openai-main")
    rows.key("openai-main", sealed("sk-clean-staging"), is_now="sk-clean-staging", environment="staging")
    rows.key(
        "azure/prod:eu",
        sealed("sk-clean-azure", PASSPHRASE),
        is_now="sk-clean-azure",
        environment="production",
        expires_at="2037-01-02 03:04:05",
        becomes={"expires_at": datetime(2037, 1, 2, 3, 4, 5, tzinfo=UTC)},
    )
    for environment in ("development", "staging", "production"):
        rows.parameter("openai-main", "region", f"region of {environment}", environment=environment)


def messy_rows(rows: Rows) -> None:
    """Everything that such databases are known to hold, and what it has to become."""
    _messy_providers(rows)
    _messy_keys(rows)
    _messy_parameters(rows)
    _messy_models(rows)
    _orphans(rows)
    if rows.engine == "mysql":
        _let_in_by_mariadb(rows)
    if rows.engine == "sqlite":
        _let_in_by_sqlite(rows)
    if rows.has("providers", "connection_params"):
        _messy_params(rows)


def _messy_providers(rows: Rows) -> None:
    rows.provider("null-flag", enabled=None, becomes={"enabled": True}, codes="null_flag")
    rows.provider("of-unknown-type", provider_type="biomedlm", codes="type_unknown")
    rows.provider("nameless", display_name="", becomes={"display_name": "nameless"}, codes="name_missing")
    rows.provider("timeless", created_at=None, updated_at=None, becomes={"created_at": ...}, codes="time_missing")
    rows.provider("π/模型:😀")
    rows.provider(
        "  blank-id",
        as_id="blank-id",
        becomes={"display_name": "blank-id for short", "description": "What blank-id is"},
        codes="text_repaired",
    )
    rows.model("  blank-id", "of-blank", of="blank-id")
    rows.provider("", outcome="rejected", codes="id_unusable", display_name="No id")
    if rows.engine != "postgresql":
        rows.provider("nul-inside", description="a\0b", becomes={"description": "ab"}, codes="text_repaired")
    if rows.has("providers", "created_by_user_id"):
        rows.provider("of-a-stranger", created_by_user_id=STRANGER, codes="author_unknown")
    rows.provider("clock-change", created_at="2024-10-27 02:30:00", becomes={"created_at": _utc(2024, 10, 27, 2, 30)})
    rows.provider("clock-skip", created_at="2024-03-31 02:30:00", becomes={"created_at": _utc(2024, 3, 31, 2, 30)})


def _messy_keys(rows: Rows) -> None:
    rows.provider("vault")
    place = "vault"
    rows.key(place, sealed("sk-under-key-one"), is_now="sk-under-key-one")
    rows.key(place, sealed("sk-under-passphrase", PASSPHRASE), is_now="sk-under-passphrase", environment="staging")
    rows.key(place, sealed("sk-under-long", LONG_PASSPHRASE), is_now="sk-under-long", environment="production")
    rows.key(place, sealed("sk-lost", _LOST), outcome="rejected", codes="undecryptable")
    rows.key(place, "gAAAAABcut-off", outcome="rejected", codes="undecryptable")
    rows.key(place, "sk-plain-though-flagged", is_now="sk-plain-though-flagged", codes="encrypted_flag_wrong")
    rows.key(place, "sk-plain-and-flagged-so", is_now="sk-plain-and-flagged-so", is_encrypted=False)
    rows.key(
        place,
        sealed("sk-token-flagged-plain"),
        is_now="sk-token-flagged-plain",
        is_encrypted=False,
        codes="encrypted_flag_wrong",
    )
    rows.key(place, sealed(sealed("sk-twice")), is_now="sk-twice", codes="double_encrypted")
    crossed = sealed(sealed("sk-twice-crossed"), PASSPHRASE)
    rows.key(place, crossed, is_now="sk-twice-crossed", codes="double_encrypted")
    rows.key(place, sealed(sealed("sk-inner-lost", _LOST)), outcome="rejected", codes="undecryptable")
    rows.key(place, "", outcome="rejected", codes="empty_secret")
    rows.key(place, "   ", outcome="rejected", codes="empty_secret")
    rows.key(place, sealed(""), outcome="rejected", codes="empty_secret")
    rows.key(place, "your-api-key", outcome="rejected", codes="placeholder")
    rows.key(place, sealed("your-api-key"), outcome="rejected", codes="placeholder")
    rows.expected.unusable.add("your-api-key")
    rows.key(place, "sk-three-times", is_now="sk-three-times", is_encrypted=False)
    rows.key(place, "sk-three-times", outcome="merged", is_encrypted=False, codes="duplicate")
    rows.key(place, "sk-three-times", outcome="merged", is_encrypted=False, codes="duplicate")
    rows.key(place, "sk-three-times", is_now="sk-three-times", is_encrypted=False, environment="production")
    first = rows.key(place, sealed("sk-two-tokens"), outcome=APART, is_now="sk-two-tokens")
    second = rows.key(place, sealed("sk-two-tokens"), outcome=APART)
    rows.fate(rows.family.keys, [first, second], {"imported": 1, "merged": 1}, "duplicate")
    rows.expected.keys[place, "development", "sk-two-tokens"] = {"enabled": True}
    rows.key(
        place,
        sealed("sk-expired"),
        is_now="sk-expired",
        expires_at="2024-02-03 04:05:06",
        becomes={"expires_at": _utc(2024, 2, 3, 4, 5, 6)},
        codes="expired",
    )
    rows.key(place, " sk-blanks-around\n", is_now="sk-blanks-around", is_encrypted=False, codes="text_repaired")
    rows.key(place, f" {sealed('sk-token-in-blanks')} ", is_now="sk-token-in-blanks")
    rows.key(place, "sk-flag-null", is_now="sk-flag-null", is_encrypted=None)
    nowhere = rows.key(place, sealed("sk-no-environment"), outcome=APART, environment=None)
    rows.fate(rows.family.keys, [nowhere], "imported")
    rows.expected.secrets.add("sk-no-environment")
    rows.expected.keys[place, None, "sk-no-environment"] = {"enabled": True}
    long_one = json.dumps({"type": "service_account", "private": "ключ" * 9})
    rows.key(place, sealed(long_one), is_now=long_one)
    known = {"created_by": AUTHOR_NAME} if "users" in rows.expected.side_tables else {}
    rows.key(
        place,
        sealed("sk-by-ada"),
        is_now="sk-by-ada",
        created_by_user_id=AUTHOR,
        becomes=known,
        codes="" if known else "author_unknown",
    )
    rows.key(
        place,
        sealed("sk-by-a-stranger"),
        is_now="sk-by-a-stranger",
        created_by_user_id=STRANGER,
        codes="author_unknown",
    )


def _messy_parameters(rows: Rows) -> None:
    rows.provider("dials")
    place = "dials"
    for environment in ("development", "staging", "production"):
        address = f"https://{environment}.example/v1"
        rows.parameter(place, "base_url", address, environment=environment)
    rows.parameter(place, "client_secret", "cs-in-the-clear", is_sensitive=True, sensitive=True)
    rows.parameter(place, "signing_token", "st-not-flagged", sensitive=True, codes="sensitive_guessed")
    rows.parameter(place, "flag-null", "value", is_sensitive=None, codes="null_flag")
    rows.parameter(place, "proxy", "https://user:pw-of-proxy@proxy.example:8080", sensitive=True)
    rows.parameter(place, "api_key_env_var", "OPENAI_API_KEY", environment="staging")
    rows.parameter(place, "api_key_secret", "llm:openai", environment="staging")
    rows.parameter(place, "api_key", "sk-as-a-parameter", outcome=None, environment="production")
    rows.expected.secrets.add("sk-as-a-parameter")
    rows.parameter(place, "empty", "")
    rows.parameter(place, " trimmed ", "v", as_name="trimmed", codes="text_repaired")
    rows.parameter(place, "имя/名", "значение 😀")
    if rows.family.parameters == "connection_parameters":
        rows.parameter(place, "null-value", None, outcome=None)
    if rows.has("models", "max_output_tokens"):
        ids = [rows.parameter(place, "twice-equal", "same", outcome=APART) for _ in range(2)]
        rows.fate(rows.family.parameters, ids, {"imported": 1, "merged": 1}, "duplicate")
        rows.expected.parameters[place, "twice-equal", "development"] = ({"same"}, False)
        ids = [rows.parameter(place, "twice-different", value, outcome=APART) for value in ("one", "other")]
        rows.fate(rows.family.parameters, ids, {"imported": 1, "rejected": 1}, "duplicate_differs")
        rows.expected.parameters[place, "twice-different", "development"] = ({"one", "other"}, False)


def _messy_models(rows: Rows) -> None:
    rows.provider("shapes")
    place = "shapes"
    for model_id in ("meta/llama-3:70b", "模型-π", "chat-😀", "a b"):
        rows.model(place, model_id)
    rows.model(
        place,
        "null-flag",
        enabled=None,
        created_at=None,
        updated_at=None,
        becomes={"enabled": True, "created_at": ...},
        codes="null_flag time_missing",
    )
    rows.model(place, "no-type", model_type=None, becomes={"model_type": "chat"})
    rows.model(place, "no-name", display_name="", becomes={"display_name": "no-name"}, codes="name_missing")
    rows.model(place, "padded-model ", as_id="padded-model", codes="text_repaired")
    rows.model(place, "negative", max_tokens=-1, becomes={"max_tokens": None}, codes="number_broken")
    rows.model(place, "", outcome="rejected", codes="id_unusable")
    if rows.family is not OLDER:
        rows.model(place, "gpt-4o")
    if rows.has("models", "max_output_tokens"):
        rows.model(
            place,
            "by-the-dao",
            enabled=None,
            max_tokens=None,
            max_output_tokens=1234,
            created_at=None,
            updated_at=None,
            becomes={"enabled": True, "max_tokens": 1234, "created_at": ...},
            codes="null_flag max_tokens_fallback time_missing",
        )
        rows.model(place, "disagreeing", max_tokens=1000, max_output_tokens=2000, codes="max_tokens_disagree")
        rows.model(place, "agreeing", max_tokens=1000, max_output_tokens=1000)
    if rows.has("models", "capabilities"):
        _messy_capabilities(rows, place)


def _messy_capabilities(rows: Rows, place: str) -> None:
    checked_by_the_database = rows.has("models", "max_output_tokens") and rows.engine != "sqlite"

    def capabilities(model_id: str, text: str | None, becomes: list[str], codes: str = "") -> None:
        rows.model(place, model_id, capabilities=text, becomes={"capabilities": becomes}, codes=codes)

    def parameters(model_id: str, text: str | None, becomes: dict[str, Any], codes: str = "") -> None:
        rows.model(place, model_id, parameters=text, becomes={"parameters": becomes}, codes=codes)

    capabilities("caps-twice", json.dumps(json.dumps(["chat", "vision"])), ["chat", "vision"], "json_repaired")
    capabilities("caps-comma-json", json.dumps("chat, vision"), ["chat", "vision"], "json_repaired")
    flags = json.dumps({"chat": True, "vision": False, "tools": True})
    capabilities("caps-flags", flags, ["chat", "tools"], "json_repaired")
    capabilities("caps-sql-null", None, [])
    capabilities("caps-json-null", "null", [])
    capabilities("caps-number", "7", [], "json_broken")
    capabilities("caps-empty", "[]", [])
    parameters("params-twice", json.dumps(json.dumps({"top_p": 1})), {"top_p": 1}, "json_repaired")
    parameters("params-null", None, {})
    parameters("params-list", "[1, 2]", {}, "json_broken")
    parameters("params-unicode", json.dumps({"note": "naïve 😀"}), {"note": "naïve 😀"})
    rows.model(
        place,
        "params-secret",
        parameters=json.dumps({"temperature": 0.1, "api_key": "sk-inside-a-model"}),
        becomes={"parameters": {"temperature": 0.1}},
        codes="secret_disabled",
    )
    rows.expected.secrets.add("sk-inside-a-model")
    rows.expected.keys[place, None, "sk-inside-a-model"] = {"enabled": False}
    if checked_by_the_database:
        return
    capabilities("caps-comma", "chat,vision", ["chat", "vision"], "json_repaired")
    capabilities("caps-broken", '["chat", ', [], "json_broken")
    capabilities("caps-blank", "", [])
    parameters("params-broken", '{"top_p": ', {}, "json_broken")
    # What Python reads as JSON and PostgreSQL does not.
    for model_id, text in {
        "params-nan": '{"top_p": NaN}',
        "params-half-character": r'{"note": "\ud800x"}',
        "params-nul": r'{"note": "a\u0000b"}',
    }.items():
        rows.model(place, model_id, parameters=text, becomes={"parameters": ...})


def _messy_params(rows: Rows) -> None:
    """Shapes of connection_params and request_settings, and the secrets in them."""
    base = {"base_url": "https://shapes.example/v1"}

    def provider(provider_id: str, text: str | None, becomes: dict[str, Any], codes: str = "") -> None:
        rows.provider(provider_id, connection_params=text, becomes=becomes, codes=codes)

    def moved(provider_id: str, secret: str, text: str | None = None) -> None:
        provider(provider_id, json.dumps(base | {"api_key": text or secret}), {"params": base}, "secret_moved")
        rows.expected.secrets.add(secret)
        rows.expected.keys[provider_id, None, secret] = {"enabled": True}

    provider("cp-twice", json.dumps(json.dumps(base)), {"params": base}, "json_repaired")
    provider("cp-null", None, {"params": {}})
    provider("cp-json-null", "null", {"params": {}})
    provider("cp-blank", "", {"params": {}})
    provider("cp-broken", '{"base_url": "https://', {"params": {}, "enabled": False}, "json_broken disabled_for_safety")
    provider("cp-list", "[1, 2]", {"params": {}, "enabled": False}, "json_broken disabled_for_safety")
    moved("cp-key", "sk-inside-params")
    moved("cp-token", "sk-token-inside-params", sealed("sk-token-inside-params"))
    provider("cp-placeholder", json.dumps(base | {"api_key": "your-api-key"}), {"params": base}, "placeholder_dropped")
    provider("cp-no-key", json.dumps(base | {"api_key": ""}), {"params": base}, "placeholder_dropped")
    lost = sealed("sk-lost-inside-params", _LOST)
    provider("cp-lost", json.dumps(base | {"api_key": lost}), {"params": base}, "undecryptable")
    rows.expected.unusable.add(lost)
    headers = base | {"headers": {"Authorization": "Bearer bearer-inside-params", "X-Team": "red"}}
    provider("cp-headers", json.dumps(headers), {"params": headers}, "secret_moved")
    rows.expected.secrets.add("bearer-inside-params")
    named = base | {"api_key_env_var": "OPENAI_API_KEY"}
    provider("cp-env", json.dumps(named), {"params": named})
    provider("cp-legacy-name", json.dumps({"api_base": "https://shapes.example/v1"}), {"params": base})
    moved("cp-and-row", "sk-in-params-and-row")
    rows.key("cp-and-row", sealed("sk-in-params-and-row"), outcome=None)
    half = r'{"base_url": "https://shapes.example/v1", "note": "\ud800", "nul": "\u0000", "n": NaN}'
    provider("cp-hostile", half, {"params": ...})

    def settings(provider_id: str, text: str | None, becomes: Any, codes: str = "") -> None:
        rows.provider(provider_id, request_settings=text, becomes={"request_settings": becomes}, codes=codes)

    settings("rs-null", None, {})
    settings("rs-twice", json.dumps(json.dumps({"timeout": 9})), {"timeout": 9}, "json_repaired")
    settings("rs-broken", "timeout=9", {}, "json_broken")
    settings("rs-secret", json.dumps({"timeout": 9, "api_key": "sk-inside-settings"}), {"timeout": 9})
    rows.expected.secrets.add("sk-inside-settings")
    rows.expected.keys["rs-secret", None, "sk-inside-settings"] = {"enabled": False}


def _orphans(rows: Rows) -> None:
    rows.model("nobody", "an-orphan", outcome="rejected", codes="orphan")
    rows.key("nobody", sealed("sk-of-nobody"), outcome="rejected", codes="orphan")
    rows.expected.secrets.add("sk-of-nobody")
    rows.expected.unusable.add("sk-of-nobody")
    rows.parameter("nobody", "an-orphan", "value", outcome="rejected", codes="orphan")
    rows.model("", "of-no-id", outcome="rejected", codes="parent_rejected")


def _let_in_by_mariadb(rows: Rows) -> None:
    """MariaDB compares without case and trailing blanks, so its foreign keys let these pass; and it has a day zero."""
    rows.provider("time-zero", created_at="0000-00-00 00:00:00", becomes={"created_at": ...})
    rows.provider("Mixed-Case")
    rows.model("MIXED-case", "of-another-case", of="Mixed-Case", codes="parent_matched")
    rows.key("mixed-case ", sealed("sk-mixed-case"), is_now="sk-mixed-case", of="Mixed-Case", codes="parent_matched")
    rows.parameter("mixed-case", "region", "eu", of="Mixed-Case", codes="parent_matched")


def _let_in_by_sqlite(rows: Rows) -> None:
    """SQLite keeps what it is given: words for flags, text for numbers and times, ids of any length."""
    rows.provider("said-true", enabled="true")
    rows.expected.providers["said-true"]["enabled"] = True
    rows.provider("said-no", enabled="no", becomes={"enabled": False})
    rows.provider("time-iso", created_at="2023-05-06T07:08:09Z")
    rows.provider("time-offset", created_at="2023-05-06 09:08:09+02:00")
    rows.provider("time-micro", created_at="2023-05-06 07:08:09.000000")
    rows.provider("time-day", created_at="2023-05-06", becomes={"created_at": _utc(2023, 5, 6)})
    rows.provider("time-broken", created_at="2023-13-45 99:00:00", becomes={"created_at": ...}, codes="time_broken")
    rows.provider("time-blank", created_at="", becomes={"created_at": ...})
    long_id = "l" * 300
    rows.provider(long_id, outcome="rejected", codes="id_unusable", key=long_id)
    rows.model(long_id, "of-the-long-one", outcome="rejected", codes="parent_rejected")
    rows.model(
        "shapes", "number-words", context_window="plenty", becomes={"context_window": None}, codes="number_broken"
    )
    rows.model("shapes", "number-text", context_window="8192.0", becomes={"context_window": 8192})
    rows.model("shapes", "number-huge", context_window=10**15, becomes={"context_window": None}, codes="number_broken")


def _utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc]
