"""Registries to be exported: one by hand with a bit of everything, and any that hypothesis thinks of."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from providers import actions
from providers.models import Provider

OPENAI_KEY = "sk-proj-Zr81Lq0pXw7Tn4"
BEARER = "Bearer 9vQm2KxT7pLw"
PROXY = "http://ada:pa55word@proxy:3128"
PARAMETER = "hunter2-aBc9Xy81"
SECRETS = (OPENAI_KEY, "9vQm2KxT7pLw", "pa55word", PARAMETER)


def build() -> None:
    """Two providers with secrets in every place that the registry has for them."""
    actions.create_provider(
        {
            "provider_id": "openai",
            "provider_type": "openai",
            "display_name": "OpenAI",
            "description": "The main one.\nAsk Ada.\n",
            "priority": 2,
            "connection_params": {
                "base_url": "https://api.openai.com/v1",
                "headers": {"Authorization": BEARER, "X-Team": "Zürich"},
                "proxy": PROXY,
            },
            "request_settings": {"timeout": 30.0, "retries": 2},
        },
        models=[
            {
                "model_id": "gpt-4o",
                "context_window": 128000,
                "capabilities": ["chat", "tools"],
                "input_cost_per_million": Decimal("2.50"),
                "parameters": {"temperature": 0.25, "größe": 1e20},
            },
            {"model_id": "org/模型:7b", "enabled": False},
        ],
        parameters=[
            {"param_name": "organization", "param_value": "acme"},
            {"param_name": "session", "is_sensitive": True, "param_value": PARAMETER, "environment": "production"},
        ],
        keys=[
            {"secret": OPENAI_KEY, "environment": "production", "name": "main", "weight": 3},
            {"secret": "env:OPENAI_STAGING", "environment": "staging"},
            {"secret": OPENAI_KEY, "expires_at": datetime(2027, 1, 31, 12, tzinfo=UTC), "enabled": False},
        ],
    )
    actions.create_provider({"provider_id": "local", "provider_type": "fake", "enabled": False})


def forget() -> None:
    Provider.objects.all().delete()


_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
_ID = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=20).map(str.strip).filter(bool)
_SECRET = _TEXT.filter(lambda text: bool(text.strip())) | st.sampled_from(["env:SOME_VARIABLE", "file:/run/secrets/x"])
_LEAF = (
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | _TEXT
)
_NAME = _TEXT | st.sampled_from(["headers", "timeout", "base_url", "proxy"])
_OBJECT = st.dictionaries(
    _NAME,
    st.recursive(
        _LEAF, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_NAME, inner, max_size=2), max_leaves=4
    ),
    max_size=3,
)
_WITH_SECRETS = st.builds(
    lambda plain, name, secret, deep: plain | ({"nested": {name: secret}} if deep else {name: secret}),
    _OBJECT,
    st.sampled_from(["api_key", "Authorization", "password"]),
    _SECRET,
    st.booleans(),
)
_PRICE = st.none() | st.decimals(0, 10**6, places=6)
_COUNT = st.none() | st.integers(0, 2**31 - 1)
_ENVIRONMENT = st.sampled_from(["development", "staging", "production", "Überall"])
_MODEL = st.fixed_dictionaries(
    {"model_id": _ID},
    optional={
        "display_name": _TEXT,
        "model_type": st.sampled_from(["chat", "embedding", "completion"]),
        "context_window": _COUNT,
        "max_tokens": _COUNT,
        "enabled": st.booleans(),
        "capabilities": st.lists(_TEXT, max_size=2),
        "cost_tier": st.sampled_from(["", "LOW"]),
        "input_cost_per_million": _PRICE,
        "parameters": _OBJECT,
    },
)
_KEY = st.fixed_dictionaries(
    {"secret": _SECRET, "environment": _ENVIRONMENT},
    optional={
        "name": _TEXT,
        "weight": st.integers(0, 9),
        "enabled": st.booleans(),
        "expires_at": st.none() | st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
    },
)
_PARAMETER = st.builds(
    lambda facts, secret, plain: facts | {"param_value": secret if facts["is_sensitive"] else plain},
    st.fixed_dictionaries({"param_name": _ID, "environment": _ENVIRONMENT, "is_sensitive": st.booleans()}),
    _SECRET,
    _TEXT,
)
PROVIDERS = st.lists(
    st.fixed_dictionaries(
        {
            "facts": st.fixed_dictionaries(
                {"provider_id": _ID, "provider_type": st.sampled_from(["openai", "fake", "azure_openai"])},
                optional={
                    "display_name": _TEXT,
                    "description": _TEXT,
                    "enabled": st.booleans(),
                    "priority": st.integers(-(2**31), 2**31 - 1),
                    "connection_params": _OBJECT | _WITH_SECRETS,
                    "request_settings": _OBJECT,
                    "allow_paid_probes": st.booleans(),
                },
            ),
            "models": st.lists(_MODEL, max_size=2, unique_by=lambda one: one["model_id"]),
            "keys": st.lists(_KEY, max_size=2, unique_by=lambda one: (one["environment"], one["secret"].strip())),
            "parameters": st.lists(
                _PARAMETER, max_size=2, unique_by=lambda one: (one["environment"], one["param_name"])
            ),
        }
    ),
    max_size=2,
    unique_by=lambda one: one["facts"]["provider_id"],
)


def build_from(drawn: list[dict[str, Any]]) -> None:
    for one in drawn:
        provider = Provider(**one["facts"])
        provider.save()
        for model in one["models"]:
            provider.models.create(**model)
        for key in one["keys"]:
            provider.api_keys.create(**key)
        for parameter in one["parameters"]:
            value = parameter.pop("param_value")
            row = provider.parameters.model(provider=provider, **parameter)
            row.set_value(value)
            row.save()
