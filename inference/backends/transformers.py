"""Models of the transformers library, on a CPU or a GPU, as they run in a worker.

All that is done with a local model is the same whatever computes it: see `inference.backends.llama_cpp`. This class only makes a
provider's models be loaded by the other engine, `inference.engine.transformers_engine`, which the spec decides.
"""

from __future__ import annotations

from typing import Any

from inference.backends.llama_cpp import LlamaCpp


class Transformers(LlamaCpp):
    """Holds models in this very process. The web process uses the relay to a worker instead."""

    async def list_models(self) -> list[dict[str, Any]]:
        """Nothing ships: directories are found by discovery."""
        return []
