"""Forms with files (RFC 7578): which parts there are, and the same form with another value of a few. No I/O.

A form is read where it lies and sent on in slices of the same buffer, so a large file is held once, however many upstreams are
asked. What two readers could take for different forms is refused, since the gateway decides by what it reads: a boundary after
a bare line end, a part named twice over, a name that is spelled in another way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from inference.errors import InvalidRequest

Buffer = bytes | bytearray
Pieces = tuple[bytes | memoryview, ...]

MOST_PARTS = 256
LONGEST_HEAD = 8 * 1024
LONGEST_TEXT = 256 * 1024
"""Bytes of a value that is read as text; longer ones are passed on unread."""

_TYPE = re.compile(rb"multipart/form-data\s*(?:;|\Z)", re.IGNORECASE)
_PARAMETER = re.compile(rb';\s*([^\s=;"]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s;"]*)', re.DOTALL)
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
_PLAIN_BOUNDARY = re.compile(rb"[0-9A-Za-z'+_\-.]+")
_DISPOSITION = re.compile(rb"\s*form-data\s*(?=;)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Part:
    """`begin` is where its boundary stands, `next` where the following one does; the value lies in between."""

    name: str
    filename: str | None
    begin: int
    value: int
    end: int
    next: int

    @property
    def size(self) -> int:
        return self.end - self.value


@dataclass(frozen=True, slots=True)
class Form:
    boundary: bytes
    body: Buffer
    parts: tuple[Part, ...]

    @property
    def content_type(self) -> str:
        name = self.boundary.decode("ascii")
        written = name if _PLAIN_BOUNDARY.fullmatch(self.boundary) else f'"{name}"'
        return f"multipart/form-data; boundary={written}"

    def texts(self) -> dict[str, str]:
        """The values that are no files, by name; of several, the last. Raises `InvalidRequest` for what is no UTF-8."""
        return {
            part.name: self._text(part) for part in self.parts if part.filename is None and part.size <= LONGEST_TEXT
        }

    def files(self) -> tuple[Part, ...]:
        return tuple(part for part in self.parts if part.filename is not None)

    def with_values(self, values: Mapping[str, str], without: Iterable[str] = ()) -> Pieces:
        """The whole body with these values in place of whatever had their names, and without what is not to be passed on."""
        left_out = {*without, *values}
        pieces: list[bytes | memoryview] = [self._written(name, value) for name, value in values.items()]
        lying = memoryview(self.body)
        begin = end = self.parts[0].begin if self.parts else 0
        for part in self.parts:
            if part.name not in left_out:
                end = part.next
                continue
            if begin < end:
                pieces.append(lying[begin:end])
            begin = end = part.next
        if begin < end:
            pieces.append(lying[begin:end])
        pieces.append(b"--" + self.boundary + b"--\r\n")
        return tuple(pieces)

    def _written(self, name: str, value: str) -> bytes:
        head = b'--%b\r\ncontent-disposition: form-data; name="%b"\r\n\r\n' % (self.boundary, name.encode("ascii"))
        written = value.encode("utf-8", "replace")
        if self.boundary in written:
            raise InvalidRequest("The form's boundary cannot be used; take another one.")
        return head + written + b"\r\n"

    def _text(self, part: Part) -> str:
        try:
            return bytes(self.body[part.value : part.end]).decode()
        except UnicodeDecodeError:
            raise InvalidRequest(f"'{part.name[:100]}' is not valid UTF-8.", param=part.name[:100]) from None


def is_form(content_type: bytes) -> bool:
    return _TYPE.match(content_type.strip()) is not None


def read(body: Buffer, content_type: bytes) -> Form:
    """Raises `InvalidRequest` for what is not a whole form that every reader takes for the same."""
    boundary = boundary_of(content_type)
    found = _boundaries(body, b"--" + boundary)
    parts = []
    for place, begin in enumerate(found[:-1]):
        parts.append(_part(body, begin, begin + len(boundary) + 4, found[place + 1]))
    if not parts:
        raise InvalidRequest("The form holds nothing.")
    return Form(boundary, body, tuple(parts))


def boundary_of(content_type: bytes) -> bytes:
    """Raises `InvalidRequest` where there is none, or one that no form can have."""
    named = [value for name, value in _parameters(content_type) if name == b"boundary"]
    if len(named) != 1 or _BOUNDARY.fullmatch(named[0]) is None:
        raise InvalidRequest("The content type of the form must name its boundary, once.")
    return named[0]


def _boundaries(body: Buffer, mark: bytes) -> list[int]:
    """Where each one stands; the last one ends the form. What stands inside of a line is passed over without being looked at:
    a file may hold it millions of times."""
    if body.find(b"\r" + mark) >= 0:
        raise InvalidRequest("The form is not well formed: lines must end in CR and LF.")
    found: list[int] = []
    at = 0 if body.startswith(mark) else _next_line(body, mark, 0)
    while at >= 0:
        if at and body[at - 2 : at - 1] != b"\r":
            raise InvalidRequest("The form is not well formed: lines must end in CR and LF.")
        found.append(at)
        after = bytes(body[at + len(mark) : at + len(mark) + 2])
        if after == b"--":
            return found
        if after != b"\r\n":
            raise InvalidRequest("The form is not well formed: a boundary's line goes on after it.")
        if len(found) > MOST_PARTS:
            raise InvalidRequest(f"The form has more than {MOST_PARTS} parts.")
        at = _next_line(body, mark, at + len(mark))
    raise InvalidRequest("The form is not complete: its last boundary is missing.")


def _next_line(body: Buffer, mark: bytes, begin: int) -> int:
    """Where the next line begins with it; -1 where none does."""
    at = body.find(b"\n" + mark, begin)
    return at if at < 0 else at + 1


def _part(body: Buffer, begin: int, head: int, following: int) -> Part:
    end = following - 2
    value = body.find(b"\r\n\r\n", head, min(end, head + LONGEST_HEAD))
    if value < 0:
        raise InvalidRequest("The form is not well formed: a part has no head, or one that is too long.")
    name, filename = _named(bytes(body[head:value]))
    return Part(name, filename, begin, value + 4, end, following)


def _named(head: bytes) -> tuple[str, str | None]:
    lines = head.split(b"\r\n")
    told = [line.partition(b":") for line in lines]
    if any(line[:1] in (b" ", b"\t") or b"\n" in line or b"\r" in line for line in lines):
        raise InvalidRequest("The form is not well formed: a part's head cannot be read.")
    dispositions = [value for name, _, value in told if name.strip().lower() == b"content-disposition"]
    if len(dispositions) != 1 or _DISPOSITION.match(dispositions[0]) is None:
        raise InvalidRequest("The form is not well formed: a part must say once what it is.")
    if any(name.strip().lower() == b"content-transfer-encoding" and not _is_as_it_is(v) for name, _, v in told):
        raise InvalidRequest("The parts of a form must come as they are, in no transfer encoding.")
    parameters = _parameters(dispositions[0])
    names = [value for name, value in parameters if name in (b"name", b"name*")]
    if len(names) != 1 or (b"name*", names[0]) in parameters:
        raise InvalidRequest("The form is not well formed: a part must have one name.")
    filename = next((value for name, value in parameters if name in (b"filename", b"filename*")), None)
    return names[0].decode("utf-8", "replace"), None if filename is None else filename.decode("utf-8", "replace")


def _is_as_it_is(encoding: bytes) -> bool:
    return encoding.strip().lower() in (b"binary", b"8bit", b"7bit")


def _parameters(header: bytes) -> list[tuple[bytes, bytes]]:
    """Names in lower case, values without quotation marks."""
    return [(name.lower(), _unquoted(value)) for name, value in _PARAMETER.findall(header)]


def _unquoted(value: bytes) -> bytes:
    return re.sub(rb"\\(.)", rb"\1", value[1:-1]) if value[:1] == b'"' else value
