import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

_BOTH = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
_ONE = {"asyncio": asyncio.new_event_loop}


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Transports differ between event loops, so their tests run on both that the product runs on."""
    return _BOTH if item.path.name == "test_http.py" else _ONE
