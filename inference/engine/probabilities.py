"""How likely a model finds its tokens, whichever engine computed them. Numpy only."""

from __future__ import annotations

import numpy as np


def log_probabilities(logits: np.ndarray, token: int, alternatives: int) -> tuple[float, list[tuple[int, float]]]:
    """Natural logarithms of the model's own probabilities, before any sampling setting: the token's and the likeliest."""
    shifted = logits.astype(np.float64) - logits.max()
    logs = shifted - np.log(np.exp(shifted).sum())
    best = in_order(logs, alternatives) if alternatives else ()
    return float(logs[token]), [(int(other), float(logs[other])) for other in best]


def in_order(logits: np.ndarray, most: int) -> np.ndarray:
    """The finite ones, the likeliest first, of equal ones the first of the vocabulary; `most` of them, or all for 0."""
    if 0 < most < len(logits):
        # A partition alone would take any of those that are as likely as the last one taken.
        tokens = np.flatnonzero(logits >= np.partition(logits, len(logits) - most)[len(logits) - most])
    else:
        tokens = np.arange(len(logits))
    tokens = tokens[np.isfinite(logits[tokens])]
    ordered: np.ndarray = tokens[np.argsort(-logits[tokens], kind="stable")]
    return ordered[:most] if most > 0 else ordered
