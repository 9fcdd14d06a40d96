"""Who calls, as whose key, and what for: plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from gateway_project.demo.rhythm import NIGHT, OFFICE, SHOP, STEADY, Burst, Pace


@dataclass(frozen=True, slots=True)
class Ask:
    """One sort of request; tokens are medians."""

    model: str
    weight: float = 1.0
    operation: str = "chat"
    prompt: int = 800
    answer: int = 250
    streamed: float = 0.0
    """Share of them that is streamed."""
    cached: float = 0.0
    """Share whose prompt begins as an earlier one did."""
    tags: tuple[str, ...] = ()
    sessions: bool = False
    vision: bool = False
    max_output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Client:
    """`days_ago` counts back from the end of the month that is told."""

    name: str
    team: str
    share: float
    asks: tuple[Ask, ...]
    hours: Sequence[int] = OFFICE
    weekend: float = 0.35
    tags: tuple[str, ...] = ()
    role: str = ""
    network: str = "10.20.0"
    captures_content: bool = False
    allowed_models: tuple[str, ...] | None = None
    stops_days_ago: float | None = None
    """No traffic since: the key was suspended or revoked."""
    state: str = "active"
    """`active`, `suspended`, `revoked` or `expired`."""
    expires_in_days: float | None = None
    scopes: tuple[str, ...] = ("generate",)
    moved: float = 0.0
    """When it was moved over from the legacy system: 0 to 1 of the month."""


CLIENTS: tuple[Client, ...] = (
    Client(
        "Help desk assistant",
        "help-desk",
        24,
        (
            Ask("support-assistant", 9, prompt=2600, answer=320, streamed=0.95, cached=0.6, sessions=True),
            Ask("fast", 1, prompt=420, answer=40, tags=("triage",)),
        ),
        weekend=0.5,
        tags=("env:prod", "channel:chat"),
        role="pro",
        network="10.20.4",
        moved=0.08,
    ),
    Client(
        "Shop search",
        "web-shop",
        30,
        (Ask("search-embeddings", operation="embeddings", prompt=90, answer=0),),
        hours=SHOP,
        weekend=1.2,
        tags=("env:prod",),
        network="10.20.8",
        moved=0.3,
    ),
    Client(
        "Shop product texts",
        "web-shop",
        8,
        (
            Ask("fast", 3, prompt=700, answer=380, tags=("copy",)),
            Ask("gpt-5-mini", 1, prompt=1500, answer=600, tags=("copy", "translate")),
        ),
        hours=SHOP,
        weekend=0.8,
        tags=("env:prod",),
        network="10.20.8",
        moved=0.2,
    ),
    Client(
        "Intranet chat",
        "platform",
        18,
        (
            Ask("fast", 5, prompt=900, answer=260, streamed=1.0, cached=0.35, sessions=True),
            Ask("smart", 3, prompt=1800, answer=520, streamed=1.0, cached=0.4, sessions=True),
            Ask("summarise", 0.8, prompt=9000, answer=420, streamed=1.0, tags=("digest",)),
            Ask("gpt-4o", 1, prompt=1400, answer=300, streamed=1.0, vision=True, sessions=True),
        ),
        weekend=0.5,
        tags=("env:prod", "channel:intranet"),
        network="10.20.1",
        captures_content=True,
        moved=0.12,
    ),
    Client(
        "Code review bot",
        "platform",
        8,
        (Ask("code-review", prompt=5200, answer=700, cached=0.5, tags=("review",)),),
        weekend=0.2,
        tags=("env:prod",),
        network="10.20.2",
    ),
    Client(
        "Research notebooks",
        "research",
        6,
        (
            Ask("smart", 3, prompt=3800, answer=900, streamed=0.7, cached=0.3),
            Ask("claude-opus-4-1", 0.6, prompt=4200, answer=1100, streamed=0.5),
            Ask("gemini-2.5-pro", 1, prompt=9000, answer=800),
        ),
        hours=SHOP,
        weekend=1.1,
        tags=("project:atlas",),
        role="premium",
        network="10.31.0",
        captures_content=True,
        moved=0.05,
    ),
    Client(
        "Paper digest, nightly",
        "research",
        6,
        (Ask("summarise", prompt=14000, answer=650, tags=("digest",)),),
        hours=NIGHT,
        weekend=1.0,
        tags=("project:atlas", "batch"),
        network="10.31.7",
        moved=0.5,
    ),
    Client(
        "Patients' letters",
        "clinic",
        4,
        (Ask("private", prompt=1600, answer=480, streamed=0.3),),
        weekend=0.3,
        tags=("env:prod", "data:medical"),
        network="10.44.0",
    ),
    Client(
        "Mobile app",
        "web-shop",
        12,
        (
            Ask("gpt-4o-mini", 3, prompt=500, answer=180, streamed=1.0, sessions=True),
            Ask("gemini-2.5-flash", 1, prompt=800, answer=220, streamed=1.0, vision=True, sessions=True),
        ),
        hours=SHOP,
        weekend=1.4,
        tags=("env:prod", "channel:app"),
        role="user",
        network="185.0.113",
        expires_in_days=5,
        moved=0.42,
    ),
    Client(
        "Statistics by the hour",
        "platform",
        2,
        (Ask("mistral-large-latest", prompt=2200, answer=420, tags=("report",)),),
        hours=STEADY,
        weekend=1.0,
        tags=("env:prod", "batch"),
        network="10.20.3",
    ),
    Client(
        "Sandbox of the data team",
        "research",
        3,
        (
            Ask("gpt-4o", 1, prompt=1200, answer=500),
            Ask("deepseek-reasoner", 1, prompt=900, answer=1400, streamed=0.6),
            Ask("llama-3.3-70b-versatile", 1, prompt=900, answer=400),
            Ask("gpt-6", 0.1, prompt=300, answer=0),
        ),
        tags=("env:test",),
        role="free",
        network="10.31.9",
        stops_days_ago=2.6,
        state="suspended",
    ),
    Client(
        "Old CRM connector",
        "help-desk",
        3,
        (Ask("gpt-4o-mini", prompt=600, answer=150),),
        tags=("env:prod",),
        network="10.20.9",
        stops_days_ago=9.2,
        state="revoked",
    ),
    Client(
        "Branch offices, old app",
        "help-desk",
        5,
        (Ask("fast", prompt=650, answer=190),),
        hours=SHOP,
        weekend=0.9,
        tags=("env:prod",),
        network="10.20.12",
        moved=0.992,
    ),
    Client("Hackathon 2026", "research", 0, (), role="free", state="expired", expires_in_days=-12),
    Client("CI pipeline", "platform", 0, (), scopes=("registry:read", "registry:write")),
)


def paces(until: datetime) -> list[Pace]:
    return [
        Pace(
            client.share if client.asks else 0.0,
            client.hours,
            client.weekend,
            until=None if client.stops_days_ago is None else until - timedelta(days=client.stops_days_ago),
        )
        for client in CLIENTS
    ]


def bursts(until: datetime) -> list[Burst]:
    """Scripts that ran wild, until a limit stopped them."""
    numbers = {client.name: number for number, client in enumerate(CLIENTS)}
    told = (("Shop product texts", 0.19, 12, 14), ("Shop search", 3.35, 10, 9), ("Paper digest, nightly", 8.1, 20, 12))
    return [
        Burst(
            numbers[name], until - timedelta(days=ago), until - timedelta(days=ago) + timedelta(minutes=minutes), times
        )
        for name, ago, minutes, times in told
    ]


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who may sign in."""

    name: str
    roles: tuple[str, ...] = ()
    teams: dict[str, str] = field(default_factory=dict)


PEOPLE: tuple[Person, ...] = (
    Person("marie", ("admin",)),
    Person("omar", ("operator",)),
    Person("kim", ("keys",)),
    Person("fatima", ("finance",)),
    Person("victor", ("viewer",)),
    Person("ada", teams={"research": "manages"}),
    Person("jonas", teams={"web-shop": "views", "help-desk": "views"}),
)
