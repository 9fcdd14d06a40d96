"""Saves, changes and deletes views in the admin. It leads back to the page that the view is of, and nowhere else."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from inference import saved_views
from inference.models import SavedView
from inference.saved_views import ALL, PAGES
from providers import pages


@require_POST
def saved_view(request: HttpRequest) -> HttpResponse:
    page = PAGES.get(request.POST.get("page", ""))
    if page is None or not request.user.has_perm(page.permission):
        raise PermissionDenied
    what = request.POST.get("action", "save")
    try:
        if what == "delete":
            return _delete(request, page.url_name)
        view = SavedView(owner=request.user, page=request.POST["page"]) if what == "save" else _theirs(request)
        _keep(request, view)
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
        return HttpResponseRedirect(_back(request, page.url_name))
    messages.success(request, _("The view “%(name)s” is saved.") % {"name": view.name})
    return HttpResponseRedirect(saved_views.address(view))


def _keep(request: HttpRequest, view: SavedView) -> None:
    share = request.POST.get("share", "")
    if share and share not in dict(saved_views.shares(request.user)):
        raise PermissionDenied
    says_default = "settings" in request.POST and view.owner_id == request.user.pk
    saved_views.keep(
        view,
        name=request.POST.get("name", view.name),
        query=request.POST.get("query"),
        share=share,
        default=request.POST.get("default") == "on" if says_default else None,
    )


def _delete(request: HttpRequest, url_name: str) -> HttpResponse:
    view = _theirs(request)
    view.delete()
    messages.success(request, _("The view “%(name)s” is gone; what it showed is not.") % {"name": view.name})
    return HttpResponseRedirect(f"{reverse(url_name)}?view={ALL}")


def _theirs(request: HttpRequest) -> SavedView:
    number = request.POST.get("view", "")
    seen: Any = saved_views.seen_by(request.user, request.POST["page"])
    view = get_object_or_404(seen, pk=int(number) if number.isdecimal() else 0)
    if not saved_views.may_change(request.user, view):
        raise PermissionDenied
    return view


def _back(request: HttpRequest, url_name: str) -> str:
    """To the page with the same filters, as far as it takes them."""
    try:
        query = PAGES[request.POST["page"]].cleaned(request.POST.get("query", ""))
    except ValueError:
        query = ""
    return f"{reverse(url_name)}?{query or f'view={ALL}'}"


pages.register("saved-views/", "saved-views", saved_view)
