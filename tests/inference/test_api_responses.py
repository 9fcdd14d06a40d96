from __future__ import annotations

import pytest
from django.test import Client

from inference import kept_responses
from inference.response_keeping import Turn
from routing import client_keys

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    "asked",
    [
        "?stream=true&starting_after=--5",
        f"?stream=true&starting_after={'9' * 5000}",
        f"/input_items?limit={'9' * 5000}",
    ],
    ids=["signs", "digits", "limit"],
)
def test_what_is_no_number_is_the_callers_mistake(secret: str, asked: str) -> None:
    response = {"id": "resp_1", "status": "completed", "output": []}
    kept_responses.keep(Turn(client_keys.prefix_of(secret), "m", "", [], response), question='{"body": "{}"}')
    answer = Client(headers={"authorization": f"Bearer {secret}"}).get(f"/v1/responses/resp_1{asked}")
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
