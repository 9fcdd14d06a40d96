"""Options of local models are looked at when they are registered, by whatever way, with the rule by which the engine reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from inference import model_files
from inference.engine.spec import DEMO_PATH
from inference.engine.specs import spec_of
from inference.errors import ConfigurationError
from providers import actions, engine_options
from providers.forms import ConnectionParameterForm
from providers.models import ConnectionParameter, Provider, ProviderModel
from tests.callers import REGISTRY, caller
from tests.inference.engine.models import local_model
from tests.page_forms import form_of_page

pytestmark = pytest.mark.django_db

WRONG = [
    ("llama_cpp", "flash_attn", "maybe", "'maybe' is none of auto, on, off."),
    ("llama_cpp", "cache_type_k", "q9", "'q9' is none of f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, q4_0."),
    ("llama_cpp", "tensor_split", "a,b", "'a,b' is no list of shares such as 3,1."),
    ("llama_cpp", "max_sequences", -3, "-3 is no whole number from 1 to 64."),
    ("llama_cpp", "n_ctx", "many", "'many' is no whole number from 16 to 16777216."),
    ("llama_cpp", "mmap", "perhaps", "'perhaps' is neither true nor false."),
    ("llama_cpp", "rope_freq_base", 0, "0 is no number above 0 and below 1,000,000,000,000."),
    ("llama_cpp", "sha256", "abc", "'abc' is not a checksum of 64 hexadecimal digits."),
    ("transformers", "dtype", "foo", "'foo' is none of auto, float32, float16, bfloat16."),
    ("transformers", "device", "moon", "'moon' is not one of auto, cpu, mps, cuda or cuda:0."),
    ("transformers", "threads", 1.5, "1.5 is no whole number from 1 to 16777216."),
]
wrong = pytest.mark.parametrize(
    ("kind", "name", "value", "sentence"), WRONG, ids=[f"{one[0]}-{one[1]}" for one in WRONG]
)


@pytest.fixture
def api() -> APIClient:
    return caller(*REGISTRY)


def local(kind: str = "llama_cpp", **params: Any) -> Provider:
    return Provider.objects.create(provider_id="local", provider_type=kind, connection_params=params)


def refused(response: Any) -> dict[str, str]:
    assert response.status_code == 400, response.content
    return {error["field"]: error["message"] for error in response.json()["errors"]}


@wrong
def test_rest_refuses_it_of_a_provider_and_of_a_model(
    api: APIClient, kind: str, name: str, value: Any, sentence: str
) -> None:
    body = {"provider_id": "new", "provider_type": kind, "connection_params": {name: value}}
    assert refused(api.post("/api/v1/providers", body)) == {"connection_params": f"{name}: {sentence}"}

    local(kind)
    body = {"provider_id": "local", "model_id": "m", "parameters": {name: value}}
    assert refused(api.post("/api/v1/provider-models", body)) == {"parameters": f"{name}: {sentence}"}


@wrong
def test_a_configuration_file_is_told_the_place(
    tmp_path: Path, kind: str, name: str, value: Any, sentence: str
) -> None:
    provider = {"provider_type": kind, "connection_params": {name: value}}
    model = {"provider_type": kind, "models": [{"model_id": "m", "parameters": {name: value}}]}
    path = tmp_path / "gateway.yaml"
    path.write_text(json.dumps({"version": 1, "providers": {"a": provider, "b": model}}))

    with pytest.raises(CommandError) as caught:
        call_command("apply_config", str(path), "--apply")
    assert f"providers.a.connection_params.{name}: {sentence}" in str(caught.value)
    assert f"providers.b.models[0].parameters.{name}: {sentence}" in str(caught.value)
    assert not Provider.objects.exists()


def test_the_providers_form_says_it_at_the_field_or_beside_the_other_parameters(admin_client: Client) -> None:
    url = f"{reverse('admin:providers_provider_add')}?provider_type=llama_cpp"
    told = {"param__max_sequences": "-3", "param__tensor_split": "a,b", "extra_params": '{"n_batch": 1}'}
    html = admin_client.post(url, form_of_page(admin_client.get(url).content.decode()) | told).content.decode()

    assert "-3 is no whole number from 1 to 64." in html
    assert "is no list of shares such as 3,1." in html
    assert "n_batch: 1 is no whole number from 32 to 8192." in html
    assert not Provider.objects.exists()


def test_the_models_form_says_it_at_the_parameters(admin_client: Client) -> None:
    url = reverse("admin:providers_providermodel_add")
    told = {"provider": str(local().pk), "model_id": "m", "parameters": '{"max_sequences": -3}'}
    html = admin_client.post(url, form_of_page(admin_client.get(url).content.decode()) | told).content.decode()

    assert "max_sequences: -3 is no whole number from 1 to 64." in html
    assert not ProviderModel.objects.exists()


def test_a_models_file_is_not_registered_with_it() -> None:
    with pytest.raises(ValidationError, match="gpu_layers: -7 is no whole number from -1"):
        model_files.register(model_files.inspect(DEMO_PATH), local(), parameters={"gpu_layers": -7})
    with pytest.raises(CommandError, match="context_size: 3 is no whole number from 16"):
        call_command("models", "add", str(DEMO_PATH), "--context", "3", "--no-checksum")
    assert not ProviderModel.objects.exists()


def test_a_parameter_of_one_environment_is_held_to_the_same(api: APIClient) -> None:
    local()
    body = {"provider_id": "local", "param_name": "cache_type_v", "param_value": "q9"}
    assert "'q9' is none of" in refused(api.post("/api/v1/connection-parameters", body))["param_value"]
    row = actions.set_parameter(Provider.objects.get(), "cache_type_v", "q8_0")
    with pytest.raises(ValidationError, match="'q9' is none of"):
        actions.update_parameter(row, "q9")


def test_the_form_of_such_a_parameter_says_it_at_the_value() -> None:
    told = {"param_name": "cache_type_v", "environment": "staging", "value": "q9"}
    form = ConnectionParameterForm(told, instance=ConnectionParameter(provider=local()))
    assert "'q9' is none of" in form.errors["value"][0]


def test_what_a_model_and_its_provider_say_together_is_the_models_mistake() -> None:
    provider = local(cache_type_v="q8_0")
    with pytest.raises(ValidationError, match="cache_type_v: a compressed cache of values needs flash attention"):
        actions.add_model(provider, {"model_id": "m", "parameters": {"flash_attn": "off"}})


def test_every_mistake_is_told_at_once(api: APIClient) -> None:
    body = {"provider_id": "new", "provider_type": "llama_cpp", "connection_params": {"mlock": "?", "threads": 0}}
    response = api.post("/api/v1/providers", body)
    assert [error["message"].partition(":")[0] for error in response.json()["errors"]] == ["threads", "mlock"]


def test_a_row_that_was_wrong_before_may_be_changed_elsewhere(api: APIClient, admin_client: Client) -> None:
    provider = local(max_sequences=-3)
    row = ProviderModel.objects.create(provider=provider, model_id="m", parameters={"n_ctx": "many"})

    assert api.patch("/api/v1/providers/local", {"enabled": False}).status_code == 200
    assert api.patch(f"/api/v1/provider-models/{row.pk}", {"enabled": False}).status_code == 200
    url = f"{reverse('admin:providers_provider_change', args=[provider.pk])}?tab=connection"
    fields = form_of_page(admin_client.get(url).content.decode()) | {"param__threads": "2"}
    assert admin_client.post(url, fields).status_code == 302
    provider.refresh_from_db()
    assert provider.connection_params == {"max_sequences": -3, "threads": 2}


def test_a_parameter_that_was_wrong_before_may_become_another_environments() -> None:
    row = ConnectionParameter.objects.create(provider=local(), param_name="cache_type_k", param_value="q9")
    row.environment = "staging"
    row.clean()


@pytest.mark.parametrize(
    ("kind", "right"),
    [
        ("llama_cpp", {"flash_attn": True, "n_ctx": "2048", "tensor_split": [3, 1], "lora": "/a.gguf", "mlock": "yes"}),
        ("llama_cpp", {"threads": None, "pooling": "", "temperature": "any", "cache_type_k": "q8_0"}),
        ("transformers", {"torch_dtype": "torch.BFloat16", "device": "CUDA:1", "max_memory_gb": "7.5"}),
        ("openai", {"max_sequences": -3, "dtype": "foo"}),
        ("unknown", {"max_sequences": -3}),
    ],
)
def test_what_an_engine_takes_is_taken(kind: str, right: dict[str, Any]) -> None:
    assert engine_options.problems(kind, right) == {}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for kind, name, value, _ in WRONG if kind == "llama_cpp" and name != "mmap"]
)
def test_the_engine_refuses_the_same_of_a_row_that_is_there(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        spec_of(local_model({"model_path": "/m.gguf", name: value}))
    assert caught.value.param == name


def test_a_row_whose_flag_says_neither_goes_on_loading() -> None:
    assert spec_of(local_model({"model_path": "/m.gguf", "mmap": "perhaps", "threads": 2.5})).threads == 2
