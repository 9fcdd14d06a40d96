"""List prices of known vendors: the data of genai-prices, found by provider type, address and model id. It asks no network.

A model is looked up in the list of the vendor that serves it, since the same model costs more here and less there:

- by its exact name, then by the longest pattern of the list that fits, then by the longest name that is left when the date or
  version at its end is taken off (`gpt-4o-mini-2031-01-01`);
- written `vendor/model`, as resellers do, also in that vendor's list where the reseller's own does not have it;
- at an address on the internet that belongs to no known vendor, in the list of whoever makes models of that name.

What costs more for long prompts is listed at its base price, and the note says so. Announced prices and prices of some hours of the
day hold when their time has come; `changes_at` says when to look again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from functools import cache, lru_cache, partial
from importlib.metadata import version
from typing import Any

from providers.locality import is_own_address

PACKAGE = "genai-prices"

_LIST_OF_TYPE: Mapping[str, str] = {
    "azure_openai": "azure",
    "gemini": "google",
    "xai": "x-ai",
}
"""Where a type and its list have different names."""
_ANYBODYS = "openai_compatible"
_VERSION_AT_THE_END = re.compile(
    r"[-@:](\d{4}-\d{2}-\d{2}|\d{2}-\d{4}|\d{2}-\d{2}|\d{3,8}|v\d+(?:[.:]\d+)*|latest|preview|exp|beta)\Z"
)
_ITS_LISTING = "models/"
"""How Google's own list of models writes them."""
_MOST_REMEMBERED = 65_536


@dataclass(frozen=True, slots=True)
class ListPrice:
    """USD per million tokens, as listed. `changes_at` is the epoch second from which another price holds."""

    name: str
    """`vendor/model` in the list."""
    input_cost_per_million: Decimal | None
    output_cost_per_million: Decimal | None
    cached_input_cost_per_million: Decimal | None
    tiered: bool = False
    """Long prompts cost more."""
    changes_at: float | None = None

    @property
    def note(self) -> str:
        base = ", base price of several" if self.tiered else ""
        return f"list price of {self.name}{base}, {PACKAGE} {list_version()}"


@dataclass(frozen=True, slots=True)
class Listing:
    """What the list says of a model beside its price."""

    name: str
    context_window: int | None
    deprecated: bool

    @property
    def note(self) -> str:
        return f"{self.name} in {PACKAGE} {list_version()}"


def listing(provider_type: str, model_id: str, base_url: str = "") -> Listing | None:
    """The model's entry; None when no list has it."""
    lists = _lists_of(provider_type, base_url)
    found = None if lists is None else _find(lists, model_id.lower())
    if found is None:
        return None
    entry = _entry(*found)
    return Listing("/".join(found), entry.context_window, bool(entry.deprecated))


@cache
def list_version() -> str:
    return version(PACKAGE)


def find(provider_type: str, model_id: str, at: float, base_url: str = "") -> ListPrice | None:
    """The list price at the epoch second `at`; None when no list has the model."""
    lists = _lists_of(provider_type, base_url)
    if lists is None:
        return None
    found = _find(lists, model_id.lower())
    return None if found is None else _listed(*found, at)


@lru_cache(maxsize=1024)
def _lists_of(provider_type: str, base_url: str) -> tuple[str, ...] | None:
    """The vendors in whose lists to look; an empty tuple means whoever makes the model, None that it is not for sale."""
    if provider_type != _ANYBODYS:
        name = _LIST_OF_TYPE.get(provider_type, provider_type)
        return (name,) if name in _vendors() else None
    for vendor in _vendors().values():
        if base_url and re.match(vendor.api_pattern, base_url):
            return (vendor.id,)
    return None if not base_url or is_own_address(base_url) else ()


@lru_cache(maxsize=_MOST_REMEMBERED)
def _find(lists: tuple[str, ...], model_id: str) -> tuple[str, str] | None:
    """The vendor in whose list it is, and the name of its entry."""
    for vendor, name in _places(lists, model_id):
        entry = _entry(vendor, name)
        if entry is not None:
            return vendor, entry.id.lower()
    return None


def _places(lists: tuple[str, ...], model_id: str) -> Iterator[tuple[str, str]]:
    """The vendors and names under which it may be listed, best first."""
    vendors = _vendors()
    for name in lists:
        yield name, model_id
        if model_id.startswith(_ITS_LISTING):
            yield name, model_id.removeprefix(_ITS_LISTING)
        for other in vendors[name].fallback_model_providers or ():
            yield other, model_id
    maker, _, rest = model_id.partition("/")
    if rest and maker in vendors:
        yield maker, rest
    elif not lists:
        for vendor in vendors.values():
            if vendor.model_match is not None and vendor.model_match.is_match(model_id):
                yield vendor.id, model_id


