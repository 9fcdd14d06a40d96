"""System checks: what an operator should know before traffic comes."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import DatabaseError

from providers import keyring, price_rows, provider_types, rotation
from providers.models import Provider, ProviderModel
from providers.secrets import KeyringError
from routing import policy_checks, strategies
from routing.models import Rollout


@register(Tags.security)
def encryption_keys_are_readable(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    findings: list[CheckMessage] = []
    for number, read in (("E001", keyring.current), ("E002", keyring.peppers)):
        try:
            read()
        except (KeyringError, OSError) as error:
            findings.append(
                Error(
                    str(error),
                    hint="Run `manage.py create_keys`, or restore the file from your backup.",
                    id=f"gateway.{number}",
                )
            )
    return findings


@register(Tags.security)
def key_files_are_private(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    findings: list[CheckMessage] = []
    for path in (settings.ENCRYPTION_KEYS_FILE, settings.CLIENT_KEY_PEPPERS_FILE):
        if path.is_file() and path.stat().st_mode & 0o077:
            findings.append(Warning(f"{path} can be read by others.", hint=f"chmod 600 {path}", id="gateway.W003"))
    return findings


@register()
def provider_plugins_load(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    provider_types.registered()
    return [
        Warning(
            f"The provider type {name!r} cannot be used: {error}",
            hint="Mend or uninstall its package.",
            id="gateway.W004",
        )
        for name, error in provider_types.failures.items()
    ]


@register()
def strategy_plugins_load(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    strategies.registered()
    return [
        Warning(
            f"The routing strategy {name!r} cannot be used: {error}",
            hint="Mend or uninstall its package. Policies that name it are served by priority.",
            id="gateway.W009",
        )
        for name, error in strategies.failures.items()
    ]


@register(Tags.database)
def stored_provider_types_are_known(app_configs: Any, databases: Any = None, **kwargs: Any) -> list[CheckMessage]:
    try:
        stored = Provider.objects.order_by("provider_type").values_list("provider_type", flat=True).distinct()
        unknown = [name for name in stored if provider_types.find(name) is None]
    except DatabaseError:
        return []  # not migrated yet
    return [
        Warning(
            f"Providers of type {name!r} are stored, but no such type is registered.",
            hint="They serve nothing until it is.",
            id="gateway.W005",
        )
        for name in unknown
    ]


@register(Tags.database)
def stored_secrets_can_be_opened(app_configs: Any, databases: Any = None, **kwargs: Any) -> list[CheckMessage]:
    try:
        on_the_ring = set(keyring.current().key_ids)
        in_use = rotation.keys_in_use()
    except (DatabaseError, KeyringError, OSError):
        return []  # not migrated yet, or E001 says it
    return [
        Error(
            f"{count} stored secrets were encrypted with key {key_id!r}, which is not on the ring.",
            hint="Put that key back into the ring's file from your backup, or store those secrets anew.",
            id="gateway.E006",
        )
        for key_id, count in sorted(in_use.items())
        if key_id not in on_the_ring
    ]


@register(Tags.database)
def the_kill_switch_has_a_side_to_turn_to(app_configs: Any, databases: Any = None, **kwargs: Any) -> list[CheckMessage]:
    if settings.GATEWAY_V2_ENABLED:
        return []
    try:
        if Rollout.load().legacy_base_url:
            return []
    except DatabaseError:
        return []
    return [
        Warning(
            "GATEWAY_V2_ENABLED is false, but no legacy side is named: the gateway serves everything all the same.",
            hint="manage.py cutover --legacy-url URL",
            id="gateway.W006",
        )
    ]


@register(Tags.database)
def stored_policies_can_serve(app_configs: Any, databases: Any = None, **kwargs: Any) -> list[CheckMessage]:
    if not databases:
        return []  # it reads the whole registry, which not every command should wait for
    try:
        issues = policy_checks.current().issues
    except (DatabaseError, KeyringError, OSError):
        return []  # not migrated yet, or E001 says it
    if not issues:
        return []
    named = "; ".join(f"{issue.name}: {issue.sentence}" for issue in issues[:3])
    return [
        Warning(
            f"{_counted(len(issues), 'issue')} with the policies: {named}{' …' if len(issues) > 3 else ''}",
            hint="manage.py validate_policies names all of them.",
            id="gateway.W007",
        )
    ]


@register(Tags.database)
def models_in_use_have_a_price(app_configs: Any, databases: Any = None, **kwargs: Any) -> list[CheckMessage]:
    if not databases:
        return []  # it reads the whole registry, which not every command should wait for
    try:
        in_use = ProviderModel.objects.filter(enabled=True, provider__enabled=True).select_related("provider")
        rows = {row.pk: row for row in in_use.order_by("provider__priority", "id")}
        prices = price_rows.of_models(rows.values())
    except DatabaseError:
        return []  # not migrated yet
    unknown = [row.route for pk, row in rows.items() if not prices[pk].says_something]
    if not unknown:
        return []
    named = ", ".join(unknown[:3]) + (" …" if len(unknown) > 3 else "")
    return [
        Warning(
            f"Nobody knows the price of {_counted(len(unknown), 'model')} in use: {named}",
            hint="Limits of cost refuse them. Add prices, or set them on the models; manage.py prices --unknown lists them.",
            id="gateway.W008",
        )
    ]


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
