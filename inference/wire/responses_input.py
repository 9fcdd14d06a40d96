"""The items of a Responses conversation as the messages of a chat completion. No I/O.

A chat completion wants a model's calls in one message and what the tools answered right behind it, so items are gathered: text and
calls of the assistant into one message, pictures that a tool gave into a message of their own after its answers.
What a model thought stands beside the messages: few take it back. Tools that an item brings along stand beside the messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from inference.errors import GatewayError, InvalidRequest, UnsupportedCapability
from inference.wire.responses_names import said_name

_ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
_SAID_ELSEWHERE = ("additional_tools",)
_SEALED = "gAAAA"
"""How a text begins that OpenAI sealed."""
_TEXT_PARTS = ("input_text", "output_text", "text", "summary_text")


def unsayable(what: str, param: str) -> GatewayError:
    """The error of what only an upstream with the Responses API understands."""
    return UnsupportedCapability(
        f"'{param}': {what} needs a provider that has the Responses API itself; none that may serve this request has it.",
        param=param,
    )


class Conversation:
    """Messages as they grow. `custom_input` is the parameter that holds a custom tool's input."""

    def __init__(self, instructions: str, custom_input: str) -> None:
        self.untold: GatewayError | None = None
        self._custom_input = custom_input
        self._said: list[dict[str, Any]] = [{"role": "system", "content": instructions}] if instructions else []
        self.thoughts: list[str] = []
        """Before each of the assistant's messages."""
        self._thought: list[str] = []
        self._texts: list[str] = []
        self._calls: list[dict[str, Any]] = []
        self._seen: list[dict[str, Any]] = []
        """Pictures of tools, which wait for the last of the answers."""

    def add(self, items: Iterable[Mapping[str, Any]], where: str) -> None:
        """Raises `InvalidRequest` for what is wrong; what cannot be said is remembered in `untold`."""
        for place, item in enumerate(items):
            self._add(item, f"{where}[{place}]" if where == "input" else where)

    def messages(self) -> list[dict[str, Any]]:
        self._end_turn()
        self._show_pictures()
        return self._said

    def _add(self, item: Mapping[str, Any], where: str) -> None:
        kind = item.get("type") or ("message" if "role" in item else None)
        if kind == "message":
            self._message(item, where)
        elif kind == "agent_message":  # of another agent of the client's, whose name stands in it
            self._message({**item, "role": "user"}, where)
        elif kind == "function_call":
            self._call(item, str(item.get("arguments") or "{}"))
        elif kind == "custom_tool_call":
            self._call(item, orjson.dumps({self._custom_input: str(item.get("input") or "")}).decode())
        elif kind in ("function_call_output", "custom_tool_call_output"):
            self._output(item, where)
        elif not isinstance(kind, str):
            raise InvalidRequest(f"Missing required parameter: '{where}.type'.", param=f"{where}.type")
        elif kind == "reasoning":
            self._thought += _thoughts_of(item)
        elif kind not in _SAID_ELSEWHERE:
            self._cannot_say(f"an item of type '{kind[:100]}'", where)

    def _cannot_say(self, what: str, where: str) -> None:
        self.untold = self.untold or unsayable(what, where)

    def _message(self, item: Mapping[str, Any], where: str) -> None:
        role = _ROLES.get(str(item.get("role")))
        if role is None:
            raise InvalidRequest(
                f"'{where}.role' must be one of: user, assistant, system, developer.", param=f"{where}.role"
            )
        parts = self._parts(item.get("content"), f"{where}.content")
        if role == "assistant":
            self._begin_turn()
            self._texts += [part["text"] for part in parts if part["type"] == "text"]
            return
        self._end_turn()
        self._show_pictures()
        if not all(part["type"] == "text" for part in parts):
            self._said.append({"role": role, "content": parts})
            return
        text = "\n\n".join(part["text"] for part in parts)
        if role == "system" and self._ends_with_the_head():
            self._said[0]["content"] += f"\n\n{text}"
        else:
            self._said.append({"role": role, "content": text})

    def _ends_with_the_head(self) -> bool:
        """Whether a system's text may join the one before it: many models' templates know one such message, and none but the first."""
        only = self._said[0] if len(self._said) == 1 else {}
        return only.get("role") == "system" and isinstance(only["content"], str)

    def _call(self, item: Mapping[str, Any], arguments: str) -> None:
        self._begin_turn()
        function = {"name": said_name(item.get("name"), item.get("namespace")), "arguments": arguments}
        call_id = str(item.get("call_id") or item.get("id") or "")
        self._calls.append({"id": call_id, "type": "function", "function": function})

    def _output(self, item: Mapping[str, Any], where: str) -> None:
        self._end_turn()
        output = item.get("output")
        parts = self._parts(output, f"{where}.output")
        self._seen += [part for part in parts if part["type"] != "text"]
        text = "\n".join(part["text"] for part in parts if part["type"] == "text")
        self._said.append({"role": "tool", "tool_call_id": str(item.get("call_id") or ""), "content": text})

    def _begin_turn(self) -> None:
        if not self._texts and not self._calls:
            self._show_pictures()

    def _end_turn(self) -> None:
        thought, self._thought = "".join(self._thought), []
        if not self._texts and not self._calls:
            return
        self.thoughts.append(thought)
        said: dict[str, Any] = {"role": "assistant", "content": "".join(self._texts) or None}
        if self._calls:
            said["tool_calls"] = self._calls
        self._said.append(said)
        self._texts, self._calls = [], []

    def _show_pictures(self) -> None:
        if self._seen:
            self._said.append({"role": "user", "content": self._seen})
            self._seen = []

    def _parts(self, content: Any, where: str) -> list[dict[str, Any]]:
        if isinstance(content, str):
            return [{"type": "text", "text": content}]
        if not isinstance(content, list):
            raise InvalidRequest(f"Invalid type for '{where}': expected a string or an array.", param=where)
        said = []
        for place, part in enumerate(content):
            at = f"{where}[{place}]"
            kind = part.get("type") if isinstance(part, dict) else None
            if kind in _TEXT_PARTS:
                said.append({"type": "text", "text": str(part.get("text") or "")})
            elif kind == "encrypted_content" and _is_legible(part.get("encrypted_content")):
                said.append({"type": "text", "text": part["encrypted_content"]})
            elif kind == "refusal":
                said.append({"type": "text", "text": str(part.get("refusal") or "")})
            elif kind == "input_image" and part.get("image_url"):
                said.append(_picture(part))
            elif isinstance(kind, str):
                self._cannot_say(f"content of type '{kind[:100]}'", at)
            else:
                raise InvalidRequest(f"Missing required parameter: '{at}.type'.", param=f"{at}.type")
        return said


def _thoughts_of(item: Mapping[str, Any]) -> list[str]:
    """Those that can be read. A summary stands in where the vendor keeps the thought itself."""
    told = item.get("content") or item.get("summary")
    parts = told if isinstance(told, list) else ()
    return [part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)]


def _is_legible(text: Any) -> bool:
    """Clients hand on what a model wrote to another agent as sealed, whether its vendor seals such texts or not."""
    return isinstance(text, str) and not text.startswith(_SEALED)


def _picture(part: Mapping[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {"url": str(part["image_url"])}
    if part.get("detail") in ("low", "high", "auto"):
        shown["detail"] = part["detail"]
    return {"type": "image_url", "image_url": shown}
