"""Client keys as other systems tell of them, in the words of this one. Pure.

LiteLLM keeps the SHA-256 of a key (`LiteLLM_VerificationToken.token`), one-api the key itself without its `sk-`. Both are read from
records whose values may be texts, as a CSV file or a database's cast gives them, or JSON's own. No sentence holds a key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from typing import Any

from routing.client_addresses import BadNetwork, networks

LITELLM, ONE_API, OTHER = "litellm", "one-api", "other"
_QUOTA_PER_USD = 500_000
_LONGEST_NAME = 255
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_PERIODS = {
    **dict.fromkeys(("1h", "60m", "3600s"), "hour"),
    **dict.fromkeys(("1d", "24h", "86400s"), "day"),
    **dict.fromkeys(("30d", "31d", "1mo", "1m", "720h"), "month"),
}
_LIMITS = {
    "rpm_limit": "requests_per_minute",
    "tpm_limit": "tokens_per_minute",
    "max_parallel_requests": "concurrent_requests",
}
_TRUE, _FALSE = {"true", "t", "1", "yes"}, {"false", "f", "0", "no", ""}


class BadRecord(ValueError):
    """A record does not say what it should; `field` is its name there, `sentence` what is wrong."""

    def __init__(self, field: str, sentence: str) -> None:
        super().__init__(f"{field}: {sentence}")
        self.field, self.sentence = field, sentence


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A key that another system issued. `remarks` are sentences on what could not be taken over."""

    digest: bytes = field(repr=False)
    """SHA-256 of what the client shows."""
    name: str
    enabled: bool = True
    expires_at: datetime | None = None
    allowed_models: list[str] | None = None
    ip_ranges: list[str] | None = None
    tags: list[str] = field(default_factory=list)
    team: str = ""
    limits: Mapping[str, int] = field(default_factory=dict)
    """Of `routing.rate_limits`, by name."""
    budget: tuple[str, Decimal] | None = None
    """Its period and USD."""
    remarks: tuple[str, ...] = ()


def read(system: str, record: Mapping[str, Any]) -> ForeignKey:
    """Raises `BadRecord`."""
    return READERS[system](record)


# --- LiteLLM ----------------------------------------------------------------------------------------------------------------


def _litellm(record: Mapping[str, Any]) -> ForeignKey:
    """A row of `LiteLLM_VerificationToken`, or an object of `/key/list`; `team_alias`, `team_models` and `team_blocked` tell of its
    team."""
    remarks: list[str] = []
    metadata = _object(record, "metadata")
    return ForeignKey(
        digest=_digest(record, "token"),
        name=_name(record, ("key_alias", "key_name"), "LiteLLM key"),
        enabled=not (_flag(record, "blocked") or _flag(record, "team_blocked")),
        expires_at=_moment(record, "expires"),
        allowed_models=_litellm_models(record, remarks),
        tags=_tags(metadata.get("tags"), remarks),
        team=_text(record, "team_alias") or _text(record, "team_id"),
        limits={ours: found for theirs, ours in _LIMITS.items() if (found := _whole(record, theirs))},
        budget=_litellm_budget(record, remarks),
        remarks=(*remarks, *_not_taken(record, ("aliases", "allowed_routes", "permissions", "config"))),
    )


def _litellm_models(record: Mapping[str, Any], remarks: list[str]) -> list[str] | None:
    models = _list(record, "models")
    if not models or "all-proxy-models" in models:
        return None
    if "all-team-models" in models:
        if "team_models" not in record:
            remarks.append("it may use its team's models, which the source does not tell: it is allowed none yet")
            return []
        team = _list(record, "team_models")
        return _patterns(team) if team and "all-proxy-models" not in team else None
    return _patterns([name for name in models if name != "no-default-models"])


def _litellm_budget(record: Mapping[str, Any], remarks: list[str]) -> tuple[str, Decimal] | None:
    amount = _money(record, "max_budget")
    if amount is None:
        return None
    duration = _text(record, "budget_duration")
    period = _PERIODS.get(duration)
    if period is None:
        spans = f"for {duration}" if duration else "for as long as it lives"
        remarks.append(f"its budget of {amount} USD is {spans}; there are budgets by hour, day and month")
        return None
    return period, amount


# --- one-api, and new-api, which came of it ---------------------------------------------------------------------------------


def _one_api(record: Mapping[str, Any]) -> ForeignKey:
    """A row of `tokens`."""
    remarks: list[str] = []
    shown = _text(record, "key")
    if not shown:
        raise BadRecord("key", "A key is needed.")
    status = _text(record, "status") or "1"
    if not _flag(record, "unlimited_quota") and (left := _whole(record, "remain_quota")) is not None:
        remarks.append(
            f"it had a quota of {Decimal(left) / _QUOTA_PER_USD:.2f} USD left; budgets are by hour, day or month"
        )
    if status == "4":
        remarks.append("its quota was used up: it is suspended")
    expires = _text(record, "expired_time")
    return ForeignKey(
        digest=_sha256("sk-" + shown.removeprefix("sk-")),
        name=_name(record, ("name",), "one-api key"),
        enabled=status not in ("2", "4"),
        expires_at=None if expires in ("", "-1", "0") else _epoch("expired_time", expires),
        allowed_models=_one_api_models(record),
        ip_ranges=_ranges(record, "subnet") or _ranges(record, "allow_ips"),
        remarks=tuple(remarks),
    )


