"""A source system's admin API under `/api/admin/gateway`: its questions, answered from policies. For admins only.

Its logical models are policies of kind `logical`, its nodes of kind `node`. What changes them is in `admin_gateway_writes`.
"""

from __future__ import annotations

import time
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from providers import actor
from providers.cost_tiers import COST_TIERS
from routing import explain, health, nodes, policy_checks, savings, snapshot, strategies
from routing.api import admin_gateway_shapes as shapes
from routing.nodes import Selection
from routing.policy_documents import LOGICAL, canonical
from routing.types import Conditions, Snapshot

MOST_CAPABILITIES = 50


class AdminGatewayView(APIView):
    """Keys that only generate are refused: these paths move every client's traffic."""

    required_scopes = dict.fromkeys(("GET", "PUT", "POST"), "admin")


def by() -> str:
    return actor.current().name


def timestamp() -> str:
    return shapes.iso(time.time())


def now_in_force() -> tuple[Snapshot, Conditions, float]:
    return snapshot.refresh(), health.read(), time.time()


_OBJECT = OpenApiTypes.OBJECT


class GatewayHealth(AdminGatewayView):
    @extend_schema(responses=_OBJECT)
    def get(self, request: Request) -> Response:
        """How the providers are: healthy, degraded where some models are out, unhealthy where all are."""
        registry, conditions, _ = now_in_force()
        return Response(shapes.health(registry, conditions) | {"timestamp": timestamp()})


class GatewayStatus(AdminGatewayView):
    @extend_schema(responses=_OBJECT)
    def get(self, request: Request) -> Response:
        """Health, configuration and who serves which node, in one answer."""
        registry, conditions, now = now_in_force()
        validation = shapes.told(policy_checks.of(registry))
        return Response(
            {
                "gateway_health": shapes.health(registry, conditions)["overall_status"],
                "configuration_valid": validation["valid"],
                "configuration_issues": validation["issues"],
                "configuration_warnings": validation["warnings"],
                **totals(registry),
                "current_assignments": {
                    name: told["model_id"] for name, told in assignments(registry, conditions, now).items()
                },
                "timestamp": timestamp(),
            }
        )


def totals(registry: Snapshot) -> dict[str, int]:
    return {
        "total_policies": len(nodes.of_kind(LOGICAL, registry)),
        "total_nodes": len(nodes.of_kind(nodes.NODE, registry)),
    }


def assignments(registry: Snapshot, conditions: Conditions, now: float) -> dict[str, Any]:
    return {
        name: shapes.assignment(nodes.select(name, registry, conditions, now=now), now)
        for name in nodes.of_kind(nodes.NODE, registry)
    }


class GatewayPolicies(AdminGatewayView):
    @extend_schema(responses=_OBJECT)
    def get(self, request: Request) -> Response:
        """The logical models by name."""
        return Response(shapes.policies(snapshot.refresh()))


class NodeRequirements(AdminGatewayView):
    @extend_schema(responses=_OBJECT)
    def get(self, request: Request) -> Response:
        """What each node demands."""
        return Response(shapes.requirements(snapshot.refresh()))


class Assignments(AdminGatewayView):
    @extend_schema(responses=_OBJECT)
    def get(self, request: Request) -> Response:
        """Who would serve each node now; `model_id` is null where nobody can, and `reasoning` says why."""
        return Response({"assignments": assignments(*now_in_force()), "timestamp": timestamp()})


class Validate(AdminGatewayView):
    @extend_schema(responses=_OBJECT)
    def get(self, request: Request) -> Response:
        """What is wrong with the configuration, in sentences; `details` has the same with codes."""
        registry = snapshot.refresh()
        return Response(shapes.told(policy_checks.of(registry)) | totals(registry))


