"""By what the lists of providers and models are narrowed; every choice stands in the URL."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Exists, OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy

from providers import provider_types
from providers.models import ProbeResult, Provider


def label_of(type_name: str) -> str:
    kind = provider_types.find(type_name)
    return kind.label if kind else f"{type_name} (not registered)"


class StateFilter(admin.SimpleListFilter):
    title = lazy("health")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("healthy", _("healthy")), ("unhealthy", _("unhealthy")), ("unknown", _("never probed"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        if self.value() == "unknown":
            return queryset.filter(~Exists(ProbeResult.objects.filter(provider=OuterRef("pk"))))
        if self.value() in {"healthy", "unhealthy"}:
            last = ProbeResult.objects.filter(provider=OuterRef("pk")).order_by("-at").values("healthy")[:1]
            return queryset.annotate(last_healthy=Subquery(last)).filter(last_healthy=self.value() == "healthy")
        return queryset


class TypeFilter(admin.SimpleListFilter):
    """The types that are in use, by their labels; the column has no choices."""

    title = lazy("kind")
    parameter_name = "type"
    field = "provider_type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        used = Provider.objects.order_by("provider_type").values_list("provider_type", flat=True).distinct()
        return [(name, label_of(name)) for name in used]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(**{self.field: self.value()}) if self.value() else queryset


class ProviderTypeFilter(TypeFilter):
    title = lazy("kind of provider")
    parameter_name = "provider_type"
    field = "provider__provider_type"
