"""Whether a client's JSON schema is safe to be made a grammar of. Pure.

Engines turn a schema into a grammar; what would make them fetch, fill their memory or crash is found here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_LONGEST_SCHEMA = 64 * 1024
_DEEPEST = 96
"""Lists and objects, one inside the other; everything that walks through them afterwards does so by recursion."""
_MOST_REPEATS = 1000
_BOUNDS = ("minItems", "maxItems", "minLength", "maxLength")
_PATTERN_WORDS = re.compile(
    r"\\.|\[(?:\\.|[^\]\\]|\\\Z)*(?:\]|\Z)|(?P<count>\{[0-9, ]*[0-9][0-9, ]*\})|[^\\\[{()]+|.", re.DOTALL
)
_NUMBER = re.compile(r"[0-9]+")


def problem_of(schema: Any) -> str | None:
    """What is wrong, as the end of a sentence that begins with the schema's place; None when nothing is."""
    if nests_too_deeply(schema):
        return "is nested too deeply"
    problem = next(_problems(schema), None)
    return "is longer than 64 KiB" if problem is None and len(json.dumps(schema)) > _LONGEST_SCHEMA else problem


def nests_too_deeply(value: Any, room: int = _DEEPEST) -> bool:
    """Of any JSON value."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(room == 0 or nests_too_deeply(item, room - 1) for item in inner)


def repeats_too_much(pattern: str) -> bool:
    """Whether the counts in braces, those of a group times those inside it, add up to more than an engine can unfold."""
    sums, last = [0], 0
    for word in _PATTERN_WORDS.finditer(pattern):
        if word[0] == "(":
            sums.append(0)
        elif word[0] == ")" and len(sums) > 1:
            last = sums.pop()
            sums[-1] += last
        elif word["count"] and (times := max(map(_counted, _NUMBER.findall(word[0])))) > 1:
            again = times * max(1, last)
            sums[-1] += again - last
            last = again
        elif not word["count"]:
            last = 0
    return sum(sums) > _MOST_REPEATS


def _counted(digits: str) -> int:
    return int(digits[:7])


def _problems(schema: Any) -> Iterator[str]:
    if isinstance(schema, list):
        for item in schema:
            yield from _problems(item)
    if not isinstance(schema, dict):
        return
    reference, pattern = schema.get("$ref"), schema.get("pattern")
    if isinstance(reference, str) and not reference.startswith("#"):
        yield "must not refer to other documents"
    if any(isinstance(schema.get(bound), int) and schema[bound] > _MOST_REPEATS for bound in _BOUNDS):
        yield f"repeats something more than {_MOST_REPEATS} times"
    if isinstance(pattern, str) and repeats_too_much(pattern):
        yield f"has a pattern that repeats something more than {_MOST_REPEATS} times"
    for value in schema.values():
        yield from _problems(value)
