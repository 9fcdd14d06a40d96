"""The list of models in pages, as Anthropic's clients read it."""

from __future__ import annotations

import pytest

from inference.errors import InvalidRequest
from inference.wire.anthropic_listings import model_of, page_of

FIVE = [{"id": name} for name in "abcde"]


def names(**asked: str) -> tuple[str, bool]:
    page = page_of(FIVE, asked)
    shown = "".join(model["id"] for model in page["data"])
    assert (page["first_id"], page["last_id"]) == ((shown[0], shown[-1]) if shown else (None, None))
    return shown, page["has_more"]


def test_a_model_is_told_in_its_words() -> None:
    assert model_of({"id": "m", "created": 1_700_000_000, "context_window": 9}) == {
        "type": "model",
        "id": "m",
        "display_name": "m",
        "created_at": "2023-11-14T22:13:20Z",
        "lifecycle": "active",
        "max_input_tokens": 9,
    }


def test_pages_go_forth_and_back() -> None:
    assert names() == ("abcde", False)
    assert names(limit="2") == ("ab", True)
    assert names(limit="2", after_id="b") == ("cd", True)
    assert names(limit="2", after_id="d") == ("e", False)
    assert names(limit="2", before_id="e") == ("cd", True)
    assert names(limit="2", before_id="b") == ("a", False)
    assert names(after_id="e") == ("", False)


@pytest.mark.parametrize(("name", "value"), [("limit", "0"), ("limit", "x"), ("limit", "1001"), ("after_id", "z")])
def test_a_page_that_cannot_be_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        page_of(FIVE, {name: value})
    assert refused.value.param == name
