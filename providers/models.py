"""The registry: providers, their models, our keys for them and their connection parameters.

Every write of these rows, by whatever path, raises the registry revision and leaves an audit entry in the same
transaction. Secrets are `EncryptedField`s; what an entry or a list shows of them is a fingerprint and a hint.
"""

from __future__ import annotations

import unicodedata
import uuid
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone

from providers import (
    actor,
    audit,
    breaker_settings,
    connection,
    cost_tiers,
    engine_options,
    holding,
    keyring,
    locality,
    revision,
)
from providers.audit import AuditEntry, AuditHead
from providers.config_files import ConfigFile
from providers.fields import EncryptedField, Sealed
from providers.import_runs import ImportFinding, ImportRecord, ImportRun
from providers.offer_rows import Offer
from providers.querysets import RegistryQuerySet
from providers.revision import RegistryRevision
from providers.secrets import Secret, hint
from providers.section_records import SectionRecord

__all__ = [
    "ApiKey",
    "AuditEntry",
    "AuditHead",
    "ConfigFile",
    "ConnectionParameter",
    "ImportFinding",
    "ImportRecord",
    "ImportRun",
    "Offer",
    "PriceOverride",
    "ProbeResult",
    "Provider",
    "ProviderModel",
    "RegistryModel",
    "RegistryRevision",
    "SectionRecord",
]


def validate_identifier(value: str) -> None:
    """Any printable text without blanks at its ends: legacy ids hold slashes, colons and CJK."""
    if value != value.strip() or not value:
        raise ValidationError("An identifier must not be empty nor begin or end with a blank.")
    if any(unicodedata.category(character).startswith("C") for character in value):
        raise ValidationError("An identifier must not hold control characters.")


def _check_options(row: Provider | ProviderModel | ConnectionParameter, field: str) -> None:
    wrong = row.wrong_options()
    stored = None if row._state.adding or not wrong else type(row).stored().filter(pk=row.pk).first()
    if new := engine_options.new_problems(wrong, stored.wrong_options() if stored is not None else {}):
        raise ValidationError({field: [f"{name}: {why}" for name, why in new.items()]})


class RegistryModel(models.Model):
    """A row that the data plane's snapshot is built from."""

    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)
    created_by = models.CharField(max_length=255, blank=True, editable=False)

    objects = RegistryQuerySet.as_manager()

    class Meta:
        abstract = True

    unaudited = frozenset({"id", "identity", "created_at", "updated_at", "created_by", "last_used_at"})
    """Fields that are not facts of the configuration."""

    written_by_save: frozenset[str] = frozenset()
    """Fields that need the row in hand to be written, so `QuerySet.update` refuses them."""

    def audit_name(self) -> str:
        raise NotImplementedError

    def prepare(self) -> bool:
        """Put what the caller set into the form it is stored in; before every write, the bulk ones included.

        True when other fields changed with it.
        """
        return False

    @classmethod
    def stored(cls) -> models.QuerySet:
        """Every row, with the rows that its facts name: a change of thousands asks no question for each."""
        return cls._base_manager.select_related(
            *(field.name for field in cls._meta.concrete_fields if field.is_relation)
        )

    def facts(self) -> dict[str, Any]:
        """The row's configuration as the audit log keeps it; secrets as fingerprints, other rows by their names."""
        facts: dict[str, Any] = {}
        for field in self._meta.concrete_fields:
            if field.name in self.unaudited:
                continue
            if isinstance(field, EncryptedField):
                facts[field.name] = self._fingerprint_of(field)
            elif field.is_relation:
                other = getattr(self, field.name)
                facts[field.name] = other.audit_name() if other is not None else None
            else:
                facts[field.name] = getattr(self, field.attname)
        return facts

    def _fingerprint_of(self, field: EncryptedField) -> str | None:
        value = self.__dict__.get(field.attname)
        if value is None:
            return None
        if isinstance(value, Sealed):
            try:
                value = getattr(self, field.name)
            except Exception as error:
                return f"unreadable ({type(error).__name__})"
        return f"fingerprint:{keyring.fingerprint(value.reveal())}"

    def guard(self) -> AbstractContextManager[None]:
        """Around every write of the row, in its transaction."""
        return nullcontext()

    def save(self, *args: Any, **kwargs: Any) -> None:
        with transaction.atomic(), self.guard():
            adding = self._state.adding
            if self.prepare() and kwargs.get("update_fields") is not None:
                kwargs["update_fields"] = {*kwargs["update_fields"], *self.written_by_save}
            before = None if adding else self._stored_facts()
            if adding and not self.created_by:
                self.created_by = actor.current().name
            after = self.facts()
            if not adding and after != before:
                self.updated_at = timezone.now()
                if kwargs.get("update_fields") is not None:
                    kwargs["update_fields"] = {*kwargs["update_fields"], "updated_at"}
            super().save(*args, **kwargs)
            if after == before:
                return
            audit.record(
                "create" if adding else "update",
                self._meta.model_name,
                self.audit_name(),
                before=before,
                after=self.facts(),
            )
            revision.bump()

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        with transaction.atomic(), self.guard():
            name, before = self.audit_name(), self.facts() | self.dependent_facts()
            deleted = super().delete(*args, **kwargs)
            audit.record("delete", self._meta.model_name, name, before=before, after=None)
            revision.bump()
        return deleted

    def dependent_facts(self) -> dict[str, Any]:
        """Facts of the rows that go with this one, for the entry of its deletion."""
        return {}

    def _stored_facts(self) -> dict[str, Any] | None:
        stored = type(self).stored().filter(pk=self.pk).first()
        return stored.facts() if stored else None


