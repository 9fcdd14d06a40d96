"""llama-cpp-python's low-level interface as three objects: a model with its tokenizer, a context, and samplers.

Everything that touches C pointers is here. Written against llama-cpp-python 0.3.36; the version is pinned because the C
structures change with each release.
"""

from __future__ import annotations

import collections
import ctypes
import math
import os
from collections.abc import Iterable, Sequence
from typing import Any

import llama_cpp
import llama_cpp.llama_cpp as C
import numpy as np
from llama_cpp import llama_grammar

from inference.engine.grammar_choices import problem_of
from inference.engine.llama_options import LlamaOptions
from inference.engine.requests import GenerateRequest, Sampling
from inference.engine.schemas import repeats_too_much
from inference.engine.spec import ModelSpec
from inference.engine.tool_calls import Form
from inference.engine.tool_grammar import calls_grammar
from inference.errors import EngineError, InvalidRequest, ModelUnavailable, OutOfMemory

VERSION = llama_cpp.__version__
NO_ROOM = 1
"""`Context.decode` says: the cache has no room for this batch; nothing was changed."""

_ALL_LAYERS = 0x7FFFFFFF
_LOG_WARN, _LOG_CONT = 3, 5
_LARGEST_GRAMMAR = 256 * 1024
_RANDOM_SEED = 0xFFFFFFFF
_REPEAT_WINDOW = 64
_CONTROL_ATTRIBUTE = 1 << 3
_POOLINGS = {"mean": 1, "cls": 2, "last": 3}
RANK = 4
"""The pooling of models that rank."""
_SPLIT_MODES = {"none": C.LLAMA_SPLIT_MODE_NONE, "layer": C.LLAMA_SPLIT_MODE_LAYER, "row": C.LLAMA_SPLIT_MODE_ROW}
_FLASH_ATTENTION = {"auto": -1, "off": 0, "on": 1}
_ROPE_SCALINGS = {"none": 0, "linear": 1, "yarn": 2}
_CACHE_TYPES = {"f32": 0, "f16": 1, "bf16": 30, "q8_0": 8, "q5_1": 7, "q5_0": 6, "q4_1": 3, "q4_0": 2}
"""ggml's numbers."""
_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
_MEMORY_SIGNS = (
    "failed to allocate",
    "unable to allocate",
    "out of memory",
    "insufficient memory",
    "bad_alloc",
    "cudamalloc",
)


class _Log:
    """llama.cpp's warnings and errors, the last few, to tell why a load failed."""

    def __init__(self) -> None:
        self.lines: collections.deque[str] = collections.deque(maxlen=12)
        self._level = 0
        self._callback = C.llama_log_callback(self._take)
        C.llama_log_set(self._callback, None)

    def _take(self, level: int, text: bytes, _: Any) -> None:
        if level != _LOG_CONT:
            self._level = level
        if self._level >= _LOG_WARN and (line := text.decode(errors="replace").strip()):
            self.lines.append(line)

    def last(self) -> str:
        return "; ".join(self.lines)

    def tells_of_memory(self) -> bool:
        return any(sign in line.lower() for line in self.lines for sign in _MEMORY_SIGNS)


