"""What the playground's scripts say, in the reader's language."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _


def texts() -> dict[str, Any]:
    return {
        "model": _("Model, policy, task or node"),
        "choose": _("Choose a model…"),
        "choose_first": _("Choose a model for each column."),
        "no_name": _("No name like this may be asked for with the chosen key."),
        "more": _("%s more match: type on to find them."),
        "key": _("Ask as"),
        "keys": _("Client keys"),
        "yours": _("Yours"),
        "own": _("Myself"),
        "own_means": _("A key of your own, made when you first ask."),
        "no_key": _("No client key like this."),
        "remove": _("Remove this column"),
        "conversation": _("Conversation"),
        "unasked": _("Not asked here."),
        "ask_now": _("Ask now"),
        "empty": _("Ask anything. Every answer shows who served it, why, how fast and for how much."),
        "empty_other": _("The same question goes here, too."),
        "ideas": [
            _("Explain in three sentences what an LLM gateway does."),
            _("Write a haiku about load balancing."),
            _("Give me a table of three sorting algorithms with their costs."),
        ],
        "send": _("Send"),
        "stop": _("Stop"),
        "attach": _("Attach pictures"),
        "blind": _("Not every chosen model is declared to read pictures."),
        "picture": _("Picture %s"),
        "remove_picture": _("Remove the picture"),
        "picture_kind": _("%s is no PNG, JPEG, GIF or WebP picture."),
        "picture_size": _("%s is larger than 8 MB."),
        "picture_count": _("At most %s pictures fit one question."),
        "edit": _("Edit and send again"),
        "editing": _("You are editing an earlier question: what follows it is asked anew."),
        "cancel": _("Cancel"),
        "copy": _("Copy"),
        "copied": _("Copied"),
        "copy_answer": _("Copy the answer"),
        "code": _("Show as code"),
        "code_means": _("Exactly this request, to be sent with a client key of yours in GATEWAY_API_KEY."),
        "close": _("Close"),
        "regenerate": _("Ask once more"),
        "decision": _("Why this one?"),
        "thoughts": _("Reasoning"),
        "tool": _("Tool"),
        "waiting": _("Waiting for the first token"),
        "stopped": _("You stopped this answer. What was made until then is counted."),
        "length": _("Cut off: the answer reached its largest length. Raise “Max tokens” for more."),
        "filtered": _("The provider's content filter ended this answer."),
        "cut": _("The connection broke before the answer was complete."),
        "away": _("The gateway did not answer, or your session is over: load the page again."),
        "retry_after": _("Try again in %s s."),
        "first_token": _("First token"),
        "total": _("Total"),
        "pace": _("Tokens/s"),
        "tokens": _("Tokens"),
        "cached": _("Cached"),
        "reasoning": _("Reasoning"),
        "cost": _("Cost"),
        "best": _("the best of these"),
        "unpriced": _("price unknown"),
        "served_by": _("Served by"),
        "fallback": _("fallback"),
        "fallback_means": _("The first choice did not answer; this is the next one."),
        "tries": _("%s tries"),
        "estimated": _("estimated"),
        "estimated_means": _("The provider did not say what was used; the tokens are counted by what was seen."),
        "open_request": _("All that is recorded of this request"),
        "no_json": _("This is not JSON:"),
        "no_object": _("A JSON object is needed."),
        "no_list": _("A JSON array of tools is needed."),
        "hints": _hints(),
    }


def _hints() -> dict[str, str]:
    """What can be done, by the code of an error or by its status."""
    return {
        "model_not_found": _("The chosen key may not ask for this name, or nothing has it. Choose another one."),
        "invalid_api_key": _("The chosen client key lets nobody in. Choose another one."),
        "expired_api_key": _("The key or its permit is over. Send again; if that does not help, choose another key."),
        "ip_not_authorized": _("This client key may be used from some addresses only, and yours is none of them."),
        "insufficient_scope": _("This client key lacks the scope “generate”."),
        "rate_limit_exceeded": _("A limit of the key, its team, the model or the provider is reached."),
        "insufficient_quota": _(
            "A budget of the key, its team or the gateway is used up. It can be raised under Budgets."
        ),
        "budget_exceeded": _(
            "A budget of the key, its team or the gateway is used up. It can be raised under Budgets."
        ),
        "context_length_exceeded": _("Clear the conversation, or choose a model with a larger context."),
        "unsupported_capability": _("No model behind this name can do what the request demands."),
        "upstream_auth_failed": _("The provider refused our key: see the provider's keys."),
        "upstream_unreachable": _("The provider cannot be reached: test its connection."),
        "upstream_timeout": _("The provider took too long."),
        "provider_misconfigured": _("The provider's connection is incomplete: see its page."),
        "model_unavailable": _("The local model cannot be loaded: see Jobs and the worker's log."),
        "no_healthy_target": _("What could serve this is out of service: Health tells why, and since when."),
        "overloaded": _("The gateway has no room for more requests at the moment."),
        "unreachable": _("Load the page again; the conversation stays in this tab."),
        "not_your_key": _("Choose a client key of yours."),
        "stream_cut": _("What came until then is above; ask once more."),
        "invalid_request": _("See the parameters at the side."),
        "502": _("Every provider that could serve this failed: “Why this one?” tells which were tried."),
        "503": _("Nothing could serve this at the moment."),
    }
