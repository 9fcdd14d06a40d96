"""What a well-behaved upstream answers for moderations, rerankings, pictures and sound; part of `FakeUpstream`.

Sound is `SOUND`, a picture `PICTURE`; a transcript tells the name and the size of the file that was heard, so that a test sees that all
of it came through.
"""

from __future__ import annotations

import base64
from email import message_from_bytes
from email.policy import HTTP
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.fakes.upstream import RecordedRequest

SOUND = bytes(range(256)) * 64
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
USAGE = {"input_tokens": 12, "output_tokens": 272, "total_tokens": 284, "input_tokens_details": {"text_tokens": 12}}


def form_of(request: RecordedRequest) -> list[tuple[str, str | None, bytes]]:
    """Name, file name and value of each part, as another reader than ours has them."""
    head = b"content-type: " + request.headers.get("content-type", "").encode() + b"\r\n\r\n"
    parts = message_from_bytes(head + request.body, policy=HTTP).iter_parts()
    return [
        (
            str(part.get_param("name", header="content-disposition")),
            part.get_filename(),
            part.get_payload(decode=True),  # type: ignore[misc]
        )
        for part in parts
    ]


def answer(request: RecordedRequest) -> dict[str, Any] | None:
    """The members of an `Answer`; None for other paths."""
    path = request.path.rstrip("/")
    for end, make in _ANSWERS.items():
        if path.endswith(end):
            form = "multipart/" in request.headers.get("content-type", "")
            asked = _asked(request) if form else request.json
            return make(asked)
    return None


def _asked(request: RecordedRequest) -> dict[str, Any]:
    asked: dict[str, Any] = {}
    for name, filename, value in form_of(request):
        asked[name] = (filename, len(value)) if filename else value.decode()
    return asked


def _moderation(asked: dict[str, Any]) -> dict[str, Any]:
    given = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
    results = [{"flagged": "kill" in str(one), "categories": {}, "category_scores": {}} for one in given]
    return {"json": {"id": "modr-1", "model": asked.get("model"), "results": results}}


def _ranking(asked: dict[str, Any]) -> dict[str, Any]:
    scored = [(len(set(str(one)) & set(asked["query"])) / 100, index) for index, one in enumerate(asked["documents"])]
    ranked = sorted(scored, reverse=True)[: asked.get("top_n")]
    results = [{"index": index, "relevance_score": score} for score, index in ranked]
    if asked.get("return_documents"):
        results = [{**one, "document": {"text": asked["documents"][one["index"]]}} for one in results]
    return {"json": {"id": "rank-1", "model": asked["model"], "results": results, "usage": {"total_tokens": 9}}}


def _pictures(asked: dict[str, Any], kind: str = "image_generation") -> dict[str, Any]:
    packed = base64.b64encode(PICTURE).decode()
    if asked.get("stream") in (True, "true"):
        partial = {"type": f"{kind}.partial_image", "b64_json": packed[:20], "partial_image_index": 0}
        return {"events": [partial, {"type": f"{kind}.completed", "b64_json": packed, "usage": USAGE}]}
    return {"json": {"created": 1, "data": [{"b64_json": packed}] * int(asked.get("n") or 1), "usage": USAGE}}


def _speech(asked: dict[str, Any]) -> dict[str, Any]:
    if asked.get("stream_format") == "sse":
        delta = {"type": "speech.audio.delta", "audio": base64.b64encode(SOUND).decode()}
        usage = {"input_tokens": 3, "output_tokens": 40, "total_tokens": 43}
        return {"events": [delta, {"type": "speech.audio.done", "usage": usage}]}
    return {"body": SOUND, "content_type": "audio/mpeg"}


def _transcript(asked: dict[str, Any]) -> dict[str, Any]:
    name, size = asked["file"]
    text, kind = f"{size} bytes of {name}", asked.get("response_format", "json")
    usage = {"type": "tokens", "input_tokens": 14, "output_tokens": 6, "total_tokens": 20}
    if asked.get("stream") == "true":
        words = [{"type": "transcript.text.delta", "delta": f"{word} "} for word in text.split()]
        return {"events": [*words, {"type": "transcript.text.done", "text": text, "usage": usage}]}
    if kind in ("text", "srt", "vtt"):
        return {"body": f"{text}\n", "content_type": "text/plain; charset=utf-8"}
    if asked["model"].startswith("whisper"):
        return {"json": {"text": text, "usage": {"type": "duration", "seconds": 3}}}
    return {"json": {"text": text, "usage": usage}}


_ANSWERS = {
    "/moderations": _moderation,
    "/rerank": _ranking,
    "/images/generations": _pictures,
    "/images/edits": lambda asked: _pictures(asked, "image_edit"),
    "/images/variations": _pictures,
    "/audio/speech": _speech,
    "/audio/transcriptions": _transcript,
    "/audio/translations": _transcript,
}
