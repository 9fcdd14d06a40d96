"""The continuous-batching loop: many sequences decoded together, one step at a time.

A step gives each generating sequence its next token and fills the rest of the batch with prompts still to be read, oldest
first, so a long prompt slows answers in progress but never stops them. Requests wait in a queue that is fair to callers, see
`fairness`. A finished sequence's cache stays in its slot: the next prompt that begins the same shares it, and prompts that
arrive together share the part that the first of them is still computing. When the cache runs full, idle slots are emptied,
then the youngest sequence is set back to the queue's front and computed again later. When all places are taken, a caller with
several gives one up for a newcomer, and goes on from the cache later: there are more slots than places.

Everything but `submit` runs on the thread that called `run`.
"""

from __future__ import annotations

import collections
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from inference.engine import llama_library
from inference.engine.answers import Answer
from inference.engine.call_ids import reader_of
from inference.engine.fairness import FairQueue, set_back_for
from inference.engine.gguf_file import GgufHeader
from inference.engine.inbox import Inbox
from inference.engine.llama_library import Context, Model, Sampler
from inference.engine.prefixes import common_prefix
from inference.engine.probabilities import log_probabilities
from inference.engine.prompt_tokens import Prompts, room_for_answer
from inference.engine.protocol import Cancel, Command, Embed, Event, Failed, Generate, Ready, Vectors
from inference.engine.spec import ModelSpec
from inference.engine.text import AnswerText
from inference.engine.watch import Watch
from inference.errors import (
    EngineError,
    GatewayError,
    InvalidRequest,
    OutOfMemory,
    UnsupportedCapability,
)

NAME = "llama_cpp"
_WORTH_WAITING_FOR = 32
_EMBEDDING_SEQUENCES = 32
_LONGEST_EMBEDDING = 2048
_STALL_SECONDS = 0.4
"""How long one step may keep answers in progress waiting for somebody's prompt."""
_SMALLEST_CHUNK = 64
_LONGEST_CHOICE = 5.0
"""Seconds in which a token is chosen, however slow the machine: a grammar that takes longer takes twice as long the next time."""
_STUCK = 20.0


@dataclass(slots=True, eq=False, kw_only=True)
class _Work(Answer):
    """One request on its way. `follows` is a prompt being computed that begins the same."""

    grammar: str | None
    sampler: Sampler | None = None
    follows: tuple[_Slot, _Work, int] | None = None


@dataclass(slots=True, eq=False)
class _Slot:
    """A sequence of the cache: `tokens` are those it holds, in use or left from the request before."""

    sequence: int
    tokens: list[int] = field(default_factory=list)
    work: _Work | None = None
    used_at: int = 0


@dataclass(slots=True)
class _Embedding:
    id: int
    inputs: list[list[int]]
    vectors: list[bytes] = field(default_factory=list)
    """Of the inputs that are done, which are the first ones."""


