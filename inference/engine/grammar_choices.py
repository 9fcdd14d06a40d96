"""How many ways a grammar (GBNF) leaves open that cannot be told apart, known before an engine follows them all. Pure.

llama.cpp keeps every way in which the next character may be meant, and goes on from each. Ways add up where the same part follows
itself and may be left out each time, as in `("a"?){300}`, and multiply where such a part is made of others: `a ::= b b`,
`b ::= c c`, `c ::= "x"?`. What is ambiguous otherwise, such as by recursion, is left to `watch`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

_MOST_GROUPS = 8192
"""llama.cpp parses groups by recursion: tens of thousands, one inside the other, end the process."""
_MOST_OPEN = 200
"""Some 300 keep an engine busy for seconds over one token; honest grammars leave a few."""
_LONGEST_COMPARED = 200
"""Characters of a group: longer ones are taken to be unlike any other."""
_WORDS = re.compile(
    r"""(?P<skipped>\s+|\#[^\n]*)|(?P<empty>"")|(?P<end>"(?:\\.|[^"\\]|\\\Z)*(?:"|\Z)|\[(?:\\.|[^\]\\]|\\\Z)*(?:\]|\Z)|\.)"""
    r"""|(?P<rule>[A-Za-z0-9_-]+)[ \t]*::=|(?P<name>[A-Za-z0-9_-]+)|(?P<again>[*+?]|\{[^}]*(?:\}|\Z))|(?P<sign>[()|])|(?P<other>.)""",
    re.DOTALL,
)
_CEILING = 10**9


@dataclass(slots=True)
class _Part:
    """Of a sequence: `rule` is None for characters. It may be left out if `least` is 0, and stands `times` times at most. Parts of the
    same `text` are the same."""

    rule: str | None
    text: str
    least: int = 1
    times: int = 1


_Rules = dict[str, list[list[_Part]]]


def problem_of(grammar: str) -> str | None:
    """What is wrong, as the end of a sentence that begins with what asks for it; None when nothing is."""
    if grammar.count("(") > _MOST_GROUPS:
        return "makes too large a grammar"
    if open_at_once(grammar) > _MOST_OPEN:
        return f"repeats an optional part more than {_MOST_OPEN} times, in a row or one inside the other"
    return None


def open_at_once(grammar: str) -> int:
    """The most ways through the same parts that are open at one place of any rule."""
    rules = _read(grammar)
    empty = _may_be_empty(rules)
    ways: dict[str, int] = {}
    most = 0
    for name in _inner_first(rules):
        ways[name] = 0
        for sequence in rules[name]:
            open_here: dict[str, int] = {}
            for part in reversed(sequence):
                vanishes = part.rule in empty
                if not vanishes and part.least > 0:
                    open_here = {}
                here = 1 if part.rule is None else ways.get(part.rule, 0)
                here = open_here.get(part.text, 0) + here * (part.times if vanishes else 1)
                open_here[part.text] = min(_CEILING, here)
                most = max(most, here)
            ways[name] = max(ways[name], *open_here.values(), 0)
    return most


def _read(grammar: str) -> _Rules:
    """Groups become rules with names that nobody can write. What is malformed the engine says itself."""
    rules: _Rules = defaultdict(list)
    sequence: list[_Part] = []
    open_groups: list[tuple[str, list[_Part], int]] = []
    current, groups = "", 0
    for word in _WORDS.finditer(grammar):
        kind, text = word.lastgroup, word[0]
        if kind == "rule":
            current, sequence, open_groups = word["rule"], [], []
            rules[current].append(sequence)
        elif kind == "end":
            sequence.append(_Part(None, text))
        elif kind == "name":
            sequence.append(_Part(text, text))
        elif kind == "again" and sequence:
            sequence[-1].least, sequence[-1].times = _repeated(text)
        elif text == "|":
            sequence = []
            rules[current].append(sequence)
        elif text == "(":
            groups += 1
            group = f"({groups}"
            sequence.append(_Part(group, group))
            open_groups.append((current, sequence, word.start()))
            current, sequence = group, []
            rules[current].append(sequence)
        elif text == ")" and open_groups:
            current, sequence, began = open_groups.pop()
            if word.end() - began <= _LONGEST_COMPARED:
                sequence[-1].text = grammar[began : word.end()]
    return rules


def _repeated(text: str) -> tuple[int, int]:
    if text in "*?":
        return 0, 1
    counts = [int(count) for count in re.findall(r"[0-9]{1,9}", text)] or [1]
    return counts[0], max(1, *counts)


def _may_be_empty(rules: _Rules) -> set[str]:
    """Each sequence waits for those of its parts that must be there."""
    empty: set[str] = set()
    waiting: dict[str, list[tuple[str, list[str]]]] = defaultdict(list)
    ready: list[str] = []
    for name, sequences in rules.items():
        for sequence in sequences:
            needed = [part.rule for part in sequence if part.least > 0]
            if not needed:
                ready.append(name)
            elif None not in needed:
                left = [rule for rule in needed if rule is not None]
                waiting[left[-1]].append((name, left))
    while ready:
        found = ready.pop()
        if found in empty:
            continue
        empty.add(found)
        for name, left in waiting.pop(found, ()):
            while left and left[-1] in empty:
                left.pop()
            if left:
                waiting[left[-1]].append((name, left))
            else:
                ready.append(name)
    return empty


def _inner_first(rules: _Rules) -> Iterator[str]:
    """Every rule after those it is made of, as far as it is not made of itself."""
    seen: set[str] = set()
    for start in rules:
        path = [] if start in seen else [(start, _named_in(rules[start]))]
        seen.add(start)
        while path:
            name, left = path[-1]
            inner = next((one for one in left if one in rules and one not in seen), None)
            if inner is None:
                path.pop()
                yield name
            else:
                seen.add(inner)
                path.append((inner, _named_in(rules[inner])))


def _named_in(sequences: list[list[_Part]]) -> Iterator[str]:
    return (part.rule for sequence in sequences for part in sequence if part.rule is not None)
