from __future__ import annotations

from pathlib import Path

import pytest

from inference import prompts, roles
from inference.errors import InvalidRequest

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)


def test_a_prompt_and_its_wishes_are_one_body() -> None:
    told = prompts.body("hi", None, system_prompt="Be brief.", max_cost=0.01, preferred_model=None, temperature=0.0)
    assert told == {
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
        "max_cost": 0.01,
        "temperature": 0.0,
    }


def test_earlier_turns_come_before_the_prompt() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert prompts.body("c", "m", history=turns)["messages"] == [*turns, {"role": "user", "content": "c"}]


def test_a_picture_goes_by_its_url_or_as_it_is(tmp_path: Path) -> None:
    by_url = prompts.with_image("what?", image_url="https://example.com/a.jpg")
    assert by_url[1] == {"type": "image_url", "image_url": {"url": "https://example.com/a.jpg"}}
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    for image in (PNG, path, str(path)):
        url = prompts.with_image("what?", image=image)[1]["image_url"]["url"]
        assert url.startswith("data:image/png;base64,iVBOR")


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({}, "image_url"),
        ({"image_url": "u", "image": b"x"}, "image_url"),
        ({"image": b"text"}, "image"),
        ({"image": "/nowhere/a.png"}, "image"),
    ],
)
def test_a_picture_that_cannot_be_sent_is_refused(given: dict, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        prompts.with_image("what?", **given)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("heavy", "model", "asked"),
    [(True, "", "heavy"), (False, "", "light"), (None, "", ""), (None, "m", "m"), (True, "m", "m"), ("yes", "", "")],
)
def test_a_role_is_asked_for_where_no_model_is_named(heavy: object, model: str, asked: str) -> None:
    assert roles.model_of(heavy, model) == asked
