"""The words for how a request ended, and whose fault each failure is: one closed vocabulary for metrics, traces and alerts.

`ok`, `client_disconnected` and `cancelled` aside, every word is the `code` of a `GatewayError`, but for two: a rejection's code is
the upstream's own text and counts as `upstream_rejected`, and a provider's limit, which has the same code as one of ours, as
`upstream_rate_limited`.
"""

from __future__ import annotations

CALLER, POLICY, PROVIDER, GATEWAY = "caller", "policy", "provider", "gateway"
"""The request itself; a rule that somebody set here; whoever was asked; we."""

OK = "ok"
UPSTREAM_RATE_LIMITED = "upstream_rate_limited"
UNNAMED = "other"
"""What a label says of a word that is none of these."""

OWNERS: dict[str, str] = {
    **dict.fromkeys(
        (
            "body_too_large",
            "cancelled",
            "client_disconnected",
            "client_too_slow",
            "context_length_exceeded",
            "expired_api_key",
            "file_storage_full",
            "idempotency_answer_not_kept",
            "idempotency_in_progress",
            "idempotency_key_reused",
            "insufficient_scope",
            "invalid_api_key",
            "invalid_idempotency_key",
            "invalid_request",
            "method_not_allowed",
            "missing_api_key",
            "model_not_found",
            "not_found",
            "not_implemented",
            "permission_denied",
            "previous_response_not_found",
            "previous_response_not_over",
            "request_timeout",
            "request_too_large",
            "responses_not_kept",
            "unknown_url",
            "unsupported_capability",
            "upstream_rejected",
        ),
        CALLER,
    ),
    **dict.fromkeys(
        (
            "address_not_allowed",
            "budget_exceeded",
            "concurrency_limit_exceeded",
            "data_not_allowed",
            "insufficient_quota",
            "max_cost_exceeded",
            "not_local",
            "price_unknown",
            "rate_limit_exceeded",
            "team_disabled",
        ),
        POLICY,
    ),
    **dict.fromkeys(
        (
            "answer_incomplete",
            "engine_error",
            "model_unavailable",
            "no_healthy_target",
            "out_of_memory",
            "provider_misconfigured",
            "scripted",
            "upstream_auth_failed",
            "upstream_broken",
            "upstream_error",
            UPSTREAM_RATE_LIMITED,
            "upstream_timeout",
            "upstream_unreachable",
            "worker_lost",
        ),
        PROVIDER,
    ),
    **dict.fromkeys(
        (
            "budget_store_unavailable",
            "gateway_stopping",
            "idempotency_unavailable",
            "internal_error",
            "ledger_unavailable",
            "loop_detected",
            "no_worker",
            "overloaded",
            "relay_unavailable",
            "responses_unavailable",
            "spool_full",
            "workers_busy",
        ),
        GATEWAY,
    ),
}


def owner_of(code: str, status: int = 0) -> str:
    """Whose fault a failure is; empty for none. A code that is the upstream's own text is judged by its status."""
    if not code or code == OK:
        return ""
    return OWNERS.get(code) or (CALLER if 400 <= status < 500 else PROVIDER)


def label_of(outcome: str) -> str:
    """The word as a label may say it."""
    return outcome if outcome == OK or outcome in OWNERS else UNNAMED
