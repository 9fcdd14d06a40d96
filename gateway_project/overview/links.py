"""Where the numbers of the first page lead: the requests, and the usage, behind them."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.urls import reverse
from django.utils import timezone

TRACES, USAGE = "admin:inference_trace_changelist", "admin:spend"


def requests(since: datetime | None = None, until: datetime | None = None, **narrowed: Any) -> str:
    """The list of requests, narrowed by names of its own filters; this gateway's unless told otherwise."""
    words = {"side": "gateway", **{name: value for name, value in narrowed.items() if value not in ("", None)}}
    for name, at in (("since", since), ("until", until)):
        if at is not None:
            words[name] = f"{timezone.localtime(at):%Y-%m-%dT%H:%M}"
    return f"{reverse(TRACES)}?{urlencode(words)}"


def usage(**words: Any) -> str:
    return f"{reverse(USAGE)}?{urlencode(words)}" if words else reverse(USAGE)


def usage_file(**words: Any) -> str:
    """The same as CSV, whole."""
    return f"{reverse('admin:spend-file')}?{urlencode({**words, 'as': 'csv'})}"
