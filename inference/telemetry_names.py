"""The names that OpenTelemetry's conventions for generative AI give to things. Pure.

The conventions are still "in development" and have moved twice; these are those of the repository `semantic-conventions-genai` in
2026, written out here because the constants in Python's packages are of an older state. Nothing else in the gateway spells them.
"""

from __future__ import annotations

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_STREAM = "gen_ai.request.stream"
REQUEST_MAX_TOKENS = "gen_ai.request.max_tokens"
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"
CONVERSATION = "gen_ai.conversation.id"
KIND_OF_TOKENS = "gen_ai.token.type"
ERROR_TYPE = "error.type"
HTTP_STATUS = "http.response.status_code"

OPERATIONS = {"chat": "chat", "completions": "text_completion", "embeddings": "embeddings"}
"""Ours to theirs."""

PROVIDERS = {
    "anthropic": "anthropic",
    "azure": "azure.ai.openai",
    "azure_openai": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "cohere": "cohere",
    "deepseek": "deepseek",
    "gemini": "gcp.gemini",
    "google": "gcp.gemini",
    "groq": "groq",
    "mistral": "mistral_ai",
    "moonshot": "moonshot_ai",
    "openai": "openai",
    "perplexity": "perplexity",
    "vertex": "gcp.vertex_ai",
    "vertex_ai": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}
"""Provider types to theirs; one that the conventions do not know keeps its own name, as they say."""

REQUEST_ID = "gateway.request_id"
POLICY = "gateway.policy"
TEAM = "gateway.team_id"
CLIENT_KEY = "gateway.client_key.prefix"
OWNER = "gateway.error.owner"
ATTEMPT = "gateway.attempt"
ATTEMPT_REASON = "gateway.attempt.reason"
COST = "gateway.cost_usd"
OVERHEAD = "gateway.overhead_seconds"
QUEUED = "gateway.queue_seconds"
PROVIDER_ID = "gateway.provider_id"
"""What the conventions have no name for is under our own."""

SERVER_DURATION = "gen_ai.server.request.duration"
SERVER_FIRST = "gen_ai.server.time_to_first_token"
CLIENT_DURATION = "gen_ai.client.operation.duration"
USAGE = "gen_ai.client.token.usage"

SECONDS = tuple(0.01 * 2**power for power in range(14))
"""0.01 to 81.92 s."""
FIRST_TOKEN_SECONDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
TOKENS = tuple(float(4**power) for power in range(14))
"""1 to 67,108,864."""


def provider_name(provider_type: str) -> str:
    return PROVIDERS.get(provider_type, provider_type)


def operation_name(operation: str) -> str:
    return OPERATIONS.get(operation, operation)
