from __future__ import annotations

from django.urls import include, path, re_path
from rest_framework.routers import SimpleRouter

from routing.api.client_keys import ClientKeys
from routing.api.rollout import RolloutView

router = SimpleRouter()
router.trailing_slash = "/?"
router.register("client-keys", ClientKeys, basename="client-key")

_ROLLOUT = RolloutView.as_view({"get": "retrieve", "put": "partial_update", "patch": "partial_update"})

urlpatterns = [path("api/v1/", include(router.urls)), re_path(r"^api/v1/rollout/?\Z", _ROLLOUT)]
