"""Finds texts for people that no translator will see, in templates and in modules that draw pages."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

from django.template.base import Lexer, TokenType

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("LLM Gateway", "API", "CSV", "JSON", "YAML", "curl", "Python", "JavaScript", "USD", "ms")
"""What is called the same in every language."""
SHOWN_KEYWORDS = {
    *("description", "label", "help_text", "verbose_name", "verbose_name_plural"),
    *("empty_label", "title", "search_help_text"),
}
SHOWN_NAMES = {"title", "search_help_text", "index_title", "empty_value_display"}
_LITERAL = re.compile(r"""(?<!\bclass)(?<!\bicon)=["']([A-Z][^"']*|[^"']+ [^"']*)["']""")
"""Given to a part of a page, and more than the name of a variant."""
_ICON = "material-symbols"
_DRAWS = re.compile(
    r"^(from|import) (unfold|django\.contrib\.admin|django\.contrib import admin|django import forms|django\.forms|django\.contrib import messages)",
    re.M,
)


def untranslated_in_template(path: Path) -> list[str]:
    """Texts and spoken attributes outside `translate` and `blocktranslate`, each as `file:line | text`."""
    html, found, within = [], [], ""
    for token in Lexer(path.read_text()).tokenize():
        lines = "\n" * token.contents.count("\n")
        if token.token_type == TokenType.TEXT and not within:
            html.append(token.contents)
        elif token.token_type == TokenType.BLOCK:
            tag = token.contents.split()[0]
            if tag in ("blocktranslate", "blocktrans", "comment"):
                within = tag
            elif within and tag == f"end{within}":
                within = ""
            elif not within and tag in ("include", "component", "with"):
                found += [(token.lineno, text) for text in _LITERAL.findall(token.contents) if is_a_text(text)]
            html.append(lines)
        else:
            html.append(lines)
    reader = Reader()
    reader.feed("".join(html))
    reader.close()
    return [f"{_named(path)}:{line} | {text}" for line, text in sorted([*found, *reader.found])]


class Reader(HTMLParser):
    """What a person reads or hears of a page, with its lines."""

    SILENT = ("script", "style", "pre", "code", "kbd", "samp")
    SPOKEN = ("title", "aria-label", "placeholder", "alt", "data-empty")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[int, str]] = []
        self._silent: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag in self.SILENT or _ICON in (dict(attrs).get("class") or ""):
            self._silent.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        texts = [value for name, value in attrs if name in self.SPOKEN and value]
        self.found += [(self.getpos()[0], text) for text in texts if is_a_text(text)]

    def handle_endtag(self, tag: str) -> None:
        if tag in self._silent:
            self._silent.remove(tag)

    def handle_data(self, data: str) -> None:
        if not self._silent and is_a_text(data):
            self.found.append((self.getpos()[0], " ".join(data.split())))


class Headings(HTMLParser):
    """The words of a page that stand in elements of these kinds, each as it is read."""

    KINDS = {"h1", "h2", "h3", "th", "label", "button", "legend", "summary", "title"}

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._open: list[tuple[str, list[str]]] = []
        self._unread = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if not self._unread and (
            tag in (*Reader.SILENT, "select", "textarea") or _ICON in (dict(attrs).get("class") or "")
        ):
            self._unread = tag
        elif tag in self.KINDS:
            self._open.append((tag, []))

    def handle_endtag(self, tag: str) -> None:
        if tag == self._unread:
            self._unread = ""
        elif self._open and tag == self._open[-1][0]:
            text = " ".join("".join(self._open.pop()[1]).split())
            self.found += [text] * is_a_text(text)

    def handle_data(self, data: str) -> None:
        if self._open and not self._unread:
            self._open[-1][1].append(data)


def is_a_text(text: str) -> bool:
    """Whether a translator would have something to say about it."""
    if text.startswith(("{", "[")):
        return False  # an example of JSON
    if re.fullmatch(r"[a-z]+(?:[-_/][a-z]+)+", text):
        return False  # a name that programs read
    left = text
    for name in NAMES:
        left = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "", left)
    return re.search(r"[A-Za-z]{2}", re.sub(r"&\w+;", "", left)) is not None


def modules_for_people() -> list[Path]:
    """Those that draw pages or forms of the admin."""
    found = []
    for package in ("gateway_project", "inference", "routing", "providers"):
        for path in sorted((ROOT / package).rglob("*.py")):
            text = path.read_text()
            if "/migrations/" not in str(path) and "/api/" not in str(path) and _DRAWS.search(text):
                found.append(path)
    return found


def untranslated_in_module(path: Path) -> list[str]:
    """Texts that are given to what a person reads, without gettext around them, each as `file:line | text`."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        for value in _shown(node):
            text = _literal(value)
            if text is not None and is_a_text(text):
                found.append((value.lineno, text))
    return [f"{_named(path)}:{line} | {text}" for line, text in sorted(set(found))]


def _shown(node: ast.AST) -> Iterator[ast.expr]:
    """What is given to a place that people read."""
    if isinstance(node, ast.Call):
        yield from (keyword.value for keyword in node.keywords if keyword.arg in SHOWN_KEYWORDS)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        of = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
        if name == "message_user" or (of == "messages" and name in ("info", "success", "warning", "error")):
            yield from node.args[1:2]
        elif name in ("format_html", "format_html_join"):
            yield from (_text_of(part) for part in node.args[name == "format_html_join" :][:1])
        elif name == "pill":
            yield from node.args[:1]
    elif isinstance(node, ast.Assign):
        names = {target.id for target in node.targets if isinstance(target, ast.Name)}
        if names & SHOWN_NAMES:
            yield node.value
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == "title":
                yield value


def _text_of(html: ast.expr) -> ast.expr:
    """A literal of HTML, as what remains of it without its tags."""
    text = _literal(html)
    if text is None:
        return html
    left = re.sub(r"<(code|pre|kbd)\b.*?</\1>", "…", text, flags=re.S)
    return ast.copy_location(ast.Constant(re.sub(r"<[^>]*>|\{[^}]*\}", "…", left)), html)


def _literal(value: ast.expr) -> str | None:
    """What a string says, with … for what is put in; None for what is no literal."""
    if isinstance(value, ast.Constant):
        return re.sub("…+", "…", value.value).strip() if isinstance(value.value, str) else None
    if isinstance(value, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in value.values)
    if isinstance(value, ast.BinOp):
        return " ".join(filter(None, [_literal(value.left), _literal(value.right)])) or None
    return None


def _named(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name
