from datetime import timedelta
from decimal import Decimal

import pytest
from django.test.utils import override_settings
from django.utils import timezone

from providers import actions
from providers.models import ApiKey, PriceOverride, Provider, ProviderModel
from providers.secrets import Secret
from routing import building, issuing
from routing.models import Override, Policy

pytestmark = pytest.mark.django_db


def make(provider_id="p", provider_type="openai_compatible", *, models=("m",), keys=("sk-1",), parameters=(), **facts):
    return actions.create_provider(
        {"provider_id": provider_id, "provider_type": provider_type} | facts,
        models=[{"model_id": name} if isinstance(name, str) else name for name in models],
        keys=[{"secret": key} if isinstance(key, str) else key for key in keys],
        parameters=parameters,
    )


def view(provider_id="p"):
    return building.build().providers[provider_id]


def secrets_of(provider_view):
    return [key.secret.reveal() for key in provider_view.keys]


def test_an_empty_registry_is_a_snapshot_too():
    held = building.build()
    assert (held.revision, dict(held.providers), held.models, held.notes) == (0, {}, (), ())


def test_defaults_params_and_rows_win_in_that_order():
    make(
        provider_type="groq",
        connection_params={"organization": "from-params", "project": "from-params"},
        parameters=[{"param_name": "project", "param_value": "from-row"}],
    )
    connection = view().connection
    assert connection["base_url"] == "https://api.groq.com/openai/v1"
    assert (connection["organization"], connection["project"]) == ("from-params", "from-row")


def test_old_names_of_the_base_url_win_over_the_types_default():
    make(provider_type="openai", connection_params={"api_base": "https://mine.example/v1"})
    assert view().connection["base_url"] == "https://mine.example/v1"


def test_rows_of_other_environments_are_kept_and_never_chosen():
    make(
        keys=({"secret": "sk-dev"}, {"secret": "sk-prod", "environment": "production"}),
        parameters=[
            {"param_name": "base_url", "param_value": "https://dev"},
            {"param_name": "base_url", "param_value": "https://prod", "environment": "production"},
        ],
    )
    assert secrets_of(view()) == ["sk-dev"]
    assert view().connection["base_url"] == "https://dev"
    with override_settings(GATEWAY_ENVIRONMENT="production"):
        assert secrets_of(view()) == ["sk-prod"]
        assert view().connection["base_url"] == "https://prod"


def test_expired_and_disabled_keys_are_left_out_and_heavier_ones_come_first():
    past = timezone.now() - timedelta(seconds=1)
    make(
        keys=(
            {"secret": "sk-light"},
            {"secret": "sk-heavy", "weight": 5},
            {"secret": "sk-off", "enabled": False},
            {"secret": "sk-old", "expires_at": past},
        )
    )
    assert secrets_of(view()) == ["sk-heavy", "sk-light"]


@pytest.mark.parametrize(
    ("provider_type", "key", "lacks"),
    [
        ("openai_compatible", {"expires_at": timezone.now() - timedelta(days=1)}, True),
        ("openai_compatible", {"enabled": False}, True),
        ("openai_compatible", {"environment": "production"}, False),
        ("openai", {"environment": "production"}, True),
        ("openai", {}, False),
    ],
    ids=["expired", "disabled", "open here", "closed here", "usable"],
)
def test_a_provider_whose_keys_are_all_unusable_is_not_called_without_one(provider_type, key, lacks):
    make(provider_type=provider_type, keys=({"secret": "sk-1"} | key,))
    assert view().lacks_key is lacks


def test_a_provider_that_never_had_a_key_is_called_without_one():
    make(provider_type="openai", keys=())
    assert view().lacks_key is False


def test_a_key_inside_connection_params_serves_where_there_is_no_row():
    make("inline", keys=(), connection_params={"api_key": "sk-inline"})
    make("both", keys=("sk-row",), connection_params={"api_key": "sk-inline"})
    held = building.build()
    assert secrets_of(held.providers["inline"]) == ["sk-inline"]
    assert secrets_of(held.providers["both"]) == ["sk-row"]
    assert "api_key" not in held.providers["inline"].connection


