"""The control plane's paths. `/v1` is the data plane's and never comes here; see `gateway_project.asgi`."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("gateway_project.first_login")),
]
