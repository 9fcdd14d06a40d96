import pytest

from providers import discovery
from providers.anthropic_offers import in_common_words
from providers.models import ApiKey, Provider
from tests.fakes.anthropic import FakeAnthropic


def test_a_model_is_told_in_the_words_of_other_vendors():
    yes, no = {"supported": True}, {"supported": False}
    listed = {
        "type": "model",
        "id": "claude-opus-5",
        "lifecycle": "active",
        "max_input_tokens": 1_000_000,
        "max_tokens": 128_000,
        "capabilities": {"image_input": yes, "structured_outputs": yes, "pdf_input": no, "batch": yes},
    }
    assert in_common_words(listed) == {
        "id": "claude-opus-5",
        "type": "chat",
        "context_window": 1_000_000,
        "max_output_tokens": 128_000,
        "capabilities": ["chat", "streaming", "tools", "vision", "json_mode"],
        "owned_by": "anthropic",
    }


def test_a_model_that_will_go_says_so():
    told = in_common_words({"id": "m", "lifecycle": "deprecated", "retires_at": "2026-11-30T00:00:00Z"})
    assert told["owned_by"] == "deprecated, retires 2026-11-30"


@pytest.mark.django_db
def test_its_list_is_read_with_its_headers():
    with FakeAnthropic(api_key="sk-ant-here", models=["claude-b", "claude-a"]) as upstream:
        provider = Provider.objects.create(
            provider_id="claude", provider_type="anthropic", connection_params={"base_url": upstream.base_url}
        )
        ApiKey.objects.create(provider=provider, secret="sk-ant-here")
        offers = discovery.offered(provider)
    assert [(offer.model_id, offer.context_window, offer.max_tokens) for offer in offers] == [
        ("claude-a", 200_000, 64_000),
        ("claude-b", 200_000, 64_000),
    ]
    assert upstream.requests[0].query == {"limit": "1000"}
