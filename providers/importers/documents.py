"""A configuration file's text as plain values: YAML or JSON, written by people, so mistakes are named with their line.

YAML is read without its power: no tags, no objects, aliases up to a bound, no two values under one key. A key is its text
as written (`1.10` and `on` are names), and a date stays text. The bounds hold before anything of that size is built.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

import yaml

from providers.importers import env_text
from providers.importers.drafts import SourceError
from providers.importers.env_text import looks_like_variables

LARGEST_BYTES = 64 * 1024 * 1024
LARGEST_YAML_BYTES = 16 * 1024 * 1024
"""YAML takes some fifty bytes of memory for each of its own, JSON a few."""
DEEPEST = 60
"""Levels of objects and lists inside one another."""
MOST_REPEATED = 1_000_000
"""Values that aliases may add to those that are written."""

WRITTEN = ("yaml", "json")
FORMATS = (*WRITTEN, "env")
"""What is read; variables are not written."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_NAME = re.compile(r"[\w\-]+", re.ASCII)
_OPENS = (yaml.MappingStartEvent, yaml.SequenceStartEvent)
_CLOSES = (yaml.MappingEndEvent, yaml.SequenceEndEvent)


class BadDocument(SourceError):
    """The text is not a document that can be read; says the line, never what stands there."""


def parse(content: bytes | str, file_format: str = "") -> Any:
    """The document's values. Without `file_format` (one of `FORMATS`), what the text looks like. Raises `BadDocument`.

    Of a .env file they are `Variables`.
    """
    text = _decoded(content)
    if not text.strip():
        raise BadDocument("The document is empty.")
    if file_format == "env" or (not file_format and looks_like_variables(text)):
        return _storable(env_text.parse(text))
    if file_format == "json":
        return _storable(_json(text))
    if not file_format and text.lstrip().startswith("{"):
        try:
            return _storable(_json(text))
        except _NotJson:
            pass  # YAML's braces look the same
    return _storable(_yaml(text))


def format_of(path: str) -> str:
    """The format that a file's name tells; empty when it tells none."""
    name = path.replace("\\", "/").rpartition("/")[2].lower()
    if name == ".env" or name.startswith(".env.") or name.endswith(".env"):
        return "env"
    return {"json": "json", "yaml": "yaml", "yml": "yaml"}.get(name.rpartition(".")[2], "")


def place(parent: str, step: str | int) -> str:
    """Where a member stands, as errors name it: `providers.openai.models[3]`."""
    if isinstance(step, int):
        return f"{parent}[{step}]"
    if not _NAME.fullmatch(step):
        return f"{parent}[{json.dumps(step, ensure_ascii=False)}]"
    return f"{parent}.{step}" if parent else step


def _decoded(content: bytes | str) -> str:
    size = len(content)
    if size > LARGEST_BYTES:
        raise BadDocument(f"The document has {size} bytes; at most {LARGEST_BYTES} are read.")
    if isinstance(content, str):
        return content
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise BadDocument(f"The document is not UTF-8 (line {line}).") from None


# --- JSON -------------------------------------------------------------------------------------------------------------------


class _NotJson(BadDocument):
    pass


def _json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once_each, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        raise _NotJson(f"Not JSON: {error.msg} (line {error.lineno}, column {error.colno}).") from None
    except RecursionError:
        raise BadDocument(f"Nested more than {DEEPEST} levels deep.") from None
    except ValueError as error:
        if isinstance(error, SourceError):
            raise
        raise BadDocument("A number has too many digits.") from None


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise BadDocument(f"The key {name!r} stands twice in one object.")
        members[name] = value
    return members


def _no_number(name: str) -> Any:
    raise BadDocument(f"{name} is not a number that can be stored.")


# --- YAML -------------------------------------------------------------------------------------------------------------------


def _yaml(text: str) -> Any:
    if len(text) > LARGEST_YAML_BYTES:
        raise BadDocument(f"The document has more than {LARGEST_YAML_BYTES} bytes of YAML: write it as JSON.")
    try:
        written = _survey(text)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            return _Builder(loader, written + MOST_REPEATED).value(node, 0) if node is not None else None
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise BadDocument(f"Not YAML: {error.problem or error.context}{_at(mark)}.") from None
    except yaml.YAMLError:
        raise BadDocument("Not YAML: it holds a character that no text has.") from None


