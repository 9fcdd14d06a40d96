"""Calls of tools in a model's text: the forms they have by family of models, and a reader that finds them as the text comes.

A model writes its calls as its chat template taught it: JSON between marks, JSON alone, a name and its arguments. `form_of`
tells the form from the template; `CallReader` gives text that is certain to be no call, and calls as OpenAI streams
them: a name first, then pieces of the arguments. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

Delta = dict[str, Any]
"""A member of `tool_calls` in OpenAI's stream: https://platform.openai.com/docs/api-reference/chat/streaming."""

_ARGUMENTS = ("arguments", "parameters")
_BEFORE_ARGUMENTS = ("name", "type", "id", *_ARGUMENTS)
_ARGUMENTS_MARK = "[ARGS]"
_CALL_ID_MARK = "[CALL_ID]"
_SPACE = " \t\r\n"
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_SCALAR = re.compile(r"[^\s,}\]]+(?=[\s,}\]])")


@dataclass(frozen=True, slots=True)
class Form:
    """How a family of models writes calls. `begin` and `end` stand around each call, or around the list when they are `listed`;
    `named` has the name outside of the JSON. `arguments` is the JSON member that holds them.
    """

    begin: str
    end: str = ""
    listed: bool = False
    named: bool = False
    bare: bool = False
    """Calls are written without the mark as a rule."""
    arguments: str = "arguments"
    short_ids: bool = False
    """Ids are nine letters and digits, and the template refuses others."""

    @property
    def marks(self) -> tuple[str, ...]:
        marks = (self.begin, self.end, *((_ARGUMENTS_MARK, _CALL_ID_MARK) if self.named else ()))
        return tuple(mark for mark in marks if mark)


HERMES = Form("<tool_call>", "</tool_call>")
"""Hermes 2 Pro, Qwen 2.5 and 3, and what a model is asked for whose template knows no tools."""
LLAMA_3 = Form("<|python_tag|>", bare=True, arguments="parameters")
MISTRAL = Form("[TOOL_CALLS]", listed=True, short_ids=True)
MISTRAL_NAMED = Form("[TOOL_CALLS]", named=True, short_ids=True)
"""Mistral's models since 2025: `[TOOL_CALLS]name[ARGS]{…}`."""
LISTED = Form("<|tool_call|>", "<|/tool_call|>", listed=True)
"""Granite 3 and Phi 4 mini."""

_FORMS = (
    (re.compile(r"<function=|<arg_key>"), None),
    (re.compile(r"\[ARGS\]"), MISTRAL_NAMED),
    (re.compile(r"\[TOOL_CALLS\]"), MISTRAL),
    (re.compile(r"<tool_call>"), HERMES),
    (re.compile(r"<\|tool_call\|>"), LISTED),
    (re.compile(r"<\|python_tag\|>|\"parameters\": dictionary"), LLAMA_3),
)


def form_of(template: str) -> Form | None:
    """None when the template takes no tools, or writes calls in a form that is not known here."""
    if not re.search(r"\btools\b", template):
        return None
    return next((form for sign, form in _FORMS if sign.search(template)), None)


