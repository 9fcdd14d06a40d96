"""The REST client of the migration guide (section 3.1), word for word, against a live server."""

from typing import Any, Dict, List, Optional  # noqa: UP035

import pytest
import requests

from routing import issuing
from tests.callers import SEED_BODY

pytestmark = pytest.mark.django_db(transaction=True)


# fmt: off
class LLMGatewayClient:
    def __init__(self, base_url: str, api_key: Optional[str] = None):  # noqa: UP045
        self.base_url = base_url
        self.headers = {}
        if api_key:
            self.headers["Authorization"] = f"Bearer {api_key}"

    def get_providers(self) -> List[Dict[str, Any]]:  # noqa: UP006
        response = requests.get(f"{self.base_url}/providers", headers=self.headers)
        response.raise_for_status()
        return response.json()

    def get_provider(self, provider_id: str) -> Dict[str, Any]:  # noqa: UP006
        response = requests.get(f"{self.base_url}/providers/{provider_id}", headers=self.headers)
        response.raise_for_status()
        return response.json()

    def create_provider(self, provider_data: Dict[str, Any]) -> Dict[str, Any]:  # noqa: UP006
        response = requests.post(f"{self.base_url}/providers", json=provider_data, headers=self.headers)
        response.raise_for_status()
        return response.json()

    def update_provider(self, provider_id: str, provider_data: Dict[str, Any]) -> Dict[str, Any]:  # noqa: UP006
        response = requests.put(f"{self.base_url}/providers/{provider_id}", json=provider_data, headers=self.headers)
        response.raise_for_status()
        return response.json()

    def delete_provider(self, provider_id: str) -> Dict[str, Any]:  # noqa: UP006
        response = requests.delete(f"{self.base_url}/providers/{provider_id}", headers=self.headers)
        response.raise_for_status()
        return response.json()
# fmt: on


@pytest.fixture
def client(live_server):
    _, secret = issuing.issue("seed", ["registry:read", "registry:write"])
    return LLMGatewayClient(live_server.url, secret.reveal())


def test_the_whole_life_of_a_provider(client):
    assert client.get_providers() == []
    created = client.create_provider(SEED_BODY)
    assert created["models"][0]["model_id"] == "gpt-4-turbo-preview"
    assert client.get_provider("openai")["display_name"] == "OpenAI"
    assert client.update_provider("openai", {"enabled": False})["enabled"] is False
    assert [provider["enabled"] for provider in client.get_providers()] == [False]
    assert client.delete_provider("openai")["provider_id"] == "openai"
    assert client.get_providers() == []


def test_a_second_create_is_a_conflict(client):
    client.create_provider(SEED_BODY)
    with pytest.raises(requests.HTTPError) as caught:
        client.create_provider(SEED_BODY)
    assert caught.value.response.status_code == 409


@pytest.mark.parametrize("key", [None, "gw-000000000000-wrong"])
def test_without_a_valid_key_nothing_answers(live_server, key):
    with pytest.raises(requests.HTTPError) as caught:
        LLMGatewayClient(live_server.url, key).get_providers()
    assert caught.value.response.status_code == 401


def test_a_slash_at_the_end_neither_redirects_nor_drops_the_body(client):
    response = requests.post(f"{client.base_url}/providers/", json=SEED_BODY, headers=client.headers)
    assert response.history == []
    assert response.status_code == 201


@pytest.mark.parametrize("written", ["meta-llama/Meta-Llama-3-8B-Instruct", "meta-llama%2FMeta-Llama-3-8B-Instruct"])
def test_a_model_id_with_a_slash_is_found_in_both_spellings(client, written):
    client.create_provider(SEED_BODY | {"models": [{"model_id": "meta-llama/Meta-Llama-3-8B-Instruct"}]})
    found = requests.get(f"{client.base_url}/providers/openai/models/{written}", headers=client.headers)
    assert found.json()["model_id"] == "meta-llama/Meta-Llama-3-8B-Instruct"