class Provider(RegistryModel):
    """A configured upstream. Many may be of one type, each with its own address and keys."""

    provider_id = models.CharField(max_length=255, unique=True, validators=[validate_identifier])
    provider_type = models.CharField(max_length=255, help_text="One of the registered provider types.")
    display_name = models.CharField(max_length=255, blank=True)
    description = models.TextField(blank=True)
    enabled = models.BooleanField(default=True)
    priority = models.IntegerField(default=1, help_text="Lower is asked first.")
    connection_params = models.JSONField(
        default=dict,
        blank=True,
        help_text="Addresses and options; secrets in it are moved to encrypted storage on saving.",
    )
    secret_params = EncryptedField(null=True, editable=False)
    request_settings = models.JSONField(
        default=dict, blank=True, help_text="Timeouts and behaviour of calls to this provider."
    )
    probe_interval_seconds = models.PositiveIntegerField(default=60, help_text="0 never probes.")
    allow_paid_probes = models.BooleanField(
        default=False, help_text="Let probes ask for one token, which the upstream may bill."
    )
    locality = models.CharField(
        max_length=8,
        blank=True,
        help_text="local, remote, or empty: as the type and the address tell. Policies that are local only ask no remote one.",
    )
    data_tags = models.JSONField(
        default=list, blank=True, help_text="Kinds of data that this provider may get, such as eu or medical."
    )
    breaker = models.JSONField(
        default=dict, blank=True, help_text="Numbers of the circuit breaker that differ from the usual ones."
    )
    managed_by = models.CharField(
        max_length=500, blank=True, editable=False, help_text="The configuration file that owns it."
    )
    identity = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)

    class Meta:
        ordering = ["priority", "provider_id"]

    def __str__(self) -> str:
        return self.display_name or self.provider_id

    def clean(self) -> None:
        for name in ("connection_params", "request_settings"):
            if not isinstance(getattr(self, name), dict):
                raise ValidationError({name: "A JSON object is needed."})
        if self.locality not in ("", locality.LOCAL, locality.REMOTE):
            raise ValidationError({"locality": "One of local, remote or nothing."})
        if not isinstance(self.data_tags, list) or not all(isinstance(item, str) for item in self.data_tags):
            raise ValidationError({"data_tags": "A list of words is needed."})
        if wrong := breaker_settings.problems(self.breaker):
            raise ValidationError({"breaker": [f"{name}: {why}" if name else why for name, why in wrong.items()]})
        _check_options(self, "connection_params")

    def wrong_options(self) -> dict[str, str]:
        return engine_options.problems(self.provider_type, self.connection_params)

    written_by_save = frozenset({"connection_params", "secret_params"})

    def guard(self) -> AbstractContextManager[None]:
        self._entered: set[str] = set()
        return holding.guarded(self, self._entered)

    def prepare(self) -> bool:
        self.display_name = self.display_name or self.provider_id
        return self._move_secrets()

    def audit_name(self) -> str:
        return self.provider_id

    def dependent_facts(self) -> dict[str, Any]:
        return {
            "models": [model.facts() for model in self.models.all()],
            "api_keys": [key.facts() for key in self.api_keys.all()],
            "connection_parameters": [parameter.facts() for parameter in self.parameters.all()],
        }

    def full_connection_params(self) -> dict[str, Any]:
        """connection_params with the secrets back in their places, each as a `Secret`."""
        return connection.join(self.connection_params, self.stored_secrets())

    def replace_connection_params(self, params: dict[str, Any]) -> None:
        """Set the whole object; secrets that it does not name are forgotten."""
        self.connection_params, self.secret_params = params, None

    def stored_secrets(self) -> dict[str, str]:
        """The secrets of connection_params by their JSON path."""
        return connection.unpack(self.secret_params.reveal()) if self.secret_params is not None else {}

    def set_stored_secrets(self, secrets: dict[str, str]) -> None:
        self.secret_params = Secret(connection.pack(secrets)) if secrets else None

    def _move_secrets(self) -> bool:
        public, found = connection.split(self.connection_params, self.provider_type)
        if not found:
            return False
        self.connection_params = public
        self.set_stored_secrets(self.stored_secrets() | found)
        self.__dict__.setdefault("_entered", set()).update(found)
        return True