class Model:
    """A loaded model. `safe` leaves out the CPU's extra buffer types, which crash some builds on CPUs with AMX."""

    def __init__(self, spec: ModelSpec, *, safe: bool) -> None:
        self.log = _Log()
        C.llama_backend_init()
        parameters = C.llama_model_default_params()
        parameters.n_gpu_layers = _ALL_LAYERS if spec.gpu_layers < 0 else spec.gpu_layers
        parameters.use_extra_bufts = not safe
        if spec.options.load_mode is not None:
            parameters.load_mode = spec.options.load_mode
        self._place_on_gpus(parameters, spec.options)
        self.pointer = C.llama_model_load_from_file(str(spec.path).encode(), parameters)
        if not self.pointer:
            self._refuse(f"llama.cpp could not load {spec.path}")
        self.vocabulary = C.llama_model_get_vocab(self.pointer)
        self.vocabulary_size = C.llama_vocab_n_tokens(self.vocabulary)
        self.dimension = C.llama_model_n_embd_out(self.pointer)
        self.remembers_prefixes = not (
            C.llama_model_is_recurrent(self.pointer) or C.llama_model_is_hybrid(self.pointer)
        )
        self.options = spec.options
        self._adapters = [self._adapter(path) for path, _ in spec.options.lora]
        self._pieces: dict[int, bytes] = {}
        self._said_pieces: dict[int, bytes] = {}
        self.ignores_gpu = spec.gpu_layers != 0 and not C.llama_supports_gpu_offload()

    def _place_on_gpus(self, parameters: Any, options: LlamaOptions) -> None:
        if options.split_mode is not None:
            parameters.split_mode = _SPLIT_MODES[options.split_mode]
        if options.main_gpu is not None:
            parameters.main_gpu = options.main_gpu
        if options.tensor_split:
            # llama.cpp reads as many as it may ever have devices, and only while it loads.
            self._shares = (ctypes.c_float * max(C.llama_max_devices(), len(options.tensor_split)))(
                *options.tensor_split
            )
            parameters.tensor_split = self._shares

    def _adapter(self, path: str) -> Any:
        adapter = C.llama_adapter_lora_init(self.pointer, path.encode()) if os.path.isfile(path) else None
        if not adapter:
            raise ModelUnavailable(
                "An adapter of this model cannot be loaded.",
                detail=f"`lora` {path}: {self.log.last() if os.path.isfile(path) else 'no such file'}; it must be a GGUF made for this model",
            )
        return adapter

    def apply_adapters(self, context: Any) -> None:
        if not self._adapters:
            return
        count = len(self._adapters)
        adapters = (C.llama_adapter_lora_p_ctypes * count)(*self._adapters)
        scales = (ctypes.c_float * count)(*(scale for _, scale in self.options.lora))
        if C.llama_set_adapters_lora(context, adapters, count, scales) != 0:
            raise ModelUnavailable("The adapters of this model cannot be used together.", detail=self.log.last())

    def _refuse(self, what: str) -> None:
        detail = f"{what}: {self.log.last()}"
        if self.log.tells_of_memory():
            raise OutOfMemory(
                "There is not enough memory for this model on the worker.",
                detail=f"{detail}; unload another model, lower `context_size` or `max_sequences`, or use a smaller file",
            )
        raise ModelUnavailable("The model's file cannot be loaded by the engine.", detail=detail)

    def metadata(self, name: str) -> str | None:
        buffer = ctypes.create_string_buffer(1 << 20)
        length = C.llama_model_meta_val_str(self.pointer, name.encode(), buffer, len(buffer))
        return buffer.value.decode(errors="replace") if length >= 0 else None

    def chat_template(self, name: str | None = None) -> str | None:
        """The usual one, or one for a purpose, such as `tool_use`."""
        found = C.llama_model_chat_template(self.pointer, name.encode() if name else None)
        return found.decode(errors="replace") if found else None

    def special_text(self, token: int) -> str:
        return self._to_piece(token, special=True).decode(errors="replace") if token >= 0 else ""

    @property
    def bos(self) -> str:
        return self.special_text(C.llama_vocab_bos(self.vocabulary))

    @property
    def eos(self) -> str:
        return self.special_text(C.llama_vocab_eos(self.vocabulary))

    def control_tokens(self) -> list[str]:
        return [
            self.special_text(token)
            for token in range(self.vocabulary_size)
            if C.llama_vocab_get_attr(self.vocabulary, token) & _CONTROL_ATTRIBUTE
        ]

    def ends(self, token: int) -> bool:
        """Whether the model says with this token that its answer is complete."""
        return bool(C.llama_vocab_is_eog(self.vocabulary, token))

    def closes(self, token: int) -> bool:
        """Whether it is put after every text."""
        return token in (C.llama_vocab_eos(self.vocabulary), C.llama_vocab_sep(self.vocabulary))

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        raw = text.encode()
        room = len(raw) + 8
        while True:
            tokens = (C.llama_token * room)()
            count = C.llama_tokenize(self.vocabulary, raw, len(raw), tokens, room, add_special, parse_special)
            if count >= 0:
                return list(tokens[:count])
            room = -count

    def piece(self, token: int) -> bytes:
        """The token's bytes; control tokens have none."""
        found = self._pieces.get(token)
        if found is None:
            found = self._pieces[token] = self._to_piece(token, special=False)
        return found

    def marked_piece(self, token: int) -> bytes:
        """The same with the texts of control tokens: some models mark calls of tools with these."""
        found = self._said_pieces.get(token)
        if found is None:
            found = self._said_pieces[token] = self._to_piece(token, special=True)
        return found

    def _to_piece(self, token: int, *, special: bool) -> bytes:
        room = 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            length = C.llama_token_to_piece(self.vocabulary, token, buffer, room, 0, special)
            if length >= 0:
                return buffer.raw[:length]
            room = -length


