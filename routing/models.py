"""Who may call, by keys stored as digests that cannot be turned back; and which share of them is served here."""

from __future__ import annotations

import json
import re
import uuid
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone

from providers import actor
from providers.addresses import AddressRefused, check_url
from providers.fields import EncryptedField
from providers.models import RegistryModel
from providers.secrets import Secret
from routing import key_bounds, legacy_secrets
from routing.budgets import ROLE_FACTORS, Budget, BudgetRaise
from routing.client_addresses import BadNetwork, networks
from routing.client_keys import SCOPES
from routing.policies import Override, Policy, PolicyVersion, RoutingSettings
from routing.rate_limits import RateLimit
from routing.rollout import is_below
from routing.salts import new_salt
from routing.subjects import TAG_FORM
from routing.teams import Team, TeamMember
from routing.types import Identity

__all__ = [
    "Budget",
    "BudgetRaise",
    "ClientKey",
    "Override",
    "Policy",
    "PolicyVersion",
    "RateLimit",
    "Rollout",
    "RoutingSettings",
    "Team",
    "TeamMember",
]


class ClientKey(RegistryModel):
    """A secret that a client shows. The prefix finds the row; the digest, under a pepper outside the database, proves it.

    A key that another system issued has no prefix of ours in it: it is found by its digest, which is made of its SHA-256, and its
    `prefix` is only its name here.
    """

    name = models.CharField(max_length=255)
    prefix = models.CharField(max_length=32, unique=True, editable=False)
    digest = models.CharField(max_length=64, editable=False)
    pepper_id = models.CharField(max_length=32, editable=False)
    imported_from = models.CharField(
        max_length=32, blank=True, editable=False, help_text="The system that issued it; empty: this one."
    )
    previous_digest = models.CharField(max_length=64, blank=True, editable=False)
    previous_pepper_id = models.CharField(max_length=32, blank=True, editable=False)
    previous_until = models.DateTimeField(
        null=True, editable=False, help_text="Until then the key before the last rotation is good as well."
    )
    team = models.ForeignKey(Team, null=True, blank=True, on_delete=models.PROTECT, related_name="client_keys")
    scopes = models.JSONField(default=list)
    allowed_models = models.JSONField(
        null=True, blank=True, help_text="Patterns of model names, such as gpt-* or openai/*; empty allows all."
    )
    allowed_policies = models.JSONField(
        null=True, blank=True, help_text="Patterns of policy names; empty allows all that its models allow."
    )
    allowed_providers = models.JSONField(null=True, blank=True, help_text="Patterns of provider ids; empty allows all.")
    ip_ranges = models.JSONField(
        null=True, blank=True, help_text="Addresses it may come from, such as 10.0.0.0/8; empty: from anywhere."
    )
    tags = models.JSONField(
        default=list, blank=True, help_text="Put on every request of the key, for reports and budgets."
    )
    role = models.CharField(
        max_length=16, blank=True, help_text="free, user, pro or premium: what budgets by role are multiplied by."
    )
    captures_content = models.BooleanField(
        default=False, help_text="Keep prompts and answers of its requests with their traces, redacted."
    )
    rotated_at = models.DateTimeField(null=True, editable=False)
    enabled = models.BooleanField(default=True, help_text="Off suspends it; on lets it in again.")
    revoked_at = models.DateTimeField(null=True, editable=False)
    revoked_reason = models.CharField(max_length=500, blank=True, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, editable=False)
    last_used_from = models.GenericIPAddressField(null=True, editable=False)
    person = models.OneToOneField(
        settings.AUTH_USER_MODEL,
        null=True,
        on_delete=models.SET_NULL,
        editable=False,
        related_name="playground_key",
        help_text="Who asks with it in the playground; nobody has its secret.",
    )

    unaudited = RegistryModel.unaudited | {"digest", "previous_digest", "last_used_from", "person"}

    class Meta:
        ordering = ["-created_at"]
        permissions = [
            ("use_playground", "Can ask models in the playground, with the keys of their own teams"),
            ("use_every_key", "Can ask in the playground with the keys of every team, and in their own name"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(revoked_at__isnull=True) | Q(enabled=False), name="revoked_keys_stay_off"
            ),
            models.UniqueConstraint(
                fields=["digest"], condition=~Q(imported_from=""), name="imported_keys_are_one_row_each"
            ),
        ]
        indexes = [
            models.Index(fields=["previous_digest"], name="imported_key_before", condition=~Q(imported_from="")),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    def clean(self) -> None:
        if not isinstance(self.scopes, list) or not self.scopes or set(self.scopes) - set(SCOPES):
            raise ValidationError({"scopes": f"One or more of: {', '.join(SCOPES)}."})
        for name in ("allowed_models", "allowed_policies", "allowed_providers"):
            _check_patterns(name, getattr(self, name))
        if self.ip_ranges is not None:
            self._check_ip_ranges()
        if not isinstance(self.tags, list) or not all(
            isinstance(tag, str) and TAG_FORM.fullmatch(tag) for tag in self.tags
        ):
            raise ValidationError({"tags": "Each tag has 1 to 64 printable characters and no comma."})
        if len(self.tags) > _MOST_TAGS or len(set(self.tags)) < len(self.tags):
            raise ValidationError({"tags": f"At most {_MOST_TAGS} tags, each once."})
        if self.role and self.role not in ROLE_FACTORS:
            raise ValidationError({"role": f"One of {', '.join(ROLE_FACTORS)}, or nothing."})
        if self.enabled and self.revoked_at is not None:
            raise ValidationError({"enabled": "A revoked key stays revoked; issue another one."})

    def _check_ip_ranges(self) -> None:
        if not isinstance(self.ip_ranges, list) or not self.ip_ranges:
            raise ValidationError({"ip_ranges": "A list of addresses and ranges is needed; null allows every address."})
        if len(self.ip_ranges) > _MOST_PATTERNS:
            raise ValidationError({"ip_ranges": f"At most {_MOST_PATTERNS} ranges."})
        try:
            networks(self.ip_ranges)
        except BadNetwork as error:
            raise ValidationError({"ip_ranges": str(error)}) from error

    def prepare(self) -> bool:
        """Whichever way a write came: no client key gives more than it has. Raises `ValidationError`."""
        _, _, prefix = actor.current().name.partition("key:")
        issuer = ClientKey._base_manager.filter(prefix=prefix).first() if prefix else None
        if issuer is not None:
            before = None if self._state.adding else ClientKey._base_manager.filter(pk=self.pk).first()
            if excess := key_bounds.excess_of_change(issuer, before, self):
                raise ValidationError(excess)
        return super().prepare()

    @property
    def identity(self) -> Identity:
        """What a request of the key is known by."""
        return Identity(
            key_id=self.pk,
            prefix=self.prefix,
            name=self.name,
            scopes=frozenset(self.scopes),
            allowed_models=_patterns(self.allowed_models),
            allowed_policies=_patterns(self.allowed_policies),
            allowed_providers=_patterns(self.allowed_providers),
            team_id=self.team_id,
            tags=tuple(self.tags),
            role=self.role,
            captures_content=self.captures_content,
        )

    @property
    def state(self) -> str:
        """`active`, or why it lets nobody in: `revoked`, `suspended`, `expired` or `team off`."""
        if self.revoked_at is not None:
            return "revoked"
        if not self.enabled:
            return "suspended"
        if self.expires_at is not None and self.expires_at <= timezone.now():
            return "expired"
        return "active" if self.team is None or self.team.enabled else "team off"

    @property
    def overlaps(self) -> bool:
        """Whether the key before the last rotation is good as well."""
        return self.previous_until is not None and self.previous_until > timezone.now()

    def suspend(self) -> None:
        self.enabled = False
        self.save(update_fields=["enabled"])

    def resume(self) -> None:
        """Raises `ValidationError` for a revoked key."""
        self.enabled = True
        self.clean()
        self.save(update_fields=["enabled"])

    def revoke(self, reason: str) -> None:
        """For good. Revoking again changes nothing: when and why it was revoked stays as it is. Raises `ValidationError`."""
        reason = reason.strip()
        if not reason or len(reason) > _LONGEST_REASON:
            raise ValidationError({"reason": f"A reason of at most {_LONGEST_REASON} characters is needed."})
        if self.revoked_at is not None:
            return
        self.enabled = False
        self.revoked_at, self.revoked_reason = timezone.now(), reason
        self.save(update_fields=["enabled", "revoked_at", "revoked_reason"])

    def audit_name(self) -> str:
        return self.prefix


_MOST_PATTERNS = 200
_LONGEST_PATTERN = 600
_MOST_TAGS = 16
_LONGEST_REASON = 500


def _patterns(stored: list[str] | None) -> tuple[str, ...] | None:
    return None if stored is None else tuple(stored)


def _check_patterns(name: str, patterns: Any) -> None:
    if patterns is None:
        return
    if not isinstance(patterns, list) or not all(isinstance(item, str) and item.strip() for item in patterns):
        raise ValidationError({name: "A list of patterns is needed."})
    if len(patterns) > _MOST_PATTERNS or any(len(item) > _LONGEST_PATTERN for item in patterns):
        raise ValidationError({name: f"At most {_MOST_PATTERNS} patterns of at most {_LONGEST_PATTERN} characters."})


_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]{0,4096}")
_NOT_TO_SET = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "keep-alive", "expect"}
)


