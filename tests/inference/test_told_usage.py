"""The tokens that replies tell, in the words that upstreams have for them."""

from __future__ import annotations

import pytest

from inference.backends.base import Usage
from inference.told_usage import read_usage, usage_tail


@pytest.mark.parametrize(
    ("told", "usage"),
    [
        (b'{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}', Usage(5, 7)),
        (b'{"prompt_tokens":20,"completion_tokens":12,"total_tokens":100}', Usage(20, 80)),
        (
            b'{"input_tokens":12,"output_tokens":272,"input_tokens_details":{"image_tokens":8,"text_tokens":4}}',
            Usage(12, 272),
        ),
        (b'{"prompt_tokens":5,"total_tokens":5}', Usage(5, 0)),
        (b'{"total_tokens":9}', Usage(9, 0)),
        (b'{"type":"duration","seconds":3}', None),
        (b'{"search_units":1}', None),
    ],
    ids=["chat", "thoughts in the sum alone", "pictures", "vectors", "a sum alone", "seconds", "searches"],
)
def test_tokens_are_read_and_what_is_none_is_none(told: bytes, usage: Usage | None):
    tail = usage_tail(b'{"text":"x","usage": ' + told + b"}")
    assert tail is not None
    assert read_usage(tail) == usage
