"""The same without the page: requests and commands for what can be done to a provider."""

from __future__ import annotations

from django.http import HttpRequest
from django.utils.translation import gettext as _

from providers.models import Provider

_KEY = 'curl -H "Authorization: Bearer $GATEWAY_KEY"'


def twins_of(provider: Provider, request: HttpRequest) -> list[tuple[str, str]]:
    base = request.build_absolute_uri("/").rstrip("/")
    name = provider.provider_id
    one = f"{base}/api/v1/providers/{name}"
    body = '-H "Content-Type: application/json"'
    return [
        (_("How it stands"), f"python manage.py providers show {name}\n{_KEY} {one}"),
        (
            _("Test its connection"),
            f"python manage.py providers test {name}\n{_KEY} -X POST {base}/providers/{name}/test",
        ),
        (
            _("Compare its models with what it lists"),
            f"python manage.py providers discover {name} --add-all\n{_KEY} -X POST {base}/providers/{name}/sync",
        ),
        (
            _("Switch it off, or on"),
            f'python manage.py providers disable {name} --reason "maintenance"\n'
            f"{_KEY} -X PATCH {body} -d '{{\"enabled\": false}}' {one}",
        ),
        (
            _("Reset its circuit breakers"),
            f"python manage.py providers reset-breaker {name}\n"
            f'{_KEY} -X POST {body} -d \'{{"provider_id": "{name}"}}\' {base}/api/v1/breakers/reset',
        ),
        (
            _("Add a key"),
            f'{_KEY} -X POST {body} \\\n  -d \'{{"provider_id": "{name}", "secret": "env:NAME_API_KEY"}}\' {base}/api/v1/api-keys',
        ),
    ]


def twins_of_all(request: HttpRequest) -> list[tuple[str, str]]:
    base = request.build_absolute_uri("/").rstrip("/")
    return [
        (_("All providers"), f"python manage.py providers list\n{_KEY} {base}/api/v1/providers"),
        (_("Test all of them"), "python manage.py providers test --all"),
        (
            _("Add one"),
            f'{_KEY} -X POST -H "Content-Type: application/json" \\\n'
            f'  -d \'{{"provider_id": "groq", "provider_type": "groq"}}\' {base}/api/v1/providers',
        ),
        (_("All of it as a file"), "python manage.py export_config > registry.yaml"),
    ]