def _one_api_models(record: Mapping[str, Any]) -> list[str] | None:
    if _flag(record, "model_limits_enabled"):
        return _patterns(_list(record, "model_limits"))
    return _patterns(_list(record, "models")) or None


# --- Others -----------------------------------------------------------------------------------------------------------------


def _other(record: Mapping[str, Any]) -> ForeignKey:
    """`key` or `sha256`, and what else is told: `name`, `team`, `enabled`, `expires_at`, `allowed_models`, `ip_ranges`, `tags`."""
    key = _text(record, "key")
    if bool(key) == bool(_text(record, "sha256")):
        raise BadRecord("key", "Either the key or its sha256 is needed.")
    remarks: list[str] = []
    return ForeignKey(
        digest=_sha256(key) if key else _digest(record, "sha256"),
        name=_name(record, ("name",), "imported key"),
        enabled=_flag(record, "enabled") if _text(record, "enabled") else True,
        expires_at=_moment(record, "expires_at"),
        allowed_models=_list(record, "allowed_models") or None,
        ip_ranges=_ranges(record, "ip_ranges"),
        tags=_tags(_list(record, "tags"), remarks),
        team=_text(record, "team"),
        remarks=tuple(remarks),
    )


READERS: Mapping[str, Callable[[Mapping[str, Any]], ForeignKey]] = {
    LITELLM: _litellm,
    ONE_API: _one_api,
    OTHER: _other,
}


# --- One value at a time ----------------------------------------------------------------------------------------------------


def _text(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    return "" if value is None else str(value).strip()


def _sha256(shown: str) -> bytes:
    return sha256(shown.encode()).digest()


def _digest(record: Mapping[str, Any], name: str) -> bytes:
    text = _text(record, name)
    if _SHA256.fullmatch(text):
        return bytes.fromhex(text)
    if text.startswith("sk-"):  # written by a version that did not hash, or a list made by hand
        return _sha256(text)
    raise BadRecord(name, "The SHA-256 of a key is needed: 64 hex digits.")


def _name(record: Mapping[str, Any], names: tuple[str, ...], otherwise: str) -> str:
    found = next((text for name in names if (text := _text(record, name))), otherwise)
    return found[:_LONGEST_NAME]


def _flag(record: Mapping[str, Any], name: str) -> bool:
    text = _text(record, name).lower()
    if text not in _TRUE | _FALSE:
        raise BadRecord(name, "true or false is needed.")
    return text in _TRUE


def _whole(record: Mapping[str, Any], name: str) -> int | None:
    text = _text(record, name)
    if not text:
        return None
    if not re.fullmatch(r"-?\d{1,18}(\.0+)?", text):
        raise BadRecord(name, "A whole number is needed.")
    return int(text.partition(".")[0])


def _money(record: Mapping[str, Any], name: str) -> Decimal | None:
    text = _text(record, name)
    if not text:
        return None
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise BadRecord(name, "An amount of money is needed.") from None
    if not amount.is_finite() or amount < 0:
        raise BadRecord(name, "An amount of money is needed.")
    return round(amount, 10)


def _moment(record: Mapping[str, Any], name: str) -> datetime | None:
    text = _text(record, name)
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadRecord(name, "A time is needed, such as 2027-01-31T12:00:00Z.") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _epoch(name: str, text: str) -> datetime:
    try:
        return datetime.fromtimestamp(int(text), UTC)
    except (ValueError, OverflowError, OSError):
        raise BadRecord(name, "Seconds since 1970 are needed, or -1 for never.") from None


def _list(record: Mapping[str, Any], name: str) -> list[str]:
    """JSON, an array as PostgreSQL writes it, or words with commas or line ends between them."""
    value = record.get(name)
    if isinstance(value, str):
        value = value.strip()
        if value.startswith("["):
            value = _json(name, value)
        elif value.startswith("{") and value.endswith("}"):
            value = [item.strip('"') for item in value[1:-1].split(",")]
        else:
            value = re.split(r"[,\n]", value)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BadRecord(name, "A list of words is needed.")
    return [item.strip() for item in value if item.strip()]


def _object(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = record.get(name)
    if isinstance(value, str) and value.strip():
        value = _json(name, value)
    return value if isinstance(value, dict) else {}


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise BadRecord(name, "JSON is needed.") from None


def _patterns(names: list[str]) -> list[str]:
    """Their names as our patterns: `*` means the same, the other letters of patterns mean themselves."""
    return [re.sub(r"([\[?])", r"[\1]", name) for name in names]


def _ranges(record: Mapping[str, Any], name: str) -> list[str] | None:
    found = _list(record, name)
    try:
        networks(found)
    except BadNetwork as error:
        raise BadRecord(name, str(error)) from None
    return found or None


def _tags(told: Any, remarks: list[str]) -> list[str]:
    words = [word for word in told if isinstance(word, str)] if isinstance(told, list) else []
    fit = [word for word in dict.fromkeys(words) if 0 < len(word) <= 64 and word.isprintable() and word == word.strip()]
    fit = [word for word in fit if "," not in word][:16]
    if len(fit) < len(words):
        remarks.append("some of its tags are no tags here")
    return fit


def _not_taken(record: Mapping[str, Any], names: tuple[str, ...]) -> list[str]:
    """Members that say something which keys here do not."""
    return [
        f"{name} are not taken over" for name in names if _text(record, name) not in ("", "{}", "[]", "null", "None")
    ]
