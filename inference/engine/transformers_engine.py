"""The loop around a transformers model: many answers computed together, one token at a time.

Each turn gives every answer in progress its next token, then reads some more of the oldest prompt that waits, so a long prompt slows
answers and never stops them. What has been read joins the others; prompts that are the same are read once. Where memory runs
short, the youngest answer is set back to the queue's front and computed again later. One that is cancelled leaves its row;
the others do not notice.

Everything but `submit` runs on the thread that called `run`.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from inference.engine import transformers_model
from inference.engine.answers import Answer
from inference.engine.call_ids import reader_of
from inference.engine.fairness import FairQueue
from inference.engine.inbox import Inbox
from inference.engine.probabilities import log_probabilities
from inference.engine.prompt_tokens import Prompts, room_for_answer
from inference.engine.protocol import Cancel, Command, Embed, Event, Failed, Generate, Ready, Vectors
from inference.engine.requests import GenerateRequest
from inference.engine.text import AnswerText
from inference.engine.transformers_embedding import Embedding
from inference.engine.transformers_files import ModelFiles
from inference.engine.transformers_grammar import Grammar, Grammars
from inference.engine.transformers_model import Model, Rows, is_out_of_memory
from inference.engine.transformers_sampling import Chooser
from inference.engine.transformers_spec import NAME, TransformersSpec
from inference.engine.transformers_tokens import AnswerPieces, Tokens
from inference.errors import (
    EngineError,
    GatewayError,
    OutOfMemory,
    UnsupportedCapability,
)

_EMBEDDED_TOGETHER = 32
_SLOWER_READING = 4
"""While answers flow, this part of a batch is read of a prompt in one turn."""


@dataclass(slots=True, eq=False, kw_only=True)
class _Work(Answer):
    """One request on its way."""

    chooser: Chooser
    pieces: AnswerPieces
    grammar: Grammar | None = None


@dataclass(slots=True, eq=False)
class _Reading:
    """A prompt of which the first `done` tokens were read."""

    work: _Work
    rows: Rows
    done: int = 0


@dataclass(slots=True, eq=False)
class _Group:
    """Answers that are computed together; a row each."""

    works: list[_Work]
    rows: Rows


@dataclass(slots=True)
class _Job:
    """Texts to embed. `left` are the places of those not done, the shortest first, so that they need little padding."""

    id: int
    inputs: list[list[int]]
    left: list[int]
    vectors: list[bytes]


class TransformersEngine:
    """`emit` takes the events of a turn. Raises a typed error when the model cannot be loaded."""

    def __init__(
        self, spec: TransformersSpec, emit: Callable[[list[Event]], None], *, memory_limit: int | None = None
    ) -> None:
        started = time.monotonic()
        files = ModelFiles.read(spec.path, pickles=spec.allow_pickle)
        self._spec = spec = spec.sized(files)
        self._emit = emit
        self._tokens = Tokens(spec.path, trust_remote_code=spec.trust_remote_code)
        self._model = Model(spec, files, memory_limit=memory_limit)
        self._embedding = Embedding(self._model, spec.path, spec.pooling)
        self._context_size: int = spec.context_size or 0
        self._ends = self._tokens.ends | self._model.ends
        self._grammars: Grammars | None = None
        # Templates of these models write the beginning-of-text token themselves, or do without one.
        self._prompts = Prompts(
            self._tokens,
            vocabulary_size=self._model.vocabulary_size,
            chosen=spec.chat_template,
            own=self._tokens.chat_template(),
            for_tools=self._tokens.chat_template(tools=True),
            texts={"bos": self._tokens.bos, "eos": self._tokens.eos, "control_tokens": self._tokens.control_texts},
        )
        self._notes = (f"computes on {self._model.device} in {self._dtype_name()}", *self._model.notes)
        if self._model.generates and self._prompts.brings_no_template:
            self._notes += ("the model brings no chat template; ChatML is used",)
        if self._model.generates and not self._model.joins:
            self._notes += ("answers of this kind of model are computed one by one",)
        self._inbox = Inbox(self._prepare, self._unreadable)
        self._waiting: FairQueue[_Work] = FairQueue(spec.max_sequences_per_key)
        self._reading: _Reading | None = None
        self._groups: list[_Group] = []
        self._jobs: collections.deque[_Job] = collections.deque()
        self._outbox: list[Event] = []
        self._closed = False
        self._most_rows = spec.max_sequences
        self._warm_up()
        self._load_seconds = time.monotonic() - started

    def ready(self, memory_bytes: int) -> Ready:
        return Ready(
            engine=NAME,
            version=transformers_model.VERSION,
            context_size=self._context_size,
            cache_tokens=self._spec.cache_tokens or self._context_size,
            max_sequences=self._spec.max_sequences,
            dimension=self._embedding.dimension,
            memory_bytes=memory_bytes,
            load_seconds=round(self._load_seconds, 4),
            notes=self._notes,
            device_bytes=self._model.device_bytes,
        )

    def _dtype_name(self) -> str:
        return str(getattr(self._model.network, "dtype", "?")).removeprefix("torch.")

    def _warm_up(self) -> None:
        """Compute one token, so that a model that this engine cannot run fails while loading and not under a request."""
        try:
            if self._model.generates:
                self._model.read([0], self._model.new_rows())
            else:
                self._model.hidden([[0]])
        except Exception as error:  # whatever a model's own forward may raise
            raise self._failure(error, "The model cannot be run by the engine.") from error

    @staticmethod
    def _failure(error: Exception, message: str) -> GatewayError:
        if isinstance(error, GatewayError):
            return error
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
        if is_out_of_memory(error):
            return OutOfMemory(
                "The engine has no memory left for this request.",
                detail=f"{said}; lower `context_size` or `max_sequences`, or raise the limit",
                retry_after=5.0,
            )
        return EngineError(message, detail=said)

    # Taking commands.

    def submit(self, command: Command) -> None:
        self._inbox.submit(command)

    def close(self) -> None:
        self._inbox.close()

    def _prepare(self, command: Generate | Embed) -> _Work | _Job:
        return self._prepare_job(command) if isinstance(command, Embed) else self._prepare_answer(command)

    def _unreadable(self, error: Exception) -> GatewayError:
        return self._failure(error, "The engine could not read this request.")

    def _prepare_answer(self, command: Generate) -> _Work:
        request = command.request
        if not self._model.generates:
            raise UnsupportedCapability("This model makes embeddings only; it cannot generate text.", param="model")
        tokens = self._prompts.tokens(request, self._context_size)
        return _Work(
            id=command.id,
            request=request,
            tokens=tokens,
            prompt_length=len(tokens),
            limit=room_for_answer(request, len(tokens), self._context_size),
            chooser=Chooser(request.sampling, self._model.vocabulary_size),
            text=AnswerText(request.stop),
            pieces=AnswerPieces(self._tokens, tokens),
            client=command.client,
            priority=command.priority,
            grammar=self._grammar(request),
            calls=reader_of(self._prompts.form, request.tools),
        )

    def _grammar(self, request: GenerateRequest) -> Grammar | None:
        required = request.tools is not None and request.tools.required
        if not (request.json_object or request.json_schema or request.grammar or required):
            return None
        if self._grammars is None:
            self._grammars = Grammars(self._tokens, self._model.vocabulary_size, self._prompts.marks)
        return self._grammars.open(request, self._prompts.form)

    def _prepare_job(self, command: Embed) -> _Job:
        most = min(self._context_size, self._embedding.longest or self._context_size)
        inputs = self._prompts.inputs(command.request, most)
        shortest_first = sorted(range(len(inputs)), key=lambda place: len(inputs[place]))
        return _Job(command.id, inputs, shortest_first, [b""] * len(inputs))

    # The loop.

    def run(self) -> None:
        """Work until `close()`. What fails while computing fails the requests that it concerns, and the loop goes on."""
        while not self._closed:
            self._take_commands()
            for group in list(self._groups):
                self._step(group)
            self._begin()
            self._read_on()
            self._embed_some()
            self._flush()

    def _flush(self) -> None:
        if self._outbox:
            self._emit(self._outbox)
            self._outbox = []

    def _take_commands(self) -> None:
        """Everything that has come; when there is nothing to do, wait for the next."""
        idle = not (len(self._waiting) or self._jobs or self._groups or self._reading)
        for item in self._inbox.come(wait=idle):
            self._take(item)

    def _take(self, item: _Work | _Job | Cancel | Failed | None) -> None:
        if item is None:
            self._closed = True
        elif isinstance(item, _Work):
            self._waiting.push(item)
        elif isinstance(item, _Job):
            self._jobs.append(item)
        elif isinstance(item, Failed):
            self._outbox.append(item)
        else:
            self._cancel(item.id)

    def _cancel(self, identifier: int) -> None:
        if self._reading is not None and self._reading.work.id == identifier:
            self._reading = None
        for work in [work for work in self._waiting if work.id == identifier]:
            self._waiting.remove(work)
        self._jobs = collections.deque(job for job in self._jobs if job.id != identifier)
        for group in list(self._groups):
            if any(work.id == identifier for work in group.works):
                self._keep(group, [place for place, work in enumerate(group.works) if work.id != identifier])

    def _keep(self, group: _Group, places: list[int]) -> None:
        if not places:
            self._groups.remove(group)
        elif len(places) < len(group.works):
            group.works = [group.works[place] for place in places]
            group.rows.keep(places)

    # Reading prompts.

    @property
    def _rows_at_work(self) -> int:
        return sum(len(group.works) for group in self._groups)

    def _begin(self) -> None:
        if self._reading is not None or not len(self._waiting) or self._rows_at_work >= self._most_rows:
            return
        work = self._waiting.next(collections.Counter(work.client for work in self._works()))
        if work is not None and self._has_room(work):
            self._waiting.take(work)
            self._reading = _Reading(work, self._model.new_rows())

    def _has_room(self, next_one: _Work) -> bool:
        """Whether the cache would hold the next prompt beside the answers at work; an empty one always does."""
        if not self._groups:
            return True
        longest = max([len(next_one.tokens) + 1, *(len(work.tokens) for work in self._works())])
        return (self._rows_at_work + 1) * longest <= (self._spec.cache_tokens or 0)

    def _works(self) -> list[_Work]:
        return [work for group in self._groups for work in group.works]

    def _read_on(self) -> None:
        reading = self._reading
        if reading is None:
            return
        work = reading.work
        count = self._spec.batch_size if not self._groups else max(16, self._spec.batch_size // _SLOWER_READING)
        chunk = work.tokens[reading.done : reading.done + count]
        last = reading.done + len(chunk) == len(work.tokens)
        try:
            logits = self._model.read(chunk, reading.rows, want=last)
        except Exception as error:  # torch says what went wrong in many ways
            self._reading = None
            self._set_back_or_fail([work], error)
            return
        reading.done += len(chunk)
        if logits is not None:
            self._reading = None
            self._join(reading, logits[0])

    def _join(self, reading: _Reading, logits: np.ndarray) -> None:
        """The prompt is read: it and those that are the same begin to answer beside the others."""
        works = [reading.work, *self._same_prompts(reading.work)]
        going = [work for work in works if self._advance(work, logits)]
        if not going:
            return
        if len(going) > 1 and self._model.joins:
            reading.rows.repeat(len(going))
        if self._model.joins and self._groups:
            group = self._groups[0]
            group.rows.join(reading.rows)
            group.works += going
        else:
            self._groups.append(_Group(going, reading.rows))

    def _same_prompts(self, leader: _Work) -> list[_Work]:
        if not self._model.joins or leader.produced:
            return []
        free = self._most_rows - self._rows_at_work - 1
        affordable = (self._spec.cache_tokens or 0) // max(1, len(leader.tokens) + 1) - self._rows_at_work - 1
        at_work = collections.Counter(work.client for work in [leader, *self._works()])
        same: list[_Work] = []
        for work in self._waiting:
            if len(same) >= min(free, affordable):
                break
            if work.tokens == leader.tokens and self._waiting.may_begin(work.client, at_work):
                same.append(work)
                at_work[work.client] += 1
        for work in same:
            self._waiting.take(work)
            work.cached = work.prompt_length
        return same

    # One token.

    def _step(self, group: _Group) -> None:
        self._make_room(group)
        try:
            logits = self._model.step([work.tokens[-1] for work in group.works], group.rows)
        except Exception as error:  # torch says what went wrong in many ways
            self._groups.remove(group)
            self._set_back_or_fail(group.works, error)
            return
        self._keep(group, [place for place, work in enumerate(group.works) if self._advance(work, logits[place])])

    def _make_room(self, group: _Group) -> None:
        """Set the youngest answers back while the cache would run over its limit."""
        limit = self._spec.cache_tokens or 0
        while len(group.works) > 1 and len(group.works) * (max(len(work.tokens) for work in group.works)) > limit:
            self._waiting.push_back(group.works[-1])
            self._keep(group, list(range(len(group.works) - 1)))

    def _set_back_or_fail(self, works: list[_Work], error: Exception) -> None:
        """Short of memory, fewer are computed at once and these again; alone, or for any other reason, they fail."""
        self._model.free()
        if is_out_of_memory(error) and (len(works) > 1 or self._groups):
            self._most_rows = max(1, (self._rows_at_work + len(works)) // 2)
            for work in reversed(works):
                self._waiting.push_back(work)
            return
        failure = self._failure(error, "The engine failed while it was answering.")
        self._outbox += [Failed.of(work.id, failure) for work in works]

    def _advance(self, work: _Work, logits: np.ndarray) -> bool:
        """Choose and tell the next token; whether another is wanted."""
        token = work.chooser.choose(logits, work.grammar.allowed() if work.grammar is not None else None)
        if token is None or token in self._ends:
            self._finish(work, "stop", self._rest(work))
            return False
        if work.request.top_logprobs is not None:
            told = log_probabilities(logits, token, work.request.top_logprobs)
            work.note_probability(token, *told, self._tokens.piece)
        if work.grammar is not None:
            work.grammar.take(token)
        work.tokens.append(token)
        text = work.text.push(self._text_of(work, token).encode())
        if work.text.stopped:
            self._finish(work, "stop", text)
        elif work.grammar is not None and work.grammar.complete:
            self._finish(work, "stop", text + self._rest(work))
        elif work.produced >= work.limit:
            self._finish(work, "length", text + self._rest(work))
        else:
            self._outbox += work.said(text)
            if work.calls is None or not work.calls.complete:
                return True
            self._finish(work, "stop", "")
        return False

    def _text_of(self, work: _Work, token: int) -> str:
        if work.calls is None or token not in self._prompts.marks:
            return work.pieces.push(token)
        before, work.pieces = work.pieces.finish(), AnswerPieces(self._tokens, ())
        return before + self._prompts.marks[token]

    @staticmethod
    def _rest(work: _Work) -> str:
        return work.text.push(work.pieces.finish().encode()) + work.text.finish()

    def _finish(self, work: _Work, reason: str, text: str) -> None:
        self._most_rows = min(self._most_rows + 1, self._spec.max_sequences)
        self._outbox += work.ended(reason, text)

    # Embeddings: between turns, some texts at a time.

    def _embed_some(self) -> None:
        if not self._jobs:
            return
        job = self._jobs[0]
        together = self._affordable(job)
        try:
            vectors = self._embedding.vectors([job.inputs[place] for place in together])
        except Exception as error:  # torch says what went wrong in many ways
            self._model.free()
            self._jobs.popleft()
            self._outbox.append(Failed.of(job.id, self._failure(error, "The engine failed while it was embedding.")))
            return
        for place, vector in zip(together, vectors, strict=True):
            job.vectors[place] = vector
        del job.left[: len(together)]
        if not job.left:
            self._jobs.popleft()
            self._outbox.append(Vectors(job.id, job.vectors, sum(map(len, job.inputs))))

    def _affordable(self, job: _Job) -> list[int]:
        """The next places, as many as a batch holds with padding, and one at least."""
        together: list[int] = []
        for place in job.left[:_EMBEDDED_TOGETHER]:
            if together and (len(together) + 1) * len(job.inputs[place]) > max(self._spec.batch_size, 2048):
                break
            together.append(place)
        return together
