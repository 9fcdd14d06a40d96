"""What a fresh installation holds so that a person can use it at once, and what of it is made again when it is lost.

Every step looks first: a second run changes nothing that a person changed. Keys can be read at the moment they are made
only, so they are kept in `quickstart.json`, which its owner alone may read; one that no longer verifies is made anew.
"""

from __future__ import annotations

import hmac
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from gateway_project import first_login
from providers import actor, keyring, private_files
from providers.models import AuditEntry, Provider, ProviderModel
from routing import client_keys, issuing
from routing.models import ClientKey

FILE = "quickstart.json"
ADMIN = "admin"
PROVIDER = "local"
MODEL = "demo"
LAST = 100
"""The demo's priority: it must not serve requests that name no model once there are real ones."""
CLIENT_SCOPES = ("generate",)
REGISTRY_SCOPES = ("registry:read", "registry:write", "secrets:read", "generate")


@dataclass(frozen=True, slots=True)
class FirstRun:
    """What to tell the person who starts the gateway. `admin_login_link` is None once the admin has a password."""

    base_url: str
    admin_url: str
    admin_username: str
    admin_login_link: str | None
    client_key: str
    registry_key: str


def set_up(data_dir: Path, base_url: str) -> FirstRun:
    """Bring the database to what a first run needs and write `quickstart.json`."""
    (data_dir / "static").mkdir(exist_ok=True)  # for what `collectstatic` may put there; whitenoise warns without
    migrate()
    remembered = _remembered(data_dir)
    with actor.acting_as("command:quickstart"), transaction.atomic():
        admin = _first_admin()
        first = FirstRun(
            base_url=base_url,
            admin_url=f"{base_url}/admin/",
            admin_username=admin.get_username(),
            admin_login_link=None if admin.has_usable_password() else base_url + first_login.path_for(admin),
            client_key=_key(remembered.get("client_key"), "first client", CLIENT_SCOPES),
            registry_key=_key(remembered.get("registry_key"), "first registry client", REGISTRY_SCOPES),
        )
        _built_in_model()
    private_files.replace(data_dir / FILE, json.dumps(asdict(first), indent=2) + "\n")
    return first


def migrate() -> None:
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        call_command("migrate", interactive=False, verbosity=0)


def _first_admin():
    """The account `admin`; without a password, so that only a link opens it."""
    users = get_user_model()._default_manager
    admin = users.filter(is_superuser=True).order_by("-is_active", "pk").first()
    return admin or users.create_superuser(ADMIN, password=None)


def _key(remembered: str | None, name: str, scopes: tuple[str, ...]) -> str:
    if remembered and _still_valid(remembered, scopes):
        return remembered
    return issuing.issue(name, scopes)[1].reveal()


def _still_valid(plaintext: str, scopes: tuple[str, ...]) -> bool:
    row = ClientKey.objects.filter(prefix=client_keys.prefix_of(plaintext), enabled=True).first()
    if row is None or not set(scopes) <= set(row.scopes) or (row.expires_at and row.expires_at <= timezone.now()):
        return False
    peppers = keyring.peppers()
    if row.pepper_id not in peppers.by_id:
        return False
    expected = client_keys.digest(plaintext, peppers.derive("client-key", row.pepper_id)).hex()
    return hmac.compare_digest(expected, row.digest)


def _built_in_model() -> None:
    """The provider `local` with the model `demo`, once: a person who deletes or disables it, or has another of that name, keeps
    it so."""
    if Provider.objects.filter(provider_id=PROVIDER).exists():
        return
    if AuditEntry.objects.filter(action="create", target_type="provider", target_id=PROVIDER).exists():
        return
    provider = Provider(
        provider_id=PROVIDER,
        provider_type="llama_cpp",
        display_name="This machine",
        description="GGUF models that run here, in the gateway's own worker.",
        connection_params={"preload": True},
        priority=LAST,
    )
    provider.full_clean()
    provider.save()
    model = ProviderModel(
        provider=provider,
        model_id=MODEL,
        display_name="Built-in demo",
        model_type="chat",
        context_window=2048,
        dimension=128,
        capabilities=["chat", "completion", "embedding", "streaming", "json_mode"],
        tasks=["chat_small"],
        cost_tier="LOW",
        input_cost_per_million=0,
        output_cost_per_million=0,
        parameters={"model_path": "builtin:demo"},
    )
    model.full_clean()
    model.save()


def _remembered(data_dir: Path) -> dict[str, str]:
    try:
        content = json.loads((data_dir / FILE).read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
