"""`GET /api/v1/retirement`: may the replaced systems' code go?"""

from __future__ import annotations

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inference import retirement
from inference.retirement import LONGEST_DAYS


class RetirementQuery(serializers.Serializer):
    days = serializers.IntegerField(default=30, min_value=1, max_value=LONGEST_DAYS, help_text="How many to look back.")


class OldPathUseOut(serializers.Serializer):
    family = serializers.CharField(help_text="The prefix of the paths, or that it was forwarded to the legacy side.")
    client = serializers.CharField(help_text="key:PREFIX, user:NAME or address:IP.")
    client_name = serializers.CharField()
    requests = serializers.IntegerField()
    last_at = serializers.DateTimeField()


class RetirementOut(serializers.Serializer):
    days = serializers.IntegerField()
    since = serializers.DateTimeField(allow_null=True, help_text="When counting began; null when it has not.")
    safe = serializers.BooleanField(help_text="Nobody used the old paths for all of these days.")
    verdict = serializers.CharField()
    uses = OldPathUseOut(many=True)


class RetirementView(APIView):
    required_scopes = {"GET": "admin"}

    @extend_schema(parameters=[RetirementQuery], responses=RetirementOut)
    def get(self, request: Request) -> Response:
        """Who still came through the old paths in the last days, and whether the old code is safe to remove."""
        query = RetirementQuery(data=request.query_params)
        query.is_valid(raise_exception=True)
        return Response(RetirementOut(retirement.report(query.validated_data["days"], timezone.now())).data)
