"""The engine for machines without a compiled llama-cpp-python: xllamacpp, a prebuilt wheel with llama-server inside.

It batches requests by itself but shares no prefix between them. It opens a port on 127.0.0.1 that cannot be turned off, so it
is locked with a random key that nobody is told.
"""

from __future__ import annotations

import collections
import json
import queue
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import xllamacpp

from inference.engine.call_ids import reader_of
from inference.engine.gguf_file import read_header
from inference.engine.llama_options import LlamaOptions
from inference.engine.protocol import Cancel, Command, Done, Embed, Event, Failed, Generate, Piece, Ready, Vectors
from inference.engine.requests import EmbedRequest, GenerateRequest
from inference.engine.spec import ModelSpec
from inference.engine.tool_calls import HERMES, CallReader, form_of
from inference.engine.tool_prompts import in_words
from inference.engine.tools import Tools
from inference.errors import (
    ContextLengthExceeded,
    EngineError,
    GatewayError,
    InvalidRequest,
    ModelUnavailable,
    UnsupportedCapability,
)

NAME = "xllamacpp"
_LONGEST_EMBEDDING = 2048
_POOLINGS = {"mean": "LLAMA_POOLING_TYPE_MEAN", "cls": "LLAMA_POOLING_TYPE_CLS", "last": "LLAMA_POOLING_TYPE_LAST"}
_RANDOM_SEED = 0xFFFFFFFF
_TIGHT = {"whitespace_flexible": False}
"""Small models that may write any white space write nothing else."""


def open_server(spec: ModelSpec) -> Any:
    """An in-process llama-server with as many slots as the cache holds whole contexts."""
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(spec.path)
    slots = _slots(spec)
    parameters.n_parallel = slots
    parameters.n_ctx = (spec.context_size or 0) * slots
    parameters.n_batch = max(spec.batch_size, min(spec.context_size or _LONGEST_EMBEDDING, _LONGEST_EMBEDDING))
    parameters.n_ubatch = parameters.n_batch
    parameters.n_gpu_layers = spec.gpu_layers
    parameters.cpuparams.n_threads = spec.threads
    parameters.cpuparams_batch.n_threads = spec.threads
    parameters.verbosity = 0
    parameters.embedding = True
    parameters.pooling_type = getattr(xllamacpp.llama_pooling_type, _POOLINGS[spec.pooling or "mean"])
    parameters.use_jinja = True
    parameters.ctx_shift = False
    parameters.cache_ram_mib = 0
    parameters.api_keys = [secrets.token_urlsafe(32)]
    parameters.endpoint_slots = False
    parameters.ui = False
    _set_options(parameters, spec.options)
    if spec.chat_template:
        parameters.chat_template = spec.chat_template
    files = [str(spec.path), *map(str, spec.options.files)]
    try:
        return xllamacpp.Server(parameters)
    except (RuntimeError, ValueError) as error:
        raise ModelUnavailable(
            "The model's file cannot be loaded by the engine.", detail=f"{', '.join(files)}: {error}"
        ) from error


def _set_options(parameters: Any, options: LlamaOptions) -> None:
    """What this build's parameters say under other names."""
    for path in options.files:
        if not path.is_file():
            raise ModelUnavailable("An adapter of this model cannot be loaded.", detail=f"`lora` {path}: no such file")
    parameters.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(path, scale) for path, scale in options.lora]
    if options.flash_attn is not None:
        kinds = {"auto": "AUTO", "on": "ENABLED", "off": "DISABLED"}
        kind = f"LLAMA_FLASH_ATTN_TYPE_{kinds[options.flash_attn]}"
        parameters.flash_attn_type = getattr(xllamacpp.llama_flash_attn_type, kind)
    for name in ("cache_type_k", "cache_type_v"):
        if (kind := getattr(options, name)) is not None:
            setattr(parameters, name, getattr(xllamacpp.ggml_type, f"GGML_TYPE_{kind.upper()}"))
    if options.rope_scaling is not None:
        kind = f"LLAMA_ROPE_SCALING_TYPE_{options.rope_scaling.upper()}"
        parameters.rope_scaling_type = getattr(xllamacpp.llama_rope_scaling_type, kind)
    if options.split_mode is not None:
        kind = f"LLAMA_SPLIT_MODE_{options.split_mode.upper()}"
        parameters.split_mode = getattr(xllamacpp.llama_split_mode, kind)
    for name in ("rope_freq_base", "rope_freq_scale", "main_gpu"):
        if getattr(options, name) is not None:
            setattr(parameters, name, getattr(options, name))
    if options.tensor_split:
        empty = [0.0] * (len(parameters.tensor_split) - len(options.tensor_split))
        parameters.tensor_split = [*options.tensor_split, *empty]
    if options.load_mode is not None:
        parameters.load_mode = options.load_mode