class BatchedEngine:
    """`emit` takes the events of a step. Raises `ModelUnavailable` or `OutOfMemory` when the model cannot be loaded."""

    def __init__(self, spec: ModelSpec, header: GgufHeader, emit: Callable[[list[Event]], None], *, safe: bool) -> None:
        started = time.monotonic()
        self._spec = spec
        self._emit = emit
        self._model = Model(spec, safe=safe)
        self._generates = str(header.metadata.get(f"{header.architecture}.attention.causal", True)).lower() != "false"
        own_pooling = header.number("pooling_type")
        self._pools_itself = bool(own_pooling)
        self._ranks = own_pooling == llama_library.RANK and spec.pooling is None
        self._context_size: int = spec.context_size or 0
        # Models that remember no prefixes would pay for further slots and have nothing of them.
        spare = max(2, spec.max_sequences // 2) if self._model.remembers_prefixes else 0
        self._slots = [_Slot(sequence) for sequence in range(spec.max_sequences + spare)]
        self._context: Context | None = None
        self._embedding_context: Context | None = None
        if self._generates:
            self._context = Context(
                self._model,
                cells=spec.cache_tokens or self._context_size,
                sequences=len(self._slots),
                batch_size=max(spec.batch_size, spec.max_sequences),
                threads=spec.threads,
            )
        self._prompts = Prompts(
            self._model,
            vocabulary_size=self._model.vocabulary_size,
            chosen=spec.chat_template,
            own=self._model.chat_template(),
            for_tools=self._model.chat_template("tool_use"),
            texts={
                "bos": self._model.bos,
                "eos": self._model.eos,
                "control_tokens": self._model.control_tokens(),
            },
            opening=self._model.bos,
        )
        self._notes = tuple(
            note
            for note, applies in (
                ("the model brings no chat template; ChatML is used", self._prompts.brings_no_template),
                ("this build of llama.cpp has no GPU support; `gpu_layers` is ignored", self._model.ignores_gpu),
            )
            if applies
        )
        self._inbox = Inbox(self._prepare, self._unreadable)
        self._waiting: FairQueue[_Work] = FairQueue(spec.max_sequences_per_key)
        self._embeddings: collections.deque[_Embedding] = collections.deque()
        self._outbox: list[Event] = []
        self._ticks = itertools.count(1)
        self._seconds_per_prompt_token = 0.0
        self._watch = Watch(_STUCK, "what an answer is bound by took too long to follow")
        self._closed = False
        self._crowded = False
        """The cache ran full and a request was set back: nobody is admitted until another is done."""
        self._warm_up()
        self._load_seconds = time.monotonic() - started

    def ready(self, memory_bytes: int) -> Ready:
        return Ready(
            engine=NAME,
            version=llama_library.VERSION,
            context_size=self._context_size,
            cache_tokens=self._spec.cache_tokens or self._context_size,
            max_sequences=self._spec.max_sequences,
            dimension=self._model.dimension,
            memory_bytes=memory_bytes,
            load_seconds=round(self._load_seconds, 4),
            notes=self._notes,
        )

    def _warm_up(self) -> None:
        """Decode one token, so that a build that crashes does so while loading and not under a request."""
        if self._context is None:
            return
        self._context.start_batch()
        self._context.add([0], 0, 0, logits=True)
        self._context.decode()
        self._context.clear()

    # Taking commands.

    def submit(self, command: Command) -> None:
        self._inbox.submit(command)

    def close(self) -> None:
        self._inbox.close()

    def _prepare(self, command: Generate | Embed) -> _Work | _Embedding:
        if isinstance(command, Embed):
            if self._ranks:  # what it makes of a text is a number, not a vector
                raise UnsupportedCapability(
                    "This model ranks texts; its parameter `pooling` says how it is to make embeddings.", param="model"
                )
            return _Embedding(command.id, self._prompts.inputs(command.request, self._longest_embedding))
        return self._prepare_answer(command)

    @staticmethod
    def _unreadable(error: Exception) -> GatewayError:
        return EngineError("The engine could not read this request.", detail=repr(error))

    def _prepare_answer(self, command: Generate) -> _Work:
        request = command.request
        if not self._generates:
            raise UnsupportedCapability("This model makes embeddings only; it cannot generate text.", param="model")
        tokens = self._prompts.tokens(request, self._context_size)
        return _Work(
            id=command.id,
            request=request,
            tokens=tokens,
            prompt_length=len(tokens),
            limit=room_for_answer(request, len(tokens), self._context_size),
            text=AnswerText(request.stop),
            grammar=llama_library.grammar_for(request, self._prompts.form),
            client=command.client,
            priority=command.priority,
            calls=reader_of(self._prompts.form, request.tools),
        )

    # The loop.

    def run(self) -> None:
        """Work until `close()`. A failure of the library itself is raised after all requests were told of it."""
        try:
            while not self._closed:
                self._take_commands()
                self._admit()
                self._step()
                self._embed_one()
                self._flush()
        except GatewayError as error:
            doomed = (
                [work.id for work in self._working()]
                + [work.id for work in self._waiting]
                + [e.id for e in self._embeddings]
            )
            self._outbox += [Failed.of(identifier, error) for identifier in doomed]
            self._flush()
            raise

    def _working(self) -> list[_Work]:
        return [slot.work for slot in self._slots if slot.work is not None]

    def _flush(self) -> None:
        if self._outbox:
            self._emit(self._outbox)
            self._outbox = []

    def _take_commands(self) -> None:
        """Everything that has come; when there is nothing to do, wait for the next."""
        idle = not self._waiting and not self._embeddings and not any(slot.work for slot in self._slots)
        for item in self._inbox.come(wait=idle):
            self._take(item)

    def _take(self, item: _Work | _Embedding | Cancel | Failed | None) -> None:
        if item is None:
            self._closed = True
        elif isinstance(item, _Work):
            self._waiting.push(item)
        elif isinstance(item, _Embedding):
            self._embeddings.append(item)
        elif isinstance(item, Failed):
            self._outbox.append(item)
        else:
            self._cancel(item.id)

    def _cancel(self, identifier: int) -> None:
        for slot in self._slots:
            if slot.work is not None and slot.work.id == identifier:
                self._release(slot)
                return
        for work in self._waiting:
            if work.id == identifier:
                self._waiting.remove(work)
                if work.sampler is not None:
                    work.sampler.close()
                return
        self._embeddings = collections.deque(job for job in self._embeddings if job.id != identifier)

    def _release(self, slot: _Slot) -> None:
        """The request is over; what the slot holds stays for the next one."""
        if slot.work is not None and slot.work.sampler is not None:
            slot.work.sampler.close()
        slot.work = None
        slot.used_at = next(self._ticks)
        self._crowded = False

    # Admission.

    def _admit(self) -> None:
        while self._waiting:
            working = self._working()
            at_work = collections.Counter(work.client for work in working)
            work = self._waiting.next(at_work)
            if work is None or (self._crowded and working):
                return
            if len(working) >= self._spec.max_sequences:
                yielding = set_back_for(work, working, at_work)
                if yielding is None:
                    return
                self._set_back(next(slot for slot in self._slots if slot.work is yielding), yielding)
            self._waiting.take(work)
            try:
                self._begin(work, [slot for slot in self._slots if slot.work is None])
            except GatewayError as error:
                self._outbox.append(Failed.of(work.id, error))

    def _set_back(self, slot: _Slot, work: _Work) -> None:
        """The request waits again; what its slot holds stays as long as nobody needs the room."""
        slot.work, work.follows = None, None
        slot.used_at = next(self._ticks)
        self._waiting.push_back(work)
        for other in self._slots:
            if other.work is not None:
                # Begun again before their next step, it could come to follow those that wait for it.
                self._catch_up(other, other.work)

    def _begin(self, work: _Work, free: list[_Slot]) -> None:
        if work.sampler is None:
            with self._watch.block():
                work.sampler = Sampler(
                    self._model,
                    work.request.sampling,
                    window=self._context_size,
                    grammar=work.grammar,
                    bound_by=work.request.bound_by,
                )
        work.order = next(self._ticks)
        usable = len(work.tokens) - 1  # the last token is always computed: its logits are what comes next
        held = {slot.sequence: min(common_prefix(slot.tokens, work.tokens), usable) for slot in self._slots}
        donor = max(self._slots, key=lambda slot: held[slot.sequence])
        length = held[donor.sequence] if self._model.remembers_prefixes else 0
        target = self._target(free, donor, length)
        work.follows = self._being_computed(work, usable, length) if self._model.remembers_prefixes else None
        self._fill(target, donor, length, work)
        if work.cached is None and work.follows is None:
            work.cached = length
        target.work = work

    @staticmethod
    def _target(free: list[_Slot], donor: _Slot, length: int) -> _Slot:
        """The donor itself when it continues, else the slot unused for longest, empty ones first."""
        if donor.work is None and length * 2 >= len(donor.tokens) and length > 0:
            return donor
        return min(free, key=lambda slot: (bool(slot.tokens), slot.used_at))

    def _being_computed(self, work: _Work, usable: int, length: int) -> tuple[_Slot, _Work, int] | None:
        """A prompt that is still being read and will hold clearly more of this one than any slot does now."""
        best = None
        for slot in self._slots:
            other = slot.work
            if other is None or len(slot.tokens) >= other.prompt_length:
                continue
            common = min(common_prefix(other.tokens, work.tokens), usable)
            if common >= length + _WORTH_WAITING_FOR:
                best, length = (slot, other, common), common
        return best

    def _fill(self, target: _Slot, donor: _Slot, length: int, work: _Work) -> None:
        """Make `target` hold the first `length` tokens of `work`, which `donor` has."""
        assert self._context is not None
        if target is donor:
            if not self._context.forget(target.sequence, length):
                self._context.forget(target.sequence)
                length = 0
        else:
            self._context.forget(target.sequence)
            if length:
                self._context.share(donor.sequence, target.sequence, length)
        target.tokens = work.tokens[:length]

    def _catch_up(self, slot: _Slot, work: _Work) -> bool:
        """Whether `work` may go on; takes over the awaited prefix once the prompt it follows has computed it."""
        if work.follows is None:
            return True
        source, leader, length = work.follows
        if source.work is leader and len(source.tokens) < length:
            return False
        work.follows = None
        length = min(common_prefix(source.tokens, work.tokens), length)
        if length > len(slot.tokens):
            self._fill(slot, source, length, work)
        if work.cached is None:
            work.cached = len(slot.tokens)
        return True

    # One step.

    def _step(self) -> None:
        active = self._ready_to_go_on()
        if not active or self._context is None:
            return
        started = time.monotonic()
        taken, prompt_tokens = self._fill_batch(self._context, active)
        while not self._context.decode():
            if not self._make_room():
                return
            active = [(slot, work) for slot, work in active if slot.work is work]
            if not active:
                return
            taken, prompt_tokens = self._fill_batch(self._context, active)
        self._learn_speed(prompt_tokens, time.monotonic() - started)
        for slot, work, count, place in taken:
            slot.tokens += work.tokens[len(slot.tokens) : len(slot.tokens) + count]
            if place is not None:
                self._advance(slot, work, place)

    def _ready_to_go_on(self) -> list[tuple[_Slot, _Work]]:
        """The oldest first, without those that wait for a prefix somebody else is computing."""
        working = [(slot, slot.work) for slot in self._slots if slot.work is not None]
        working.sort(key=lambda pair: pair[1].order)
        return [(slot, work) for slot, work in working if self._catch_up(slot, work)]

    def _fill_batch(
        self, context: Context, active: list[tuple[_Slot, _Work]]
    ) -> tuple[list[tuple[_Slot, _Work, int, int | None]], int]:
        """What went into the batch: of each sequence how many tokens and, if these were all, the place of its logits.

        The second value is how many of them belonged to prompts.
        """
        context.start_batch()
        taken: list[tuple[_Slot, _Work, int, int | None]] = []
        reading = []
        for slot, work in active:
            if len(work.tokens) - len(slot.tokens) == 1:
                place = context.add(work.tokens[-1:], len(slot.tokens), slot.sequence, logits=True)
                taken.append((slot, work, 1, place))
            else:
                reading.append((slot, work))
        budget, read = self._prompt_budget(bool(taken)), 0
        for slot, work in reading:
            start, missing = len(slot.tokens), len(work.tokens) - len(slot.tokens)
            count = min(missing, context.room, budget - read)
            if count <= 0:
                break
            place = context.add(work.tokens[start : start + count], start, slot.sequence, logits=count == missing)
            taken.append((slot, work, count, place if count == missing else None))
            read += count
        return taken, read

    def _prompt_budget(self, generating: bool) -> int:
        """Prompt tokens of one step: all that fit, but while answers flow no more than a short stall's worth."""
        assert self._context is not None
        if not generating or not self._seconds_per_prompt_token:
            return self._context.batch_size
        return max(_SMALLEST_CHUNK, int(_STALL_SECONDS / self._seconds_per_prompt_token))

    def _learn_speed(self, prompt_tokens: int, seconds: float) -> None:
        if prompt_tokens >= _SMALLEST_CHUNK:
            measured = seconds / prompt_tokens
            known = self._seconds_per_prompt_token
            self._seconds_per_prompt_token = 0.7 * known + 0.3 * measured if known else measured

    def _make_room(self) -> bool:
        """Free some of the cache: the idle slot unused for longest, else the youngest request. False when none is left."""
        idle = [slot for slot in self._slots if slot.work is None and slot.tokens]
        if idle:
            self._empty(min(idle, key=lambda slot: slot.used_at))
            return True
        working = [(slot, slot.work) for slot in self._slots if slot.work is not None]
        if not working:
            return False
        slot, work = max(working, key=lambda pair: pair[1].order)
        if len(working) == 1:
            error = OutOfMemory("The engine's cache has no room for this request.", detail="raise `cache_tokens`")
            self._outbox.append(Failed.of(work.id, error))
            self._release(slot)
            self._empty(slot)
            return False
        self._set_back(slot, work)
        self._empty(slot)
        self._crowded = True
        return True

    def _empty(self, slot: _Slot) -> None:
        assert self._context is not None
        self._context.forget(slot.sequence)
        slot.tokens = []

    # One token.

    def _advance(self, slot: _Slot, work: _Work, place: int) -> None:
        assert self._context is not None
        assert work.sampler is not None
        started = time.monotonic()
        with self._watch.block():
            token = work.sampler.choose(self._context, place)
        if work.grammar is not None and time.monotonic() - started > _LONGEST_CHOICE:
            field = work.request.bound_by
            error = InvalidRequest(f"What `{field}` binds this answer to is too ambiguous to be followed.", param=field)
            self._outbox.append(Failed.of(work.id, error))
            self._release(slot)
            return
        if token is None or self._model.ends(token):
            self._finish(slot, work, "stop", work.text.finish())
            return
        if work.request.top_logprobs is not None:
            logits, alternatives = self._context.logits(place), work.request.top_logprobs
            work.note_probability(token, *log_probabilities(logits, token, alternatives), self._model.piece)
        work.tokens.append(token)
        marks_a_call = work.calls is not None and token in self._prompts.marks
        piece = self._model.marked_piece(token) if marks_a_call else self._model.piece(token)
        text = work.text.push(piece)
        if work.text.stopped:
            self._finish(slot, work, "stop", text)
        elif work.produced >= work.limit:
            self._finish(slot, work, "length", text + work.text.finish())
        elif text:
            self._outbox += work.said(text)
            if work.calls is not None and work.calls.complete:
                self._finish(slot, work, "stop", "")

    def _finish(self, slot: _Slot, work: _Work, reason: str, text: str) -> None:
        self._outbox += work.ended(reason, text)
        self._release(slot)

    # Embeddings: between steps, one batch at a time.

    def _embed_one(self) -> None:
        """Jobs take turns, so that a long one holds up neither answers nor the other jobs."""
        if not self._embeddings:
            return
        job = self._embeddings.popleft()
        try:
            job.vectors += self._embed(job.inputs[len(job.vectors) :])
        except OutOfMemory as error:
            self._outbox.append(Failed.of(job.id, error))
            return
        if len(job.vectors) < len(job.inputs):
            self._embeddings.append(job)
        else:
            self._outbox.append(Vectors(job.id, job.vectors, sum(map(len, job.inputs))))

    def _embed(self, inputs: list[list[int]]) -> list[bytes]:
        """The vectors of as many of the inputs as one batch takes."""
        context = self._open_embedding_context()
        context.start_batch()
        count = 0
        for tokens in inputs:
            if count == _EMBEDDING_SEQUENCES or context.room < len(tokens):
                break
            context.add(tokens, 0, count, logits=None)
            count += 1
        return self._pooled(context, count)

    @property
    def _longest_embedding(self) -> int:
        """An input is computed in one batch, whose working memory a model that is made for it is given."""
        return min(self._context_size, _LONGEST_EMBEDDING) if self._generates else self._context_size

    def _open_embedding_context(self) -> Context:
        if self._embedding_context is None:
            longest = self._longest_embedding
            self._embedding_context = Context(
                self._model,
                cells=longest,
                sequences=_EMBEDDING_SEQUENCES,
                batch_size=longest,
                threads=self._spec.threads,
                embeddings=True,
                pooling=self._spec.pooling or (None if self._pools_itself else "mean"),
            )
        return self._embedding_context

    @staticmethod
    def _pooled(context: Context, count: int) -> list[bytes]:
        context.clear()
        if not context.decode():
            raise OutOfMemory("The engine's cache has no room for these inputs.")
        vectors = []
        for sequence in range(count):
            vector = context.embedding(sequence)
            length = float(np.linalg.norm(vector))
            vectors.append((vector / length if length else vector).astype("<f4").tobytes())
        return vectors
