from importlib.metadata import EntryPoint

import pytest

from gateway_project import checks
from providers import provider_types
from providers.presets import PRESETS
from providers.provider_types import ProviderType


@pytest.fixture
def plugins(monkeypatch):
    """Registers entry points as an installed package would."""

    def install(**points):
        found = [EntryPoint(name, value, provider_types.ENTRY_POINT) for name, value in points.items()]
        monkeypatch.setattr(provider_types, "entry_points", lambda group: found)
        provider_types.registered.cache_clear()

    monkeypatch.setattr(provider_types, "failures", {})
    yield install
    monkeypatch.undo()
    provider_types.registered.cache_clear()


PLUGIN = ProviderType("plugin", "A plugin", "somewhere.Backend")
IMPOSTOR = ProviderType("openai", "Not OpenAI", "somewhere.Else")
NOT_A_TYPE = "text"


def test_engines_protocols_and_vendors_are_registered():
    names = set(provider_types.registered())
    assert {"openai_compatible", "llama_cpp", "fake"} <= names
    assert {preset.name for preset in PRESETS} <= names
    assert provider_types.find("nothing") is None


def test_a_vendor_is_the_openai_protocol_with_its_own_defaults():
    groq = provider_types.find("groq")
    assert groq.backend == provider_types.OPENAI_COMPATIBLE.backend
    assert groq.defaults["base_url"] == "https://api.groq.com/openai/v1"
    base_url = next(parameter for parameter in groq.parameters if parameter.name == "base_url")
    assert (base_url.required, base_url.default) == (False, "https://api.groq.com/openai/v1")
    generic = next(parameter for parameter in provider_types.OPENAI_PARAMETERS if parameter.name == "base_url")
    assert generic.required


def test_preset_names_are_unique_and_their_urls_whole():
    assert len({preset.name for preset in PRESETS}) == len(PRESETS)
    for preset in PRESETS:
        assert not preset.base_url or preset.base_url.startswith(("https://", "http://127.0.0.1"))
        assert not preset.base_url.endswith("/")


def test_another_package_adds_a_type(plugins):
    plugins(plugin=f"{__name__}:PLUGIN")
    assert provider_types.find("plugin") is PLUGIN


def test_a_plugin_cannot_take_a_built_in_name(plugins):
    plugins(impostor=f"{__name__}:IMPOSTOR")
    assert provider_types.find("openai").label == "OpenAI"
    assert provider_types.failures == {"impostor": "a provider type is named 'openai' already"}


@pytest.mark.parametrize("target", [f"{__name__}:MISSING", "no.such.module:X", f"{__name__}:NOT_A_TYPE"])
def test_a_plugin_that_does_not_load_is_named_and_skipped(plugins, target):
    plugins(broken=target, plugin=f"{__name__}:PLUGIN")
    assert provider_types.find("plugin") is PLUGIN
    assert set(provider_types.failures) == {"broken"}
    assert [finding.id for finding in checks.provider_plugins_load(None)] == ["gateway.W004"]


@pytest.mark.django_db
def test_a_stored_type_that_is_not_registered_is_a_warning():
    from providers.models import Provider

    Provider.objects.create(provider_id="p", provider_type="gone")
    Provider.objects.create(provider_id="q", provider_type="openai")
    findings = checks.stored_provider_types_are_known(None)
    assert [finding.id for finding in findings] == ["gateway.W005"]
    assert "'gone'" in findings[0].msg