class ProviderModel(RegistryModel):
    """One model at one provider. The same id may stand under several providers, with other limits and prices."""

    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="models")
    model_id = models.CharField(max_length=255, validators=[validate_identifier])
    display_name = models.CharField(max_length=255, blank=True)
    model_type = models.CharField(max_length=50, default="chat", help_text="chat, completion, embedding, …")
    context_window = models.PositiveIntegerField(
        null=True, blank=True, help_text="Tokens of prompt and answer together."
    )
    max_tokens = models.PositiveIntegerField(null=True, blank=True, help_text="Most tokens of one answer.")
    dimension = models.PositiveIntegerField(null=True, blank=True, help_text="Length of an embedding.")
    enabled = models.BooleanField(default=True)
    capabilities = models.JSONField(default=list, blank=True)
    tasks = models.JSONField(default=list, blank=True)
    cost_tier = models.CharField(max_length=16, blank=True, help_text="LOW, MEDIUM, HIGH or PREMIUM.")
    input_cost_per_million = models.DecimalField(
        max_digits=20, decimal_places=10, null=True, blank=True, validators=[MinValueValidator(0)]
    )
    output_cost_per_million = models.DecimalField(
        max_digits=20, decimal_places=10, null=True, blank=True, validators=[MinValueValidator(0)]
    )
    cached_input_cost_per_million = models.DecimalField(
        max_digits=20, decimal_places=10, null=True, blank=True, validators=[MinValueValidator(0)]
    )
    currency = models.CharField(max_length=3, default="USD")
    parameters = models.JSONField(
        default=dict, blank=True, help_text="Defaults and engine options, such as model_path or upstream_model_id."
    )
    auto_disabled_at = models.DateTimeField(null=True, blank=True, editable=False)
    auto_disabled_reason = models.CharField(max_length=500, blank=True, editable=False)
    """Taken out of service by the gateway itself, until a probe finds it well; `enabled` is the administrator's word."""
    managed_by = models.CharField(max_length=500, blank=True, editable=False)

    class Meta:
        ordering = ["provider", "model_id"]
        constraints = [models.UniqueConstraint(fields=["provider", "model_id"], name="one_model_id_per_provider")]
        indexes = [models.Index(fields=["model_id"])]

    def __str__(self) -> str:
        return self.model_id

    @property
    def route(self) -> str:
        """`provider_id/model_id`."""
        return f"{self.provider.provider_id}/{self.model_id}"

    @classmethod
    def of_route(cls, route: str) -> ProviderModel | None:
        """Either part of a route may hold slashes itself."""
        cuts = (place for place, letter in enumerate(route) if letter == "/")
        found = (
            cls.objects.select_related("provider").filter(provider__provider_id=route[:cut], model_id=route[cut + 1 :])
            for cut in cuts
        )
        return next((row for rows in found if (row := rows.first()) is not None), None)

    def clean(self) -> None:
        if not isinstance(self.capabilities, list) or not all(isinstance(item, str) for item in self.capabilities):
            raise ValidationError({"capabilities": "A list of words is needed."})
        if not isinstance(self.tasks, list) or not all(isinstance(item, str) for item in self.tasks):
            raise ValidationError({"tasks": "A list of words is needed."})
        if not isinstance(self.parameters, dict):
            raise ValidationError({"parameters": "A JSON object is needed."})
        if self.cost_tier and not cost_tiers.is_tier(self.cost_tier.upper()):
            raise ValidationError({"cost_tier": f"One of {', '.join(cost_tiers.COST_TIERS)}, or nothing."})
        if self.provider_id is not None:
            _check_options(self, "parameters")

    def wrong_options(self) -> dict[str, str]:
        owner = self.provider
        return engine_options.problems(owner.provider_type, self.parameters, beside=owner.connection_params)

    def guard(self) -> AbstractContextManager[None]:
        holding.check_deployments(self)
        return nullcontext()

    def prepare(self) -> bool:
        self.display_name = self.display_name or self.model_id
        return False

    def audit_name(self) -> str:
        return f"{self.provider.provider_id}:{self.model_id}"


