"""What the pages of policies do, as commands and requests to copy. No secret stands in them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _

from routing.models import Policy

Twins = list[tuple[str, str]]
_KEY = '-H "Authorization: Bearer $ADMIN_KEY"'


def of_all() -> Twins:
    return [
        (_("All policies"), get("/api/v1/policies")),
        (_("In a terminal"), "manage.py policies    # --json for programs"),
        (_("What is wrong with them"), "manage.py validate_policies"),
        (_("The same over REST"), get("/api/admin/gateway/validate")),
    ]


def of_one(row: Policy | None) -> Twins:
    if row is None:
        body = {"name": "writer", "document": {"targets": ["gpt-4o"]}, "note": "why"}
        return [
            (_("Create it"), send("POST", "/api/v1/policies", body)),
            (_("In a terminal"), "manage.py policies writer --create --document writer.yaml --note why"),
        ]
    own, name, before = f"/api/v1/policies/{row.pk}", shlex.quote(row.name), max(1, row.version - 1)
    return [
        (_("This policy"), get(own)),
        (_("In a terminal"), f"manage.py policies {name}    # --versions, --json"),
        (_("Change it"), send("PATCH", own, {"document": row.document, "note": "why"})),
        (_("In a terminal"), f"manage.py policies {name} --document FILE --note why"),
        (_("What the last version changed"), get(f"{own}/diff")),
        (_("Restore a version"), send("POST", f"{own}/restore", {"version": before, "note": "why"})),
        (_("In a terminal"), f"manage.py policies {name} --restore {before} --note why"),
        *of_override(row.name),
        (_("Forget cached answers"), f'curl -X POST "$GATEWAY{own}/forget-cached" {_KEY}'),
        (_("In a terminal"), f"manage.py policies {name} --forget-cached"),
    ]


def of_override(name: str) -> Twins:
    body = {"policy": name, "target": "MODEL", "ttl_seconds": 3600, "reason": "why"}
    quoted = shlex.quote(name)
    return [
        (_("Override it"), send("POST", "/api/v1/overrides", body)),
        (_("In a terminal"), f"manage.py policies {quoted} --override MODEL --for 3600 --note why    # --no-override"),
    ]


def of_settings() -> Twins:
    return [
        (_("Read them"), get("/api/v1/routing-settings")),
        (_("Change them"), send("PATCH", "/api/v1/routing-settings", {"default_policy": "default"})),
        (_("In a file, with a difference before"), "manage.py apply_config gateway.yaml    # section routing; --apply"),
    ]


def get(url: str) -> str:
    return f'curl "$GATEWAY{url}" {_KEY}'


def send(method: str, url: str, body: Mapping[str, Any]) -> str:
    told = shlex.quote(json.dumps(body, ensure_ascii=False))
    return f'curl -X {method} "$GATEWAY{url}" {_KEY} \\\n  -H "Content-Type: application/json" -d {told}'
