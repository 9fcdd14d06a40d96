"""The gateway with its book-keeping switched off, for the bench alone: what keeping the books costs is measured against it."""

from __future__ import annotations

import os
from typing import Any

from gateway_project import server


def main() -> None:
    server.APPLICATION = "benchmarks.bare:application"
    server.main()


def application(scope: dict[str, Any], receive: Any, send: Any) -> Any:
    from gateway_project.asgi import application as whole

    return whole(scope, receive, send)


def _keep_no_books() -> None:
    from inference.recording import Recorder

    def nothing(self: Recorder, *_: Any, **__: Any) -> None:
        """In place of every way to tell the recorder something."""

    for name in ("add", "began"):
        setattr(Recorder, name, nothing)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
    main()
else:
    _keep_no_books()
