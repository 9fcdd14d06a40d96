"""Views of a page that are kept under a name: whose they are, who sees them, and what they may hold.

A view is a page's name and a query, and the query is only ever what the page's own form took: it leads nowhere else, and a filter
that is not there any more is left out the next time the page is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.urls import reverse

from inference import spend_forms, trace_forms
from inference.models import SavedView
from routing import visibility
from routing.models import Team

ALL = "all"
"""In an address: no view, and not the one that the page would begin with."""
MOST_OF_ONE = 50
OWN, EVERYBODY, _TEAM = "own", "everybody", "team-"
"""With whom a view is shared; a team's number follows the last."""


@dataclass(frozen=True, slots=True)
class Page:
    """`cleaned` gives back what of a query the page knows, and raises `ValueError` where that makes no sense."""

    url_name: str
    permission: str
    cleaned: Callable[[str], str]


PAGES = {
    "requests": Page("admin:inference_trace_changelist", "inference.view_trace", trace_forms.cleaned),
    "usage": Page("admin:spend", "inference.view_usagerecord", spend_forms.cleaned),
}


def seen_by(user: Any, page: str = "") -> QuerySet[SavedView]:
    """The user's own, those of the user's teams, and everybody's; of pages that the user may open."""
    pages = [name for name, one in PAGES.items() if user.has_perm(one.permission) and page in ("", name)]
    teams = visibility.teams_of(user)
    shared = Q(for_everybody=True) | (Q(team__isnull=False) if teams is None else Q(team_id__in=teams))
    return SavedView.objects.filter(Q(owner=user) | shared, page__in=pages).select_related("team", "owner")


def may_change(user: Any, view: SavedView) -> bool:
    """Its owner's; what nobody owns, or somebody who left it to all, a superuser may tidy up."""
    return view.owner_id == user.pk or user.is_superuser


def shares(user: Any) -> list[tuple[str, str]]:
    """With whom the user may share, as values and texts: nobody, each of the user's teams, everybody."""
    teams = visibility.visible(Team.objects.all(), user, "pk").order_by("name").values_list("pk", "name")[:200]
    return [(OWN, ""), *((f"{_TEAM}{pk}", name) for pk, name in teams), (EVERYBODY, "")]


def share_of(view: SavedView) -> str:
    return EVERYBODY if view.for_everybody else f"{_TEAM}{view.team_id}" if view.team_id else OWN


def keep(view: SavedView, *, name: str, query: str | None = None, share: str = "", default: bool | None = None) -> None:
    """Write a new view, or a change of one. Raises `ValidationError`, by field."""
    name = " ".join(name.split())
    if not name or len(name) > 60:
        raise ValidationError({"name": "A view needs a name of at most 60 characters."})
    if query is not None:
        view.query = _cleaned(view.page, query)
    view.name = name
    if share:
        view.for_everybody, view.team_id = share == EVERYBODY, _team(share)
    if view._state.adding and SavedView.objects.filter(owner=view.owner, page=view.page).count() >= MOST_OF_ONE:
        raise ValidationError({"name": f"{MOST_OF_ONE} views of one page are enough: delete one first."})
    try:
        with transaction.atomic():
            if default is not None:
                SavedView.objects.filter(owner=view.owner, page=view.page, is_default=True).update(is_default=False)
                view.is_default = default and view.owner_id is not None
            view.save()
    except IntegrityError as error:
        raise ValidationError({"name": f"There is a view named {name!r} already."}) from error


def default_of(user: Any, page: str) -> SavedView | None:
    return SavedView.objects.filter(owner=user, page=page, is_default=True).first()


def address(view: SavedView) -> str:
    """Of the page that shows it."""
    query = f"{view.query}&" if view.query else ""
    return f"{reverse(PAGES[view.page].url_name)}?{query}view={view.pk}"


def _cleaned(page: str, query: str) -> str:
    if page not in PAGES:
        raise ValidationError({"page": f"Views are of one of {', '.join(PAGES)}."})
    try:
        found = PAGES[page].cleaned(query.removeprefix("?"))
    except ValueError as error:
        raise ValidationError({"query": f"The page does not take that: {error}"}) from error
    if len(found) > 2000:
        raise ValidationError({"query": "That is too long to be kept: 2000 characters at most."})
    return found


def _team(share: str) -> int | None:
    number = share.removeprefix(_TEAM)
    return int(number) if share.startswith(_TEAM) and number.isdecimal() else None
