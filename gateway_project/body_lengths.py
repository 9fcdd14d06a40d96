"""Django behind ASGI, with bodies of any transfer.

A body that comes in chunks announces no length, and Django's forms and REST framework take what has no length for empty. Django has
written the body to a file before it makes the request of it, so that its length is known by then.
"""

from __future__ import annotations

import os
from typing import IO, Any

from django.core.handlers.asgi import ASGIHandler, ASGIRequest


class MeasuredRequest(ASGIRequest):
    """A request whose body has a length, however it came."""

    def __init__(self, scope: dict[str, Any], body_file: IO[bytes]) -> None:
        super().__init__(scope, body_file)
        if "HTTP_TRANSFER_ENCODING" in self.META:
            self.META["CONTENT_LENGTH"] = str(body_file.seek(0, os.SEEK_END))
            body_file.seek(0)


class ControlPlane(ASGIHandler):
    request_class = MeasuredRequest