class PriceOverride(RegistryModel):
    """A price of one's own, from a day on: a contract, a discount, a model that no list knows.

    It wins over the list's price, and over what stands on the model; see `providers.prices`.
    """

    provider = models.ForeignKey(
        Provider,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="prices",
        help_text="Empty: any provider.",
    )
    model_prefix = models.CharField(
        max_length=255, help_text="A model id, or the beginning of some; the longest one that fits counts."
    )
    valid_from = models.DateTimeField(default=timezone.now)
    input_cost_per_million = models.DecimalField(
        max_digits=20, decimal_places=10, null=True, blank=True, validators=[MinValueValidator(0)]
    )
    output_cost_per_million = models.DecimalField(
        max_digits=20, decimal_places=10, null=True, blank=True, validators=[MinValueValidator(0)]
    )
    cached_input_cost_per_million = models.DecimalField(
        max_digits=20, decimal_places=10, null=True, blank=True, validators=[MinValueValidator(0)]
    )
    currency = models.CharField(max_length=3, default="USD")
    note = models.CharField(max_length=500, blank=True)
    managed_by = models.CharField(
        max_length=500, blank=True, editable=False, help_text="The configuration file that owns it."
    )
    identity = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)

    class Meta:
        ordering = ["model_prefix", "-valid_from"]
        constraints = [
            models.UniqueConstraint(fields=["provider", "model_prefix", "valid_from"], name="one_price_from_a_moment"),
            models.UniqueConstraint(
                fields=["model_prefix", "valid_from"],
                condition=Q(provider__isnull=True),
                name="one_price_for_all_from_a_moment",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model_prefix} from {self.valid_from:%Y-%m-%d}"

    @staticmethod
    def problems(input_cost: Any, output_cost: Any, valid_from: datetime | None) -> dict[str, str]:
        """What is wrong with such a price, in words by field; empty when nothing is."""
        found = {}
        if (input_cost, output_cost) == (None, None):
            found["input_cost_per_million"] = "Say what input costs, or output, or both."
        if valid_from is not None and not 1970 <= valid_from.year <= 2999:
            found["valid_from"] = "A time between 1970 and 2999 is needed."
        return found

    def clean(self) -> None:
        if wrong := self.problems(self.input_cost_per_million, self.output_cost_per_million, self.valid_from):
            raise ValidationError(wrong)
        self.currency = self.currency.upper()

    def audit_name(self) -> str:
        owner = self.provider.provider_id if self.provider is not None else "*"
        return f"{owner}:{self.model_prefix}@{self.valid_from:%Y-%m-%d}"


class ApiKey(RegistryModel):
    """A secret that we show to a provider. Never chosen when disabled, expired or of another environment."""

    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=255, blank=True)
    secret = EncryptedField()
    fingerprint = models.CharField(max_length=16, editable=False, db_index=True)
    hint = models.CharField(max_length=16, editable=False)
    environment = models.CharField(max_length=50, default="development")
    expires_at = models.DateTimeField(null=True, blank=True)
    weight = models.PositiveIntegerField(default=1)
    enabled = models.BooleanField(default=True)
    last_used_at = models.DateTimeField(null=True, editable=False)
    held_for = models.CharField(max_length=500, blank=True, editable=False)
    """The destination that it was entered for, while its provider points elsewhere; see `providers.holding`. Empty: not held."""
    identity = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)

    class Meta:
        ordering = ["provider", "environment", "id"]
        verbose_name = "API key"
        verbose_name_plural = "API keys"

    def __str__(self) -> str:
        return self.name or self.hint

    written_by_save = frozenset({"secret", "hint", "fingerprint", "held_for"})

    def prepare(self) -> bool:
        """Derive hint and fingerprint from a new secret, which is meant for where the provider points now."""
        value = self.__dict__.get("secret")
        if not isinstance(value, Secret):
            return False
        self.hint, self.fingerprint = hint(value.reveal()), keyring.fingerprint(value.reveal())
        self.held_for = ""
        return True

    def save(self, *args: Any, **kwargs: Any) -> None:
        unsealed = isinstance(self.__dict__.get("secret"), Secret)
        if not (self._state.adding or unsealed or kwargs.get("update_fields") == ["held_for"]):
            holding.keep(self)
        super().save(*args, **kwargs)

    def audit_name(self) -> str:
        return f"{self.provider.provider_id}/key/{self.pk}"

    @classmethod
    def usable(cls, at: Any) -> Q:
        """The condition under which a key may be chosen."""
        fresh = Q(expires_at__isnull=True) | Q(expires_at__gt=at)
        return fresh & Q(enabled=True, held_for="", environment=settings.GATEWAY_ENVIRONMENT)


