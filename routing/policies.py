"""Policies as rows: the names that clients may send, every version of what they said, and what stands over them for a while."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone

from providers import actor, breaker_settings
from providers.models import RegistryModel, validate_identifier
from routing import policy_documents, strategies
from routing.policy_documents import KINDS, BadPolicy
from routing.salts import new_salt


class Policy(RegistryModel):
    """A name that a client may send as `model`: alias, node, task and logical model are all policies.

    `document` is what counts now, under the number `version`; each document that ever counted is a `PolicyVersion`. A
    `candidate` document is tried on a share of the clients before it counts for all.
    """

    name = models.CharField(max_length=255, unique=True, validators=[validate_identifier])
    kind = models.CharField(max_length=16, default="policy", help_text=f"One of {', '.join(KINDS)}.")
    description = models.TextField(blank=True)
    enabled = models.BooleanField(default=True)
    document = models.JSONField(default=dict, blank=True)
    version = models.PositiveIntegerField(default=0, editable=False)
    candidate = models.JSONField(null=True, blank=True, editable=False)
    candidate_version = models.PositiveIntegerField(null=True, editable=False)
    candidate_percentage = models.DecimalField(
        max_digits=5,
        decimal_places=2,
        default=Decimal(0),
        editable=False,
        validators=[MinValueValidator(0), MaxValueValidator(100)],
    )
    candidate_gate = models.JSONField(default=dict, blank=True, editable=False)
    """What the candidate must keep to; see `routing.trials`."""
    candidate_since = models.DateTimeField(null=True, editable=False)
    candidate_finding = models.JSONField(null=True, blank=True, editable=False)
    """Why it was rolled back, with the figures; null while it was not."""
    salt = models.CharField(max_length=64, default=new_salt, editable=False)
    managed_by = models.CharField(
        max_length=500, blank=True, editable=False, help_text="The configuration file that owns it."
    )
    identity = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)

    unaudited = RegistryModel.unaudited | {"salt"}
    written_by_save = frozenset({"document", "version"})
    version_note = ""
    """Why the next version came to be; said before `save` and stored with it."""
    promoted_version: int | None = None
    """The number under which the document is known already; said before `save` by whoever promotes a candidate."""

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "policies"

    def __str__(self) -> str:
        return self.name

    def audit_name(self) -> str:
        return self.name

    def clean(self) -> None:
        if self.kind not in KINDS:
            raise ValidationError({"kind": f"One of: {', '.join(KINDS)}."})
        for field in ("document", "candidate"):
            told = getattr(self, field)
            if told is None:
                continue
            try:
                setattr(self, field, policy_documents.as_document(policy_documents.read(told, strategies.names())))
            except BadPolicy as error:
                raise ValidationError({field: [_sentence(*problem) for problem in error.problems]}) from None

    def save(self, *args: Any, **kwargs: Any) -> None:
        """A document other than the stored one becomes the next version."""
        with transaction.atomic():
            stored = None
            if not self._state.adding:
                stored = type(self)._base_manager.select_for_update().filter(pk=self.pk).first()
            changed = stored is None or stored.document != self.document
            promoted, self.promoted_version = self.promoted_version, None
            if changed or promoted is not None:
                self.version = promoted or self.next_version()
                if kwargs.get("update_fields") is not None:
                    kwargs["update_fields"] = {*kwargs["update_fields"], "document", "version"}
            super().save(*args, **kwargs)
            if changed and promoted is None:
                self.versions.create(
                    number=self.version,
                    document=self.document,
                    note=self.version_note,
                    created_by=actor.current().name,
                )

    def next_version(self) -> int:
        """One more than any number that was ever given."""
        if self.pk is None:
            return 1
        newest = self.versions.order_by("-number").values_list("number", flat=True).first() or 0
        return max(newest, self.candidate_version or 0) + 1


def _sentence(place: str, sentence: str) -> str:
    return f"{place}: {sentence}" if place else sentence


class PolicyVersion(models.Model):
    """What a policy said once. Never changed."""

    policy = models.ForeignKey(Policy, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    document = models.JSONField()
    note = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    created_by = models.CharField(max_length=255, blank=True)

    class Meta:
        ordering = ["-number"]
        constraints = [models.UniqueConstraint(fields=["policy", "number"], name="one_document_per_version")]

    def __str__(self) -> str:
        return f"version {self.number}"


class Override(RegistryModel):
    """For a while, or until it is taken away, a policy is served by this model first, whatever its strategy says."""

    policy = models.OneToOneField(Policy, on_delete=models.CASCADE, related_name="override")
    target = models.CharField(max_length=600, help_text="A model, a provider/model or a policy.")
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: until it is taken away.")
    reason = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ["policy"]

    def __str__(self) -> str:
        return f"{self.policy} by {self.target}"

    def audit_name(self) -> str:
        return f"{self.policy.name}/override"


class RoutingSettings(RegistryModel):
    """What holds for every request where a policy or a provider says nothing: one row, or none where all is as usual."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    max_cost_per_request = models.DecimalField(
        max_digits=16,
        decimal_places=8,
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text="USD that the estimate of any request may reach; the lower of this and a request's own counts.",
    )
    fallback_enabled = models.BooleanField(
        default=True, help_text="Off: the first candidate is the only one that is asked."
    )
    retries = models.PositiveSmallIntegerField(
        default=1, validators=[MaxValueValidator(10)], help_text="How often the last candidate is asked again."
    )
    retry_delay_seconds = models.FloatField(default=0.1, validators=[MinValueValidator(0.0)])
    default_policy = models.CharField(
        max_length=255, blank=True, help_text="Serves requests that name no model; empty: every model, by priority."
    )
    unknown_model = models.CharField(
        max_length=8,
        default="refuse",
        help_text="refuse answers 404; default serves by the default policy and says so.",
    )
    breaker = models.JSONField(default=dict, blank=True, help_text="Numbers of the circuit breakers of all providers.")
    managed_by = models.CharField(max_length=500, blank=True, editable=False)

    class Meta:
        verbose_name_plural = "routing settings"
        constraints = [models.CheckConstraint(condition=Q(id=1), name="one_row_of_routing_settings")]

    def __str__(self) -> str:
        return "routing settings"

    @classmethod
    def load(cls) -> RoutingSettings:
        """The row, or what it would be."""
        return cls.objects.filter(pk=1).first() or cls()

    def clean(self) -> None:
        if self.unknown_model not in ("refuse", "default"):
            raise ValidationError({"unknown_model": "One of refuse or default."})
        if wrong := breaker_settings.problems(self.breaker):
            raise ValidationError({"breaker": [_sentence(*problem) for problem in wrong.items()]})

    def audit_name(self) -> str:
        return "routing"
