"""The paths of a source system's frontends. Each answers with and without a slash at its end."""

from __future__ import annotations

from django.urls import re_path

from routing.api.models import ModelsHealthView, ModelsView, SelectView

urlpatterns = [
    re_path(r"^api/models/?\Z", ModelsView.as_view()),
    re_path(r"^api/models/select/?\Z", SelectView.as_view()),
    re_path(r"^api/models/health/?\Z", ModelsHealthView.as_view()),
]