class ConnectionParameter(RegistryModel):
    """A named value for one environment; sensitive ones are encrypted. It wins over the same name in connection_params."""

    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="parameters")
    param_name = models.CharField(max_length=255, validators=[validate_identifier])
    plain_value = models.TextField(null=True, blank=True, editable=False)
    secret_value = EncryptedField(null=True, editable=False)
    is_sensitive = models.BooleanField(default=False)
    environment = models.CharField(max_length=50, default="development")
    identity = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)

    class Meta:
        ordering = ["provider", "environment", "param_name"]
        constraints = [
            models.UniqueConstraint(
                fields=["provider", "param_name", "environment"], name="one_parameter_per_environment"
            ),
            models.CheckConstraint(
                condition=Q(is_sensitive=False) | Q(plain_value__isnull=True), name="sensitive_values_are_encrypted"
            ),
        ]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        value = kwargs.pop("param_value", None)
        super().__init__(*args, **kwargs)
        if value is not None:
            self.set_value(value)

    def __str__(self) -> str:
        return self.param_name

    @property
    def param_value(self) -> str | Secret | None:
        return self.secret_value if self.is_sensitive else self.plain_value

    def set_value(self, value: str, *, is_sensitive: bool | None = None) -> None:
        if is_sensitive is not None:
            self.is_sensitive = is_sensitive
        self.plain_value = None if self.is_sensitive else value
        self.secret_value = Secret(value) if self.is_sensitive else None

    def clean(self) -> None:
        if self.provider_id is not None:
            _check_options(self, "param_value")

    def wrong_options(self) -> dict[str, str]:
        named = {} if self.plain_value is None else {self.param_name: self.plain_value}
        return engine_options.problems(self.provider.provider_type, named)

    written_by_save = frozenset({"plain_value", "secret_value", "is_sensitive"})

    def prepare(self) -> bool:
        if self.plain_value is None or not connection.is_secret(self.param_name, self.plain_value):
            return False
        self.set_value(self.plain_value, is_sensitive=True)
        return True

    def guard(self) -> AbstractContextManager[None]:
        return holding.guarded(self.provider)

    def audit_name(self) -> str:
        return f"{self.provider.provider_id}/{self.environment}/{self.param_name}"


class ProbeResult(models.Model):
    """What one probe of a provider found, stage by stage. Not configuration: it raises no revision."""

    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="probes")
    at = models.DateTimeField(default=timezone.now)
    healthy = models.BooleanField()
    trigger = models.CharField(max_length=16, default="schedule", help_text="schedule, admin or api")
    duration_ms = models.FloatField()
    model_tested = models.CharField(max_length=255, blank=True)
    message = models.TextField(blank=True)
    stages = models.JSONField(default=list)

    class Meta:
        ordering = ["-at"]
        get_latest_by = "at"
        indexes = [models.Index(fields=["provider", "-at"])]

    def __str__(self) -> str:
        return f"{self.provider} {'well' if self.healthy else 'unwell'} at {self.at:%Y-%m-%d %H:%M:%S}"
