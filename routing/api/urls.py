from __future__ import annotations

from django.urls import include, path, re_path
from rest_framework.routers import SimpleRouter

from routing.api.client_keys import ClientKeys
from routing.api.policies import Overrides, Policies
from routing.api.rollout import RolloutView
from routing.api.settings import RoutingSettingsView

router = SimpleRouter()
router.trailing_slash = "/?"
router.register("client-keys", ClientKeys, basename="client-key")
router.register("policies", Policies, basename="policy")
router.register("overrides", Overrides, basename="override")

_ROLLOUT = RolloutView.as_view({"get": "retrieve", "put": "partial_update", "patch": "partial_update"})
_SETTINGS = RoutingSettingsView.as_view({"get": "retrieve", "put": "partial_update", "patch": "partial_update"})

urlpatterns = [
    path("api/v1/", include(router.urls)),
    re_path(r"^api/v1/rollout/?\Z", _ROLLOUT),
    re_path(r"^api/v1/routing-settings/?\Z", _SETTINGS),
]
