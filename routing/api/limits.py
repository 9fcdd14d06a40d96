"""`/api/v1/limits`: how much subjects may ask for. For keys with the scope `admin`: none can widen itself."""

from __future__ import annotations

from typing import Any

from providers.resources import Resource
from routing.api.permissions import ADMINS_ONLY
from routing.api.subject_fields import SUBJECT_FIELDS, UNCHECKED, CountedFilter, CountedSerializer
from routing.models import RateLimit
from routing.rate_limits import LIMITS


class LimitResource(CountedSerializer):
    class Meta:
        model = RateLimit
        fields = ["id", *SUBJECT_FIELDS, *LIMITS, "enabled", "managed_by", "created_at", "updated_at", "created_by"]
        read_only_fields = ["managed_by", "created_at", "updated_at", "created_by"]
        # The row's own rules answer, in words.
        validators: list[Any] = []
        extra_kwargs = UNCHECKED


class LimitFilter(CountedFilter):
    class Meta:
        model = RateLimit
        fields = ["subject", "tag", "enabled"]


class Limits(Resource):
    """Requests and tokens per minute and day, and requests at once, for one subject or for each key or team by itself."""

    queryset = RateLimit.objects.select_related("client_key", "team", "provider", "model__provider")
    serializer_class = LimitResource
    required_scopes = ADMINS_ONLY
    filterset_class = LimitFilter
