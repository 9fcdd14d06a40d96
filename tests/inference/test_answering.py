from __future__ import annotations

import pytest

from inference.answering import Collected
from inference.errors import UpstreamFailed


def test_a_failure_that_an_upstream_tells_in_its_stream_is_passed_on_without_credentials() -> None:
    said = b'data: {"error": {"message": "Incorrect API key provided: sk-canary-0123"}}\n\n'
    with pytest.raises(UpstreamFailed, match="Incorrect API key provided") as failure:
        Collected().feed(said)
    assert "canary" not in failure.value.message
