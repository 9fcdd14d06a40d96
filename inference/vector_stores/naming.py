"""What becomes of each collection of a vector store, so that its name says the dimension of its vectors: `{name}_{dimension}`. Pure.

Vectors of different models cannot be compared, and those of different dimensions cannot even be stored together. A collection that
says its dimension can be looked for by whoever knows the model.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

_NUMBER = re.compile(r"_(\d+)$")
_USUAL = frozenset({128, 256, 384, 512, 768, 1024, 1536, 2048, 2560, 3072, 4096})
"""What embedding models have: another number at a name's end is likely to be no dimension."""


@dataclass(frozen=True, slots=True)
class Collection:
    """`name` may stand several times: once for each dimension of its vectors. `key` is what the store knows it by."""

    name: str
    key: str
    dimension: int | None
    """None while nothing is in it."""
    count: int


class Act(StrEnum):
    RENAME = "rename"
    COPY = "copy"
    SPLIT = "split"
    """Vectors of several dimensions lie in one collection: each dimension gets its own."""
    KEEP = "keep"
    SKIP = "skip"
    CONFLICT = "conflict"


MOVES = (Act.RENAME, Act.COPY, Act.SPLIT)


@dataclass(frozen=True, slots=True)
class Step:
    collection: Collection
    act: Act
    target: str = ""
    note: str = ""


def named(name: str, dimension: int) -> str:
    return f"{name}_{dimension}"


def plan(collections: Iterable[Collection], *, copies: bool = False, resumed: Iterable[str] = ()) -> list[Step]:
    """A step for each collection, in the order of their names. `resumed` are targets that an earlier, broken-off copy began."""
    found = sorted(collections, key=lambda one: (one.name, one.dimension or 0))
    taken = {one.name for one in found} - set(resumed)
    dimensions: dict[str, set[int]] = defaultdict(set)
    for one in found:
        if one.dimension is not None:
            dimensions[one.name].add(one.dimension)
    begun = set(resumed)
    return [
        _step(one, taken, mixed=len(dimensions[one.name]) > 1, copies=copies) for one in found if one.name not in begun
    ]


def _step(one: Collection, taken: set[str], *, mixed: bool, copies: bool) -> Step:
    if one.dimension is None:
        return Step(one, Act.SKIP, note="empty: its dimension shows with the first vector")
    ending = _NUMBER.search(one.name)
    if ending and int(ending[1]) == one.dimension and not mixed:
        return Step(one, Act.KEEP, note="says its dimension already")
    target = named(one.name, one.dimension)
    if target in taken:
        return Step(one, Act.CONFLICT, target, "the name is taken: rename or delete that collection first")
    note = ""
    if ending and int(ending[1]) in _USUAL and int(ending[1]) != one.dimension:
        note = f"the name says {ending[1]}, the vectors have {one.dimension}"
    act = Act.COPY if copies else Act.SPLIT if mixed else Act.RENAME
    return Step(one, act, target, note)