class Context:
    """A cache of keys and values for many sequences, and the batch that is decoded into it."""

    def __init__(
        self,
        model: Model,
        *,
        cells: int,
        sequences: int,
        batch_size: int,
        threads: int,
        embeddings: bool = False,
        pooling: str | None = None,
    ) -> None:
        parameters = C.llama_context_default_params()
        parameters.n_ctx = cells
        parameters.n_batch = batch_size
        options = model.options
        parameters.n_ubatch = batch_size if embeddings else min(batch_size, options.ubatch_size or 512)
        _set_cache_and_rope(parameters, options)
        parameters.n_seq_max = sequences
        parameters.n_threads = threads
        parameters.n_threads_batch = threads
        parameters.kv_unified = True
        parameters.no_perf = True
        parameters.embeddings = embeddings
        if embeddings and pooling is not None:
            parameters.pooling_type = _POOLINGS[pooling]
        self.pointer = C.llama_init_from_model(model.pointer, parameters)
        if not self.pointer:
            model._refuse(f"no context of {cells} tokens could be made")
        model.apply_adapters(self.pointer)
        self.batch_size: int = C.llama_n_batch(self.pointer)
        """Tokens that one batch may hold: what was asked for, but never more than the cache."""
        self._memory = C.llama_get_memory(self.pointer)
        self._model = model
        self._vocabulary_size = model.vocabulary_size
        self._batch = C.llama_batch_init(self.batch_size, 0, 1)
        self._dimension = model.dimension

    @property
    def room(self) -> int:
        """Tokens that the batch can still take."""
        return self.batch_size - int(self._batch.n_tokens)

    def start_batch(self) -> None:
        self._batch.n_tokens = 0

    def add(self, tokens: Sequence[int], position: int, sequence: int, *, logits: bool | None) -> int:
        """Append tokens; `logits` True wants them of the last, None of all. Return the last one's place in the batch."""
        batch = self._batch
        at = int(batch.n_tokens)
        for offset, token in enumerate(tokens):
            place = at + offset
            batch.token[place] = token
            batch.pos[place] = position + offset
            batch.n_seq_id[place] = 1
            batch.seq_id[place][0] = sequence
            batch.logits[place] = logits is None
        batch.n_tokens = at + len(tokens)
        last = at + len(tokens) - 1
        if logits:
            batch.logits[last] = True
        return last

    def decode(self) -> bool:
        """False when the cache has no room; any other failure is an `EngineError` that ends this engine."""
        code = C.llama_decode(self.pointer, self._batch)
        if code == 0:
            return True
        if code == NO_ROOM:
            return False
        raise EngineError(
            "The engine failed while it was generating.", detail=f"llama_decode gave {code}: {self._model.log.last()}"
        )

    def forget(self, sequence: int, from_position: int = 0) -> bool:
        """Drop a sequence's end; False when this kind of model can only drop it whole (and then nothing was dropped)."""
        return bool(C.llama_memory_seq_rm(self._memory, sequence, from_position, -1))

    def share(self, source: int, target: int, length: int) -> None:
        """Let `target` begin with the first `length` tokens of `source`, without computing or copying them."""
        C.llama_memory_seq_cp(self._memory, source, target, 0, length)

    def clear(self) -> None:
        if self._memory:
            C.llama_memory_clear(self._memory, True)

    def logits(self, place: int) -> np.ndarray:
        """A view that the next `decode` overwrites."""
        return np.ctypeslib.as_array(C.llama_get_logits_ith(self.pointer, place), shape=(self._vocabulary_size,))

    def embedding(self, sequence: int) -> np.ndarray:
        found = C.llama_get_embeddings_seq(self.pointer, sequence)
        if not found:
            raise EngineError("The engine made no embedding.", detail=self._model.log.last())
        return np.ctypeslib.as_array(found, shape=(self._dimension,)).copy()


