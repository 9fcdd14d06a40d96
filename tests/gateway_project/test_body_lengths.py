"""Bodies that come in chunks, as OpenAI's client for Node sends files and proxies send what they do not hold."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from rest_framework.parsers import JSONParser
from rest_framework.request import Request

from gateway_project.asgi import control_plane

FORM = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="r.jsonl"\r\n\r\n{}\r\n'
    b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b--\r\n'
)


def request_of(body: bytes, *headers: tuple[bytes, bytes]) -> Any:
    scope = {"type": "http", "method": "POST", "path": "/v1/files", "headers": [(b"host", b"127.0.0.1"), *headers]}
    made, refusal = control_plane.create_request(scope, BytesIO(body))
    assert refusal is None
    return made


CHUNKED = (b"transfer-encoding", b"chunked")


def test_a_form_in_chunks_has_its_file_and_its_fields() -> None:
    sent = request_of(FORM, CHUNKED, (b"content-type", b"multipart/form-data; boundary=b"))
    assert sent.FILES["file"].read() == b"{}"
    assert sent.POST["purpose"] == "batch"


def test_json_in_chunks_reaches_the_rest_api() -> None:
    sent = request_of(b'{"endpoint": "/v1/messages"}', CHUNKED, (b"content-type", b"application/json"))
    assert Request(sent, parsers=[JSONParser()]).data == {"endpoint": "/v1/messages"}


def test_the_length_that_a_client_announces_beside_its_chunks_does_not_count() -> None:
    sent = request_of(b"{}", CHUNKED, (b"content-length", b"9000"))
    assert sent.META["CONTENT_LENGTH"] == "2"


def test_a_request_without_a_body_is_as_it_came() -> None:
    assert "CONTENT_LENGTH" not in request_of(b"").META
