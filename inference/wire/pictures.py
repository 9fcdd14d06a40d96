"""Pictures in the parts of a chat's messages: how many there are, how large, and whether they are of a kind that is served.

Messages are looked at only when their bytes name a picture, and never changed: what a client wrote reaches the upstream byte
for byte. A message that does not read as OpenAI's is left for the upstream to judge. No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from inference.errors import InvalidRequest

FORMATS = ("jpg", "jpeg", "png", "gif", "webp")


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """As the source systems keep them."""

    most: int = 10
    largest_bytes: int = 20 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Pictures:
    count: int = 0
    data_bytes: int = 0
    """Of the message's bytes, how many are pictures and no text."""


NO_PICTURES = Pictures()

_KINDS = ("image_url", "input_image")
_NULL = msgspec.Raw(b"null")
# A name may be spelled with escapes, `image\u005furl`: only letters and the underscore matter here.
_SPELLED_OUT = re.compile(rb"\\u00(?:5[fF]|[67])")
_DATA = re.compile(rb"data:([^;,]*)((?:;[^;,]*)*),")
_HEAD_BYTES = 256


class _Message(msgspec.Struct):
    content: msgspec.Raw = _NULL


class _Part(msgspec.Struct):
    type: Any = None
    image_url: msgspec.Raw = _NULL


class _Address(msgspec.Struct):
    url: msgspec.Raw = _NULL


_messages = msgspec.json.Decoder(list[_Message])
_parts = msgspec.json.Decoder(list[msgspec.Raw])
_part = msgspec.json.Decoder(_Part)
_address = msgspec.json.Decoder(_Address)
_text = msgspec.json.Decoder(str)


def may_hold(body: bytes) -> bool:
    """Whether it is worth looking: text that only speaks of pictures has its quotation marks escaped."""
    if b"image" in body and (b'"image_url"' in body or b'"input_image"' in body):
        return True
    return b"\\" in body and _SPELLED_OUT.search(body) is not None


def found(messages: msgspec.Raw, limits: PictureLimits) -> Pictures:
    """Raises `InvalidRequest`, naming the part that breaks a limit."""
    count = data_bytes = 0
    for place, part in _pictures(messages):
        count += 1
        if count > limits.most:
            raise InvalidRequest(f"A request may hold at most {limits.most} pictures.", param="messages")
        url = _url(part.image_url)
        if url is not None:
            data_bytes += _checked(url, place, limits)
    return Pictures(count, data_bytes) if count else NO_PICTURES


def _pictures(messages: msgspec.Raw) -> Iterator[tuple[str, _Part]]:
    try:
        for number, message in enumerate(_messages.decode(messages)):
            content = message.content
            if memoryview(content)[0] != ord("["):
                continue
            for place, raw in enumerate(_parts.decode(content)):
                if memoryview(raw)[0] == ord("{"):
                    part = _part.decode(raw)
                    if part.type in _KINDS:
                        yield f"messages[{number}].content[{place}].image_url", part
    except (msgspec.DecodeError, UnicodeDecodeError):
        return


def _url(raw: msgspec.Raw) -> bytes | None:
    """The address as it is spelled, without its quotation marks; None where there is none."""
    if memoryview(raw)[0] == ord("{"):
        try:
            raw = _address.decode(raw).url
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
    spelled = bytes(raw)
    return spelled[1:-1] if spelled[:1] == b'"' else None


def _checked(url: bytes, place: str, limits: PictureLimits) -> int:
    """The bytes of a picture that comes with the request; an address of one elsewhere counts as text."""
    head = _plain(url[:_HEAD_BYTES])
    scheme = head.partition(b":")[0].lower()
    if scheme in (b"http", b"https"):
        return 0
    if scheme != b"data":
        raise InvalidRequest("A picture's address must begin with http:, https: or data:.", param=place)
    told = _DATA.match(head[:5].lower() + head[5:])
    kind = told.group(1).decode("latin-1").lower() if told else ""
    if told is None or kind.removeprefix("image/") not in FORMATS or not kind.startswith("image/"):
        raise InvalidRequest(f"A picture must be of one of the formats {', '.join(FORMATS)}.", param=place)
    payload = len(url) - told.end() - url.count(b"\\") - url[-2:].count(b"=")
    size = payload * 3 // 4 if b"base64" in told.group(2).lower() else payload
    if size > limits.largest_bytes:
        raise InvalidRequest(f"A picture may have at most {limits.largest_bytes} bytes.", param=place)
    return len(url)


def _plain(head: bytes) -> bytes:
    """Without JSON's escapes; the cut may have gone through one."""
    if b"\\" not in head:
        return head
    try:
        return _text.decode(b'"' + re.sub(rb"\\(?:u[0-9a-fA-F]{0,3})?\Z", b"", head) + b'"').encode()
    except (msgspec.DecodeError, UnicodeError):
        return head