def _set_cache_and_rope(parameters: Any, options: LlamaOptions) -> None:
    if options.flash_attn is not None:
        parameters.flash_attn_type = _FLASH_ATTENTION[options.flash_attn]
    if options.cache_type_k is not None:
        parameters.type_k = _CACHE_TYPES[options.cache_type_k]
    if options.cache_type_v is not None:
        parameters.type_v = _CACHE_TYPES[options.cache_type_v]
    if options.rope_scaling is not None:
        parameters.rope_scaling_type = _ROPE_SCALINGS[options.rope_scaling]
    parameters.rope_freq_base = options.rope_freq_base or 0.0
    parameters.rope_freq_scale = options.rope_freq_scale or 0.0


class Sampler:
    """Chooses one sequence's tokens and remembers what it chose. `close()` frees it."""

    def __init__(
        self,
        model: Model,
        sampling: Sampling,
        *,
        window: int,
        grammar: str | None = None,
        bound_by: str = "response_format",
    ) -> None:
        self._model = model
        self._chain = C.llama_sampler_chain_init(C.llama_sampler_chain_default_params())
        self._grammar = None
        for stage in _stages(model, sampling, window):
            C.llama_sampler_chain_add(self._chain, stage)
        if grammar is not None:
            self._grammar = C.llama_sampler_init_grammar(model.vocabulary, grammar.encode(), b"root")
            if not self._grammar:
                self.close()
                raise InvalidRequest("What binds this answer cannot be turned into a grammar.", param=bound_by)

    def choose(self, context: Context, place: int) -> int | None:
        """The next token; None when grammar and biases together leave none."""
        if self._grammar is None:
            return int(C.llama_sampler_sample(self._chain, context.pointer, place))
        logits = context.logits(place)
        token = self._apply(self._chain, _candidates(logits))
        if not self._allowed(token):
            # Filtering a whole vocabulary by a grammar is slow, and most tokens that a model likes are allowed anyway.
            everything = _candidates(logits)
            self._apply(self._grammar, everything)
            token = self._apply(self._chain, everything)
            if not self._allowed(token):
                return None  # the grammar would end the process, were it told of a token that it forbids
        C.llama_sampler_accept(self._chain, token)
        if not self._model.ends(token):
            C.llama_sampler_accept(self._grammar, token)
        return token

    def _allowed(self, token: int) -> bool:
        alone = np.zeros(1, _CANDIDATE)
        alone["id"], alone["logit"] = token, 1.0
        self._apply(self._grammar, alone)
        return bool(np.isfinite(alone["logit"][0]))

    @staticmethod
    def _apply(sampler: Any, candidates: np.ndarray) -> int:
        array = C.llama_token_data_array(
            data=candidates.ctypes.data_as(ctypes.POINTER(C.llama_token_data)),
            size=len(candidates),
            selected=-1,
            sorted=False,
        )
        C.llama_sampler_apply(sampler, ctypes.byref(array))
        return int(array.data[array.selected].id) if array.selected >= 0 else -1

    def close(self) -> None:
        for sampler in (self._chain, self._grammar):
            if sampler:
                C.llama_sampler_free(sampler)
        self._chain = self._grammar = None


