"""Paths beside those of what `/v1` keeps, and requests that no view takes in."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

pytestmark = pytest.mark.django_db

THEIRS = {"anthropic-version": "2023-06-01"}


@pytest.mark.parametrize(
    "path",
    ["/v1/files/a/b", f"/v1/files/{'a' * 129}", "/v1/batches/a/b", "/v1/responses/resp_a/b"],
    ids=["file", "long", "batch", "response"],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_a_path_that_is_none_is_told_in_openais_words(secret: str, method: str, path: str) -> None:
    answer = Client(headers={"authorization": f"Bearer {secret}"}).generic(method, path)
    told = answer.json()["error"]
    assert (answer.status_code, told["type"], told["code"]) == (404, "invalid_request_error", "unknown_url")


@pytest.mark.parametrize(
    ("path", "headers"), [("/v1/messages/batches/a/b", {}), ("/v1/files/a/b", THEIRS)], ids=["path", "version"]
)
def test_a_path_that_is_none_is_told_in_anthropics_words(secret: str, path: str, headers: dict[str, str]) -> None:
    answer = Client(headers={"x-api-key": secret, **headers}).get(path)
    told: dict[str, Any] = answer.json()
    assert (answer.status_code, told["type"], told["error"]["type"]) == (404, "error", "not_found_error")


def test_a_form_of_too_many_parts_is_told_in_the_callers_words(secret: str) -> None:
    form = {f"field{n}": "x" for n in range(1001)}
    openais = Client(headers={"authorization": f"Bearer {secret}"}).post("/v1/files", form)
    anthropics = Client(headers={"x-api-key": secret, **THEIRS}).post("/v1/files", form)
    assert (openais.status_code, openais.json()["error"]["type"]) == (400, "invalid_request_error")
    assert (anthropics.status_code, anthropics.json()["error"]["type"]) == (400, "invalid_request_error")
    assert anthropics.json()["type"] == "error"
