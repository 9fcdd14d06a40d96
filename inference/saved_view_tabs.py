"""Saved views on the pages that have them: the tabs above a list, and what may be done with the one that is shown."""

from __future__ import annotations

import json
import shlex
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _

from inference import saved_views
from inference.models import SavedView
from inference.saved_views import ALL

__all__ = ["ALL", "command", "shown", "where_to_begin"]


def where_to_begin(request: HttpRequest, page: str) -> str:
    """The address of the view that this user's page begins with; empty where an address asks for something already."""
    if request.GET:
        return ""
    view = saved_views.default_of(request.user, page)
    return saved_views.address(view) if view is not None else ""


def shown(request: HttpRequest, page: str, query: str) -> dict[str, Any]:
    """For `gateway/saved_views.html`; `query` is what the page shows now."""
    user: Any = request.user
    views = list(saved_views.seen_by(user, page))
    current = _current(request.GET.get("view", ""), query, views)
    return {
        "page": page,
        "query": query,
        "all": f"{reverse(saved_views.PAGES[page].url_name)}?view={ALL}",
        "is_all": current is None and not query,
        "tabs": [(one, saved_views.address(one), one == current, _whose(one, user), _icon(one, user)) for one in views],
        "current": current,
        "is_changed": current is not None and current.query != query,
        "may_change": current is not None and saved_views.may_change(user, current),
        "is_own": current is not None and current.owner_id == user.pk,
        "share": saved_views.share_of(current) if current is not None else "own",
        "shares": [(value, _share_in_words(value, name)) for value, name in saved_views.shares(user)],
        "may_save": bool(query) and (current is None or current.query != query),
    }


def command(page: str, query: str) -> str:
    """The twins of saving what is shown, for everybody."""
    body = json.dumps({"page": page, "name": "NAME", "query": query})
    return (
        f"manage.py saved_views --page {page} --keep NAME --query {shlex.quote(query)}\n"
        f'curl "$GATEWAY/api/v1/saved-views" -H "Authorization: Bearer $ADMIN_KEY" -H "Content-Type: application/json" \\\n'
        f"  -d {shlex.quote(body)}"
    )


def _current(named: str, query: str, views: list[SavedView]) -> SavedView | None:
    """The one that the address names, else one that shows just this."""
    by_name = next((one for one in views if str(one.pk) == named), None)
    return by_name or next((one for one in views if one.query and one.query == query), None)


def _whose(view: SavedView, user: Any) -> str:
    if view.for_everybody:
        return _("everybody's")
    if view.team is not None:
        return _("shared with %(team)s") % {"team": view.team.name}
    return "" if view.owner_id == user.pk else _("of %(user)s") % {"user": view.owner}


def _icon(view: SavedView, user: Any) -> str:
    """A pin for the one that the user's own page begins with."""
    if view.is_default and view.owner_id == user.pk:
        return "push_pin"
    return "" if view.owner_id == user.pk and saved_views.share_of(view) == saved_views.OWN else "group"


def _share_in_words(value: str, name: str) -> str:
    if name:
        return _("with the team %(team)s") % {"team": name}
    return _("with everybody") if value == "everybody" else _("only for me")
