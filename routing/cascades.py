"""Limits, budgets and raises that go because whom they counted for goes: each is in the audit log by itself."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.db.models.signals import pre_delete

from providers import audit
from providers.models import RegistryModel
from routing.models import Budget, BudgetRaise, RateLimit

_TOLD = (RateLimit, Budget, BudgetRaise)


def connect() -> None:
    for model in _TOLD:
        pre_delete.connect(_tell, sender=model, dispatch_uid=f"routing.cascades.{model.__name__}")


def _tell(sender: type[RegistryModel], instance: RegistryModel, origin: Any = None, **_: Any) -> None:
    """`origin` is what was deleted: a row or a set of rows. Of its own kind, it tells of itself."""
    kind = origin.model if isinstance(origin, QuerySet) else type(origin)
    if kind is sender:
        return
    audit.record("delete", instance._meta.model_name, instance.audit_name(), before=instance.facts(), after=None)
