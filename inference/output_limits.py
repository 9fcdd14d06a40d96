"""By which member of a chat request a model is told how long its answer may be at most.

OpenAI's models that think refuse `max_tokens` and want `max_completion_tokens`, which their thoughts count towards; Mistral and
older servers know the former only. Pure: what is known of a model beforehand, and what its upstream's refusal says of it.
"""

from __future__ import annotations

import re

from providers import capabilities
from routing.types import ModelView

OLDER, NEWER = "max_tokens", "max_completion_tokens"

_RAN_OUT = "max_tokens or model output limit was reached"


def names(model: ModelView) -> tuple[str, str]:
    """The member that the model takes as far as one knows, and the other one. Azure's older API versions do not know the newer,
    but those do that have models which think."""
    kind = model.provider.provider_type
    thinks = capabilities.thinks_by_name(model.upstream_model_id)
    if kind == "openai" or thinks or (kind == "azure_openai" and "reasoning" in model.capabilities):
        return NEWER, OLDER
    return OLDER, NEWER


def ran_out(refusal: str) -> bool:
    """Whether it is the 400 of a model that has thought until its tokens were spent, and is well otherwise."""
    return _RAN_OUT in refusal


def is_not_taken(name: str, refusal: str, param: str | None) -> bool:
    """Whether an upstream's refusal is about that member."""
    return param == name or re.search(rf"\b{name}\b", refusal) is not None
