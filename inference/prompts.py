"""A prompt and what belongs to it, as a body of `/v1/chat/completions`."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inference.errors import InvalidRequest

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
)


def body(
    prompt: str | Sequence[Any],
    model: str | None,
    *,
    system_prompt: str | None = None,
    history: Sequence[Any] = (),
    **members: Any,
) -> dict[str, Any]:
    """`members` are the gateway's own (preferred_model, max_cost, require_vision, task) and OpenAI's; None is left out."""
    messages: list[Any] = [{"role": "system", "content": system_prompt}] if system_prompt else []
    messages += [*history, {"role": "user", "content": prompt if isinstance(prompt, str) else list(prompt)}]
    told = {name: value for name, value in members.items() if value is not None}
    return {**told, **({"model": model} if model else {}), "messages": messages}


def with_image(prompt: str, *, image_url: str | None = None, image: bytes | str | Path | None = None) -> list[Any]:
    """Content parts of a text and one picture: by its URL, or its bytes or file, which are sent along."""
    if (image_url is None) == (image is None):
        raise InvalidRequest("Give either `image_url` or `image`.", param="image_url")
    url = image_url if image_url is not None else _data_url(image)
    return [{"type": "text", "text": prompt}, {"type": "image_url", "image_url": {"url": url}}]


def _data_url(image: bytes | str | Path | None) -> str:
    if isinstance(image, bytes):
        data = image
    else:
        try:
            data = Path(str(image)).read_bytes()
        except OSError as error:
            raise InvalidRequest(f"The picture cannot be read: {error.strerror}.", param="image") from error
    return f"data:{_kind(data)};base64,{base64.b64encode(data).decode()}"


def _kind(data: bytes) -> str:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    for signature, kind in _SIGNATURES:
        if data.startswith(signature):
            return kind
    raise InvalidRequest("The picture is none of PNG, JPEG, GIF and WebP.", param="image")