class Rollout(RegistryModel):
    """The parallel run with a legacy system: one row, or none when there is nothing to run beside.

    The environment's GATEWAY_V2_ENABLED=false counts as `gateway_enabled` off in every process that was started with it; the
    row alone needs no restart.
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    percentage = models.DecimalField(
        max_digits=5,
        decimal_places=2,
        default=Decimal(100),
        validators=[MinValueValidator(0), MaxValueValidator(100)],
        help_text="Share of clients that the gateway serves itself; the others are forwarded to the legacy side.",
    )
    gateway_enabled = models.BooleanField(
        default=True, help_text="Off sends every request to the legacy side, whatever the share says."
    )
    legacy_base_url = models.CharField(
        max_length=2000, blank=True, help_text="Where the legacy system answers; empty: the gateway serves everything."
    )
    legacy_headers = EncryptedField(null=True, blank=True, editable=False)
    extra_paths = models.JSONField(
        default=list, blank=True, help_text="Further path prefixes that the share decides on, such as /chat."
    )
    salt = models.CharField(
        max_length=64, default=new_salt, help_text="Another salt puts other clients into the share."
    )
    verify_tls = models.BooleanField(default=True)
    connect_timeout_seconds = models.FloatField(default=5.0, validators=[MinValueValidator(0.05)])
    reply_timeout_seconds = models.FloatField(
        default=600.0, validators=[MinValueValidator(0.1)], help_text="To the first byte of the legacy side's answer."
    )
    idle_timeout_seconds = models.FloatField(
        default=60.0, validators=[MinValueValidator(0.1)], help_text="Between two parts of the legacy side's answer."
    )
    shadow_percentage = models.DecimalField(
        max_digits=5,
        decimal_places=2,
        default=Decimal(0),
        validators=[MinValueValidator(0), MaxValueValidator(100)],
        help_text="Share of generating requests of which the other side gets a copy, to compare both answers; 0 is off.",
    )
    shadow_daily_cap = models.DecimalField(
        max_digits=12,
        decimal_places=4,
        default=Decimal(1),
        validators=[MinValueValidator(0)],
        help_text="Money (USD) that copies may cost on a day (UTC), over all processes. Models without prices count as dear.",
    )
    shadow_retention_hours = models.PositiveIntegerField(
        default=72,
        validators=[MinValueValidator(1), MaxValueValidator(24 * 365)],
        help_text="How long the compared requests and answers are kept.",
    )
    identity = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)

    written_by_save = frozenset({"legacy_headers"})

    class Meta:
        verbose_name_plural = "roll-out"
        constraints = [
            models.CheckConstraint(condition=Q(id=1), name="one_rollout"),
            models.CheckConstraint(condition=Q(percentage__gte=0, percentage__lte=100), name="rollout_is_a_share"),
            models.CheckConstraint(
                condition=Q(shadow_percentage__gte=0, shadow_percentage__lte=100), name="shadow_is_a_share"
            ),
            models.CheckConstraint(condition=Q(shadow_daily_cap__gte=0), name="shadow_cap_is_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.percentage.normalize():f} % here" if self.gateway_enabled else "all at the legacy side"

    @classmethod
    def load(cls) -> Rollout:
        """The row, or what it would begin as: not stored, with the share of GATEWAY_V2_PERCENTAGE and no legacy side yet."""
        return cls.objects.filter(pk=1).first() or cls(percentage=Decimal(settings.GATEWAY_V2_PERCENTAGE))

    @classmethod
    def change(cls, *, headers: dict[str, str] | None = None, **values: Any) -> Rollout:
        """Set what is named and store it, or raise `ValidationError`. `headers` replace all that are stored."""
        with transaction.atomic():
            row = cls.objects.select_for_update().filter(pk=1).first() or cls.load()
            before = legacy_secrets.of(row)
            for name, value in values.items():
                setattr(row, name, value)
            if headers is not None:
                row.set_headers(headers)
            row.full_clean()
            legacy_secrets.check(before, legacy_secrets.of(row))
            row.save()
        return row

    def clean(self) -> None:
        if not re.fullmatch(r"[\x21-\x7e]{1,64}", self.salt):
            raise ValidationError({"salt": "One to 64 printable ASCII characters are needed."})
        self.legacy_base_url = self.legacy_base_url.rstrip("/")
        if self.legacy_base_url:
            self._check_url()
        elif not self.gateway_enabled:
            raise ValidationError(
                {"legacy_base_url": "Without a legacy side nobody would serve; name its base URL first."}
            )
        if not isinstance(self.extra_paths, list) or not all(_is_prefix(item) for item in self.extra_paths):
            raise ValidationError(
                {"extra_paths": "A list of paths is needed, each beginning with a slash, not / itself."}
            )
        if any(_is_the_operators(item) for item in self.extra_paths):
            raise ValidationError(
                {"extra_paths": "The gateway's own pages, API, probes and metrics are always served here."}
            )

    def _check_url(self) -> None:
        try:
            parsed = check_url(self.legacy_base_url, settings.GATEWAY_ALLOW_PRIVATE_UPSTREAMS)
        except AddressRefused as error:
            raise ValidationError({"legacy_base_url": str(error)}) from error
        if parsed.query:
            raise ValidationError({"legacy_base_url": "The URL holds a query; the client's own is sent."})
        if not parsed.path.isascii():
            raise ValidationError({"legacy_base_url": "The path of the URL holds letters that need percent-encoding."})

    def headers(self) -> dict[str, Secret]:
        """The extra headers by name."""
        if self.legacy_headers is None:
            return {}
        return {name: Secret(value) for name, value in json.loads(self.legacy_headers.reveal()).items()}

    def set_headers(self, headers: dict[str, str]) -> None:
        """Raises `ValidationError`, which names headers and never their values."""
        for name, value in headers.items():
            if not _HEADER_NAME.fullmatch(name) or name.lower() in _NOT_TO_SET:
                raise ValidationError({"legacy_headers": f"{name[:128]!r} is no header that can be set."})
            if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
                raise ValidationError({"legacy_headers": f"The value of {name} is no text that a header can carry."})
        self.legacy_headers = Secret(json.dumps(headers)) if headers else None

    def audit_name(self) -> str:
        return "cut-over"


_THE_OPERATORS = ("/admin", "/api/v1", "/livez", "/readyz", "/health", "/metrics", "/static")
"""Whoever moves traffic must still reach the switch, and whoever watches must see this side's state."""


def _is_prefix(item: Any) -> bool:
    return isinstance(item, str) and len(item) > 1 and item[0] == "/" and item[-1] != "/" and not set("?# ") & set(item)


def _is_the_operators(item: str) -> bool:
    return any(is_below(item, (own,)) or is_below(own, (item,)) for own in _THE_OPERATORS)
