"""The same as the admin's pages of client keys, by REST and by command."""

from __future__ import annotations

from django.http import HttpRequest
from django.utils.translation import gettext as _

from routing.models import ClientKey

_KEY = '-H "Authorization: Bearer $ADMIN_KEY"'
_JSON = '-H "Content-Type: application/json"'


def of_list(request: HttpRequest) -> list[tuple[str, str]]:
    base, http = request.build_absolute_uri("/api/v1/client-keys"), _("The same over HTTP")
    body = '{"name": "app", "scopes": ["generate"], "allowed_models": ["gpt-*"]}'
    return [
        (_("The client keys"), "python manage.py client_keys list"),
        (http, f"curl {_KEY} {base}"),
        (_("Create one"), "python manage.py client_keys create app --model 'gpt-*' --expires-days 90"),
        (http, f"curl -X POST {_KEY} {_JSON} \\\n  -d '{body}' {base}"),
    ]


def of_key(request: HttpRequest, key: ClientKey) -> list[tuple[str, str]]:
    base, http = request.build_absolute_uri(f"/api/v1/client-keys/{key.pk}"), _("The same over HTTP")
    return [
        (
            _("Rotate, the one before good for a day"),
            f"python manage.py client_keys rotate {key.prefix} --overlap-hours 24",
        ),
        (http, f"curl -X POST {_KEY} {_JSON} -d '{{\"overlap_seconds\": 86400}}' {base}/rotate"),
        (_("Suspend, and resume"), f"python manage.py client_keys suspend {key.prefix}"),
        (http, f"curl -X POST {_KEY} {base}/suspend"),
        (_("Revoke for good"), f'python manage.py client_keys revoke {key.prefix} --reason "It leaked"'),
        (http, f'curl -X POST {_KEY} {_JSON} -d \'{{"reason": "It leaked"}}\' {base}/revoke'),
        (
            _("What it has left, asked with the key itself"),
            f'curl -H "Authorization: Bearer $KEY" {request.build_absolute_uri("/api/v1/me")}',
        ),
    ]
