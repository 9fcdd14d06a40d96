"""The admin site: unfold's, under our name, with a first page of our own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.paginator import InvalidPage
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.translation import gettext_lazy as _
from unfold.dataclasses import SearchResult
from unfold.sites import UnfoldAdminSite

from providers import pages

MOST_FOUND = 20
"""Rows of one kind that the search box offers."""


class GatewayAdminSite(UnfoldAdminSite):
    site_title = "LLM Gateway"
    site_header = "LLM Gateway"
    index_title = _("Overview")
    index_template = "gateway/dashboard.html"

    def get_urls(self) -> list[Any]:
        own = [path(page.path, self.admin_view(page.view), name=page.name) for page in pages.registered()]
        return own + super().get_urls()

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        return {**super().each_context(request), "sign_on": settings.SIGN_ON and settings.SIGN_ON.name}

    def search(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """Of a page that is no number or not there, unfold's own makes an error of ours: the first is shown."""
        try:
            return super().search(request, extra_context)
        except InvalidPage:
            asked = request.GET.copy()
            asked.pop("page", None)
            request.GET = asked  # type: ignore[assignment]
            return super().search(request, extra_context)

    def _search_models(
        self, request: HttpRequest, app_list: list[dict[str, Any]], search_term: str, allowed_models: Any = None
    ) -> list[SearchResult]:
        """The first rows of each kind that the user may see: unfold's own reads every row that matches, and names each."""
        kinds = [model["model"] for app in app_list for model in app["models"]]
        return [
            found
            for kind in kinds
            if kind._meta.label_lower in (allowed_models or ())
            for found in self._rows_named(request, self._registry[kind], search_term)
        ]

    def _rows_named(self, request: HttpRequest, shown: Any, words: str) -> Iterator[SearchResult]:
        if not shown.has_view_permission(request):
            return
        rows, _repeats = shown.get_search_results(request, shown.get_queryset(request), words)
        said = shown.model._meta
        for row in rows.distinct()[:MOST_FOUND]:
            yield SearchResult(
                title=str(row),
                description=f"{said.app_label.capitalize()} - {said.verbose_name.capitalize()}",
                link=reverse(f"{self.name}:{said.app_label}_{said.model_name}_change", args=[row.pk]),
                icon="data_object",
            )

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        from gateway_project import dashboard  # the site exists before the models that the dashboard reads

        shown = dashboard.context(request.user, asked=request.GET)
        return super().index(request, {**shown, **(extra_context or {})})
