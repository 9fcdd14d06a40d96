"""What can go wrong with a request, and what each failure means to HTTP and to a retry.

GatewayError
├── CallerError                     the request is at fault; another try cannot help
│   ├── InvalidRequest      400     ├── InvalidKey          401     ├── PermissionDenied   403
│   ├── ModelNotFound       404     ├── BodyTooLarge        413     ├── ContextLengthExceeded 400
│   └── UnsupportedCapability 400   └── NotImplementedHere  501
├── UpstreamError                   a provider is at fault
│   ├── UpstreamUnreachable 502     ├── UpstreamTimeout     504     ├── UpstreamBroken     502
│   ├── UpstreamRejected    4xx     ├── UpstreamRateLimited 429     ├── UpstreamFailed     502/503
│   └── UpstreamRefusedOurKey 502
├── EngineError                     a local model is at fault
│   ├── ModelUnavailable    503     ├── OutOfMemory         503     └── WorkerLost         502
├── NotAllowed                      a limit or a budget says no, whoever would answer
│   ├── LimitReached        429     ├── BudgetExhausted     429     └── BudgetStoreUnavailable 503
└── GatewayOverloaded       503

Every error has two texts: `message` is for the caller, `detail` for the operator's log. Neither holds a secret or an
upstream address. `retryable` says whether another provider, or another try, may help.
"""

from __future__ import annotations

from typing import Any, ClassVar


class GatewayError(Exception):
    """`code` is from a closed vocabulary; `retry_after` is in seconds."""

    status: int = 500
    code: str = "internal_error"
    type: str = "api_error"
    retryable: bool = False
    owner: ClassVar[str] = "gateway"
    """Whose fault: caller, policy, provider or gateway."""
    used: bytes = b""
    """What the upstream says of the tokens that the try used though it failed; see `inference.told_usage`."""

    def __init__(
        self,
        message: str,
        *,
        detail: str = "",
        param: str | None = None,
        code: str | None = None,
        status: int | None = None,
        retry_after: float | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.param = param
        self.retry_after = retry_after
        self.attempts: tuple[dict[str, Any], ...] = ()
        """How each try at a provider ended, when all of them failed."""
        if code is not None:
            self.code = code
        if status is not None:
            self.status = status
        if retryable is not None:
            self.retryable = retryable

    def envelope(self) -> dict[str, Any]:
        """The error as OpenAI's clients read it."""
        told: dict[str, Any] = {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }
        if self.attempts:
            told["attempts"] = list(self.attempts)
        return {"error": told}


class CallerError(GatewayError):
    status = 400
    type = "invalid_request_error"
    owner = "caller"


class InvalidRequest(CallerError):
    code = "invalid_request"


class InvalidKey(CallerError):
    status = 401
    code = "invalid_api_key"
    type = "authentication_error"


class PermissionDenied(CallerError):
    status = 403
    code = "permission_denied"
    type = "permission_error"


class ModelNotFound(CallerError):
    status = 404
    code = "model_not_found"


class NotFound(CallerError):
    status = 404
    code = "not_found"


class MethodNotAllowed(CallerError):
    status = 405
    code = "method_not_allowed"


class NoWebsocket(MethodNotAllowed):
    status = 426
    """By which clients that may speak over a websocket know at once that they have to go without."""


class NotImplementedHere(CallerError):
    """A part of a known API that this gateway does not serve, or that nothing configured here offers."""

    status = 501
    code = "not_implemented"


class BodyTooLarge(CallerError):
    status = 413
    code = "request_too_large"


class ContextLengthExceeded(CallerError):
    code = "context_length_exceeded"


class UnsupportedCapability(CallerError):
    code = "unsupported_capability"


class UpstreamError(GatewayError):
    status = 502
    code = "upstream_error"
    owner = "provider"
    retryable = True


class UpstreamUnreachable(UpstreamError):
    code = "upstream_unreachable"


class UpstreamTimeout(UpstreamError):
    status = 504
    code = "upstream_timeout"


class UpstreamBroken(UpstreamError):
    """The upstream answered, but not in its protocol: garbage, a cut body, a redirect."""

    code = "upstream_broken"


class UpstreamRejected(UpstreamError):
    """A 4xx of the upstream about this very request; `body` is its own answer, relayed as it is."""

    type = "invalid_request_error"
    retryable = False
    owner = "caller"

    def __init__(self, message: str, *, body: bytes, content_type: bytes = b"application/json", **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self.body = body
        self.content_type = content_type


class UpstreamRateLimited(UpstreamRejected):
    status = 429
    code = "rate_limit_exceeded"
    type = "rate_limit_error"
    owner = "provider"
    retryable = True


class UpstreamRefusedOurKey(UpstreamError):
    """401 from the upstream: our key is bad, the caller's is not to blame."""

    code = "upstream_auth_failed"


class UpstreamFailed(UpstreamError):
    code = "upstream_error"


class EngineError(GatewayError):
    status = 503
    code = "engine_error"
    owner = "provider"
    retryable = True


class ModelUnavailable(EngineError):
    """The model's file or the engine's library is missing or broken; the message says which and what to do."""

    code = "model_unavailable"


class OutOfMemory(EngineError):
    code = "out_of_memory"


class WorkerLost(EngineError):
    status = 502
    code = "worker_lost"


class NotAllowed(GatewayError):
    """A limit or a budget does not let the request through: to ask another provider would be the same request."""

    owner = "policy"


class LimitReached(NotAllowed):
    """`retry_after` is when it will be let through."""

    status = 429
    code = "rate_limit_exceeded"
    type = "rate_limit_error"
    retryable = True


class BudgetExhausted(NotAllowed):
    """To try again is of no use before the period ends or somebody raises it. `param` is the code of seed 001."""

    status = 429
    code = "insufficient_quota"
    type = "insufficient_quota"
    comes_back = True
    """False where no new period helps: one request costs more than one request may."""


class BudgetStoreUnavailable(NotAllowed):
    status = 503
    code = "budget_store_unavailable"
    owner = "gateway"
    retryable = True


class GatewayOverloaded(GatewayError):
    status = 503
    code = "overloaded"
    retryable = True


class ConfigurationError(GatewayError):
    """A provider is set up in a way that cannot work; the message names the parameter."""

    status = 500
    code = "provider_misconfigured"
    owner = "provider"
    retryable = True
