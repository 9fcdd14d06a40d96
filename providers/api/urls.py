"""Paths of the registry. Each answers with and without a slash at its end: a redirect would drop body and key."""

from __future__ import annotations

from typing import Any

from django.urls import include, path, re_path
from rest_framework.routers import SimpleRouter

from providers.api import audit, config, imports, prices, resources, views

_PROVIDER = r"(?P<provider_id>[^/]+)"
_PATHS: tuple[tuple[str, Any], ...] = (
    ("", views.ProvidersView),
    (f"/{_PROVIDER}", views.ProviderView),
    (f"/{_PROVIDER}/models", views.ModelsView),
    (f"/{_PROVIDER}/models/(?P<model_id>.+?)", views.ModelView),
    (f"/{_PROVIDER}/api-keys", views.KeysView),
    (f"/{_PROVIDER}/api-keys/(?P<key_id>[0-9]{{1,18}})", views.KeyView),
    (f"/{_PROVIDER}/api-keys/(?P<key_id>[0-9]{{1,18}})/value", views.KeyValueView),
    (f"/{_PROVIDER}/connection-params", views.ParametersView),
    (f"/{_PROVIDER}/test", views.TestView),
    (f"/{_PROVIDER}/sync", views.SyncView),
)


def _shape(prefix: str, *, backoffice: bool) -> list[Any]:
    return [re_path(rf"^{prefix}{path}/?\Z", view.as_view(backoffice=backoffice)) for path, view in _PATHS]


router = SimpleRouter()
router.trailing_slash = "/?"
router.register("providers", resources.Providers, basename="provider")
router.register("provider-models", resources.ProviderModels, basename="provider-model")
router.register("api-keys", resources.ApiKeys, basename="api-key")
router.register("connection-parameters", resources.ConnectionParameters, basename="connection-parameter")
router.register("prices", prices.PriceOverrides, basename="price")
router.register("model-prices", prices.ModelPrices, basename="model-price")
router.register("imports", imports.Imports, basename="import")
router.register("audit", resources.Audit, basename="audit")
router.register("probes", resources.Probes, basename="probe")

urlpatterns = [
    *_shape("providers", backoffice=False),
    *_shape("api/providers", backoffice=True),
    re_path(r"^api/v1/config/?\Z", config.Config.as_view()),
    re_path(r"^api/v1/audit/export/?\Z", audit.AuditExport.as_view()),
    re_path(r"^api/v1/provider-types/?\Z", resources.ProviderTypes.as_view()),
    path("api/v1/", include(router.urls)),
]
