"""The control plane's paths. `/v1` is the data plane's and never comes here; see `gateway_project.asgi`."""

from __future__ import annotations

from django.conf import settings
from django.contrib import admin
from django.urls import include, path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from gateway_project import diagnosis, health

urlpatterns = [
    *([path("", include("gateway_project.sso"))] if settings.SIGN_ON else []),
    path("admin/", admin.site.urls),
    path("", include("gateway_project.first_login")),
    re_path(r"^livez/?\Z", health.livez),
    re_path(r"^readyz/?\Z", health.readyz),
    re_path(r"^health/?\Z", health.old_health),
    re_path(r"^metrics/?\Z", health.MetricsView.as_view()),
    re_path(r"^api/v1/health/?\Z", health.HealthView.as_view()),
    re_path(r"^api/v1/health/providers/?\Z", health.ProvidersHealthView.as_view()),
    re_path(r"^api/v1/doctor/?\Z", diagnosis.DoctorView.as_view()),
    re_path(r"^api/v1/models/?\Z", health.ModelsView.as_view()),
    re_path(r"^api/v1/tasks/?\Z", health.TasksView.as_view()),
    re_path(r"^api/schema/?\Z", SpectacularAPIView.as_view(), name="schema"),
    re_path(r"^api/docs/?\Z", SpectacularSwaggerView.as_view(url_name="schema")),
    path("", include("providers.api.urls")),
    path("", include("routing.api.urls")),
    path("", include("routing.api.model_urls")),
    path("", include("inference.api.urls")),
    path("", include("inference.api.chat_urls")),
]

handler400 = "gateway_project.lost.bad_request"
handler404 = "gateway_project.lost.not_found"
handler500 = "gateway_project.lost.server_error"