def test_a_key_may_be_named_by_a_variable_or_a_file(monkeypatch, tmp_path, settings):
    settings.GATEWAY_SECRET_FOLDERS = [tmp_path.resolve()]
    (tmp_path / "key").write_text("sk-from-file\n")
    monkeypatch.setenv("SOME_API_KEY", "sk-from-env")
    make("a", keys=("env:SOME_API_KEY",))
    make("b", keys=(f"file:{tmp_path / 'key'}",))
    make("c", keys=(), connection_params={"api_key_env_var": "SOME_API_KEY"})
    held = building.build()
    assert [secrets_of(held.providers[name]) for name in "abc"] == [["sk-from-env"], ["sk-from-file"], ["sk-from-env"]]


@pytest.mark.parametrize("reference", ["env:NOT_SET_ANYWHERE", "file:/nowhere/at/all", "file:{binary}"])
def test_a_reference_that_leads_nowhere_is_noted_and_skipped(tmp_path, reference):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    make(keys=(reference.format(binary=tmp_path / "binary"), "sk-good"))
    held = building.build()
    assert secrets_of(held.providers["p"]) == ["sk-good"]
    assert len(held.notes) == 1


def test_disabled_providers_and_models_are_not_there():
    make("off", enabled=False)
    make("on", models=("m", {"model_id": "hidden", "enabled": False}))
    held = building.build()
    assert set(held.providers) == {"on"}
    assert set(held.by_name) == {"m", "on/m"}


def test_one_broken_row_does_not_take_the_others_down():
    make("good")
    for provider_id in ("unknown-type", "no-object", "bad-settings", "lost-key", "lost-param"):
        make(provider_id, connection_params={"api_key": "sk-inline"} if provider_id == "lost-param" else {})
    raw = Provider._base_manager
    raw.filter(provider_id="unknown-type").update(provider_type="gone")
    raw.filter(provider_id="no-object").update(connection_params=["a", "list"])
    raw.filter(provider_id="bad-settings").update(request_settings="text")
    raw.filter(provider_id="lost-param").update(secret_params="gw1.deadbeef.AAAA")
    ApiKey._base_manager.filter(provider__provider_id="lost-key").update(secret="gw1.deadbeef.AAAA")
    ProviderModel._base_manager.filter(provider__provider_id="lost-key").update(capabilities=None or {}, parameters=[])
    held = building.build()
    assert set(held.providers) == {"good", "bad-settings", "lost-key"}
    assert held.providers["lost-key"].keys == ()
    assert held.providers["bad-settings"].settings == {}
    assert len(held.notes) == 4
    assert not any("sk-" in note for note in held.notes)


def test_names_lead_to_models_best_priority_first():
    make("second", priority=2)
    make("first", priority=1)
    held = building.build()
    assert [model.route for model in held.by_name["m"]] == ["first/m", "second/m"]
    assert [model.route for model in held.by_name["second/m"]] == ["second/m"]


def test_a_qualified_name_means_its_provider_first_though_another_lists_the_same_words():
    make("router", priority=1, models=("openai/gpt-4o",))
    make("openai", "openai", priority=2, models=("gpt-4o",))
    held = building.build()
    assert [model.route for model in held.by_name["openai/gpt-4o"]] == ["openai/gpt-4o", "router/openai/gpt-4o"]