class CallReader:
    """Takes an answer's text as it comes; `names` are the functions that may be called, `new_id` makes the id of a call.

    With `parallel` False the first call completes the answer, and `complete` says so. An answer that begins with JSON is held
    back until it is clear whether it calls one of the functions: some models leave out the marks that they were taught.
    """

    def __init__(self, form: Form, names: Collection[str], new_id: Callable[[], str], *, parallel: bool = True) -> None:
        self._form = form
        self._new_id = new_id
        self._names = frozenset(names)
        self._parallel = parallel
        self._held = ""
        self._reading = self._read_text
        self._call: _Call | None = None
        self._in_list = False
        self._opening = ""
        """What stood before the call that is being read: text, should it be none."""
        self._untouched = True
        self._waits = False
        self.calls = 0
        self.complete = False

    def push(self, text: str, *, last: bool = False) -> tuple[str, list[Delta]]:
        """Text that is no call, and pieces of calls. With `last` nothing is held back any more."""
        self._held += text
        said: list[str] = []
        deltas: list[Delta] = []
        self._waits = False
        while self._held and not self._waits and not self.complete:
            self._reading(said, deltas)
        if last:
            self._let_go(said)
        return "".join(said), deltas

    def _read_text(self, said: list[str], deltas: list[Delta]) -> None:
        text = self._held
        if self._untouched:
            beginning = text.lstrip(_SPACE)
            if not beginning:
                self._waits = True
                return
            if beginning[0] == "{" and not self._form.named:
                self._begin_call(text, marked=False)
                return
        at = text.find(self._form.begin)
        if at >= 0:
            self._say(text[:at].rstrip(_SPACE), said)
            self._opening, self._held = self._form.begin, text[at + len(self._form.begin) :]
            self._reading = self._read_start
            return
        certain = text[: len(text) - _partial(text, self._form.begin)].rstrip(_SPACE)
        self._held, self._waits = text[len(certain) :], True
        self._say(certain, said)

    def _say(self, text: str, said: list[str]) -> None:
        if text:
            self._untouched = False
            said.append(text)

    def _begin_call(self, text: str, *, marked: bool) -> None:
        self._untouched = False
        self._call = _Call(self._form, None if marked else self._names, self._new_id, self.calls)
        self._held = text
        self._reading = self._read_call

    def _read_start(self, said: list[str], deltas: list[Delta]) -> None:
        """After the mark: white space, and of a list its bracket."""
        text = self._held.lstrip(_SPACE)
        self._opening += self._held[: len(self._held) - len(text)]
        self._held = text
        if not text:
            return
        if self._form.listed and not self._in_list and text[0] == "[":
            self._in_list = True
            self._opening, self._held = f"{self._opening}[", text[1:]
            return
        self._begin_call(self._held, marked=True)

    def _read_call(self, said: list[str], deltas: list[Delta]) -> None:
        assert self._call is not None
        call, text = self._call, self._held
        self._held = ""
        deltas += call.push(text)
        if call.ended:
            self.calls += call.begun
            if call.begun:
                self._opening = ""
            self._held = call.rest
            self._reading = self._read_between
            self.complete = call.begun and not self._parallel
            if not call.begun:
                self._give_up(call, said)

    def _give_up(self, call: _Call, said: list[str]) -> None:
        """It was no call: what was held back is text, and a call may follow it."""
        self._call = None
        said.append(self._opening + call.text.removesuffix(call.rest))
        self._opening, self._in_list = "", False
        self._reading = self._read_text

    def _read_between(self, said: list[str], deltas: list[Delta]) -> None:
        """After a call: the end mark, separators, the next call or text."""
        text = self._held.lstrip(_SPACE)
        self._held = text
        if not text:
            return
        for mark in (self._form.end, self._form.begin):
            if mark and text.startswith(mark):
                self._held = text[len(mark) :]
                self._in_list = False
                self._opening = mark if mark == self._form.begin else ""
                self._reading = self._read_start if mark == self._form.begin else self._read_between
                return
            if mark and mark.startswith(text):
                self._waits = True
                return
        if self._in_list and text[0] in ",]":
            self._in_list = text[0] == ","
            self._held = text[1:]
        elif self._in_list and text[0] == "{":
            self._begin_call(text, marked=True)
        elif text[0] in ";,":
            self._held = text[1:]
        elif text[0] == "{":
            self._begin_call(text, marked=False)
        else:
            self._reading = self._read_text

    def _let_go(self, said: list[str]) -> None:
        call, held = self._call, self._held
        self._call, self._held = None, ""
        if self.complete:
            return
        if self._reading == self._read_call and call is not None:
            if call.begun:
                self.calls += 1
            else:
                said.append(self._opening + call.text)
        elif self._reading == self._read_text:
            said.append(held)
        elif self._reading == self._read_start:
            said.append(self._opening + held)


