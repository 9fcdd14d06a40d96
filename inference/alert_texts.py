"""What messages say. Names, numbers and times; never a key, a prompt or an address of an upstream. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

_UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"))


def title(kind: str, rule: str, subject: str) -> str:
    begin = {"fired": "Alert", "reminder": "Still on", "recovered": "Recovered", "test": "Test"}[kind]
    return " ".join(f"[{begin}] {rule}: {subject}".split())[:255]  # one line: it is the subject of a mail


def text(
    kind: str,
    *,
    condition: str,
    subject: str,
    value: str,
    worst: str,
    began_at: datetime,
    now: datetime,
    detail: str = "",
    acted: str = "",
) -> str:
    lines = [f"{subject}: {value} now; the rule is {condition}."]
    if kind == "recovered":
        lines = [
            f"{subject} is well again after {span(now - began_at)}. At its worst it was {worst}; the rule is {condition}."
        ]
    elif kind == "reminder":
        lines.append(f"This has been so for {span(now - began_at)}; at its worst it was {worst}.")
    if detail and kind != "recovered":
        lines.append(f"{detail[0].upper()}{detail[1:]}.")
    if acted:
        lines.append(f"The gateway acted: {acted}.")
    lines.append(f"It began at {began_at:%Y-%m-%d %H:%M:%S} UTC.")
    return "\n".join(lines)


def span(length: timedelta) -> str:
    """`3 hours`, `1 minute`."""
    seconds = max(0, int(length.total_seconds()))
    for size, unit in _UNITS:
        if seconds >= size:
            count = seconds // size
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return f"{seconds} second{'s' if seconds != 1 else ''}"
