from __future__ import annotations

import base64

import orjson
import pytest

from inference.errors import InvalidRequest
from inference.wire.openai import CHAT, parse
from inference.wire.pictures import PictureLimits, may_hold

PNG = "data:image/png;base64," + base64.b64encode(b"\x89PNG" + b"0" * 96).decode()
HTTP = "https://pictures.example/cat"


def part(url: str = PNG) -> dict:
    return {"type": "image_url", "image_url": {"url": url}}


def parsed(*parts, limits: PictureLimits | None = None, raw: bytes | None = None):
    body = raw or orjson.dumps({"model": "m", "messages": [{"role": "user", "content": list(parts)}]})
    return parse(CHAT, body, picture_limits=limits or PictureLimits())


def test_pictures_are_counted_and_are_no_text() -> None:
    text = {"type": "text", "text": "What is this?"}
    without = parsed(text, part(""[:0] or HTTP)).prompt_bytes
    request = parsed(text, part(), part(HTTP), {"type": "input_image", "image_url": PNG})
    assert request.images == 3
    assert request.prompt_bytes < without + 150
    assert request.prompt_bytes > len("What is this?")


def test_the_parts_reach_the_upstream_byte_for_byte() -> None:
    raw = b'{"model":"m","messages":[ {"role":"user", "content":[{"type":"image_url","image_url":{"url":"http:\\/\\/x\\/y"}}]}]}'
    request = parsed(raw=raw)
    assert request.images == 1
    assert bytes(request.fields["messages"]) in raw


@pytest.mark.parametrize(
    "message", ['{"content":"say \\"image_url\\" twice"}', '{"content":[{"type":"text","text":"image"}]}']
)
def test_text_that_speaks_of_pictures_is_none(message) -> None:
    assert parsed(raw=b'{"model":"m","messages":[' + message.encode() + b"]}").images == 0


def test_a_picture_that_is_spelled_with_escapes_is_seen() -> None:
    raw = b'{"model":"m","messages":[{"content":[{"type":"im\\u0061ge_url","im\\u0061ge_url":{"url":"http://x"}}]}]}'
    assert may_hold(raw)
    assert parsed(raw=raw).images == 1


def test_too_many_pictures_are_refused() -> None:
    assert parsed(*[part(HTTP)] * 10).images == 10
    with pytest.raises(InvalidRequest) as caught:
        parsed(*[part(HTTP)] * 11)
    assert (caught.value.status, caught.value.param) == (400, "messages")


def test_a_picture_that_is_too_large_is_refused_naming_its_place() -> None:
    limits = PictureLimits(largest_bytes=100)
    assert parsed(part(), limits=limits).images == 1
    with pytest.raises(InvalidRequest) as caught:
        parsed({"type": "text", "text": "?"}, part(PNG + "AAAA"), limits=limits)
    assert caught.value.param == "messages[0].content[1].image_url"


@pytest.mark.parametrize("kind", ["jpg", "jpeg", "png", "gif", "webp", "PNG"])
def test_every_served_format_passes(kind) -> None:
    assert parsed(part(f"data:image/{kind};base64,AAAA")).images == 1


@pytest.mark.parametrize(
    "url",
    [
        "data:image/tiff;base64,AAAA",
        "data:text/html,<b>",
        "data:,AAAA",
        "file:///etc/passwd",
        "ftp://x/y.png",
        "cat.png",
    ],
)
def test_other_formats_and_addresses_are_refused(url) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parsed(part(url))
    assert caught.value.param == "messages[0].content[0].image_url"


@pytest.mark.parametrize(
    "odd",
    [
        "[7]",
        '["text"]',
        '[{"content":7}]',
        '[{"content":[1,"image_url",{"type":"image_url"}]}]',
        '[{"content":[{"type":"ÿ"}]}]',
    ],
)
def test_what_reads_as_no_message_is_left_to_the_upstream(odd) -> None:
    parsed(raw=b'{"model":"m","x":"image_url","messages":' + odd.encode("latin-1") + b"}")