class _Call:
    """Reads one call. `begun` once its name was told, `ended` when it is over or turned out to be none."""

    def __init__(self, form: Form, known: frozenset[str] | None, new_id: Callable[[], str], index: int) -> None:
        self.marked = known is None
        self.begun = self.ended = False
        self.text = ""
        """Everything taken, to be given as text should this be no call."""
        self.rest = ""
        self._form = form
        self._known = known
        self._new_id = new_id
        self._index = index
        self._at = 0
        self._next = self._label if form.named else self._open
        self._key = ""
        self._name = self._id = ""
        self._depth = 0
        self._quoted = self._escaped = False
        self._told = 0
        self._arguments: str | None = None
        self._streams = False

    def push(self, text: str) -> list[Delta]:
        self.text += text
        deltas: list[Delta] = []
        while not self.ended and self._at < len(self.text) and self._next(deltas):
            pass
        return deltas

    # Each step moves `_at` on, and says whether another may follow with what is there.

    def _label(self, deltas: list[Delta]) -> bool:
        at = self.text.find(_ARGUMENTS_MARK)
        if at < 0:
            return False
        self._name, _, self._id = self.text[:at].partition(_CALL_ID_MARK)
        self._name, self._key = self._name.strip(), self._form.arguments
        self._at, self._next = at + len(_ARGUMENTS_MARK), self._value
        return True

    def _open(self, deltas: list[Delta]) -> bool:
        return self._expect("{", self._begin_key)

    def _begin_key(self, deltas: list[Delta]) -> bool:
        if not self._skip_space():
            return False
        if self.text[self._at] == "}":
            return self._close(deltas)
        found = _TEXT.match(self.text, self._at)
        if found is None:
            return self._fail() if self.text[self._at] != '"' else False
        self._key, self._at = _plain(found[0]), found.end()
        if not self.marked and self._key not in _BEFORE_ARGUMENTS:
            return self._fail()
        self._next = self._colon
        return True

    def _colon(self, deltas: list[Delta]) -> bool:
        return self._expect(":", self._value)

    def _value(self, deltas: list[Delta]) -> bool:
        if not self._skip_space():
            return False
        first = self.text[self._at]
        if first in "{[":
            self._depth, self._quoted, self._escaped, self._told = 0, False, False, self._at
            self._streams = self._key in _ARGUMENTS and first == "{" and bool(self._name)
            if self._streams:
                self._begin(deltas)
            self._scanned = self._at
            self._next = self._nested
            return True
        found = (_TEXT if first == '"' else _SCALAR).match(self.text, self._at)
        if found is None:
            return False
        self._at = found.end()
        return self._take(found[0], deltas)

    def _nested(self, deltas: list[Delta]) -> bool:
        """An object or list, however deep: read once, however many pieces it comes in."""
        text = self.text
        for place in range(self._scanned, len(text)):
            character = text[place]
            if self._quoted:
                if self._escaped:
                    self._escaped = False
                elif character == "\\":
                    self._escaped = True
                elif character == '"':
                    self._quoted = False
            elif character == '"':
                self._quoted = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if not self._depth:
                    return self._end_nested(place + 1, deltas)
        if self._streams:
            self._tell(text[self._told :], deltas)
            self._told = len(text)
        self._scanned = len(text)
        return False

    def _end_nested(self, end: int, deltas: list[Delta]) -> bool:
        begin, self._at = self._told, end
        if not self._streams:
            return self._take(self.text[begin:end], deltas)
        self._streams = False
        self._tell(self.text[begin:end], deltas)
        self._arguments = ""
        return self._after(deltas)

    def _take(self, value: str, deltas: list[Delta]) -> bool:
        """A member's whole value, as JSON."""
        if self._key == "name":
            self._name = _plain(value)
            if not self._name or (self._known is not None and self._name not in self._known):
                return self._fail()
        elif self._key == "id":
            self._id = _plain(value)
        elif self._key in _ARGUMENTS and self._arguments is None:
            # Some models encode the object once more, as OpenAI's wire does.
            self._arguments = _plain(value) if value.startswith('"') else "{}" if value == "null" else value
        return self._after(deltas)

    def _after(self, deltas: list[Delta]) -> bool:
        if self._form.named:
            return self._close(deltas)
        if self._name and self._arguments is not None and not self.begun:
            self._begin(deltas)
            self._tell(self._arguments, deltas)
        self._next = self._separator
        return True

    def _separator(self, deltas: list[Delta]) -> bool:
        if not self._skip_space():
            return False
        if self.text[self._at] == "}":
            return self._close(deltas)
        return self._expect(",", self._begin_key)

    def _close(self, deltas: list[Delta]) -> bool:
        self._at += not self._form.named
        if not self.begun and self._name and (self.marked or self._arguments is not None):
            self._begin(deltas)
            self._tell(self._arguments or "{}", deltas)
        if not self.begun:
            return self._fail()
        self.ended, self.rest = True, self.text[self._at :]
        return False

    def _begin(self, deltas: list[Delta]) -> None:
        self.begun = True
        identifier = self._id or self._new_id()
        function = {"name": self._name, "arguments": ""}
        deltas.append({"index": self._index, "id": identifier, "type": "function", "function": function})

    def _tell(self, arguments: str, deltas: list[Delta]) -> None:
        if arguments:
            deltas.append({"index": self._index, "function": {"arguments": arguments}})

    def _expect(self, character: str, then: Any) -> bool:
        if not self._skip_space():
            return False
        if self.text[self._at] != character:
            return self._fail()
        self._at += 1
        self._next = then
        return True

    def _skip_space(self) -> bool:
        while self._at < len(self.text) and self.text[self._at] in _SPACE:
            self._at += 1
        return self._at < len(self.text)

    def _fail(self) -> bool:
        self.ended, self.rest = True, self.text[self._at :]
        return False


def _plain(value: str) -> str:
    try:
        found = json.loads(value, strict=False)
    except ValueError:
        return ""
    return found if isinstance(found, str) else ""


def _partial(text: str, mark: str) -> int:
    """The length of the longest ending of `text` that begins `mark`."""
    return next((n for n in range(min(len(mark) - 1, len(text)), 0, -1) if mark.startswith(text[-n:])), 0)
