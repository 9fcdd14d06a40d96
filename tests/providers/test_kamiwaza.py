"""Promises 0-01 to 0-04: which deployments count, where each answers and what it is called."""

from __future__ import annotations

from typing import Any

import pytest

from providers import kamiwaza
from providers.secrets import Secret

ENDPOINT = "https://kz.example.com/api/"
ID = "6b3f"


def deployment(**facts: Any) -> dict[str, Any]:
    return {"id": ID, "m_name": "llama3", "status": "DEPLOYED", "instances": [{"status": "DEPLOYED"}], **facts}


@pytest.mark.parametrize(
    ("facts", "active"),
    [
        ({}, True),
        ({"instances": [{"status": "FAILED"}, {"status": "DEPLOYED"}]}, True),
        ({"instances": [{"status": "INITIALIZING"}]}, False),
        ({"instances": []}, False),
        ({"instances": None}, False),
        ({"status": "INITIALIZING"}, False),
        ({"status": "FAILED"}, False),
        ({"status": None}, False),
    ],
)
def test_a_deployment_counts_when_it_and_an_instance_of_it_are_deployed(facts: dict[str, Any], active: bool) -> None:
    assert kamiwaza.is_active(deployment(**facts)) is active


@pytest.mark.parametrize(
    ("rule", "endpoint", "scheme", "facts", "url"),
    [
        ("lb_port", ENDPOINT, "", {"lb_port": 51100}, "http://kz.example.com:51100/v1"),
        ("lb_port", "http://localhost:7777/api/", "", {"lb_port": 51100}, "http://localhost:51100/v1"),
        ("lb_port", ENDPOINT, "https", {"lb_port": 443}, "https://kz.example.com:443/v1"),
        ("lb_port", ENDPOINT, "", {"lb_port": 0}, ""),
        ("lb_port", ENDPOINT, "", {"lb_port": None}, ""),
        ("now", ENDPOINT, "", {"access_path": "/models/x"}, "https://kz.example.com/models/x/v1"),
        ("now", ENDPOINT, "", {"access_path": "models/x/"}, "https://kz.example.com/models/x/v1"),
        ("now", ENDPOINT, "", {"access_path": "/models/x/v1", "lb_port": 5}, "https://kz.example.com/models/x/v1"),
        ("now", ENDPOINT, "", {"lb_port": 51100}, "https://kz.example.com:51100/v1"),
        ("now", ENDPOINT, "", {"lb_port": 443}, f"https://kz.example.com/runtime/models/{ID}/v1"),
        ("now", ENDPOINT, "", {"lb_port": 0, "access_path": None}, f"https://kz.example.com/runtime/models/{ID}/v1"),
        ("now", ENDPOINT, "http", {}, f"http://kz.example.com/runtime/models/{ID}/v1"),
        ("now", "http://localhost:7777/api", "http", {}, f"http://localhost:7777/runtime/models/{ID}/v1"),
        ("now", "http://localhost:7777/api", "", {}, f"https://localhost/runtime/models/{ID}/v1"),
        ("now", "https://kz.example.com:8443/api", "", {"access_path": "/m"}, "https://kz.example.com:8443/m/v1"),
        ("now", "https://kz.example.com:8443/api", "", {"lb_port": 51100}, "https://kz.example.com:51100/v1"),
        ("now", "https://[::1]/api", "", {"lb_port": 51100}, "https://[::1]:51100/v1"),
    ],
)
def test_where_a_deployment_answers(rule: str, endpoint: str, scheme: str, facts: dict[str, Any], url: str) -> None:
    assert kamiwaza.base_url(deployment(**facts), endpoint, rule, scheme) == url


@pytest.mark.parametrize(
    ("facts", "url"),
    [
        ({"lb_port": 9}, "http://kz.example.com:9/v1"),
        ({"lb_port": 9, "access_path": None}, "https://kz.example.com:9/v1"),
    ],
)
def test_by_itself_the_rule_is_the_older_one_where_nothing_is_said_of_paths(facts: dict[str, Any], url: str) -> None:
    (found,) = kamiwaza.deployments([deployment(**facts)], {"base_url": ENDPOINT})
    assert found.base_url == url


def models(*rows: Any, **connection: Any) -> list[kamiwaza.Deployed]:
    return kamiwaza.models(kamiwaza.deployments(rows, {"base_url": ENDPOINT, **connection}))


@pytest.mark.parametrize(
    "path", ["/a/../../b", "..", "/a?b=", "/a#b", "/a b", "/a\r\nHost: b", "\\b", "/\u00fc", "/a" * 600, {"a": 1}, 5]
)
def test_a_path_that_is_none_or_leads_elsewhere_tells_no_url(path: Any) -> None:
    assert kamiwaza.base_url({"id": "1", "access_path": path, "lb_port": 8000}, "https://host/api", kamiwaza.NOW) == ""


def test_a_deployment_without_a_name_is_called_by_its_id() -> None:
    assert [model.name for model in models(deployment(m_name=None), deployment(id="x", m_name="  "))] == [
        f"model-{ID}",
        "model-x",
    ]


def test_deployments_of_one_name_are_one_model_with_several_targets() -> None:
    (model,) = models(
        deployment(lb_port=1), deployment(id="b", lb_port=2), deployment(id="c", lb_port=3, status="FAILED")
    )
    assert model.base_urls == ("http://kz.example.com:1/v1", "http://kz.example.com:2/v1")
    assert model.status == "DEPLOYED"


def test_a_name_keeps_the_blanks_within_it() -> None:
    (model,) = models(deployment(m_name=" Llama 3 70B Instruct "))
    assert model.name == "Llama 3 70B Instruct"


def test_what_is_no_deployment_is_passed_over() -> None:
    assert models("text", None, {}, {"status": "DEPLOYED"}) == []


def test_a_deployment_that_is_not_ready_is_told_but_not_active() -> None:
    (model,) = models(deployment(status="INITIALIZING", lb_port=1))
    assert (model.active, model.status) == (False, "INITIALIZING")


@pytest.mark.parametrize(
    ("url", "platform"),
    [(ENDPOINT, True), ("http://localhost:7777", True), ("https://h/runtime/models/x/v1", False), ("", False)],
)
def test_a_platform_is_told_from_one_deployment(url: str, platform: bool) -> None:
    assert kamiwaza.is_platform(url) is platform


def test_a_user_signs_in_at_a_platform_only() -> None:
    told = {"username": "ada", "password": Secret("a b")}
    assert kamiwaza.signs_in({"base_url": ENDPOINT, **told})
    assert not kamiwaza.signs_in({"base_url": "https://h/v1", **told})
    assert b"password=a+b" in kamiwaza.sign_in_body(told)


@pytest.mark.parametrize("answer", [None, [], {}, {"access_token": 1}, {"access_token": "a\r\nb"}])
def test_an_answer_without_a_usable_token_is_refused(answer: Any) -> None:
    with pytest.raises(ValueError, match="no access token"):
        kamiwaza.token_of(answer)


def test_a_token_whose_time_is_not_told_is_good_for_five_minutes() -> None:
    assert kamiwaza.token_of({"access_token": "t", "expires_in": None}) == ("t", 300.0)
    assert kamiwaza.token_of({"access_token": "t", "expires_in": 60}) == ("t", 60.0)
