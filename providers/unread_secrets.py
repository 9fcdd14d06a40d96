"""What is said of secrets that are stored and that this process cannot read now. They are kept all the same: a variable may be
set at the next start, or only where a worker runs."""

from __future__ import annotations

from django.utils import timezone

from providers import upstream
from providers.models import ApiKey, Provider

_WHAT_MENDS_IT = "Mend that where the gateway and its workers run, or enter the secret itself."


def of_provider(provider: Provider) -> list[str]:
    """Sentences that name variables and files, never what they hold."""
    try:
        notes = upstream.load(provider).notes
    except upstream.UnusableProvider:
        return []  # which says more than a secret
    return [_sentence(note) for note in notes]


def of_key(key: ApiKey) -> list[str]:
    """The same of one key, if it would be used but for that."""
    usable = ApiKey.objects.filter(ApiKey.usable(timezone.now()), pk=key.pk).exists()
    why = upstream.why_unreadable(key) if usable else ""
    return [_sentence(f"key {key.pk} is left out: {why}")] if why else []


def _sentence(note: str) -> str:
    return f"Saved, but not in use yet: {note}. {_WHAT_MENDS_IT}"
