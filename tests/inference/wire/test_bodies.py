from __future__ import annotations

import pytest

from inference.errors import InvalidRequest
from inference.wire import bodies


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 2000], ids=repr)
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        bodies.read(body)


def test_what_can_be_read_but_not_be_written_is_refused() -> None:
    deep = b'{"a":' * 300 + b"1" + b"}" * 300
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        bodies.written(bodies.read(deep))
