"""What Anthropic's models differ in, told by their names."""

from __future__ import annotations

import pytest

from inference.wire.anthropic_models import decides_how_long_it_thinks, refuses_sampling


@pytest.mark.parametrize(
    ("model", "decides", "refuses"),
    [
        ("claude-3-7-sonnet-20250219", False, False),
        ("claude-opus-4-20250514", False, False),
        ("claude-haiku-4-5-20251001", False, False),
        ("claude-sonnet-4-6", True, False),
        ("anthropic/claude-opus-4.7", True, True),
        ("claude-fable-5-1", True, True),
        ("claude-sonnet-5", True, True),
        ("claude-mythos-preview", True, True),
        ("glm-4.6", False, False),
    ],
)
def test_a_name_tells_how_its_model_is_asked(model: str, decides: bool, refuses: bool) -> None:
    assert (decides_how_long_it_thinks(model), refuses_sampling(model)) == (decides, refuses)
