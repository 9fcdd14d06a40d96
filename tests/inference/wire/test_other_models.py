"""Models that a request names beside its own."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from inference.wire.other_models import named_beside


@pytest.mark.parametrize(
    ("told", "names"),
    [
        ({"model": "own", "tools": [{"type": "function", "function": {"name": "model"}}]}, []),
        ({"models": ["dear", {"model": "dearer"}, 5]}, ["dear", "dearer"]),
        ({"fallbacks": [{"model": "dear"}]}, ["dear"]),
        ({"tools": [{"type": "image_generation", "model": "gpt-image"}, "model", None]}, ["gpt-image"]),
        ({"models": "dear", "tools": {"model": "dearer"}}, ["dear", "dearer"]),
    ],
)
def test_every_name_but_the_requests_own_is_found(told: dict[str, Any], names: list[str]) -> None:
    assert list(named_beside({name: msgspec.Raw(msgspec.json.encode(value)) for name, value in told.items()})) == names
