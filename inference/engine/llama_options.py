"""What llama.cpp is told beyond the model's file: adapters, placement on GPUs, kinds of cache, rope. Pure.

Names and values are those of llama.cpp's own server, https://github.com/ggml-org/llama.cpp/tree/master/tools/server.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.engine.option_values import Options, as_number, shown

CACHE_TYPES = {"f32": 32.0, "f16": 16.0, "bf16": 16.0, "q8_0": 8.5, "q5_1": 6.0, "q5_0": 5.5, "q4_1": 5.0, "q4_0": 4.5}
"""Bits of one number in the cache."""
SPLIT_MODES = ("none", "layer", "row")
FLASH_ATTENTION = ("auto", "on", "off")
ROPE_SCALINGS = ("none", "linear", "yarn")
_MOST_ADAPTERS = 16
_MOST_DEVICES = 64


@dataclass(frozen=True, slots=True)
class LlamaOptions:
    """None, or empty, leaves the choice to llama.cpp or to the model's file."""

    lora: tuple[tuple[str, float], ...] = ()
    """Adapters, each a GGUF file and its strength."""
    flash_attn: str | None = None
    cache_type_k: str | None = None
    cache_type_v: str | None = None
    rope_scaling: str | None = None
    rope_freq_base: float | None = None
    rope_freq_scale: float | None = None
    mmap: bool = True
    mlock: bool = False
    ubatch_size: int | None = None
    split_mode: str | None = None
    main_gpu: int | None = None
    tensor_split: tuple[float, ...] = ()
    """What share of the model each GPU takes, in any unit."""

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any], name: str) -> LlamaOptions:
        """Raise `ConfigurationError` naming the parameter that cannot work."""
        return cls.read(Options(parameters, name))

    @classmethod
    def read(cls, read: Options) -> LlamaOptions:
        options = cls(
            lora=_adapters(read, "lora"),
            flash_attn=_flash_attention(read, "flash_attn"),
            cache_type_k=read.one_of(CACHE_TYPES, "cache_type_k", "type_k"),
            cache_type_v=read.one_of(CACHE_TYPES, "cache_type_v", "type_v"),
            rope_scaling=read.one_of(ROPE_SCALINGS, "rope_scaling"),
            rope_freq_base=read.positive("rope_freq_base"),
            rope_freq_scale=read.positive("rope_freq_scale"),
            mmap=read.flag("mmap", "use_mmap", default=True),
            mlock=read.flag("mlock", "use_mlock", default=False),
            ubatch_size=read.whole("ubatch_size", "n_ubatch", least=32, most=8192),
            split_mode=read.one_of(SPLIT_MODES, "split_mode"),
            main_gpu=read.whole("main_gpu", least=0, most=_MOST_DEVICES - 1),
            tensor_split=_shares(read, "tensor_split"),
        )
        if options.flash_attn == "off" and CACHE_TYPES.get(options.cache_type_v or "f16", 16.0) < 16:
            name, _ = read.given("cache_type_v", "type_v")
            read.refuse(name, "a compressed cache of values needs flash attention; leave `flash_attn` on auto")
        return options

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> LlamaOptions:
        """From its own fields, as they come out of a message: lists where there were tuples."""
        lora = tuple((str(path), float(scale)) for path, scale in fields.get("lora", ()))
        return cls(**{**fields, "lora": lora, "tensor_split": tuple(fields.get("tensor_split", ()))})

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(Path(path) for path, _ in self.lora)

    @property
    def load_mode(self) -> int | None:
        """llama.cpp's number: 1 maps the file, 2 locks it in memory, 3 does both."""
        return None if self.mmap and not self.mlock else self.mmap + 2 * self.mlock

    @property
    def cache_share(self) -> float:
        """The cache's size in relation to one of 16 bits."""
        return (CACHE_TYPES[self.cache_type_k or "f16"] + CACHE_TYPES[self.cache_type_v or "f16"]) / 32


def _flash_attention(read: Options, name: str) -> str | None:
    _, value = read.given(name)
    if isinstance(value, bool):
        return "on" if value else "off"
    return read.one_of(FLASH_ATTENTION, name)


def _shares(read: Options, name: str) -> tuple[float, ...]:
    _, value = read.given(name)
    parts = value.split(",") if isinstance(value, str) else value
    if parts is None:
        return ()
    numbers = [as_number(part) for part in parts] if isinstance(parts, list | tuple) else []
    if not 0 < len(numbers) <= _MOST_DEVICES or not all(0 <= n < 1e9 for n in numbers) or not sum(numbers):
        read.refuse(name, f"{shown(value)} is no list of shares such as 3,1")
        return ()
    return tuple(numbers)


def _adapters(read: Options, name: str) -> tuple[tuple[str, float], ...]:
    """A path, or a list of paths and of objects with `path` and `scale`."""
    _, value = read.given(name)
    if value is None:
        return ()
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError as error:
            read.refuse(name, f"the list is no JSON: {error}")
            return ()
    found = []
    for item in value if isinstance(value, list) else [value]:
        path, scale = (item.get("path"), item.get("scale", 1.0)) if isinstance(item, dict) else (item, 1.0)
        strength = as_number(scale)
        if not isinstance(path, str) or not path or not abs(strength) <= 100:
            read.refuse(name, "a path, or a list of paths or of objects with `path` and `scale`, is needed")
            return ()
        found.append((str(Path(path).expanduser()), strength))
    if len(found) > _MOST_ADAPTERS:
        read.refuse(name, f"there are {len(found)} adapters; the most is {_MOST_ADAPTERS}")
    return tuple(found)
