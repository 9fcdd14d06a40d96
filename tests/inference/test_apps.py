from __future__ import annotations

import pytest

from inference.engine.spec import BUILTIN_DEMO
from providers import discovery, probes
from providers.importers import smoke
from providers.models import Provider


@pytest.mark.django_db
def test_the_model_that_ships_is_offered_to_local_providers() -> None:
    provider = Provider.objects.create(provider_id="local", provider_type="llama_cpp")

    [demo] = discovery.offered(provider)

    assert demo.parameters == {"model_path": BUILTIN_DEMO}


def test_probes_can_generate_once_the_data_plane_is_loaded() -> None:
    assert probes._generation is not None


def test_imported_providers_can_be_asked_once_the_data_plane_is_loaded() -> None:
    assert smoke._generation is not None
