"""Pages of the admin that belong to no model: whoever has one says so when its module is loaded, and the site serves it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse


@dataclass(frozen=True, slots=True)
class Page:
    """`path` is below the admin's own, such as `explain/`; `name` is what `reverse("admin:…")` finds it by. Its view is only
    reached by staff, and checks any further right itself."""

    path: str
    name: str
    view: Callable[..., HttpResponse]


_pages: dict[str, Page] = {}


def register(path: str, name: str, view: Callable[..., Any]) -> None:
    _pages[name] = Page(path, name, view)


def registered() -> list[Page]:
    return list(_pages.values())


def render(
    request: HttpRequest, template: str, context: Mapping[str, Any], *, status: int | None = None
) -> TemplateResponse:
    """A page of our own, or of a model, in the frame of the admin; `title` of the context heads it."""
    request.current_app = admin.site.name  # type: ignore[attr-defined]
    return TemplateResponse(request, template, {**admin.site.each_context(request), **context}, status=status)
