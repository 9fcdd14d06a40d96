"""The admin site: unfold's, under our name, with a first page of our own."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.translation import gettext_lazy as _
from unfold.sites import UnfoldAdminSite

from providers import pages


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

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        from gateway_project import dashboard  # the site exists before the models that the dashboard reads

        shown = dashboard.context(request.user, asked=request.GET)
        return super().index(request, {**shown, **(extra_context or {})})