def _stages(model: Model, sampling: Sampling, window: int) -> Iterable[Any]:
    """llama.cpp's own order: biases, penalties, top-k, top-p, min-p, temperature, chance."""
    if sampling.logit_bias:
        known = [(token, bias) for token, bias in sampling.logit_bias.items() if token < model.vocabulary_size]
        biases = (C.llama_logit_bias * len(known))(
            *(C.llama_logit_bias(token=token, bias=_bias(bias)) for token, bias in known)
        )
        yield C.llama_sampler_init_logit_bias(model.vocabulary_size, len(known), biases)
    penalised = sampling.frequency_penalty or sampling.presence_penalty
    if penalised or sampling.repeat_penalty != 1.0:
        yield C.llama_sampler_init_penalties(
            model.vocabulary_size,
            window if penalised else _REPEAT_WINDOW,
            sampling.repeat_penalty,
            sampling.frequency_penalty,
            sampling.presence_penalty,
        )
    if sampling.temperature <= 0:
        yield C.llama_sampler_init_greedy()
        return
    if sampling.top_k > 0:
        yield C.llama_sampler_init_top_k(sampling.top_k)
    if sampling.top_p < 1:
        yield C.llama_sampler_init_top_p(sampling.top_p, 1)
    if sampling.min_p > 0:
        yield C.llama_sampler_init_min_p(sampling.min_p, 1)
    yield C.llama_sampler_init_temp(sampling.temperature)
    yield C.llama_sampler_init_dist(_RANDOM_SEED if sampling.seed is None else sampling.seed & 0x7FFFFFFF)


def _bias(bias: float) -> float:
    """OpenAI's -100 means never."""
    return -math.inf if bias <= -100 else bias


def _candidates(logits: np.ndarray) -> np.ndarray:
    candidates = np.zeros(len(logits), _CANDIDATE)
    candidates["id"] = np.arange(len(logits), dtype=np.int32)
    candidates["logit"] = logits
    return candidates


def grammar_for(request: GenerateRequest, form: Form) -> str | None:
    """The grammar (GBNF) that an answer is bound to: by its format, by tools that must be called, or by either."""
    answer = _answer_grammar(request)
    tools = request.tools
    if tools is None or (answer is None and not tools.required):
        return answer
    both = calls_grammar(tools, form, lambda schema: _converted(schema, "tools"), None if tools.required else answer)
    return _checked(both, "tools")


def _answer_grammar(request: GenerateRequest) -> str | None:
    if request.grammar is not None:
        if repeats_too_much(request.grammar):
            raise InvalidRequest("`grammar` repeats something more than 1000 times.", param="grammar")
        return _checked(request.grammar, "grammar")
    if request.json_schema is not None:
        return _checked(_converted(request.json_schema, "response_format"), "response_format")
    return llama_grammar.JSON_GBNF if request.json_object else None


def _converted(json_schema: str, param: str) -> str:
    try:
        return str(llama_grammar.json_schema_to_gbnf(json_schema))
    except Exception as error:  # the converter raises whatever a malformed schema runs into
        raise InvalidRequest(f"The schema in `{param}` is not supported: {error}", param=param) from error


def _checked(grammar: str, param: str) -> str:
    problem = "makes too large a grammar" if len(grammar) > _LARGEST_GRAMMAR else problem_of(grammar)
    if problem is not None:
        raise InvalidRequest(f"What `{param}` asks for {problem}.", param=param)
    return grammar


def quantize(source: str, target: str) -> None:
    """Write a q8_0 copy: the kind of weights on which broken builds crash."""
    parameters = C.llama_model_quantize_default_params()
    parameters.ftype = 7
    parameters.nthread = 1
    if C.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(parameters)) != 0:
        raise EngineError("The engine could not quantise a model.")
