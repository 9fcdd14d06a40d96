"""Pictures, sound, moderations and rerankings: what routing needs of such a request, and when a stream of them is over. No I/O.

JSON and forms alike are passed on as they came, but for the model's name and what is meant for the gateway itself. Of a form only
the texts are read; files count nothing, since nobody can tell a model's tokens by the bytes of a recording.
"""

from __future__ import annotations

import re

import msgspec

from inference.errors import InvalidRequest
from inference.wire import multipart, openai
from inference.wire.multipart import Form
from inference.wire.openai import Operation, ParsedRequest
from inference.wire.pictures import PictureLimits

_FORMS_ONLY = frozenset({openai.IMAGE_VARIATIONS, openai.TRANSCRIPTIONS, openai.TRANSLATIONS})
_FORM_OR_JSON = frozenset({openai.IMAGE_EDITS})
_READ_IN_FORMS = ("prompt", "query", "input")
_DATA_URL = re.compile(rb'"data:[^"]*"')
_JSON_VALUE = re.compile(r"\s*(?:true|false|null|[\[{].*)\s*", re.DOTALL)
_TRUE = ("true", "1", "yes")

_LAST_EVENT = re.compile(
    rb'"type"\s*:\s*"(?:image_generation\.completed|image_edit\.completed|transcript\.text\.done|speech\.audio\.done)"'
    rb"|(?:^|[\r\n])data: ?\[DONE\]"
)
_ERROR_EVENT = re.compile(
    rb'(?:^|[\r\n])event: ?error[\r\n]|(?:^|[\r\n])data: ?\{\s*"error"\s*:\s*[{"]|"type"\s*:\s*"error"'
)

_encode = msgspec.json.Encoder().encode


def parsed(
    operation: Operation, body: multipart.Buffer, content_type: bytes, depth: int, pictures: PictureLimits
) -> ParsedRequest:
    """Raises `InvalidRequest`, naming the member at fault in `param`."""
    if operation in _FORMS_ONLY or (operation in _FORM_OR_JSON and not _says_json(content_type)):
        if not multipart.is_form(content_type):
            raise InvalidRequest("The request must be a form: multipart/form-data, with the file as one of its parts.")
        return _of_form(operation, multipart.read(body, content_type))
    if multipart.is_form(content_type):
        raise InvalidRequest("The request must be a JSON object, not a form.")
    request = openai.parse(operation, bytes(body), depth, pictures)
    _leave_out_data(request)
    if operation is openai.SPEECH:
        request.stream = bytes(request.fields.get("stream_format", b"")) == b'"sse"'
    return request


def regardless_of_boundary(body: multipart.Buffer, content_type: bytes) -> bytes:
    """A body as two requests for the same have it: clients make up a boundary for each. It never gets longer."""
    if not multipart.is_form(content_type):
        return bytes(body)
    boundary = multipart.boundary_of(content_type)
    return bytes(body.replace(boundary, b"-"))


def is_complete(tail: bytes) -> bool:
    """Whether a stream of pictures, of sound or of a transcript has said its last word."""
    return _LAST_EVENT.search(tail) is not None


def holds_error(events: bytes) -> bool:
    """Whether one of the events says that the upstream failed."""
    return b"error" in events and _ERROR_EVENT.search(events) is not None


def _says_json(content_type: bytes) -> bool:
    return not content_type or b"json" in content_type.lower()


def _of_form(operation: Operation, form: Form) -> ParsedRequest:
    texts = form.texts()
    fields = {name: msgspec.Raw(_encode(value)) for name, value in texts.items()}
    _need_subject(operation, form, texts)
    if operation.subject not in fields:
        files = [{"file": part.filename, "bytes": part.size} for part in form.files()]
        fields[operation.subject] = msgspec.Raw(_encode(files))
    request = ParsedRequest(
        operation,
        openai.model_of(fields),
        operation.streams and texts.get("stream", "").strip().lower() in _TRUE,
        fields,
        sum(len(value.encode()) for value in texts.values()),
    )
    request.form = form
    request.prompt_bytes = sum(len(texts[name].encode()) for name in _READ_IN_FORMS if name in texts)
    count = texts.get("n", "")
    request.choices = max(1, min(int(count[:9]), 1000)) if count.isascii() and count.isdigit() else 1
    for name in [name for name in fields if openai.is_ours(name)]:
        if _JSON_VALUE.fullmatch(texts[name]):
            fields[name] = msgspec.Raw(texts[name].encode())
        openai.take_wish(request, name, fields)
    request.names_session = request.session_id is not None
    if request.session_id is None:
        request.session_id = texts.get("user", "")[:255] or None
    return request


def _need_subject(operation: Operation, form: Form, texts: dict[str, str]) -> None:
    """Pictures may come one by one or as `image[]`."""
    named = {part.name.partition("[")[0] for part in form.parts}
    files = {part.name.partition("[")[0] for part in form.files()}
    needed = {"image"} if operation is openai.IMAGE_EDITS else {operation.subject}
    for name in needed - (named if operation is openai.IMAGE_EDITS else files):
        raise InvalidRequest(f"Missing required parameter: '{name}'.", param=name)
    if operation is openai.IMAGE_EDITS and not texts.get("prompt"):
        raise InvalidRequest("Missing required parameter: 'prompt'.", param="prompt")


def _leave_out_data(request: ParsedRequest) -> None:
    """What comes as a `data:` address is a file and no text, wherever it stands."""
    data = 0
    for name in request.fields:
        raw = memoryview(request.fields[name])
        if len(raw) > 1024:
            found = sum(len(one.group()) for one in _DATA_URL.finditer(raw))
            data += found
            if name in (request.operation.subject, *request.operation.also):
                request.prompt_bytes -= found
    request.size -= data
