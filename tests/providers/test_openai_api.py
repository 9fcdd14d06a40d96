import pytest

from providers import openai_api
from providers.addresses import check_url
from providers.secrets import Secret

KEY = Secret("sk-canary")


@pytest.mark.parametrize("end", ["", "/"])
def test_paths_follow_the_base_url_whose_query_stays(end):
    to = openai_api.target(check_url(f"https://u.example/v1{end}?tenant=a"), {})
    assert to("chat", "any/model") == "/v1/chat/completions?tenant=a"
    assert to("models", "") == "/v1/models?tenant=a"


@pytest.mark.parametrize("end", ["", "/", "/openai", "/openai/"])
def test_azure_names_the_deployment_in_the_path_but_for_the_list_of_models(end):
    connection = {"url_style": "azure", "api_version": "2024-10-21"}
    to = openai_api.target(check_url(f"https://n.openai.azure.com{end}"), connection)
    assert to("embeddings", "my model") == "/openai/deployments/my%20model/embeddings?api-version=2024-10-21"
    assert to("models", "") == "/openai/models?api-version=2024-10-21"


def test_the_providers_own_headers_win_but_never_over_the_protocols():
    connection = {
        "organization": "acme",
        "headers": {"User-Agent": "mine", "X-Key": Secret("hidden"), "Host": "elsewhere", "Content-Length": "9"},
    }
    headers = openai_api.headers(connection)
    assert headers["user-agent"] == "mine"
    assert headers["x-key"] == "hidden"
    assert headers["openai-organization"] == "acme"
    assert not {"host", "content-length"} & headers.keys()


def test_the_key_is_a_bearers_unless_the_provider_names_another_header():
    assert openai_api.credential({}, KEY) == ("authorization", "Bearer sk-canary")
    assert openai_api.credential({"auth_header": "Authorization"}, KEY) == ("authorization", "Bearer sk-canary")
    assert openai_api.credential({"auth_header": "Api-Key"}, KEY) == ("api-key", "sk-canary")
