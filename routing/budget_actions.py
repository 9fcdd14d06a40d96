"""Writes around budgets: more of one for a while, and the usual ones at once."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from functools import cache
from pathlib import Path

from django.db import transaction

from providers import configuration
from providers.configuration import Applied
from routing.models import Budget, BudgetRaise


def raise_for_a_while(budget: Budget, amount: Decimal, reason: str, expires_at: datetime) -> BudgetRaise:
    """Every process allows it within two seconds, and no longer than until then. Raises `ValidationError`."""
    with transaction.atomic():
        more = BudgetRaise(budget=budget, amount=amount, reason=reason, expires_at=expires_at)
        more.full_clean()
        more.save()
    return more


@cache
def usual_text() -> str:
    """A configuration file with the usual budgets: those of seed 001, for each key by its role."""
    return (Path(__file__).parent / "usual_budgets.yaml").read_text()


def apply_usual(*, write: bool) -> Applied:
    """Set them up, or only say what that would change. It is an import run, so it can be taken back."""
    return configuration.apply_document(usual_text(), label="the usual budgets", write=write)
