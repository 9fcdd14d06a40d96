"""What a browser would send back from a page whose forms nobody touched."""

from __future__ import annotations

from html.parser import HTMLParser

_NOT_SENT = {"submit", "button", "reset", "image", "file"}


def form_of_page(html: str) -> dict[str, str]:
    """The fields of all forms of a page by name; templates of new inline rows and unfold's own controls left out."""
    reader = _Reader()
    reader.feed(html)
    return {
        name: value for name, value in reader.fields.items() if not name.startswith("_") and "__prefix__" not in name
    }


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self._area: str | None = None
        self._select: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        name, kind = given.get("name") or "", given.get("type") or "text"
        if tag == "input" and name and kind not in _NOT_SENT:
            if kind not in {"checkbox", "radio"}:
                self.fields[name] = given.get("value") or ""
            elif "checked" in given:
                self.fields[name] = given.get("value") or "on"
        elif tag == "textarea" and name:
            self._area = name
            self.fields[name] = ""
        elif tag == "select" and name:
            self._select = name
            self.fields[name] = ""
        elif tag == "option" and self._select and "selected" in given:
            self.fields[self._select] = given.get("value") or ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self._area = None
        elif tag == "select":
            self._select = None

    def handle_data(self, data: str) -> None:
        if self._area:
            # HTML drops one line end right after the opening tag.
            self.fields[self._area] += data if self.fields[self._area] else data.removeprefix("\r\n").removeprefix("\n")
