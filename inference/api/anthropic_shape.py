"""What Anthropic's API keeps between requests, in the shape that its clients expect; see `openai_shape`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from inference.api.openai_shape import KeptView, failure_as_envelope
from inference.wire import anthropic

VERSION = "anthropic-version"
"""The header that all of its clients send."""


class AnthropicView(KeptView):
    """Errors are Anthropic's, and each answer names its request as Anthropic's do."""

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        response["request-id"] = _id_of(request)
        return response

    def get_exception_handler(self) -> Callable[..., Response | None]:
        return failure_in_its_words


class EitherView(AnthropicView):
    """Of a path that both APIs have: whoever names a version of Anthropic's is one of its clients, and all others are OpenAI's."""

    @property
    def is_anthropics(self) -> bool:
        return VERSION in self.request.headers

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        shape = AnthropicView if self.is_anthropics else KeptView
        return shape.finalize_response(self, request, response, *args, **kwargs)

    def get_exception_handler(self) -> Callable[..., Response | None]:
        return (AnthropicView if self.is_anthropics else KeptView).get_exception_handler(self)


def failure_in_its_words(error: Exception, context: dict[str, Any]) -> Response | None:
    response = failure_as_envelope(error, context)
    if response is not None:
        status = response.status_code
        response.data = anthropic.error_of(response.data, status, _id_of(context.get("request")))
        response.status_code = anthropic.status_of(status)
    return response


def _id_of(request: Any) -> str:
    told: str = getattr(request, "request_id", "")
    return told
