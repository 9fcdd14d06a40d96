"""Files in the database: written and read piece by piece, so that none is ever whole in memory.

They lie there and not in a folder because every host has to reach them, and because one backup then holds everything.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.db import transaction
from django.db.models import Q, QuerySet, Sum
from django.http import HttpRequest
from django.utils import timezone

from inference.batch_models import Batch
from inference.errors import InvalidRequest
from inference.file_models import FilePiece, KeptFile

PIECE_BYTES = 256 * 1024
ABANDONED = timedelta(days=1)
"""After this long nobody is still writing a file that is not ready, or making a batch of it."""

BATCH, BATCH_OUTPUT, USER_DATA = "batch", "batch_output", "user_data"
PURPOSES = ("assistants", BATCH, "evals", "fine-tune", USER_DATA, "vision")
"""What a client may say; nothing but `batch` makes a difference here."""

_PIECES_AT_ONCE = 8


class TooLarge(ValueError):
    """The file has more bytes than a file may have."""


class Writer:
    """Takes bytes, keeps them as pieces. Until `end` nobody but the writer sees the file."""

    def __init__(self, file: KeptFile, most_bytes: int | None = None) -> None:
        self.file, self._most = file, most_bytes
        self._rest = bytearray()
        self._pieces: list[FilePiece] = []
        self._number = 0
        file.save(force_insert=True)

    def write(self, data: bytes) -> None:
        """Raises `TooLarge`."""
        self.file.size += len(data)
        if self._most is not None and self.file.size > self._most:
            raise TooLarge
        self._rest += data
        while len(self._rest) >= PIECE_BYTES:
            self._cut(PIECE_BYTES)

    def end(self) -> KeptFile:
        if self._rest:
            self._cut(len(self._rest))
        self._store()
        self.file.ready = True
        self.file.save(update_fields=["size", "ready"])
        return self.file

    def _cut(self, length: int) -> None:
        piece = bytes(memoryview(self._rest)[:length])
        del self._rest[:length]
        packed = base64.b64encode(zlib.compress(piece, 1)).decode("ascii")
        self._pieces.append(FilePiece(file=self.file, number=self._number, content=packed))
        self._number += 1
        if len(self._pieces) >= _PIECES_AT_ONCE:
            self._store()

    def _store(self) -> None:
        FilePiece.objects.bulk_create(self._pieces)
        self._pieces = []


def keep(file: KeptFile, data: Iterable[bytes], most_bytes: int | None = None) -> KeptFile:
    """Raises `TooLarge`; then nothing of it is left."""
    writer = Writer(file, most_bytes)
    try:
        for piece in data:
            writer.write(piece)
        return writer.end()
    except BaseException:
        delete(file.pk)
        raise


def bytes_of(owner: str) -> int:
    """Of all that the client key has left here."""
    taken: int | None = own(owner).aggregate(taken=Sum("size"))["taken"]
    return taken or 0


def room_of(owner: str) -> int:
    """Bytes that the client key may still leave here; below 0 when the limit was lowered."""
    most: int = settings.GATEWAY_FILE_BYTES_PER_KEY
    return most - bytes_of(owner)


def full(param: str) -> InvalidRequest:
    return InvalidRequest(
        f"The files of this client key would take more than {settings.GATEWAY_FILE_BYTES_PER_KEY:,} bytes: delete some first.",
        status=413,
        code="file_storage_full",
        param=param,
    )


def check_room(file: KeptFile, param: str) -> None:
    """Of one that was just kept: what was left at the same time had been asked for the same room. Raises; then nothing of it is left."""
    if room_of(file.owner) < 0:
        delete(file.pk)
        raise full(param)


def own(owner: str) -> QuerySet[KeptFile]:
    """The files that a client key has now."""
    now = timezone.now()
    return KeptFile.objects.filter(owner=owner, ready=True).exclude(expires_at__lte=now)


def piece(file_id: str, number: int) -> bytes | None:
    """None after the last."""
    found = FilePiece.objects.filter(file_id=file_id, number=number).first()
    return None if found is None else unpacked(found)


def unpacked(found: FilePiece) -> bytes:
    return zlib.decompress(base64.b64decode(found.content.reveal()))


def to_send(request: HttpRequest, file_id: str) -> AsyncIterator[bytes] | Iterator[bytes]:
    """The pieces in the colour of the server: Django would read all of the wrong one before it sends any."""
    return _pieces_later(file_id) if isinstance(request, ASGIRequest) else pieces(file_id)


async def _pieces_later(file_id: str) -> AsyncIterator[bytes]:
    read, number = sync_to_async(piece), 0
    while (data := await read(file_id, number)) is not None:
        yield data
        number += 1


def pieces(file_id: str) -> Iterator[bytes]:
    number = 0
    while (data := piece(file_id, number)) is not None:
        yield data
        number += 1


def lines(file_id: str, longest: int) -> Iterator[bytes]:
    """Without their ends. Of a line that is longer than `longest` bytes the rest is left out, which is enough to know that."""
    rest = b""
    for data in pieces(file_id):
        *whole, rest = (rest + data).split(b"\n")
        yield from (line.removesuffix(b"\r")[: longest + 1] for line in whole)
        if len(rest) > longest:
            rest = rest[: longest + 1]
    if rest:
        yield rest.removesuffix(b"\r")


def delete(file_id: str) -> bool:
    """A few pieces at a time: nobody who writes has to wait for the end of a large one."""
    while numbers := list(FilePiece.objects.filter(file_id=file_id).values_list("pk", flat=True)[:50]):
        FilePiece.objects.filter(pk__in=numbers).delete()
    return bool(KeptFile.objects.filter(pk=file_id).delete()[0])


def delete_unread(file_id: str) -> bool:
    """Unless a batch reads it; then False. Before the first piece goes it is nobody's any more: no batch is made of what is left."""
    with transaction.atomic():
        list(held(KeptFile.objects.filter(pk=file_id)))
        if is_read(file_id):
            return False
        KeptFile.objects.filter(pk=file_id).update(ready=False)
    delete(file_id)
    return True


def held(files: QuerySet[KeptFile]) -> QuerySet[KeptFile]:
    """Until the transaction ends, nobody else deletes them or makes a batch of them."""
    return files.select_for_update()


def usual_expiry(now: datetime) -> datetime:
    """Of a batch's input and output, where nobody named one."""
    return now + timedelta(days=settings.GATEWAY_FILE_DAYS)


def forget_old(now: datetime) -> int:
    """Delete what is past its expiry, and what nobody ended to write; returns how many files went."""
    old = Q(expires_at__lte=now) | Q(ready=False, created_at__lt=now - ABANDONED)
    read = Batch.objects.filter(state__in=Batch.OPEN).values("input_file_id")
    found = KeptFile.objects.filter(old).exclude(pk__in=read)
    return sum(delete_unread(file_id) for file_id in list(found.values_list("pk", flat=True)[:1000]))


def is_read(file_id: str) -> bool:
    """By a batch that is not over."""
    return Batch.objects.filter(input_file_id=file_id, state__in=Batch.OPEN).exists()


def document(file: KeptFile) -> dict[str, Any]:
    """OpenAI's file object."""
    return {
        "id": file.pk,
        "object": "file",
        "bytes": file.size,
        "created_at": int(file.created_at.timestamp()),
        "expires_at": None if file.expires_at is None else int(file.expires_at.timestamp()),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }
