"""Which token comes next: one answer's sampling over a vector of logits. Numpy only, so it is the same on every device.

The order is that of the other engine, llama.cpp: biases, penalties, top-k, top-p, min-p, temperature, chance. Penalties look at what
the answer itself has said, repetition at its last 64 tokens, as there.
"""

from __future__ import annotations

import collections

import numpy as np

from inference.engine.probabilities import in_order
from inference.engine.requests import Sampling

_REPEAT_WINDOW = 64
_LIKELIEST = 512
"""How many are looked at before a whole vocabulary is put in order."""


class Chooser:
    """Of one answer; it remembers what it chose. `allowed` masks of a grammar are applied before anything else."""

    def __init__(self, sampling: Sampling, vocabulary_size: int) -> None:
        self._sampling = sampling
        known = {token: bias for token, bias in sampling.logit_bias.items() if token < vocabulary_size}
        self._biased = np.fromiter(known.keys(), np.int64, len(known))
        self._biases = np.array([-np.inf if bias <= -100 else bias for bias in known.values()], np.float32)
        self._counts: collections.Counter[int] = collections.Counter()
        self._latest: collections.deque[int] = collections.deque(maxlen=_REPEAT_WINDOW)
        self._chance = np.random.default_rng(None if sampling.seed is None else sampling.seed & 0x7FFFFFFFFFFFFFFF)

    def choose(self, logits: np.ndarray, allowed: np.ndarray | None = None) -> int | None:
        """The next token; None when grammar and biases together leave none. `logits` are not changed."""
        changed = logits.astype(np.float32, copy=True)
        changed[np.isnan(changed)] = -np.inf
        if allowed is not None:
            changed[~allowed] = -np.inf
        if len(self._biased):
            changed[self._biased] += self._biases
        self._penalise(changed)
        token = int(changed.argmax())
        if not np.isfinite(changed[token]):
            return None
        if self._sampling.temperature > 0:
            token = self._by_chance(changed)
        self._counts[token] += 1
        self._latest.append(token)
        return token

    def _penalise(self, logits: np.ndarray) -> None:
        sampling = self._sampling
        if sampling.repeat_penalty != 1.0 and self._latest:
            seen = np.fromiter(set(self._latest), np.int64)
            found = logits[seen]
            logits[seen] = np.where(found > 0, found / sampling.repeat_penalty, found * sampling.repeat_penalty)
        if (sampling.presence_penalty or sampling.frequency_penalty) and self._counts:
            seen = np.fromiter(self._counts.keys(), np.int64)
            times = np.fromiter(self._counts.values(), np.float32)
            logits[seen] -= sampling.presence_penalty + sampling.frequency_penalty * times

    def _by_chance(self, logits: np.ndarray) -> int:
        tokens, chosen_from = self._candidates(logits)
        weights = np.exp((chosen_from - chosen_from[0]) / self._sampling.temperature)
        ends = np.cumsum(weights)
        at = int(np.searchsorted(ends, self._chance.random() * ends[-1], side="right"))
        return int(tokens[min(at, len(tokens) - 1)])

    def _candidates(self, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens that may come, the likeliest first, and their logits in double precision."""
        sampling = self._sampling
        tokens = in_order(logits, sampling.top_k)
        kept = logits[tokens].astype(np.float64)
        if sampling.top_k == 0 and sampling.top_p < 1 and len(logits) > _LIKELIEST:
            likely = in_order(logits, _LIKELIEST)
            best = logits[likely[0]]
            whole = np.exp((logits - best).astype(np.float64)).sum()
            if np.exp((logits[likely] - best).astype(np.float64)).sum() / whole >= sampling.top_p:
                tokens, kept = likely, logits[likely].astype(np.float64)
                return self._cut(tokens, kept, np.exp(kept - kept[0]) / whole)
        probabilities = np.exp(kept - kept[0])
        return self._cut(tokens, kept, probabilities / probabilities.sum())

    def _cut(self, tokens: np.ndarray, kept: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        count = len(tokens)
        if self._sampling.top_p < 1:
            count = min(count, int(np.searchsorted(np.cumsum(probabilities), self._sampling.top_p)) + 1)
        if self._sampling.min_p > 0:
            enough = probabilities[:count] >= self._sampling.min_p * probabilities[0]
            count = max(1, int(enough.sum()))
        return tokens[:count], kept[:count]