class SelectionBody(serializers.Serializer):
    node_name = serializers.CharField(max_length=255)
    capabilities = serializers.ListField(
        child=serializers.CharField(max_length=255), required=False, default=list, max_length=MOST_CAPABILITIES
    )
    strategy = serializers.CharField(
        required=False, default="", max_length=255, help_text="Without, the node's own; balanced for an unknown node."
    )
    tier = serializers.CharField(
        required=False, default="standard", max_length=255, help_text="Read as the source system does: changes nothing."
    )
    cost_tier_override = serializers.CharField(
        required=False, allow_null=True, default=None, help_text="The dearest tier that may serve."
    )

    def validate_strategy(self, value: str) -> str:
        if value and value not in strategies.names():
            raise serializers.ValidationError(f"{value!r} is none of: {', '.join(strategies.names())}.")
        return value

    def validate_cost_tier_override(self, value: str | None) -> str:
        tier = (value or "").upper()
        if tier and tier not in COST_TIERS:
            raise serializers.ValidationError(f"{value!r} is none of: {', '.join(COST_TIERS)}.")
        return tier


class TestSelection(AdminGatewayView):
    @extend_schema(request=SelectionBody, responses={200: _OBJECT, 422: _OBJECT})
    def post(self, request: Request) -> Response:
        """Who would serve a node, and why; nobody is called and nothing changes. 422 when nobody could, with the reasons."""
        body = SelectionBody(data=request.data)
        body.is_valid(raise_exception=True)
        told = body.validated_data
        registry, conditions, now = now_in_force()
        selection = nodes.select(
            told["node_name"],
            registry,
            conditions,
            now=now,
            capabilities=canonical(told["capabilities"]),
            strategy=told["strategy"],
            max_cost_tier=told["cost_tier_override"],
        )
        answer = _selected(selection) | {
            "tested_by": by(),
            "timestamp": timestamp(),
            "explanation": explain.document(
                selection.facts, selection.decision, selection.snapshot, conditions, now=now, most=explain.MOST_KEPT
            ),
        }
        found = selection.first is not None
        return Response(answer, status=status.HTTP_200_OK if found else status.HTTP_422_UNPROCESSABLE_ENTITY)


def _selected(selection: Selection) -> dict[str, Any]:
    first = selection.first
    return {
        "node_name": selection.facts.model,
        "selected_model": nodes.name_of(first) if first else None,
        "provider": first.model.provider.provider_id if first else None,
        "provider_model_id": first.model.upstream_model_id if first else None,
        "reasoning": shapes.reasoning(selection),
        "confidence_score": selection.decision.confidence,
        "estimated_cost": float(first.estimate) if first and first.estimate is not None else None,
        "alternatives": shapes.alternatives(selection),
        "fallback_chain": shapes.fallback_chain(selection),
    }


class Recommendations(AdminGatewayView):
    @extend_schema(responses=_OBJECT)
    def get(self, request: Request, node: str) -> Response:
        """Models that meet the node's demands, best first, and how each did lately."""
        registry, conditions, now = now_in_force()
        candidates = nodes.select(node, registry, conditions, now=now).ranking
        return Response(
            {
                "node_name": node,
                "recommendations": [shapes.recommendation(candidate) for candidate in candidates],
                "performance_data": {
                    nodes.name_of(candidate): shapes.performance(conditions.of(candidate.model.route))
                    for candidate in reversed(candidates)
                },
                "requested_by": by(),
                "timestamp": timestamp(),
            }
        )


class CostOptimization(AdminGatewayView):
    @extend_schema(responses=_OBJECT)
    def get(self, request: Request) -> Response:
        """Nodes that a cheaper model could serve without demanding less of it; costs are USD of a usual request."""
        registry, conditions, now = now_in_force()
        found = savings.find(registry, conditions, now=now)
        return Response(
            {
                "total_nodes_analyzed": totals(registry)["total_nodes"],
                "optimization_opportunities": len(found),
                "estimated_savings_per_request": float(sum(saving.per_request for saving in found)),
                "recommendations": [
                    {
                        "node_name": saving.node,
                        "current_model": nodes.name_of(saving.current),
                        "recommended_model": nodes.name_of(saving.better),
                        "current_cost": float(saving.current_cost),
                        "recommended_cost": float(saving.better_cost),
                        "savings_per_request": float(saving.per_request),
                        "savings_percent": round(float(saving.percent), 2),
                    }
                    for saving in found
                ],
                "timestamp": timestamp(),
            }
        )
