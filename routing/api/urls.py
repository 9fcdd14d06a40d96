from __future__ import annotations

from django.urls import include, path
from rest_framework.routers import SimpleRouter

from routing.api.client_keys import ClientKeys

router = SimpleRouter()
router.trailing_slash = "/?"
router.register("client-keys", ClientKeys, basename="client-key")

urlpatterns = [path("api/v1/", include(router.urls))]
