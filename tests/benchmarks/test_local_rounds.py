from __future__ import annotations

from benchmarks.local_rounds import Seen, first_token, plain, shared, tokens_per_second


def test_plain_prompts_share_no_beginning_and_are_new_with_each_seed():
    first, second = (plain(8, 48, seed) for seed in (1, 2))
    beginnings = {messages[0]["content"][:12] for messages in first.messages + second.messages}
    assert len(beginnings) == 16
    assert plain(8, 48, 1) == first


def test_shared_prompts_begin_with_one_system_message():
    asked = shared(8, 48, 1, letters=400)
    assert len({messages[0]["content"] for messages in asked.messages}) == 1
    assert len({messages[1]["content"] for messages in asked.messages}) == 8


def test_a_rounds_rate_counts_everybody_until_the_last_is_done():
    seen = [Seen(first_token=0.5, ended=2.0, tokens=48), Seen(first_token=1.5, ended=4.0, tokens=48)]
    assert tokens_per_second(seen) == 24.0
    assert first_token(seen) == 1.0
