"""Forms with files: what stands in them, and how they read with another value."""

from __future__ import annotations

import time
from email import message_from_bytes
from email.policy import HTTP

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import InvalidRequest
from inference.wire import media, multipart

TYPE = b"multipart/form-data; boundary=X-edge"


def form(*parts: tuple[str, bytes], end: bytes = b"--X-edge--\r\n") -> bytes:
    written = [b"--X-edge\r\ncontent-disposition: form-data; %b\r\n\r\n%b\r\n" % (h.encode(), v) for h, v in parts]
    return b"".join(written) + end


FILE = ('name="file"; filename="a.mp3"', b"\x00\xff--X\r\n\r\n--Xsound\r\n")
MODEL = ('name="model"', b"mine")


def read_back(pieces: multipart.Pieces) -> list[tuple[str, bytes]]:
    """As another reader has it."""
    body = b"".join(bytes(piece) for piece in pieces)
    told = message_from_bytes(b"content-type: " + TYPE + b"\r\n\r\n" + body, policy=HTTP)
    return [
        (str(part.get_param("name", header="content-disposition")), part.get_payload(decode=True))
        for part in told.iter_parts()
    ]


def test_texts_and_files_are_told_apart():
    read = multipart.read(form(MODEL, FILE, ("name=prompt", "Grüße".encode())), TYPE)
    assert read.texts() == {"model": "mine", "prompt": "Grüße"}
    [file] = read.files()
    assert (file.name, file.filename, file.size) == ("file", "a.mp3", len(FILE[1]))


def test_only_the_model_is_exchanged_and_the_file_is_not_copied():
    body = form(FILE, MODEL, ('name="prompt"', b"one"))
    pieces = multipart.read(body, TYPE).with_values({"model": "theirs"})
    assert read_back(pieces) == [("model", b"theirs"), ("file", FILE[1]), ("prompt", b"one")]
    assert any(isinstance(piece, memoryview) and piece.obj is body and FILE[1] in bytes(piece) for piece in pieces)


def test_a_model_is_added_where_none_was_named_and_what_is_ours_is_left_out():
    pieces = multipart.read(form(FILE, ('name="max_cost"', b"1"), ("name=n", b"2")), TYPE)
    assert read_back(pieces.with_values({"model": "m"}, ["max_cost"])) == [
        ("model", b"m"),
        ("file", FILE[1]),
        ("n", b"2"),
    ]


def test_every_part_of_a_name_gives_way_to_the_one_value():
    pieces = multipart.read(form(MODEL, FILE, MODEL), TYPE).with_values({"model": "m"})
    assert [name for name, _ in read_back(pieces)] == ["model", "file"]


@given(st.lists(st.tuples(st.sampled_from(["a", "model", "file"]), st.binary(max_size=60)), min_size=1, max_size=6))
def test_whatever_the_parts_hold_all_but_the_model_comes_through(parts: list[tuple[str, bytes]]):
    body = form(*((f'name="{name}"; filename="f"', value) for name, value in parts))
    try:
        pieces = multipart.read(body, TYPE).with_values({"model": "m"})
    except InvalidRequest:
        assert b"--X-edge" in b"".join(value for _, value in parts)
        return
    again = multipart.read(b"".join(bytes(piece) for piece in pieces), TYPE)
    values = [(part.name, bytes(again.body[part.value : part.end])) for part in again.parts]
    assert values == [("model", b"m"), *((name, value) for name, value in parts if name != "model")]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"--X-edge--\r\n", id="no part"),
        pytest.param(form(MODEL, end=b""), id="no end"),
        pytest.param(
            form(FILE, ('name="p"', b'a\n--X-edge\r\ncontent-disposition: form-data; name="model"\r\n\r\nx')),
            id="a bare LF",
        ),
        pytest.param(form(('name="p"; name="model"', b"x")), id="two names"),
        pytest.param(form(("name*=utf-8''model", b"x")), id="a name in another spelling"),
        pytest.param(form(("filename=x", b"x")), id="no name"),
        pytest.param(form(('name="p"\r\ncontent-disposition: form-data; name="model"', b"x")), id="two dispositions"),
        pytest.param(form(('name="p"\r\ncontent-transfer-encoding: base64', b"eA==")), id="a transfer encoding"),
        pytest.param(b"--X-edge \r\n" + form(MODEL), id="a boundary with blanks"),
        pytest.param(form(*[MODEL] * 300), id="parts without end"),
        pytest.param(form((f'name="{"p" * 9000}"', b"x")), id="a head without end"),
    ],
)
def test_what_readers_could_take_for_different_forms_is_refused(body: bytes):
    with pytest.raises(InvalidRequest):
        multipart.read(body, TYPE)


@pytest.mark.parametrize(
    "kind",
    [b"multipart/form-data", b"multipart/form-data; boundary=a; boundary=b", b'multipart/form-data; boundary="a\r\nb"'],
)
def test_a_boundary_must_be_named_once_and_be_one(kind: bytes):
    with pytest.raises(InvalidRequest):
        multipart.read(form(MODEL), kind)


def test_a_boundary_that_needs_quotation_marks_keeps_them():
    body = form(MODEL).replace(b"X-edge", b"X edge?")
    assert multipart.read(body, b'multipart/form-data; boundary="X edge?"').content_type.endswith('boundary="X edge?"')


def test_a_file_full_of_boundaries_holds_nobody_up():
    body = form(MODEL, ('name="file"; filename="f"', b"x" + b"--X-edge" * 1_000_000))
    began = time.process_time()
    assert len(multipart.read(body, TYPE).parts) == 2
    assert time.process_time() - began < 0.5


def test_a_short_boundary_makes_no_long_body():
    body = b"--a\r\n" + b"a" * 1000
    assert len(media.regardless_of_boundary(body, b"multipart/form-data; boundary=a")) <= len(body)
