"""Ids of calls of tools: models write none as a rule, and clients send a tool's result back under the call's id."""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable

from inference.engine.tool_calls import CallReader, Form
from inference.engine.tools import Tools

_LETTERS = string.ascii_letters + string.digits


def reader_of(form: Form, tools: Tools | None) -> CallReader | None:
    """Finds calls of these tools in an answer and numbers them; None where there are no tools to call."""
    if tools is None:
        return None
    return CallReader(form, tools.schemas, id_maker(form), parallel=tools.parallel)


def id_maker(form: Form) -> Callable[[], str]:
    """Makes ids as the form's family of models takes them."""
    return _short if form.short_ids else _long


def _long() -> str:
    return f"call_{secrets.token_hex(12)}"


def _short() -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(9))
