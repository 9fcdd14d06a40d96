"""Rows of limits and budgets for tests, checked as the product checks them."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.utils import timezone

from routing.models import Budget, BudgetRaise, RateLimit


def limit(subject: str = "each_key", **facts: Any) -> RateLimit:
    row = RateLimit(subject=subject, **facts)
    row.full_clean()
    row.save()
    return row


def budget(amount: Any, subject: str = "each_key", **facts: Any) -> Budget:
    row = Budget(amount=Decimal(str(amount)), subject=subject, **facts)
    row.full_clean()
    row.save()
    return row


def raised(row: Budget, amount: Any, hours: float = 1, reason: str = "The fair.") -> BudgetRaise:
    more = BudgetRaise(
        budget=row, amount=Decimal(str(amount)), reason=reason, expires_at=timezone.now() + timedelta(hours=hours)
    )
    more.full_clean()
    more.save()
    return more
