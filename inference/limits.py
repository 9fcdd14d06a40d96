"""The bounds that the data plane keeps: sizes in bytes, spans in seconds. Made once, at start, from the settings."""

from __future__ import annotations

from dataclasses import dataclass, field

from inference.wire.pictures import PictureLimits
from providers.secrets import Secret


@dataclass(frozen=True, slots=True)
class Limits:
    body_bytes: int = 32 * 1024 * 1024
    json_depth: int = 200
    body_seconds: float = 60.0
    """From the request's head to the end of its body."""
    reply_seconds: float = 600.0
    """From the request's arrival to the whole reply, or to the first byte of a stream, over all attempts."""
    stream_seconds: float = 3600.0
    """From the request's arrival to the end of a stream."""
    keep_alive_seconds: float = 10.0
    """Silence before a comment is sent on a stream whose first token has not come."""
    watch_after_seconds: float = 0.05
    """Age at which a request is watched for a client that leaves; faster ones are over before it matters."""
    pictures: PictureLimits = field(default_factory=PictureLimits)
    longest_retry_pause_seconds: float = 1.0
    """A Retry-After beyond this is passed on to the caller instead of waited for."""
    ollama_key: Secret | None = None
    """The client key in whose name requests without any credential are served on Ollama's paths; None serves none."""
