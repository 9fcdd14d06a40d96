"""What changes a node's model through a source system's admin API, and what reads its files again. For admins only.

A node is changed in one of three ways: `override` puts a model before the node's own choice, for a time where `ttl` says so;
`config` writes the model into the node's policy, as a new version; `default` takes an override away.
"""

from __future__ import annotations

import time
from typing import Any

from django.core.exceptions import ValidationError as Invalid
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import exceptions, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from providers import configuration, ownership
from routing import health, nodes, policy_actions, snapshot
from routing.api import admin_gateway_shapes as shapes
from routing.api.admin_gateway import AdminGatewayView, by, timestamp
from routing.decide import demanded
from routing.filters import refusal
from routing.models import Policy
from routing.policy_documents import LOGICAL, Target
from routing.types import RequestFacts, Snapshot
from routing.validation import OPERATIONS

OVERRIDE, CONFIG, DEFAULT = "override", "config", "default"
MOST_UPDATES = 1000


class UnknownNode(exceptions.NotFound):
    default_code = "unknown_node"


class UnknownModel(exceptions.APIException):
    status_code = 400
    default_code = "unknown_model"


class RequirementsNotMet(exceptions.APIException):
    status_code = 409
    default_code = "requirements_not_met"


class UpdateBody(serializers.Serializer):
    model_id = serializers.CharField(
        max_length=600, required=False, default="", allow_blank=True, help_text="Not needed for the mode default."
    )
    mode = serializers.ChoiceField([OVERRIDE, CONFIG, DEFAULT], default=OVERRIDE)
    ttl = serializers.FloatField(
        required=False,
        allow_null=True,
        default=None,
        help_text="Seconds that an override holds; without, until it goes.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["mode"] != DEFAULT and not attrs["model_id"]:
            raise serializers.ValidationError({"model_id": "Name the model that is to serve."})
        return attrs


class NodePolicy(AdminGatewayView):
    @extend_schema(request=UpdateBody, responses=OpenApiTypes.OBJECT)
    def put(self, request: Request, node: str) -> Response:
        """Change who serves a node; the next request of every process counts it.

        A node that is really named `bulk` is written as `node/bulk`: the plain path is the bulk update's.
        """
        body = UpdateBody(data=request.data)
        body.is_valid(raise_exception=True)
        told = change(node, **body.validated_data)
        return Response({"success": True, **told, "updated_by": by(), "timestamp": timestamp()})


class BulkBody(serializers.Serializer):
    updates = serializers.DictField(
        help_text="Models by node; a value may also be an object with model_id, mode and ttl of its own."
    )
    mode = serializers.ChoiceField([OVERRIDE, CONFIG, DEFAULT], default=OVERRIDE)
    ttl = serializers.FloatField(required=False, allow_null=True, default=None)

    def validate_updates(self, value: dict[str, Any]) -> dict[str, Any]:
        if len(value) > MOST_UPDATES:
            raise serializers.ValidationError(f"At most {MOST_UPDATES} at a time.")
        return value


class BulkPolicies(AdminGatewayView):
    @extend_schema(request=BulkBody, responses=OpenApiTypes.OBJECT)
    def put(self, request: Request) -> Response:
        """Change several nodes. Each is its own transaction: one that is refused says why and keeps back none of the others."""
        body = BulkBody(data=request.data)
        body.is_valid(raise_exception=True)
        usual = {"mode": body.validated_data["mode"], "ttl": body.validated_data["ttl"]}
        results = {node: _one(node, told, usual) for node, told in body.validated_data["updates"].items()}
        return Response({"results": results, "updated_by": by(), "timestamp": timestamp()})


def _one(node: str, told: Any, usual: dict[str, Any]) -> dict[str, Any]:
    own = told if isinstance(told, dict) else {"model_id": told}
    body = UpdateBody(data=usual | own)
    try:
        body.is_valid(raise_exception=True)
        return {"success": True, **change(node, **body.validated_data)}
    except exceptions.ValidationError as error:
        return {"success": False, "node_name": node, "code": "invalid", "error": _first_sentence(error.detail)}
    except Invalid as error:
        return {"success": False, "node_name": node, "code": "invalid", "error": "; ".join(error.messages)}
    except exceptions.APIException as error:
        return {"success": False, "node_name": node, "code": error.get_codes(), "error": str(error.detail)}
    except (ownership.OwnedByFile, policy_actions.NotOverridable) as error:
        return {"success": False, "node_name": node, "code": error.code, "error": str(error)}


def _first_sentence(detail: Any) -> str:
    while isinstance(detail, dict | list):
        detail = next(iter(detail.values() if isinstance(detail, dict) else detail))
    return str(detail)


def change(node: str, *, model_id: str, mode: str, ttl: float | None) -> dict[str, Any]:
    """Raises what the API's error answers are made of."""
    row = _row(node)
    if mode == DEFAULT:
        policy_actions.clear_override(row.name)
    else:
        _refuse_unknown(model_id)
        if mode == OVERRIDE:
            policy_actions.set_override(row.name, model_id, ttl_seconds=ttl, reason=f"by {by()} through the admin API")
        else:
            ownership.refuse_if_owned(row)
            _write_into(row, model_id)
    registry, now = snapshot.refresh(), time.time()
    serves = shapes.assignment(nodes.select(row.name, registry, health.read(), now=now), now)
    return {
        "node_name": node,
        "model_id": model_id or serves["model_id"],
        "mode": mode,
        "expires_at": serves["expires_at"],
        "serves_now": serves["model_id"],
    }


def _row(node: str) -> Policy:
    kind, _, name = node.partition("/")
    row = Policy.objects.filter(kind=kind, name=name).first() if name else None
    row = row or Policy.objects.filter(name=node).exclude(kind=LOGICAL).first()
    if row is None:
        known = ", ".join(Policy.objects.filter(kind=nodes.NODE).values_list("name", flat=True)[:20])
        raise UnknownNode(f"No node is named {node!r}. {'Known are: ' + known if known else 'There are none'}.")
    return row


def _refuse_unknown(model_id: str) -> None:
    registry = snapshot.refresh()
    if model_id not in registry.by_name and model_id not in registry.policies:
        known = ", ".join(list(nodes.of_kind(LOGICAL, registry))[:20])
        raise UnknownModel(f"No model is named {model_id!r}. {'Known are: ' + known if known else ''}".strip())


def _write_into(row: Policy, model_id: str) -> None:
    """The model becomes the policy's only target; what it chose from before is asked when that one cannot serve."""
    registry = snapshot.refresh()
    _refuse_what_cannot_serve(row, model_id, registry)
    fallbacks = [name for name in dict.fromkeys(_names(row, registry)) if name != model_id]
    document = row.document | {"targets": [{"model": model_id}], "fallbacks": fallbacks}
    policy_actions.update(row, {"document": document}, note=f"{model_id} first, through the admin API")


def _names(row: Policy, registry: Snapshot) -> list[str]:
    found: list[str] = []
    for told in row.document.get("targets", []):
        target = Target(**told)
        if target.kind:
            found += [name for name in nodes.of_kind(target.kind, registry) if name != row.name]
        else:
            found.append(f"{target.provider}/{target.model}" if target.provider else target.model)
    return [*found, *row.document.get("fallbacks", [])]


def _refuse_what_cannot_serve(row: Policy, model_id: str, registry: Snapshot) -> None:
    """A model that the policy's own requirements keep out would never be asked: that takes an override."""
    policy = registry.policies.get(model_id)
    models = [target.model for target in policy.active.targets] if policy else list(registry.by_name.get(model_id, ()))
    reasons: dict[str, str] = {}
    for operation in OPERATIONS:
        asked = demanded(RequestFacts(model=row.name, operation=operation), registry, now=time.time())
        if asked is None:
            return
        refused = {model.route: refusal(model, asked) for model in models}
        if not all(refused.values()):
            return
        reasons = reasons or {route: dropped.detail for route, dropped in refused.items() if dropped is not None}
    told = "; ".join(f"{route}: {detail}" for route, detail in reasons.items())
    raise RequirementsNotMet(
        f"{row.name} demands more than {model_id} has: {told}. An override would serve all the same."
    )


class Reload(AdminGatewayView):
    @extend_schema(request=None, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request) -> Response:
        """Read the configuration files again and apply what they say now; nothing is restarted."""
        results = configuration.reload_files()
        failed = [result for result in results if result.error]
        said = f"{len(results) - len(failed)} of {len(results)} configuration files applied"
        return Response(
            {
                "success": not failed,
                "message": "; ".join([said, *(result.error for result in failed)]),
                "files": [_file(result) for result in results],
                "reloaded_by": by(),
                "timestamp": timestamp(),
            }
        )


def _file(result: configuration.Result) -> dict[str, Any]:
    """What became of a file; an entry that was left out blocked nothing else."""
    applied = result.applied
    return {
        "path": result.path,
        "error": result.error,
        "changes": len(applied.changes) if applied is not None else 0,
        "findings": [
            {
                "code": finding.code.name,
                "place": finding.key,
                "detail": finding.detail,
                "level": finding.code.level.value,
            }
            for finding in (applied.findings if applied is not None else ())
        ],
    }
