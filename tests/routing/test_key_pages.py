from decimal import Decimal

import pytest
from django.test import RequestFactory

from routing import issuing, key_pages, key_traffic
from routing.key_traffic import Traffic

pytestmark = pytest.mark.django_db


def test_what_was_spent_is_told_in_every_currency(admin_user, monkeypatch):
    costs = {"USD": Decimal("1.50"), "EUR": Decimal("0.75")}
    monkeypatch.setattr(key_traffic, "_figures", lambda key_id: Traffic(requests=2, costs=costs))
    request = RequestFactory().get("/")
    request.user = admin_user
    told = key_pages.overview(request, issuing.issue("CI", ["generate"])[0])
    spent = {str(label): str(value) for label, value, _line in told["kpis"]}["Spent"]
    assert ("0.75\u202fEUR" in spent, "1.50\u202fUSD" in spent) == (True, True)
