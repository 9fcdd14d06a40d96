"""What the header of a GGUF file says: enough to refuse a bad file with a sentence and to estimate its memory.

The format is https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little endian. Only the key/value
part is read; of arrays only the length is kept, since vocabularies hold hundreds of thousands of texts.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from inference.errors import ModelUnavailable

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_TEXT, _ARRAY = 8, 9
_LONGEST_TEXT = 16 * 1024 * 1024
_MOST_ENTRIES = 100_000
_READ_BYTES = 8 * 1024 * 1024
_SHARD = re.compile(r"^(?P<stem>.+)-(?P<number>\d{5})-of-(?P<total>\d{5})\.gguf$")


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """`shards` are all files of the model, the first first; `size_bytes` is their sum."""

    metadata: Mapping[str, Any]
    shards: tuple[Path, ...]
    size_bytes: int

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", ""))

    def number(self, name: str, default: int = 0) -> int:
        """A whole number of the architecture's own section, such as `context_length`."""
        value = self.metadata.get(f"{self.architecture}.{name}", default)
        return int(value) if isinstance(value, int | float) else default

    @property
    def trained_context(self) -> int:
        return self.number("context_length")

    def cache_bytes_per_token(self) -> int:
        """Keys and values of one token in 16 bits, over all layers; an upper bound for models with sliding windows."""
        heads = self.number("attention.head_count", 1) or 1
        kv_heads = self.number("attention.head_count_kv", heads) or heads
        head_size = self.number("embedding_length") // heads
        key = self.number("attention.key_length", head_size) or head_size
        value = self.number("attention.value_length", head_size) or head_size
        return self.number("block_count") * kv_heads * (key + value) * 2


def read_header(path: Path) -> GgufHeader:
    """Raise `ModelUnavailable`, with what to do, when the file or one of its shards cannot be loaded."""
    if not path.is_file():
        raise ModelUnavailable(
            "The model's file is not on this worker.",
            detail=f"no file at {path}; correct the model's `model_path` or copy the GGUF file there",
        )
    try:
        with path.open("rb") as file:
            metadata = _read_metadata(file, path)
    except PermissionError as error:
        raise ModelUnavailable(
            "The model's file cannot be read.", detail=f"{path} is not readable by this worker; check its permissions"
        ) from error
    except (struct.error, UnicodeDecodeError, KeyError, EOFError) as error:
        raise _not_gguf(path, "its header is cut or damaged; copy the file again") from error
    shards = _shards(path)
    return GgufHeader(metadata=metadata, shards=shards, size_bytes=sum(shard.stat().st_size for shard in shards))


def checksum(parts: Sequence[Path], read: Callable[[int], object] = lambda count: None) -> str:
    """SHA-256 of the parts one after another; `read` hears of every bit of the way, in bytes."""
    digest = hashlib.sha256()
    for part in parts:
        with part.open("rb") as file:
            while piece := file.read(_READ_BYTES):
                digest.update(piece)
                read(len(piece))
    return digest.hexdigest()


def _not_gguf(path: Path, reason: str) -> ModelUnavailable:
    return ModelUnavailable("The model's file is not a usable GGUF file.", detail=f"{path}: {reason}")


def _read_metadata(file: BinaryIO, path: Path) -> dict[str, Any]:
    if file.read(4) != b"GGUF":
        raise _not_gguf(path, "it does not begin with GGUF; llama.cpp needs a file in GGUF format")
    version = _scalar(file, 4)
    if version not in (2, 3):
        raise _not_gguf(path, f"GGUF version {version} is not supported; convert the model again")
    _scalar(file, 10)  # the number of tensors
    entries = _scalar(file, 10)
    if entries > _MOST_ENTRIES:
        raise _not_gguf(path, "its header is damaged; copy the file again")
    metadata = {}
    for _ in range(entries):
        name = _text(file)
        metadata[name] = _value(file, _scalar(file, 4))
    return metadata


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _TEXT:
        return _text(file)
    if kind != _ARRAY:
        return _scalar(file, kind)
    inner, length = _scalar(file, 4), _scalar(file, 10)
    if inner == _TEXT:
        for _ in range(length):
            _skip(file, _scalar(file, 10))
    elif inner == _ARRAY:
        raise KeyError("nested arrays")
    else:
        _skip(file, length * struct.calcsize(_SCALARS[inner]))
    return None


def _scalar(file: BinaryIO, kind: int) -> Any:
    layout = _SCALARS[kind]
    return struct.unpack(layout, file.read(struct.calcsize(layout)))[0]


def _text(file: BinaryIO) -> str:
    length = _scalar(file, 10)
    if length > _LONGEST_TEXT:
        raise EOFError
    return file.read(length).decode()


def _skip(file: BinaryIO, length: int) -> None:
    if length > 1 << 40:
        raise EOFError
    file.seek(length, 1)


def _shards(path: Path) -> tuple[Path, ...]:
    """All files of a split model; its first file must be the one that is named."""
    match = _SHARD.match(path.name)
    if match is None:
        return (path,)
    total = int(match["total"])
    names = [path.with_name(f"{match['stem']}-{number:05d}-of-{total:05d}.gguf") for number in range(1, total + 1)]
    if int(match["number"]) != 1:
        raise ModelUnavailable(
            "The model is set up with the wrong part of a split file.",
            detail=f"{path} is part {int(match['number'])} of {total}; set `model_path` to {names[0].name}",
        )
    missing = [name.name for name in names if not name.is_file()]
    if missing:
        raise ModelUnavailable(
            "A part of the model's split file is missing on this worker.",
            detail=f"{path.parent} lacks {', '.join(missing)}; copy all {total} parts into the same folder",
        )
    return tuple(names)