def _entry(vendor: str, name: str) -> Any:
    while True:
        found = _names(vendor).get(name) or _by_pattern(vendor, name)
        shorter = _VERSION_AT_THE_END.sub("", name)
        if found is not None or shorter == name:
            return found
        name = shorter


def _by_pattern(vendor: str, name: str) -> Any:
    """The model whose pattern is sure of the most letters of the name."""
    best, longest = None, 0
    for fits, length, model in _patterns(vendor):
        if length > longest and fits(name):
            best, longest = model, length
    return best


@lru_cache(maxsize=4096)
def _listed(vendor: str, name: str, at: float) -> ListPrice:
    model = _names(vendor)[name]
    prices, changes_at = _in_force(model, at)
    fresh, answer, cached = (_base(prices, member) for member in ("input_mtok", "output_mtok", "cache_read_mtok"))
    if model.id.endswith(":free"):
        fresh = answer = cached = (Decimal(0), False)
    return ListPrice(
        f"{vendor}/{model.id}",
        fresh[0],
        answer[0],
        cached[0],
        tiered=fresh[1] or answer[1] or cached[1],
        changes_at=changes_at,
    )


def _in_force(model: Any, at: float) -> tuple[Any, float | None]:
    """The prices of that moment, and when others begin. As with its authors, the last one whose condition holds counts."""
    if not isinstance(model.prices, list):
        return model.prices, None
    moment = datetime.fromtimestamp(at, UTC)
    constraints = [one.constraint for one in model.prices if one.constraint is not None]
    boundaries = [boundary for constraint in constraints for boundary in _boundaries(constraint, moment)]
    return model.get_prices(moment), min((one for one in boundaries if one > at), default=None)


def _boundaries(constraint: Any, moment: datetime) -> Iterator[float]:
    """Epoch seconds around the moment at which the condition turns."""
    if begins := getattr(constraint, "start_date", None):
        yield datetime.combine(begins, time(), UTC).timestamp()
        return
    for day in (moment.date(), moment.date() + timedelta(days=1)):
        for hour in (constraint.start_time, constraint.end_time):
            yield datetime.combine(day, hour if hour.tzinfo else hour.replace(tzinfo=UTC)).timestamp()


def _base(prices: Any, name: str) -> tuple[Decimal | None, bool]:
    told: Any = vars(prices).get(name)
    return (told.base, True) if hasattr(told, "tiers") else (told, False)


# --- The data, read once by whoever needs it first --------------------------------------------------------------------------


@cache
def _vendors() -> Mapping[str, Any]:
    # Half a second of import that only processes with priced models need, and only in the thread that builds.
    from genai_prices.data import providers

    return {vendor.id: vendor for vendor in providers}


@cache
def _names(vendor: str) -> Mapping[str, Any]:
    """Every name that is listed word for word."""
    names: dict[str, Any] = {}
    for model in _vendors()[vendor].models:
        for name in _literals(model.match):
            names.setdefault(name.lower(), model)
    return {model.id.lower(): model for model in _vendors()[vendor].models} | names


def _literals(clause: Any) -> Iterator[str]:
    if literal := getattr(clause, "equals", None):
        yield literal
    for one in getattr(clause, "or_", None) or ():
        yield from _literals(one)


@cache
def _patterns(vendor: str) -> tuple[tuple[Callable[[str], Any], int, Any], ...]:
    """What fits more than one name: the test, how many letters it is sure of, and the model."""
    return tuple(
        (fits, length, model) for model in _vendors()[vendor].models for fits, length in _tests(model.match, model.id)
    )


def _tests(clause: Any, model_id: str) -> Iterator[tuple[Callable[[str], Any], int]]:
    if inner := getattr(clause, "or_", None):
        for one in inner:
            yield from _tests(one, model_id)
    elif literal := getattr(clause, "starts_with", None):
        yield partial(_starts, literal.lower()), len(literal)
    elif literal := getattr(clause, "contains", None):
        yield partial(_holds, literal.lower()), len(literal)
    elif not hasattr(clause, "equals"):
        yield clause.is_match, len(model_id)


def _starts(literal: str, name: str) -> bool:
    return name.startswith(literal)


def _holds(literal: str, name: str) -> bool:
    return literal in name
