"""Words that a request is marked with, to find it and to tell what it cost: `x-gateway-tags: batch,team-a`, or `metadata.tags`. Pure."""

from __future__ import annotations

import msgspec

from inference.errors import InvalidRequest

MOST = 16
LONGEST = 64
LONGEST_TOGETHER = 253
"""With the commas between them; columns hold two more around them."""

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_texts = msgspec.json.Decoder(str | list[str] | None).decode
_encode = msgspec.json.Encoder().encode


def read(text: str, param: str) -> tuple[str, ...]:
    """Tags out of a text with commas. Raises `InvalidRequest`, naming the `param`."""
    return _checked(text.split(","), param)


def joined(some: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    """Each once, in the order in which they were named. Raises `InvalidRequest` when they are too many together."""
    return _checked((*some, *more), "x-gateway-tags") if some else more


def taken_from(fields: dict[str, msgspec.Raw]) -> tuple[str, ...]:
    """The tags of a body's `metadata`, a text or an array of texts. They stay in what goes upstream when they are a text, as
    OpenAI's metadata are; an array would be refused there, and is taken out. What is wrong with the rest, the upstream shall say."""
    try:
        metadata = _members(fields["metadata"])
        raw = metadata.get("tags")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ()
    if raw is None:
        return ()
    try:
        told = _texts(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidRequest("'metadata.tags' must be a text or an array of texts.", param="metadata.tags") from None
    if told is None:
        return ()
    if isinstance(told, str):
        return read(told, "metadata.tags")
    del metadata["tags"]
    if metadata:
        fields["metadata"] = msgspec.Raw(_encode(metadata))
    else:
        del fields["metadata"]
    return _checked(told, "metadata.tags")


def _checked(named: list[str] | tuple[str, ...], param: str) -> tuple[str, ...]:
    tags = tuple(dict.fromkeys(tag for one in named if (tag := one.strip())))
    if len(tags) > MOST:
        raise InvalidRequest(f"'{param}' names more than {MOST} tags.", param=param)
    for tag in tags:
        if len(tag) > LONGEST or "," in tag or not tag.isprintable():
            raise InvalidRequest(
                f"'{param}' holds a tag that is longer than {LONGEST} characters, or has a comma or a control character in it.",
                param=param,
            )
    if sum(map(len, tags)) + len(tags) - 1 > LONGEST_TOGETHER:
        raise InvalidRequest(f"'{param}' is longer than {LONGEST_TOGETHER} characters.", param=param)
    return tags
