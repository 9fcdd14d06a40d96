"""A GGUF file of our own as a directory of the transformers library: the same weights, tokens and template, so that both engines
must say the same. Needs neither torch nor transformers.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader

_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def write_directory(source: Path, folder: Path, **configuration: Any) -> Path:
    """`configuration` is added to config.json."""
    reader = GGUFReader(source)
    facts = {name: field.contents() for name, field in reader.fields.items()}
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "config.json", {**_configuration(facts), **configuration})
    _write(folder / "tokenizer.json", _tokenizer(facts))
    controls = _controls(facts)
    template = {"chat_template": facts["tokenizer.chat_template"]} if "tokenizer.chat_template" in facts else {}
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": controls[0],
            "eos_token": controls[2],
            "pad_token": controls[0],
            **template,
        },
    )
    tensors = {}
    for tensor in reader.tensors:
        data = np.array(tensor.data)
        if ".attn_q." in tensor.name or ".attn_k." in tensor.name:
            data = _apart(data, facts)
        tensors[_named(tensor.name)] = data
    write_safetensors(folder / "model.safetensors", tensors)
    return folder


def write_safetensors(file: Path, tensors: dict[str, np.ndarray]) -> None:
    header, at = {}, 0
    kinds = {"float32": "F32", "float16": "F16"}
    for name, data in tensors.items():
        header[name] = {"dtype": kinds[str(data.dtype)], "shape": data.shape, "data_offsets": [at, at + data.nbytes]}
        at += data.nbytes
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data.tobytes() for data in tensors.values()))


def _configuration(facts: dict[str, Any]) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": facts["llama.embedding_length"],
        "intermediate_size": facts["llama.feed_forward_length"],
        "max_position_embeddings": facts["llama.context_length"],
        "num_attention_heads": facts["llama.attention.head_count"],
        "num_hidden_layers": facts["llama.block_count"],
        "num_key_value_heads": facts["llama.attention.head_count_kv"],
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
        "dtype": "float16",
        "vocab_size": len(facts["tokenizer.ggml.tokens"]),
        "bos_token_id": facts["tokenizer.ggml.bos_token_id"],
        "eos_token_id": facts["tokenizer.ggml.eos_token_id"],
        "pad_token_id": facts["tokenizer.ggml.padding_token_id"],
    }


def _tokenizer(facts: dict[str, Any]) -> dict[str, Any]:
    tokens = facts["tokenizer.ggml.tokens"]
    controls = _controls(facts)
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": tokens.index(text), "content": text, "special": True, "normalized": False}
            | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
            for text in controls
        ],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in facts["tokenizer.ggml.merges"]],
        },
    }


def _controls(facts: dict[str, Any]) -> list[str]:
    kinds = facts["tokenizer.ggml.token_type"]
    return [token for token, kind in zip(facts["tokenizer.ggml.tokens"], kinds, strict=True) if kind == 3]


def _apart(data: np.ndarray, facts: dict[str, Any]) -> np.ndarray:
    """llama.cpp interleaves the two rotary halves, torch keeps them apart."""
    heads = facts["llama.attention.head_count"]
    shape = (heads, data.shape[0] // heads // 2, 2, data.shape[1])
    return np.ascontiguousarray(data.reshape(shape).swapaxes(1, 2).reshape(data.shape))


def _named(name: str) -> str:
    parts = name.removesuffix(".weight").split(".")
    if parts[0] == "blk":
        return f"model.layers.{parts[1]}.{_NAMES[parts[2]]}.weight"
    return f"{_NAMES[parts[0]]}.weight"


def _write(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content))