def _slots(spec: ModelSpec) -> int:
    context = spec.context_size or 1
    return max(1, min(spec.max_sequences, (spec.cache_tokens or context) // context))


class PrebuiltEngine:
    """Same face as `batched.BatchedEngine`: commands in by `submit`, events out by `emit`."""

    def __init__(self, spec: ModelSpec, emit: Callable[[list[Event]], None]) -> None:
        started = time.monotonic()
        self._spec = spec
        self._emit = emit
        self._server = open_server(spec)
        self._load_seconds = time.monotonic() - started
        self._dimension = len(self._server.handle_embeddings({"input": ["a"]})["data"][0]["embedding"])
        template = spec.chat_template or str(read_header(spec.path).metadata.get("tokenizer.chat_template", ""))
        self._takes_tools = form_of(template) is not None
        self._slots = _slots(spec)
        self._inbox: queue.SimpleQueue[Generate | Embed | None] = queue.SimpleQueue()
        self._cancelled: set[int] = set()
        self._pending: collections.Counter[int] = collections.Counter()
        self._lock = threading.Lock()

    def ready(self, memory_bytes: int) -> Ready:
        return Ready(
            engine=NAME,
            version=xllamacpp.__version__,
            context_size=self._spec.context_size or 0,
            cache_tokens=(self._spec.context_size or 0) * self._slots,
            max_sequences=self._slots,
            dimension=self._dimension,
            memory_bytes=memory_bytes,
            load_seconds=round(self._load_seconds, 4),
            notes=("the prebuilt engine is at work; `make engine` builds the faster one",),
        )

    def submit(self, command: Command) -> None:
        if isinstance(command, Cancel):
            with self._lock:
                if self._pending[command.id]:
                    self._cancelled.add(command.id)
        elif isinstance(command, Generate | Embed):
            with self._lock:
                self._pending[command.id] += 1
            self._inbox.put(command)

    def run(self) -> None:
        """One thread per slot takes requests in the order they came."""
        threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(self._slots)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def close(self) -> None:
        for _ in range(self._slots):
            self._inbox.put(None)

    def _serve(self) -> None:
        while (command := self._inbox.get()) is not None:
            try:
                if command.id not in self._cancelled:
                    self._answer(command)
            except GatewayError as error:
                self._emit([Failed.of(command.id, error)])
            except (RuntimeError, ValueError, KeyError, TypeError) as error:
                self._emit([Failed.of(command.id, _foreign(error))])
            finally:
                with self._lock:
                    self._cancelled.discard(command.id)
                    del self._pending[command.id]

    def _answer(self, command: Generate | Embed) -> None:
        if isinstance(command, Generate):
            _Answer(command.id, self._emit, self._cancelled).make(
                self._server, command.request, takes_tools=self._takes_tools
            )
        else:
            self._emit([self._embed(command.id, command.request)])

    def _embed(self, identifier: int, request: EmbedRequest) -> Vectors:
        if request.truncate is not None:
            raise UnsupportedCapability(
                "The prebuilt engine cannot cut texts to a length.", param="truncate_prompt_tokens"
            )
        vectors, input_tokens = [], 0
        for item in request.inputs:  # one by one: several at once gave vectors that depended on their neighbours
            reply = self._server.handle_embeddings({"input": [item]})
            _raise_error(reply, "input")
            vectors.append(np.asarray(reply["data"][0]["embedding"], dtype="<f4").tobytes())
            input_tokens += reply["usage"]["prompt_tokens"]
        return Vectors(identifier, vectors, input_tokens)


class _Answer:
    """One request's chunks from llama-server, turned into events."""

    def __init__(self, identifier: int, emit: Callable[[list[Event]], None], cancelled: set[int]) -> None:
        self._id = identifier
        self._emit = emit
        self._cancelled = cancelled
        self._finish_reason: str | None = None
        self._usage: dict[str, Any] | None = None
        self._error: GatewayError | None = None
        self._calls: CallReader | None = None

    def make(self, server: Any, request: GenerateRequest, *, takes_tools: bool) -> None:
        """The server reads calls of tools itself where the template knows them; else they are asked for and read here."""
        chat = request.messages is not None
        body = _body(request)
        tools = request.tools
        if chat and (not takes_tools or (tools is not None and tools.required)):
            # The server binds an answer to calls only where it recognises the template; a grammar of ours holds everywhere.
            body["messages"] = in_words(request.messages or [], tools)
            self._calls = reader_of(HERMES, tools)
            if tools is not None and tools.required:
                body.pop("response_format", None)
                body["grammar"] = _bound_to_calls(tools)
        elif tools is not None:
            body |= {"tools": tools.functions, "parallel_tool_calls": tools.parallel}
            body["tool_choice"] = "required" if tools.required else "auto"
        (server.handle_chat_completions if chat else server.handle_completions)(body, self._take)
        if self._error is not None:
            raise self._error
        if self._id in self._cancelled:
            return
        if self._usage is None:
            raise EngineError("The engine gave no complete answer.")
        self._say("", None, None, last=True)
        self._emit([self._done()])

    def _done(self) -> Done:
        usage = self._usage or {}
        details = usage.get("prompt_tokens_details") or {}
        reason = self._finish_reason or "stop"
        if reason == "stop" and self._calls is not None and self._calls.calls:
            reason = "tool_calls"
        return Done(
            self._id,
            finish_reason=reason,
            input_tokens=usage.get("prompt_tokens", 0),
            output_tokens=usage.get("completion_tokens", 0),
            cached_tokens=details.get("cached_tokens", 0),
        )

    def _take(self, chunk: dict[str, Any]) -> bool:
        """Called by the server for each chunk; True stops it."""
        try:
            _raise_error(chunk, "messages")
        except GatewayError as error:
            self._error = error
            return True
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta", {})
            text = choice.get("text") if "text" in choice else delta.get("content")
            entries = (choice.get("logprobs") or {}).get("content")
            self._say(text or "", [_entry(entry) for entry in entries or ()], delta.get("tool_calls"))
            self._finish_reason = choice.get("finish_reason") or self._finish_reason
        return self._id in self._cancelled

    def _say(
        self,
        text: str,
        logprobs: list[dict[str, Any]] | None,
        calls: list[dict[str, Any]] | None,
        *,
        last: bool = False,
    ) -> None:
        if self._calls is not None:
            text, calls = self._calls.push(text, last=last)
        if text or calls:
            self._emit([Piece(self._id, text, logprobs or None, calls or None)])


def _bound_to_calls(tools: Tools) -> str:
    """A grammar of llguidance, which this build of llama.cpp takes for JSON schemas
    (https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md).
    """
    lines = ["%llguidance {}", f"start: one{' again{0,7}' if tools.parallel else ''}", 'again: "\\n" one']
    for number, (name, schema) in enumerate(tools.schemas.items()):
        head = json.dumps(f'{{"name": {json.dumps(name)}, "arguments": ')
        lines.append(f'call{number}: {head} arguments{number} "}}"')
        lines.append(f"arguments{number}: %json {json.dumps({**schema, 'x-guidance': _TIGHT})}")
    calls = " | ".join(f"call{number}" for number in range(len(tools.functions)))
    begin, end = json.dumps(f"{HERMES.begin}\n"), json.dumps(f"\n{HERMES.end}")
    return "\n".join([*lines, f"one: {begin} ( {calls} ) {end}"])


def _entry(entry: dict[str, Any]) -> dict[str, Any]:
    shown = {name: entry[name] for name in ("token", "bytes", "logprob")}
    return {**shown, "top_logprobs": [{n: t[n] for n in ("token", "bytes", "logprob")} for t in entry["top_logprobs"]]}


def _body(request: GenerateRequest) -> dict[str, Any]:
    sampling = msgspec.structs.asdict(request.sampling)
    body: dict[str, Any] = {
        **{name: value for name, value in sampling.items() if name not in ("seed", "logit_bias")},
        "seed": _RANDOM_SEED if request.sampling.seed is None else request.sampling.seed & 0x7FFFFFFF,
        "repeat_last_n": 64,
        "stop": list(request.stop),
        "stream": True,
        "stream_options": {"include_usage": True},
        "cache_prompt": True,
    }
    if request.sampling.logit_bias:
        body["logit_bias"] = [
            [token, False if bias <= -100 else bias] for token, bias in request.sampling.logit_bias.items()
        ]
    if request.max_tokens is not None:
        body["max_tokens"] = request.max_tokens
    if request.json_schema is not None:
        schema = {"type": "json_schema", "json_schema": {"name": "answer", "schema": json.loads(request.json_schema)}}
        body["response_format" if request.messages is not None else "json_schema"] = (
            schema if request.messages is not None else json.loads(request.json_schema)
        )
    elif request.json_object:
        body["response_format"] = {"type": "json_object"}
    elif request.grammar is not None:
        body["grammar"] = request.grammar
    if request.messages is None:
        body["prompt"] = request.prompt
        if request.top_logprobs is not None:
            body["n_probs"] = max(1, request.top_logprobs)
        return body
    body["messages"] = request.messages
    if request.template_arguments:
        body["chat_template_kwargs"] = request.template_arguments
    if request.top_logprobs is not None:
        body["logprobs"], body["top_logprobs"] = True, request.top_logprobs
    return body


def _foreign(error: Exception) -> GatewayError:
    _, found, reason = str(error).partition("JSON schema error")
    if found:
        return InvalidRequest(f"The schema in `response_format` is not supported{reason}", param="response_format")
    return EngineError("The engine failed while it was answering.", detail=repr(error))


def _raise_error(reply: dict[str, Any], param: str) -> None:
    error = reply.get("error")
    if error is None:
        return
    message, kind = str(error.get("message", "")), error.get("type")
    if kind == "exceed_context_size_error":
        raise ContextLengthExceeded(
            f"This model's maximum context length is {error.get('n_ctx')} tokens. However, your prompt has "
            f"{error.get('n_prompt_tokens')} tokens, and at least one more is needed for the answer. Please shorten it.",
            param=param,
        )
    if "too large to process" in message:
        raise ContextLengthExceeded(f"The input is too long for this model: {message}", param=param)
    if kind == "invalid_request_error":
        raise InvalidRequest(f"The engine refuses this request: {message}", param=param)
    raise EngineError("The engine failed while it was answering.", detail=message)
