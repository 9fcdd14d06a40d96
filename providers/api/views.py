"""`/providers…` as the source systems' clients call it, and `/api/providers…` in the backoffice's shape.

The two differ in status codes, in the body of a revealed key and in whether a body may contradict its path; each view has
`backoffice` for that. Rules live in `providers.actions`.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import Http404
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from providers import actions, discovery, holding, offers, ownership, placeholders, probes, unread_secrets
from providers.api.serializers import (
    DeletedOut,
    KeyBody,
    KeyCreated,
    KeyOut,
    KeyValueOut,
    ModelAloneOut,
    ModelBody,
    ModelDeletedOut,
    ParameterAloneOut,
    ParameterBody,
    ProviderBody,
    ProviderChanges,
    ProviderCreated,
    ProviderOut,
    SyncOut,
    TestOut,
    warnings_of,
)
from providers.models import ApiKey, ProbeResult, Provider, ProviderModel
from providers.resources import asked
from providers.secrets import Secret

READ, WRITE, SECRETS = "registry:read", "registry:write", "secrets:read"


class RegistryView(APIView):
    """What the views share: finding rows by the path, and the two shapes."""

    backoffice = False
    required_scopes = {"GET": READ, "POST": WRITE, "PUT": WRITE, "PATCH": WRITE, "DELETE": WRITE}

    def provider(self) -> Provider:
        return self.found(Provider.objects.all(), provider_id=self.kwargs["provider_id"])

    def found(self, rows: Any, **conditions: Any) -> Any:
        row = rows.filter(**conditions).first()
        if row is None:
            raise Http404(f"No {rows.model._meta.verbose_name} is named {' '.join(map(str, self.kwargs.values()))!r}.")
        return row

    def read(self, body: type[serializers.Serializer], *, partial: bool = False) -> dict[str, Any]:
        """The validated body. Ids that it repeats from the path must agree, except in the backoffice's shape."""
        data = self.request.data
        if isinstance(data, dict):
            data = data | {name: value for name, value in self.kwargs.items() if name in body().fields}
        serializer = body(data=data, partial=partial, context={"request": self.request})
        serializer.is_valid(raise_exception=True)
        self.check_path_agrees()
        return dict(serializer.validated_data)

    def check_path_agrees(self) -> None:
        if self.backoffice:
            return
        for name in ("provider_id", "model_id"):
            told = self.request.data.get(name)
            if name in self.kwargs and told is not None and told != self.kwargs[name]:
                raise serializers.ValidationError({name: f"The path says {self.kwargs[name]!r}, the body {told!r}."})

    def created(self, data: Any, *, seed_status: int = 201) -> Response:
        return Response(data, status=201 if self.backoffice else seed_status)

    def deleted(self, message: str, **ids: str) -> Response:
        return Response(status=204) if self.backoffice else Response(ids | {"message": message})


class ProvidersView(RegistryView):
    @extend_schema(responses=ProviderOut(many=True))
    def get(self, request: Request) -> Response:
        """All providers with their models and parameters; no secret is among them."""
        return Response(ProviderOut(_with_parts(), many=True).data)

    @extend_schema(request=ProviderBody, responses={201: ProviderCreated})
    def post(self, request: Request) -> Response:
        """Create a provider with its models, parameters and keys: all of them, or none when one is wrong."""
        facts = self.read(ProviderBody)
        models = facts.pop("models", [])
        parameters = facts.pop("connection_parameters", [])
        keys = [*([facts["api_key"]] if facts.get("api_key") else []), *facts.pop("api_keys", [])]
        facts.pop("api_key", None)
        provider = actions.create_provider(
            facts, models=models, parameters=parameters, keys=[_key(key) for key in keys]
        )
        shown = ProviderCreated(_with_parts().get(pk=provider.pk)).data
        told = [*(placeholders.warning(key["key_value"]) for key in keys), *unread_secrets.of_provider(provider)]
        return self.created(shown | warnings_of(told))


class ProviderView(RegistryView):
    @extend_schema(responses=ProviderOut)
    def get(self, request: Request, provider_id: str) -> Response:
        return Response(ProviderOut(self.found(_with_parts(), provider_id=provider_id)).data)

    @extend_schema(request=ProviderChanges, responses=ProviderCreated)
    def put(self, request: Request, provider_id: str) -> Response:
        """Change what the body names and leave the rest. Secrets of connection_params that it leaves out are kept.

        Without the scope secrets:read, another address holds back the keys that are stored; the answer's `warnings` say so,
        and which secrets this process cannot read now.
        """
        provider = self.provider()
        ownership.refuse_if_owned(provider)
        provider = actions.update_provider(provider, self.read(ProviderChanges, partial=True))
        shown = ProviderOut(_with_parts().get(pk=provider.pk)).data
        told = [holding.warning(provider.api_keys.all()), *unread_secrets.of_provider(provider)]
        return Response(shown | warnings_of(told))

    @extend_schema(request=ProviderChanges, responses=ProviderCreated)
    def patch(self, request: Request, provider_id: str) -> Response:
        """The same as PUT."""
        return self.put(request, provider_id)

    @extend_schema(responses={200: DeletedOut})
    def delete(self, request: Request, provider_id: str) -> Response:
        provider = self.provider()
        ownership.refuse_removal_if_owned(provider)
        provider.delete()
        return self.deleted(f"Provider {provider_id} was deleted.", provider_id=provider_id)


