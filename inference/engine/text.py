"""From a sequence's bytes to the text its client may see: whole characters, nothing beyond a stop string."""

from __future__ import annotations

import codecs


class AnswerText:
    """Takes a token's bytes and gives the text that is certain.

    Held back are the bytes of an unfinished UTF-8 character and an ending that might become a stop string. The stop string
    that begins earliest ends the answer; neither it nor what follows is ever given. Bytes that are no UTF-8 become U+FFFD.
    """

    __slots__ = ("_decoder", "_held", "_longest", "_stops", "given", "stopped")

    def __init__(self, stops: tuple[str, ...] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stops = stops
        self._longest = max(map(len, stops), default=0)
        self._held = ""
        self.given = 0
        """Characters given so far."""
        self.stopped = False

    @property
    def decoded(self) -> int:
        """Characters decoded so far, given or held back."""
        return self.given + len(self._held)

    def push(self, piece: bytes) -> str:
        return self._give(self._decoder.decode(piece), last=False)

    def finish(self) -> str:
        """What was held back, once no more will come."""
        if self.stopped:
            return ""
        return self._give(self._decoder.decode(b"", final=True), last=True)

    def _give(self, text: str, *, last: bool) -> str:
        if self.stopped:
            return ""
        text = self._held + text
        found = min((at for at in map(text.find, self._stops) if at >= 0), default=-1)
        if found >= 0:
            self.stopped, self._held = True, ""
            certain = text[:found]
        elif last:
            self._held, certain = "", text
        else:
            cut = len(text) - self._partial_stop(text)
            self._held, certain = text[cut:], text[:cut]
        self.given += len(certain)
        return certain

    def _partial_stop(self, text: str) -> int:
        """The length of the longest ending of `text` that begins a stop string."""
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            ending = text[-length:]
            if any(stop.startswith(ending) for stop in self._stops):
                return length
        return 0
