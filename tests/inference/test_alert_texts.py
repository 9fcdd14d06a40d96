from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from inference.alert_texts import span, text, title

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def told(kind: str) -> str:
    return text(
        kind,
        condition="error_rate > 5%",
        subject="openai",
        value="12%",
        worst="30%",
        began_at=NOW - timedelta(hours=3),
        now=NOW,
        detail="12 of 100 requests failed",
        acted="it was taken out",
    )


def test_each_kind_says_what_matters_now() -> None:
    assert told("fired").splitlines()[0] == "openai: 12% now; the rule is error_rate > 5%."
    assert "12 of 100 requests failed." in told("fired")
    assert "for 3 hours; at its worst it was 30%" in told("reminder")
    assert told("recovered").startswith("openai is well again after 3 hours.")
    assert "12 of 100" not in told("recovered")
    assert "The gateway acted: it was taken out." in told("recovered")


def test_a_title_is_one_line_and_short() -> None:
    assert title("fired", "slow", "a\nb: c\r\n") == "[Alert] slow: a b: c"
    assert len(title("fired", "slow", "x" * 600)) == 255


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 seconds"), (1, "1 second"), (60, "1 minute"), (7200, "2 hours"), (90_000, "1 day")]
)
def test_spans_are_told_in_their_largest_unit(seconds: int, said: str) -> None:
    assert span(timedelta(seconds=seconds)) == said