class ModelsView(RegistryView):
    @extend_schema(responses=ModelAloneOut(many=True))
    def get(self, request: Request, provider_id: str) -> Response:
        return Response(ModelAloneOut(self.provider().models.select_related("provider"), many=True).data)

    @extend_schema(request=ModelBody, responses={201: ModelAloneOut})
    def post(self, request: Request, provider_id: str) -> Response:
        model = actions.add_model(self.provider(), self.read(ModelBody))
        return self.created(ModelAloneOut(model).data)


class ModelView(RegistryView):
    """One model. Its id may hold slashes, colons and any script, written as they are or percent-encoded."""

    def model(self) -> ProviderModel:
        models = ProviderModel.objects.select_related("provider")
        return self.found(models, provider__provider_id=self.kwargs["provider_id"], model_id=self.kwargs["model_id"])

    @extend_schema(responses=ModelAloneOut)
    def get(self, request: Request, provider_id: str, model_id: str) -> Response:
        return Response(ModelAloneOut(self.model()).data)

    @extend_schema(request=ModelBody, responses=ModelAloneOut)
    def put(self, request: Request, provider_id: str, model_id: str) -> Response:
        """Change what the body names and leave the rest."""
        model = self.model()
        ownership.refuse_if_owned(model)
        return Response(ModelAloneOut(actions.update_model(model, self.read(ModelBody, partial=True))).data)

    @extend_schema(request=ModelBody, responses=ModelAloneOut)
    def patch(self, request: Request, provider_id: str, model_id: str) -> Response:
        """The same as PUT."""
        return self.put(request, provider_id, model_id)

    @extend_schema(responses={200: ModelDeletedOut})
    def delete(self, request: Request, provider_id: str, model_id: str) -> Response:
        model = self.model()
        ownership.refuse_removal_if_owned(model)
        model.delete()
        return self.deleted(f"Model {model_id} was deleted.", provider_id=provider_id, model_id=model_id)


class KeysView(RegistryView):
    @extend_schema(responses=KeyOut(many=True))
    def get(self, request: Request, provider_id: str) -> Response:
        """The provider's keys without their values."""
        return Response(KeyOut(self.provider().api_keys.select_related("provider"), many=True).data)

    @extend_schema(request=KeyBody, responses={200: KeyCreated})
    def post(self, request: Request, provider_id: str) -> Response:
        """Store a key, encrypted. The answer does not repeat it."""
        body = self.read(KeyBody)
        key = actions.add_key(self.provider(), _key(body))
        told = [placeholders.warning(body["key_value"]), *unread_secrets.of_key(key)]
        return self.created(KeyCreated(key).data | warnings_of(told), seed_status=200)


class KeyView(RegistryView):
    @extend_schema(responses={200: DeletedOut})
    def delete(self, request: Request, provider_id: str, key_id: int) -> Response:
        _key_of(self).delete()
        return self.deleted(f"API key {key_id} was deleted.", provider_id=provider_id)


class KeyValueView(RegistryView):
    required_scopes = {"GET": SECRETS}

    @extend_schema(responses=KeyValueOut)
    def get(self, request: Request, provider_id: str, key_id: int) -> Response:
        """The key itself. Needs the scope secrets:read and leaves an audit entry."""
        value = actions.reveal_key(_key_of(self)).reveal()
        shown = {"key_value": value}
        if not self.backoffice:
            shown = {"key_id": int(key_id), "provider_id": provider_id, "key_value": value}
        return Response(shown, headers={"Cache-Control": "no-store"})


