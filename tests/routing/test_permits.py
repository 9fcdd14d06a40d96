from __future__ import annotations

import base64
import json

import pytest

from routing import permits
from routing.permits import GOOD_FOR_SECONDS, PermitRefused

PEPPERS = {"2": b"new" * 11, "1": b"old" * 11}


def issued(person: str = "ada", now: float = 100.0, peppers: dict[str, bytes] = PEPPERS) -> str:
    return permits.issue("gw-0123456789ab", person, peppers, now=now)[0]


def refusal(shown: str, now: float = 101.0, peppers: dict[str, bytes] = PEPPERS) -> PermitRefused:
    with pytest.raises(PermitRefused) as caught:
        permits.read(shown, peppers, now=now)
    return caught.value


def test_a_permit_says_what_it_was_issued_for() -> None:
    read = permits.read(issued(), PEPPERS, now=101.0)
    assert (read.prefix, read.person, read.until) == ("gw-0123456789ab", "ada", 100.0 + GOOD_FOR_SECONDS)
    assert read.marks == permits.marks_of("ada") == ("playground", "user:ada")


def test_a_permit_is_over_after_minutes() -> None:
    assert permits.read(issued(), PEPPERS, now=99.0 + GOOD_FOR_SECONDS)
    assert refusal(issued(), now=100.0 + GOOD_FOR_SECONDS).over


def test_a_permit_of_the_pepper_before_is_good_until_that_pepper_goes() -> None:
    before = issued(peppers={"1": PEPPERS["1"]})
    assert permits.read(before, PEPPERS, now=101.0)
    assert not refusal(before, peppers={"2": PEPPERS["2"]}).over


def test_whatever_was_changed_is_refused() -> None:
    form, said, signature = issued().split(".")
    told = json.loads(base64.urlsafe_b64decode(said + "=" * (-len(said) % 4)))
    for place, value in ((1, "gw-other"), (2, "bob"), (3, 9e9)):
        forged = [*told[:place], value, *told[place + 1 :]]
        text = base64.urlsafe_b64encode(json.dumps(forged).encode()).decode().rstrip("=")
        assert not refusal(f"{form}.{text}.{signature}").over


@pytest.mark.parametrize(
    "shown",
    [
        "",
        "gwp",
        "gwp..",
        "gwp.x.y",
        "gwp.W10.",
        "gwp.bnVsbA.AA",
        "gwp.W1tdLDEsMiwzXQ.AA",
        "gw-é.é.é",
        "gwp." + "W1tb" * 4096 + ".AA",
    ],
)
def test_what_is_no_permit_is_refused(shown: str) -> None:
    assert not refusal(shown).over


def test_the_longest_name_still_fits_a_tag_and_a_header() -> None:
    shown = issued(person="ä," * 80)
    assert len(shown) < 512
    assert len(permits.read(shown, PEPPERS, now=101.0).marks[1]) == 64
    assert "," not in permits.read(shown, PEPPERS, now=101.0).person
