from __future__ import annotations

import pytest
from django.core.cache import cache


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    """What an earlier test's page kept for some seconds would run out in the middle of one that counts queries."""
    cache.clear()
