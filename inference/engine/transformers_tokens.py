"""A tokenizer of the Hugging Face libraries, as an engine needs it: prompts to tokens, tokens to text and to bytes."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from inference.errors import ModelUnavailable

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>").fullmatch
_BEFORE = 5
"""Tokens of the prompt that a decoder sees before the answer: some write a word's space only where a word comes before."""
_LONGEST_CHARACTER = 8
_GENERATION = re.compile(r"\{%(-?)\s*(end)?generation\s*(-?)%\}")


class Tokens:
    """Made once per model. `encode` may be called on one thread while another decodes."""

    def __init__(self, path: Path, *, trust_remote_code: bool) -> None:
        from transformers import AutoTokenizer

        try:
            loaded = AutoTokenizer.from_pretrained(
                str(path),
                local_files_only=True,
                trust_remote_code=trust_remote_code,
                clean_up_tokenization_spaces=False,
            )
        except (OSError, ValueError, KeyError, TypeError, ImportError, AttributeError) as error:
            raise ModelUnavailable("The model's tokenizer cannot be loaded.", detail=f"{path}: {error}") from error
        self.raw = loaded
        self._decoding: Any = copy.deepcopy(loaded)
        self._bytes_of_characters = _byte_alphabet() if _is_byte_level(loaded) else None
        self.control_texts = sorted({str(token) for token in loaded.all_special_tokens} | _special_added(loaded))

    @property
    def bos(self) -> str:
        return str(self.raw.bos_token or "")

    @property
    def eos(self) -> str:
        return str(self.raw.eos_token or "")

    @property
    def ends(self) -> set[int]:
        """Tokens that end an answer, as far as the tokenizer says."""
        return {self.raw.eos_token_id} if isinstance(self.raw.eos_token_id, int) else set()

    def chat_template(self, *, tools: bool = False) -> str | None:
        """Of several that it brings, the one for tools where those are wanted."""
        found = self.raw.chat_template
        if isinstance(found, dict):
            found = found.get("tool_use" if tools and "tool_use" in found else "default") or next(
                iter(found.values()), None
            )
        # `generation` marks answers for training; it changes nothing of the text.
        return (
            _GENERATION.sub(lambda mark: f"{{%{mark[1]} {'endif' if mark[2] else 'if true'} {mark[3]}%}}", found)
            if found
            else None
        )

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        found = self.raw(text, add_special_tokens=add_special, split_special_tokens=not parse_special)["input_ids"]
        return [int(token) for token in found]

    def closes(self, token: int) -> bool:
        """Whether it is put after every text."""
        return token in (self.raw.eos_token_id, self.raw.sep_token_id)

    def text(self, tokens: Sequence[int]) -> str:
        """What they say, control tokens left out."""
        return str(self._decoding.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def piece(self, token: int) -> bytes:
        """A token's own bytes, which may be part of a character only."""
        written = self._decoding.convert_ids_to_tokens(token)
        if written is None:
            return b""
        if written in self._decoding.all_special_tokens:
            return str(written).encode()
        if self._bytes_of_characters is not None and all(letter in self._bytes_of_characters for letter in written):
            return bytes(self._bytes_of_characters[letter] for letter in written)
        if byte := _BYTE(written):
            return bytes([int(byte[1], 16)])
        return str(written).replace("▁", " ").encode()


class AnswerPieces:
    """Takes an answer's tokens one by one and gives the text that each adds, whole characters only."""

    __slots__ = ("_read", "_seen", "_shown", "_tokens")

    def __init__(self, tokens: Tokens, prompt: Sequence[int]) -> None:
        self._tokens = tokens
        self._seen = list(prompt[-_BEFORE:])
        self._shown = 0
        self._read = len(self._seen)

    def push(self, token: int) -> str:
        self._seen.append(token)
        before, now = (
            self._tokens.text(self._seen[self._shown : self._read]),
            self._tokens.text(self._seen[self._shown :]),
        )
        unfinished = now.endswith("\ufffd") and len(self._seen) - self._read < _LONGEST_CHARACTER
        if len(now) <= len(before) or unfinished:
            return ""
        self._shown, self._read = self._read, len(self._seen)
        return now[len(before) :]

    def finish(self) -> str:
        """What was held back of a character that never ended."""
        before, now = (
            self._tokens.text(self._seen[self._shown : self._read]),
            self._tokens.text(self._seen[self._shown :]),
        )
        return now[len(before) :]


def _special_added(loaded: Any) -> set[str]:
    return {str(token) for token in loaded.added_tokens_decoder.values() if getattr(token, "special", False)}


def _is_byte_level(loaded: Any) -> bool:
    backend = getattr(loaded, "backend_tokenizer", None)
    return backend is not None and "ByteLevel" in repr(getattr(backend, "decoder", None))


def _byte_alphabet() -> dict[str, int]:
    """The letters that byte-level tokenizers write bytes with: printable ones as themselves, the others moved up in order."""
    printable: Iterable[int] = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in letters.values()]
    return letters | {chr(256 + place): byte for place, byte in enumerate(others)}
