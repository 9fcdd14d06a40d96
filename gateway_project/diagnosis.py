"""`/api/v1/doctor`: what `manage.py doctor` says, for programs."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from gateway_project.doctor import documents, examining


class FixOut(serializers.Serializer):
    text = serializers.CharField()
    page = serializers.CharField(allow_blank=True, help_text="Path of the page of the admin that mends it.")
    command = serializers.CharField(allow_blank=True)


class FindingOut(serializers.Serializer):
    check = serializers.CharField()
    level = serializers.CharField(help_text="error or warning.")
    what = serializers.CharField()
    why = serializers.CharField()
    since = serializers.DateTimeField(allow_null=True)
    fix = FixOut()


class CheckOut(serializers.Serializer):
    name = serializers.CharField()
    title = serializers.CharField()
    area = serializers.CharField()
    well = serializers.BooleanField()
    seen = serializers.CharField(allow_blank=True)
    passed_over = serializers.CharField(allow_blank=True, help_text="Why it could not look; another check says more.")
    took_ms = serializers.FloatField()


class DiagnosisOut(serializers.Serializer):
    state = serializers.CharField(help_text="error, warning or well.")
    at = serializers.DateTimeField()
    live = serializers.BooleanField()
    errors = serializers.IntegerField()
    warnings = serializers.IntegerField()
    findings = FindingOut(many=True)
    checks = CheckOut(many=True)


class DoctorView(APIView):
    required_scopes = {"GET": "admin"}

    @extend_schema(
        parameters=[
            OpenApiParameter("live", bool, description="Also ask the database, the clocks and the workers now.")
        ],
        responses=DiagnosisOut,
    )
    def get(self, request: Request) -> Response:
        """What is wrong with this installation, the worst first; what was found some seconds ago is told again."""
        live = serializers.BooleanField().run_validation(request.query_params.get("live", "false"))
        return Response(DiagnosisOut(documents.of(examining.probed() if live else examining.known())).data)
