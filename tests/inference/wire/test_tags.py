from __future__ import annotations

import msgspec
import orjson
import pytest

from inference.errors import InvalidRequest
from inference.wire import tags


def of_metadata(metadata: object) -> tuple[tuple[str, ...], dict[str, object]]:
    fields = {"metadata": msgspec.Raw(orjson.dumps(metadata))}
    named = tags.taken_from(fields)
    return named, {name: orjson.loads(bytes(raw)) for name, raw in fields.items()}


def test_a_header_names_several_tags_each_once() -> None:
    assert tags.read("batch, nightly,batch,", "x-gateway-tags") == ("batch", "nightly")


def test_tags_of_metadata_that_are_a_text_go_upstream_as_they_are() -> None:
    assert of_metadata({"tags": "a,b", "job": "7"}) == (("a", "b"), {"metadata": {"tags": "a,b", "job": "7"}})


def test_an_array_of_tags_is_taken_out_because_upstreams_refuse_it() -> None:
    assert of_metadata({"tags": ["a", "b"], "job": "7"}) == (("a", "b"), {"metadata": {"job": "7"}})
    assert of_metadata({"tags": ["a"]}) == (("a",), {})


@pytest.mark.parametrize("metadata", [None, {}, {"tags": None}, "text", [1]])
def test_metadata_without_tags_is_left_to_the_upstream(metadata: object) -> None:
    assert of_metadata(metadata) == ((), {"metadata": metadata})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (",".join(map(str, range(17))), "more than 16"),
        ("x" * 65, "longer than 64"),
        ("a\x00b", "control character"),
        (",".join(f"{n:060}" for n in range(5)), "longer than 253"),
    ],
)
def test_what_no_column_could_hold_is_refused_by_name(text: str, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence) as caught:
        tags.read(text, "x-gateway-tags")
    assert caught.value.param == "x-gateway-tags"


def test_tags_of_another_type_are_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        of_metadata({"tags": 7})
    assert caught.value.param == "metadata.tags"


def test_tags_of_body_and_header_are_counted_together() -> None:
    assert tags.joined(("a", "b"), ("b", "c")) == ("a", "b", "c")
    with pytest.raises(InvalidRequest):
        tags.joined(tuple("abcdefghij"), tuple("klmnopqrst"))