def _survey(text: str) -> int:
    """How many values are written, from the events alone: composing a document of any depth could end the process."""
    depth = written = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, _OPENS):
            depth += 1
            if depth > DEEPEST:
                raise BadDocument(f"Nested more than {DEEPEST} levels deep{_at(event.start_mark)}.")
        elif isinstance(event, _CLOSES):
            depth -= 1
        written += 1
    return written


class _Builder:
    """Plain values of composed nodes."""

    def __init__(self, loader: Any, allowed: int) -> None:
        self._loader = loader
        self._allowed = allowed

    def value(self, node: yaml.Node, depth: int) -> Any:
        self._count(node, depth)
        match node:
            case yaml.MappingNode() if node.tag == _TAG + "map":
                return self._mapping(node, depth)
            case yaml.SequenceNode() if node.tag == _TAG + "seq":
                return [self.value(member, depth + 1) for member in node.value]
            case yaml.ScalarNode():
                return self._scalar(node)
        raise _refused(node, "tags are not read")

    def _count(self, node: yaml.Node, depth: int) -> None:
        self._allowed -= 1
        if self._allowed < 0:
            raise _refused(node, f"aliases repeat more than {MOST_REPEATED} values")
        if depth > DEEPEST:
            raise _refused(node, "an alias names an object that it stands in, or nests too deeply")

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Any]:
        members: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, member in node.value:
            if key.tag == _TAG + "merge":
                _add_missing(merged, self._merged(member, depth + 1))
                continue
            if not isinstance(key, yaml.ScalarNode):
                raise _refused(key, "a key has to be a text")
            if key.value in members:
                raise _refused(key, f"the key {key.value!r} stands twice in one object")
            self._count(key, depth)
            members[key.value] = self.value(member, depth + 1)
        return merged | members

    def _merged(self, node: yaml.Node, depth: int) -> dict[str, Any]:
        """What `<<` brings in; of a list, the earlier object wins."""
        if isinstance(node, yaml.MappingNode):
            return dict(self.value(node, depth))
        if isinstance(node, yaml.SequenceNode) and all(isinstance(one, yaml.MappingNode) for one in node.value):
            found: dict[str, Any] = {}
            for one in node.value:
                _add_missing(found, self.value(one, depth + 1))
            return found
        raise _refused(node, "`<<` takes an object or a list of objects")

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        try:
            match node.tag.removeprefix(_TAG):
                case "str" | "timestamp" | "value" | "merge":
                    return node.value
                case "null":
                    return None
                case "bool":
                    return self._loader.construct_yaml_bool(node)
                case "int":
                    return _writable(self._loader.construct_yaml_int(node))
                case "float":
                    return _finite(self._loader.construct_yaml_float(node))
        except (ValueError, KeyError):
            raise _refused(node, "this is not a number that can be stored") from None
        raise _refused(node, "tags are not read")


def _add_missing(members: dict[str, Any], others: dict[str, Any]) -> None:
    for name, value in others.items():
        members.setdefault(name, value)


def _writable(number: int) -> int:
    """Digits in another base than ten are read without a bound, and cannot be written down as decimal ones."""
    str(number)
    return number


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError(number)
    return number


def _refused(node: yaml.Node, why: str) -> BadDocument:
    return BadDocument(f"Not usable: {why}{_at(node.start_mark)}.")


def _at(mark: Any) -> str:
    return f" (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else ""


# --- Both -------------------------------------------------------------------------------------------------------------------


def _storable(document: Any) -> Any:
    """The document, if every database can hold its texts and numbers."""
    for where, problem in _unstorable(document):
        raise BadDocument(f"{where or 'The document'}: {problem}")
    return document


def _unstorable(document: Any) -> Iterator[tuple[str, str]]:
    waiting: list[tuple[str, int, Any]] = [("", 0, document)]
    while waiting:
        where, depth, value = waiting.pop()
        if depth > DEEPEST:
            yield where, f"nested more than {DEEPEST} levels deep."
        elif isinstance(value, str):
            if not _is_text(value):
                yield where, "holds a null character or half a character."
        elif isinstance(value, float):
            if not math.isfinite(value):
                yield where, "is not a number that can be stored."
        elif isinstance(value, dict):
            if not all(map(_is_text, value)):
                yield where, "has a name with a null character or half a character."
                continue
            waiting.extend((place(where, name), depth + 1, member) for name, member in value.items())
        elif isinstance(value, list):
            waiting.extend((place(where, index), depth + 1, member) for index, member in enumerate(value))


def _is_text(value: str) -> bool:
    if "\x00" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