def test_a_model_carries_its_limits_prices_and_capabilities():
    price = Decimal("0.15")
    facts = {"model_id": "m", "max_tokens": 5, "capabilities": ["function_calling", "chat"]}
    make(
        models=(
            facts | {"input_cost_per_million": price},
            {"model_id": "bare"},
            {"model_id": "e", "model_type": "embedding"},
        )
    )
    by_id = {model.model_id: model for model in building.build().models}
    assert by_id["m"].capabilities == {"chat", "tools"}
    assert (by_id["m"].max_tokens, by_id["m"].prices.input_cost_per_million) == (5, price)
    assert by_id["bare"].capabilities == {"chat"}, "the least of its type"
    assert by_id["e"].capabilities == frozenset()


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        (lambda p: actions.update_provider(p, {"display_name": "x", "priority": 4}), False),
        (lambda p: actions.add_model(p, {"model_id": "n"}), False),
        (lambda p: actions.update_provider(p, {"connection_params": {"base_url": "https://other"}}), True),
        (lambda p: actions.update_provider(p, {"request_settings": {"timeout": 3}}), True),
        (lambda p: actions.add_key(p, {"secret": "sk-2"}), True),
        (lambda p: actions.update_key(p.api_keys.get(), {"secret": "sk-9"}), True),
        (lambda p: actions.set_parameter(p, "client_secret", "x"), True),
    ],
)
def test_the_fingerprint_follows_what_a_backend_is_built_from(change, differs):
    provider = make()
    before = view().fingerprint
    change(provider)
    assert (view().fingerprint != before) is differs


def test_secrets_stay_masked_in_the_views():
    make(connection_params={"headers": {"Authorization": "Bearer canary"}}, keys=("sk-canary",))
    held = building.build()
    assert "canary" not in repr(held)
    assert held.providers["p"].connection["headers"]["Authorization"] == Secret("Bearer canary")


def test_client_keys_come_along_and_the_digest_is_not_the_key():
    row, secret = issuing.issue("app", ["generate"])
    held = building.build()
    assert set(held.client_keys) == {row.prefix}
    assert secret.reveal().encode() not in held.client_keys[row.prefix].digest


def test_building_takes_as_many_queries_for_many_providers_as_for_one(django_assert_num_queries):
    make("first")
    with django_assert_num_queries(15):
        building.build()
    for number in range(5):
        make(f"p{number}", models=("m", "n"), keys=("sk-1", "sk-2"))
    with django_assert_num_queries(15):
        building.build()


def test_prices_of_a_model_are_resolved_with_their_source():
    make("openai", "openai", models=("gpt-4o-mini-2024-07-18", "unheard-of"))
    make("engine", "llama_cpp", models=("any",), keys=())
    held = {model.route: model for model in building.build().models}
    listed = held["openai/gpt-4o-mini-2024-07-18"]
    assert (listed.prices.input_cost_per_million, listed.prices.source) == (Decimal("0.15"), "list")
    assert not held["openai/unheard-of"].prices.known
    assert (held["engine/any"].prices.output_cost_per_million, held["engine/any"].prices.source) == (0, "free")


def test_the_tier_of_a_model_follows_the_price_that_holds():
    make("openai", "openai", models=("gpt-4o-mini", "gpt-4", {"model_id": "gpt-4o", "cost_tier": "LOW"}))
    tiers = {model.model_id: model.cost_tier for model in building.build().models}
    assert tiers == {"gpt-4o-mini": "LOW", "gpt-4": "PREMIUM", "gpt-4o": "LOW"}


def test_a_paid_service_at_a_private_address_is_not_free():
    make(
        "azure",
        "azure_openai",
        models=("house-model",),
        locality="local",
        connection_params={"base_url": "http://10.0.0.9"},
    )
    make("vllm", "vllm", models=("house-model",), keys=())
    prices = {model.provider.provider_id: model.prices for model in building.build().models}
    assert (prices["azure"].known, prices["vllm"].source) == (False, "free")


def test_a_snapshot_knows_when_a_price_begins_and_an_override_ends():
    make("openai", "openai", models=("gpt-4o",))
    assert building.build().stale_at is None
    later = timezone.now() + timedelta(hours=2)
    PriceOverride.objects.create(model_prefix="gpt", valid_from=later, input_cost_per_million=1)
    assert building.build().stale_at == later.timestamp()
    sooner = timezone.now() + timedelta(hours=1)
    policy = Policy.objects.create(name="writer")
    Override.objects.create(policy=policy, target="gpt-4o", expires_at=sooner)
    assert building.build().stale_at == sooner.timestamp()
