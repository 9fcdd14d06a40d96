"""What lies beside the paths where `/v1` keeps things: nothing, said in the caller's words."""

from __future__ import annotations

from rest_framework.request import Request
from rest_framework.response import Response

from inference.api.anthropic_shape import EitherView
from inference.wire import message_batches, openai


class NowhereView(EitherView):
    """Whoever asks below Anthropic's own paths is one of its clients, version or not."""

    schema = None
    required_scopes = dict.fromkeys(("GET", "POST", "PUT", "PATCH", "DELETE"), "generate")

    @property
    def is_anthropics(self) -> bool:
        return super().is_anthropics or self.request.path.startswith(message_batches.ENDPOINT)

    def get(self, request: Request) -> Response:
        raise openai.unknown_path(request.path)

    post = put = patch = delete = get
