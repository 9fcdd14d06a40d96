"""The admin site: unfold's, under our name."""

from __future__ import annotations

from unfold.sites import UnfoldAdminSite


class GatewayAdminSite(UnfoldAdminSite):
    site_title = "LLM Gateway"
    site_header = "LLM Gateway"
    index_title = "Overview"
