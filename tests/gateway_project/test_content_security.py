from __future__ import annotations

import pytest
from django.test import Client

from gateway_project.content_security import HEADER, policy

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("path", ["/admin/login/", "/api/docs", "/admin/nowhere/"])
def test_a_page_may_load_from_and_send_to_nobody_else(path: str) -> None:
    told = dict(rule.split(" ", 1) for rule in Client().get(path, follow=True)[HEADER].split("; "))
    assert told["default-src"] == told["form-action"] == "'self'"
    assert told["frame-ancestors"] == told["object-src"] == "'none'"
    assert not [value for value in told.values() if "http" in value or "*" in value]


def test_data_says_nothing_of_it() -> None:
    assert HEADER not in Client().get("/readyz")


def test_sign_on_may_lead_to_the_identity_provider() -> None:
    assert "form-action" not in policy(signs_on_elsewhere=True)
