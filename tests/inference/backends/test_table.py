from __future__ import annotations

import pytest

from inference.backends.table import BackendTable
from inference.errors import ConfigurationError
from tests.inference import registry


async def test_a_parameter_that_a_backend_cannot_read_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError) as failure:
        BackendTable().take(registry.provider("fake", connection={"delay_seconds": "soon"}))
    assert failure.value.retryable, "another provider may serve"
    assert "soon" not in f"{failure.value.message} {failure.value.detail}", "a value may be a secret"
