"""The two roles of a source system's models, heavy and light: policies of these names, asked for by a flag."""

from __future__ import annotations

HEAVY, LIGHT = "heavy", "light"


def model_of(heavy: object, model: str = "") -> str:
    """The name to ask for. `heavy` is True, False, or anything else where nobody said; a model that is named goes before it."""
    if model or not isinstance(heavy, bool):
        return model
    return HEAVY if heavy else LIGHT
