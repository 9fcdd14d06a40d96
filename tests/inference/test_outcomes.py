"""Every word that says how a request failed, and whose fault it is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from inference import errors, outcomes

ROOT = Path(__file__).resolve().parents[2]
RAISERS = ("inference", "routing")
CONTROL_PLANE = ("api", "management", "migrations")


def kinds(kind: type[errors.GatewayError] = errors.GatewayError) -> Iterator[type[errors.GatewayError]]:
    yield kind
    for below in kind.__subclasses__():
        if below.__module__.startswith(RAISERS):
            yield from kinds(below)


def word(kind: type[errors.GatewayError]) -> str:
    return outcomes.UPSTREAM_RATE_LIMITED if kind is errors.UpstreamRateLimited else kind.code


def test_every_error_that_the_gateway_has_belongs_to_somebody() -> None:
    of_class = {word(kind): kind.owner for kind in kinds() if "code" in vars(kind)}
    assert {code: outcomes.OWNERS.get(code) for code in of_class} == of_class


def test_every_code_that_the_source_names_is_in_the_vocabulary() -> None:
    known = {kind.__name__ for kind in kinds()}
    told = set()
    for package in RAISERS:
        for path in (ROOT / package).rglob("*.py"):
            if set(CONTROL_PLANE) & set(path.relative_to(ROOT).parts):
                continue
            for call in ast.walk(ast.parse(path.read_text())):
                if isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[-1] in known:
                    told |= {
                        one.value.value
                        for one in call.keywords
                        if one.arg == "code" and isinstance(one.value, ast.Constant)
                    }
    assert told - outcomes.OWNERS.keys() == set()
    assert len(told) > 10


@pytest.mark.parametrize(
    ("code", "status", "owner"),
    [
        ("", 200, ""),
        ("ok", 200, ""),
        ("client_disconnected", 499, "caller"),
        ("upstream_timeout", 504, "provider"),
        ("an upstream's own words", 422, "caller"),
        ("an upstream's own words", 529, "provider"),
    ],
)
def test_who_is_to_blame(code: str, status: int, owner: str) -> None:
    assert outcomes.owner_of(code, status) == owner


def test_a_word_of_nobody_is_no_label() -> None:
    assert outcomes.label_of("text of a provider") == outcomes.UNNAMED