class ParametersView(RegistryView):
    @extend_schema(
        parameters=[
            OpenApiParameter("include_sensitive", bool, description="Needs the scope secrets:read; audited."),
            OpenApiParameter("environment", str, description="Whose values; the gateway's own by default."),
        ],
        responses={200: OpenApiTypes.OBJECT},
    )
    def get(self, request: Request, provider_id: str) -> Response:
        """Name to value, for one environment."""
        sensitive = asked(request, "include_sensitive")
        if sensitive and not request.auth.may(SECRETS):
            raise PermissionDenied(f"This key lacks the scope {SECRETS}.")
        environment = request.query_params.get("environment") or settings.GATEWAY_ENVIRONMENT
        rows = self.provider().parameters.filter(environment=environment).select_related("provider")
        if sensitive:
            return Response(actions.reveal_parameters(rows), headers={"Cache-Control": "no-store"})
        return Response({row.param_name: row.plain_value for row in rows if not row.is_sensitive})

    @extend_schema(request=ParameterBody, responses={200: ParameterAloneOut})
    def post(self, request: Request, provider_id: str) -> Response:
        """Create the parameter, or replace the one of that name and environment."""
        provider, body = self.provider(), self.read(ParameterBody)
        parameter = actions.set_parameter(
            provider,
            body["param_name"],
            body["param_value"],
            environment=body.get("environment", "development"),
            is_sensitive=body.get("is_sensitive"),
        )
        return self.created(ParameterAloneOut(parameter).data, seed_status=200)


class TestView(RegistryView):
    @extend_schema(
        request=None,
        parameters=[
            OpenApiParameter(
                "generate", bool, description="Ask a model for a token, which may be billed; default true."
            )
        ],
        responses=TestOut,
    )
    def post(self, request: Request, provider_id: str) -> Response:
        """Probe the provider now: reach it, show it the key, list its models, have an enabled model answer."""
        generate = asked(request, "generate", default=True)
        return Response(_tested(provider_id, probes.probe(self.provider(), trigger="api", generate=generate)))


class SyncView(RegistryView):
    @extend_schema(
        request=None,
        parameters=[
            OpenApiParameter(
                "refresh",
                str,
                many=True,
                description="Models of `retold` whose rows are to say what is told of them now.",
            )
        ],
        responses=SyncOut,
    )
    def post(self, request: Request, provider_id: str) -> Response:
        """Have every process read the registry again, and compare the upstream's list of models with ours.

        Of a provider whose models come and go, ours is made to follow. What the upstream says otherwise of models that stay is
        told under `retold`, each field before and after, and taken for those that `refresh` names. A name that the upstream does
        not list, or the registry does not hold, is refused and nothing is taken.
        """
        provider = self.provider()
        revision = actions.refresh()
        answer: dict[str, Any] = {"provider_id": provider_id, "message": f"The registry is at revision {revision}."}
        try:
            offered = discovery.offered(provider)
            difference = discovery.compare(provider, offered)
            wanted = request.query_params.getlist("refresh")
            if why := difference.why_not_refreshed(wanted):
                raise serializers.ValidationError({"refresh": why})
            if offers.follows(provider):
                offers.take(provider, offered)
            retold = [one for one in difference.retold if one.row.model_id in wanted]
            refreshed = discovery.apply(provider, refresh=retold).refreshed if retold else ()
        except discovery.DiscoveryFailed as error:
            answer["message"] += f" The upstream's models could not be listed: {error}"
            return Response(answer)
        answer |= {
            "new": [offer.model_id for offer in difference.new],
            "gone": [row.model_id for row in difference.gone],
            "unchanged": [row.model_id for row in difference.unchanged],
        }
        if difference.retold:
            answer["retold"] = [
                {"model_id": one.row.model_id, "fields": {name: list(values) for name, values in one.fields.items()}}
                for one in difference.retold
            ]
        if refreshed:
            answer["refreshed"] = list(refreshed)
        counts = ", ".join(f"{len(answer[kind])} {kind}" for kind in ("new", "gone", "unchanged"))
        answer["message"] += f" Of the upstream's models: {counts}."
        return Response(answer)


def _with_parts() -> Any:
    return Provider.objects.prefetch_related("models", "parameters").defer("secret_params")


def _key_of(view: RegistryView) -> ApiKey:
    """The key of the path, if it belongs to the provider of the path."""
    keys = ApiKey.objects.select_related("provider")
    return view.found(keys, pk=view.kwargs["key_id"], provider__provider_id=view.kwargs["provider_id"])


def _key(body: dict[str, Any]) -> dict[str, Any]:
    facts = {name: value for name, value in body.items() if name not in {"key_value", "is_encrypted"}}
    return facts | {"secret": Secret(body["key_value"])}


def _tested(provider_id: str, result: ProbeResult) -> dict[str, Any]:
    generated = next((stage for stage in result.stages if stage["name"] == "one_token"), None)
    answer: dict[str, Any] = {
        "success": result.healthy,
        "message": "The connection works." if result.healthy else "The connection does not work.",
        "provider_id": provider_id,
        "model_tested": result.model_tested or None,
        "duration_ms": result.duration_ms,
    }
    if not result.healthy:
        return answer | {"error": result.message}
    if generated is not None and generated["status"] == "ok":
        return answer | {"response": generated["message"]}
    reason = generated["message"] if generated else ""
    return answer | {"message": f"The connection works; no model was asked: {reason}", "response": ""}
