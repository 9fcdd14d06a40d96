"""Which models could do what the named one cannot: what a caller, or the gateway's operator, is told beside the refusal."""

from __future__ import annotations

from inference import offered
from inference.attempts import Trail
from inference.errors import GatewayError, ModelNotFound, NotImplementedHere, UnsupportedCapability
from inference.wire.openai import Operation
from providers.capabilities import OFFERED_BY, OPERATION_NEEDS
from routing.snapshot import current

_MOST_NAMED = 5


def with_alternatives(error: GatewayError, operation: Operation, trail: Trail) -> GatewayError:
    """Of those that the caller may use; if nobody could, the operator is told. The error as it is once a model was asked, and where
    it says something else than that the model cannot."""
    if trail.attempts or trail.identity is None or not isinstance(error, ModelNotFound | UnsupportedCapability):
        return error
    snapshot = current()
    names = offered.for_operation(operation.name, trail.identity, snapshot, _MOST_NAMED)
    if names:
        error.message = f"{error.message} These serve {operation.name}: {', '.join(names)}."
        return error
    if offered.for_operation(operation.name, None, snapshot, 1):
        return error
    kinds = ", ".join(OFFERED_BY[OPERATION_NEEDS[operation.name]])
    return NotImplementedHere(
        f"No model that is configured here serves {operation.name}. The gateway's operator can add one: provider types that "
        f"offer it are {kinds}.",
        detail=error.detail,
        param="model",
    )
