"""Bodies of the generating endpoints: `LLMRequest` and `LLMResponse` of the source systems, the backoffice's flat form, jobs."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from inference.client import LLMRequest
from inference.errors import InvalidRequest
from inference.models import Job


class ConfigIn(serializers.Serializer):
    """Members beyond these go to the model as they are; `provider_id` pins one provider."""

    model_identifier = serializers.CharField(max_length=600, required=False, help_text="Or say `heavy`.")
    provider_id = serializers.CharField(max_length=255, required=False, allow_null=True)
    temperature = serializers.FloatField(min_value=0, max_value=2, required=False, allow_null=True)
    max_tokens = serializers.IntegerField(min_value=1, required=False, allow_null=True)
    top_p = serializers.FloatField(min_value=0, max_value=1, required=False, allow_null=True)
    stop_sequences = serializers.ListField(child=serializers.CharField(), required=False, allow_null=True)
    presence_penalty = serializers.FloatField(min_value=-2, max_value=2, required=False, allow_null=True)
    frequency_penalty = serializers.FloatField(min_value=-2, max_value=2, required=False, allow_null=True)
    timeout_seconds = serializers.FloatField(min_value=0.001, required=False, allow_null=True)
    system_prompt = serializers.CharField(required=False, allow_null=True, allow_blank=True)


class LLMRequestIn(serializers.Serializer):
    version = serializers.CharField(default="1.0", max_length=16)
    prompt_content = serializers.JSONField(help_text="A text, or a list of content items.")
    config = ConfigIn()
    heavy = serializers.BooleanField(
        required=False,
        allow_null=True,
        help_text="true asks for the policy heavy, false for light, in place of a model.",
    )
    initial_context = serializers.DictField(
        required=False,
        allow_null=True,
        help_text="request_id, session_id, conversation_history and what else you track.",
    )
    stream = serializers.BooleanField(default=False)
    tools = serializers.ListField(child=serializers.DictField(), required=False, allow_null=True)
    extensions = serializers.DictField(required=False, allow_null=True)

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """Checked, and as it was sent: what is not known here must reach the model."""
        super().to_internal_value(data)
        try:
            LLMRequest.from_dict(data).chat_body()
        except InvalidRequest as error:
            raise serializers.ValidationError({error.param or "": error.message}) from None
        return dict(data)


class UsageOut(serializers.Serializer):
    prompt_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField()
    total_tokens = serializers.IntegerField()


class ErrorDetailsOut(serializers.Serializer):
    code = serializers.CharField()
    message = serializers.CharField()
    level = serializers.CharField()
    retryable = serializers.BooleanField()
    retry_after_seconds = serializers.IntegerField(allow_null=True)


class PerformanceOut(serializers.Serializer):
    """Milliseconds. The total is the model's time and the gateway's own."""

    total_duration_ms = serializers.FloatField()
    llm_latency_ms = serializers.FloatField()
    gateway_overhead_ms = serializers.FloatField()


class LLMResponseOut(serializers.Serializer):
    version = serializers.CharField()
    request_id = serializers.CharField()
    generated_content = serializers.JSONField(allow_null=True)
    finish_reason = serializers.CharField(help_text="stop, length, tool_calls, content_filtered, error or unknown.")
    tool_use_requests = serializers.ListField(child=serializers.DictField(), allow_null=True)
    usage = UsageOut(allow_null=True)
    error_details = ErrorDetailsOut(allow_null=True)
    performance_metrics = PerformanceOut(allow_null=True)
    provider_id = serializers.CharField()
    model_id = serializers.CharField()


class BackofficeGenerateIn(serializers.Serializer):
    prompt = serializers.CharField(trim_whitespace=False)
    model = serializers.CharField(max_length=600)
    provider_id = serializers.CharField(max_length=255, required=False, allow_null=True)
    temperature = serializers.FloatField(min_value=0, max_value=2, required=False, allow_null=True)
    max_tokens = serializers.IntegerField(min_value=1, required=False, allow_null=True)
    system_prompt = serializers.CharField(required=False, allow_null=True, allow_blank=True)
    stream = serializers.BooleanField(default=False)


class BackofficeGenerateOut(serializers.Serializer):
    request_id = serializers.CharField()
    content = serializers.CharField()
    model = serializers.CharField()
    provider_id = serializers.CharField()
    finish_reason = serializers.CharField()
    prompt_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField()
    total_tokens = serializers.IntegerField()
    latency_ms = serializers.FloatField()
    created_at = serializers.DateTimeField()


class JobOut(serializers.ModelSerializer):
    """`result` is an LLMResponse once the state is succeeded, `error` says why it is failed."""

    links = serializers.SerializerMethodField()

    class Meta:
        model = Job
        fields = [
            "id",
            "state",
            "model",
            "provider_id",
            "attempts",
            "cancel_requested",
            "created_at",
            "started_at",
            "finished_at",
            "result",
            "error",
            "links",
        ]
        read_only_fields = fields

    def get_links(self, job: Job) -> dict[str, str]:
        path = f"/api/v1/jobs/{job.pk}"
        return {"self": path, "events": f"{path}/events", "cancel": f"{path}/cancel"}
