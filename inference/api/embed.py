"""Embeddings in the shape of a source system: one text in, one vector out."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from inference import client
from inference.api.views import GeneratingView
from inference.errors import UpstreamBroken


class EmbedIn(serializers.Serializer):
    text = serializers.CharField(trim_whitespace=False, help_text="What to embed.")
    model = serializers.CharField(
        required=False, allow_blank=True, allow_null=True, max_length=600, help_text="Without one, that of the task."
    )


class EmbedOut(serializers.Serializer):
    embedding = serializers.ListField(child=serializers.FloatField())
    model = serializers.CharField()
    dimension = serializers.IntegerField()
    tokens_used = serializers.IntegerField()
    provider_id = serializers.CharField()


class EmbedView(GeneratingView):
    @extend_schema(request=EmbedIn, responses=EmbedOut)
    def post(self, request: Request) -> Response:
        """Embed one text. `/v1/embeddings` takes many, and base64."""
        told = self.read(EmbedIn)
        completion = client.complete(
            {
                "input": told["text"],
                "encoding_format": "float",
                **({"model": told["model"]} if told.get("model") else {}),
            },
            operation="embeddings",
            identity=request.auth,
        )
        embedding = _vector(completion.body)
        return Response(
            {
                "embedding": embedding,
                "model": completion.model_id,
                "dimension": len(embedding),
                "tokens_used": completion.usage.input_tokens,
                "provider_id": completion.provider_id,
            }
        )


def _vector(body: dict[str, Any]) -> list[float]:
    try:
        vector = body["data"][0]["embedding"]
    except (KeyError, IndexError, TypeError):
        vector = None
    if not isinstance(vector, list):
        raise UpstreamBroken("The provider's answer holds no embedding.")
    return vector
