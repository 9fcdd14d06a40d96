"""docs/explaining.md knows every member and every reason that the code has."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from routing import building, decide, explain, filters
from routing.types import NOMINAL
from tests.routing.views import facts, model, snapshot

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "explaining.md").read_text(encoding="utf-8")
CODES = re.compile(r'Dropped\(\s*[\w.]+,\s*"(\w+)"')


def test_every_reason_is_explained_and_no_other() -> None:
    reasons = PAGE.partition("## Reasons")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `(\w+)` \|", reasons, re.MULTILINE)
    used = {code for module in (building, decide, filters) for code in CODES.findall(inspect.getsource(module))}
    assert sorted(listed) == sorted(used)


def test_every_member_is_explained() -> None:
    held = snapshot(model())
    told = explain.document(facts(), decide.decide(facts(), held, now=0), held, NOMINAL, now=0)
    for member in (*told, *told["candidates"][0]):
        assert f"`{member}`" in PAGE, member
