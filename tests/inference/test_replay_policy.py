"""Past requests from usage rows and from files, replayed by the command."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from inference import replay_sources
from inference.models import Trace
from inference.replay_sources import BadLine
from providers import actions
from routing.models import Policy
from routing.types import Identity, RequestFacts

SINCE, UNTIL = datetime(2026, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture
def policy(db):
    actions.create_provider(
        {
            "provider_id": "up",
            "provider_type": "openai_compatible",
            "display_name": "Up",
            "connection_params": {"base_url": "https://up.example/v1"},
        },
        models=[
            {
                "model_id": name,
                "display_name": name,
                "model_type": "chat",
                "capabilities": ["chat"],
                "input_cost_per_million": price,
                "output_cost_per_million": price,
            }
            for name, price in (("cheap", "1"), ("dear", "10"))
        ],
    )
    return Policy.objects.create(name="writer", kind="node", document={"targets": [{"model": "dear"}]})


def row(number=0, **more):
    told = {
        "request_id": f"r{number}",
        "at": timezone.now() - timedelta(minutes=1),
        "operation": "chat",
        "requested_model": "node/writer",
        "provider_id": "up",
        "model_id": "dear",
        "status": 200,
        "input_tokens": 1000,
        "output_tokens": 100,
        "cost": Decimal("0.011"),
        "policy": "writer",
        "policy_version": 1,
        "asked": '{"prompt_bytes":4000}',
    }
    return Trace.objects.create(**{**told, **more})


def run(*arguments, **options):
    out = StringIO()
    call_command("replay_policy", *arguments, stdout=out, stderr=StringIO(), **options)
    return out.getvalue()


def told(*arguments):
    return json.loads(run(*arguments, "--json"))


@pytest.fixture
def draft(tmp_path):
    path = tmp_path / "draft.yaml"
    path.write_text("targets: [cheap]\n")
    return str(path)


def test_the_active_policy_replayed_makes_no_difference(policy):
    for number in range(3):
        row(number)
    report = told("writer")
    assert (report["requests"], report["different"]) == (3, 0)
    assert "3 requests, no difference" in run("writer")


def test_a_draft_shows_who_would_serve_and_for_how_much_beside_what_happened(policy, draft):
    row()
    report = told("writer", "--document", draft)
    assert Decimal(report["happened"]["cost_usd"]) == Decimal("0.011")
    assert Decimal(report["sides"]["before"]["cost_usd"]) == Decimal("0.011")
    assert Decimal(report["sides"]["after"]["cost_usd"]) == Decimal("0.0011")
    assert report["comparable"]["saving"] == 0.9
    shown = run("writer", "--document", draft)
    for part in ("1 of 1 requests", "90.0%", "up/dear", "up/cheap", "r0"):
        assert part in shown


def test_an_earlier_version_is_replayed_by_its_number(policy):
    row()
    policy.document = {"targets": [{"model": "cheap"}]}
    policy.save()
    report = told("writer", "--with-version", "1")
    assert [(one["before"], one["after"]) for one in report["differences"]] == [("up/cheap", "up/dear")]


def test_the_cost_of_asking_one_model_for_everything(policy):
    row()
    policy.document = {"targets": [{"model": "cheap"}]}
    policy.save()
    report = told("writer", "--always", "up/dear")
    assert report["before"] == "always up/dear"
    assert report["comparable"]["saving"] == 0.9


def test_only_the_requests_that_came_to_the_policy_are_replayed_unless_all_are_wanted(policy):
    row()
    row(1, requested_model="dear", policy="")
    row(2, side="legacy")
    assert told("writer")["requests"] == 1
    assert told("writer", "--all")["requests"] == 2


def test_a_span_and_a_limit_bound_what_is_read(policy):
    row()
    row(1, at=timezone.now() - timedelta(days=3))
    assert told("writer", "--since", "1d")["requests"] == 1
    assert told("writer", "--limit", "1")["requests"] == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nobody"], "No policy is named 'nobody'"),
        (["writer", "--with-version", "9"], "no version 9"),
        (["writer", "--always", "gone"], "No model is named 'gone'"),
        (["writer", "--since", "soon"], "--since needs a span"),
        (["writer", "--document", "/no/such/file"], "cannot be read"),
        (["writer", "--jsonl", "/no/such/file"], "cannot be read"),
        (["writer", "--limit", "0"], "--limit"),
    ],
)
def test_what_cannot_be_replayed_is_said(policy, arguments, sentence):
    with pytest.raises(CommandError, match=sentence):
        run(*arguments)


def test_a_draft_that_says_nothing_sensible_is_refused_by_its_members(policy, tmp_path):
    path = tmp_path / "draft.json"
    path.write_text('{"strategy": "luck"}')
    with pytest.raises(CommandError, match="strategy"):
        run("writer", "--document", str(path))


def test_requests_come_from_a_file_too(policy, draft, tmp_path):
    path = tmp_path / "asked.jsonl"
    path.write_text(
        "\n".join(
            [
                '{"model": "node/writer", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 10}',
                '{"custom_id": "b1", "url": "/v1/chat/completions", "body": {"model": "writer", "messages": [{"role": "user", "content": "hi"}]}}',
                "",
                '{"model": "writer", "prompt_bytes": 4000}',
                '{"request": {"model": "writer"}, "input_tokens": 1000, "output_tokens": 100, "route": "up/dear"}',
            ]
        )
    )
    report = told("writer", "--document", draft, "--jsonl", str(path))
    assert (report["requests"], report["different"], report["estimated"]) == (4, 4, 3)


# --- The sources themselves -------------------------------------------------------------------------------------------------


def facts_of(**more) -> RequestFacts:
    row(**more)
    [past] = replay_sources.usage(replay_sources.rows(SINCE, UNTIL), {})
    return past.facts


def test_a_row_tells_what_was_asked(db):
    facts = facts_of(
        asked='{"prompt_bytes":77,"max_output_tokens":5,"require_vision":true,"max_cost":"0.5","data_tags":["pii"]}',
        session_id="s",
        client_key_prefix="gw-1",
        stream=True,
    )
    assert facts == RequestFacts(
        model="node/writer",
        stream=True,
        identity=Identity(0, "gw-1", "", frozenset()),
        session_id="s",
        prompt_bytes=77,
        max_output_tokens=5,
        require_vision=True,
        max_cost=Decimal("0.5"),
        data_tags=frozenset({"pii"}),
    )


def test_a_row_from_before_anything_was_noted_is_as_long_as_its_tokens(db):
    assert facts_of(asked="").prompt_bytes == 4000


def test_a_row_that_says_what_nobody_knows_any_more_is_passed_over(db):
    row(asked='{"strategy":"gone"}')
    assert list(replay_sources.usage(replay_sources.rows(SINCE, UNTIL), {})) == []


def test_a_failed_row_was_served_by_nobody(db):
    row(status=502, input_tokens=0, output_tokens=0, cost=None)
    [past] = replay_sources.usage(replay_sources.rows(SINCE, UNTIL), {})
    assert (past.route, past.input_tokens, past.estimated) == ("", None, False)


def test_rows_come_a_page_at_a_time_each_once(db, monkeypatch):
    monkeypatch.setattr(replay_sources, "ROWS_AT_ONCE", 2)
    for number in range(5):
        row(number)
    found = [past.request_id for past in replay_sources.usage(replay_sources.rows(SINCE, UNTIL), {})]
    assert found == ["r4", "r3", "r2", "r1", "r0"]


@pytest.mark.parametrize(
    "line", ["nonsense", "[]", '{"task": "x"}', '{"messages": 5}', '{"request": 5}', '{"request": {"images": -1}}']
)
def test_a_line_that_is_no_request_is_named_by_its_number_without_its_text(line):
    with pytest.raises(BadLine, match=r"^line 2: ") as refused:
        list(replay_sources.lines(['{"model": "m"}', line], {}))
    assert "nonsense" not in str(refused.value)
