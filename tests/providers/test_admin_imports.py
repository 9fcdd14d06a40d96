from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from celery import current_app
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from kombu import Connection
from kombu.exceptions import OperationalError

from providers import import_steps, import_summaries
from providers.import_runs import ImportFinding, ImportRecord, ImportRun
from providers.importers import lock, runs
from providers.importers.options import Options
from providers.secrets import Secret
from tests.page_forms import form_of_page

pytestmark = pytest.mark.django_db

LIST = "admin:providers_importrun_changelist"
ADD = "admin:providers_importrun_add"
RUN = "admin:providers_importrun_change"
LIVE = "admin:providers_importrun_live"
NEXT = "admin:providers_importrun_next"
FORGET = "admin:providers_importrun_forget"
UNDO = "admin:providers_importrun_undo"
REPORT = "admin:providers_importrun_report"

PASSWORD = "bo-canary-0123456789abcdef"
LEGACY_KEY = "legacy-passphrase-canary"
SOURCE = f"mysql+pymysql://root:{PASSWORD}@db.internal:3307/bo_admin"
LABEL = "mysql://db.internal:3307/bo_admin"
TABLES = {
    "llm_providers": {"rows": 14, "imported": 12, "merged": 1, "rejected": 1, "left_out": 0, "created": 11, "kept": 1},
    "llm_models": {"rows": 9, "imported": 9, "merged": 0, "rejected": 0, "left_out": 0, "created": 9, "kept": 0},
}


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[int]]]:
    """The wake-ups that went out: no worker listens here."""
    messages: list[tuple[str, list[int]]] = []

    def send_task(name: str, args: list[int], **_: Any) -> None:
        messages.append((name, args))

    monkeypatch.setattr("providers.import_steps.current_app.send_task", send_task)
    return messages


def a_run(kind: str = "dry_run", *, secrets: bool = False, **fields: Any) -> ImportRun:
    ended = timezone.now()
    facts = {
        "kind": kind,
        "state": ImportRun.State.DONE,
        "exit_status": 0,
        "source_label": LABEL,
        "options": Options(Secret(SOURCE), naive_timezone="Europe/Zurich", only=("openai_prod",)).shown(),
        "tables": TABLES,
        "actor": "user:ada",
        "started_at": ended - timedelta(seconds=2),
        "finished_at": ended,
    }
    run = ImportRun(**(facts | fields))
    if secrets:
        run.sealed = json.dumps({"source_url": SOURCE, "legacy_keys": [LEGACY_KEY]})
    run.save()
    return run


def find(run: ImportRun, code: str = "null_flag", level: str = "note", times: int = 1, **fields: Any) -> None:
    table = fields.pop("table", "llm_models")
    ImportFinding.objects.bulk_create(
        ImportFinding(run=run, table=table, key=f"{code}-{n:03}", code=code, level=level, did="guessed", **fields)
        for n in range(times)
    )


def seen(client: Client, run: ImportRun, **query: Any) -> str:
    response = client.get(reverse(RUN, args=[run.pk]), query)
    assert response.status_code == 200
    return response.content.decode()


def keys_listed(html: str) -> list[str]:
    return re.findall(r'<div class="gw-finding-head">.*?<strong>(.*?)</strong>', html)


def start(client: Client, **changes: str) -> Any:
    url = reverse(ADD)
    fields = form_of_page(client.get(url).content.decode())
    return client.post(url, fields | {"source_url": SOURCE, "legacy_keys": f"{LEGACY_KEY}\n\n  second  \n"} | changes)


def staff(*permissions: str) -> Client:
    user = User.objects.create_user("bob", password="x", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


# Starting


def test_an_empty_list_teaches_the_three_steps(admin_client: Client) -> None:
    html = admin_client.get(reverse(LIST)).content.decode()

    assert "No imports yet" in html
    for step in ("See the plan", "Apply it", "Prove it"):
        assert step in html


def test_a_search_without_a_hit_is_not_taken_for_an_empty_list(admin_client: Client) -> None:
    a_run()

    assert "No imports yet" not in admin_client.get(reverse(LIST), {"q": "nothing"}).content.decode()


def test_a_check_of_a_source_is_queued_for_a_worker(admin_client: Client, sent: list) -> None:
    response = start(admin_client, naive_timezone="Europe/Zurich", environments="production, staging", batch_size="500")

    run = ImportRun.objects.get()
    assert response.url == reverse(RUN, args=[run.pk])
    assert (run.kind, run.state, run.source_label) == ("dry_run", "queued", LABEL)
    assert run.options["environments"] == ["production", "staging"]
    assert run.actor == "user:admin"
    assert sent == [("providers.tasks.run_import", [run.pk])]


def test_the_worker_gets_everything_that_was_asked(admin_client: Client, sent: list) -> None:
    start(admin_client, naive_timezone="Asia/Kolkata", only="a, b", batch_size="7")

    options = runs.options_of(ImportRun.objects.get())
    assert options.source_url.reveal() == SOURCE
    assert [key.reveal() for key in options.legacy_keys] == [LEGACY_KEY, "second"]
    assert (options.naive_timezone, options.only, options.batch_size) == ("Asia/Kolkata", ("a", "b"), 7)


def test_credentials_are_stored_encrypted_only(admin_client: Client, sent: list) -> None:
    start(admin_client)

    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM providers_importrun")
        row = repr(cursor.fetchall())
    assert PASSWORD not in row
    assert LEGACY_KEY not in row


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("source_url", f"oracle://scott:{PASSWORD}@h/db", "not a database that can be read"),
        ("source_url", f"mysql://root:{PASSWORD}@h:port/db", "cannot be read"),
        ("source_url", "", "required"),
        ("naive_timezone", "Mars/Olympus", "not one of the available choices"),
        ("batch_size", "0", "greater than or equal to 1"),
    ],
)
def test_a_mistake_is_named_and_no_credential_comes_back(
    admin_client: Client, sent: list, field: str, value: str, said: str
) -> None:
    html = start(admin_client, **{field: value}).content.decode()

    assert said in html
    assert PASSWORD not in html
    assert LEGACY_KEY not in html
    assert not ImportRun.objects.exists()


def test_an_apply_cannot_be_begun_without_a_plan(admin_client: Client, sent: list) -> None:
    start(admin_client, kind="apply")

    assert not ImportRun.objects.exists()


def test_a_run_that_a_worker_heard_of_all_the_same_is_not_called_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis may take the message and be gone before it says so."""
    run = runs.start(ImportRun.Kind.APPLY, "here", actor="user:ada", for_worker=True)

    def begun_and_gone(*_: Any, **__: Any) -> None:
        ImportRun.objects.filter(pk=run.pk).update(state=ImportRun.State.RUNNING)
        raise OperationalError("Connection closed by server.")

    monkeypatch.setattr("providers.import_steps.current_app.send_task", begun_and_gone)
    import_steps.begin(run)
    run.refresh_from_db()
    assert (run.state, run.message) == ("running", "")


def test_a_store_that_does_not_answer_fails_the_run_and_forgets_the_credentials(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By a connection of its own: the app's pool would keep the address for the tests to come.
    nowhere = Connection("redis://127.0.0.1:1/0", transport_options={"max_retries": 1, "interval_start": 0})
    monkeypatch.setattr(current_app, "send_task", partial(current_app.send_task, connection=nowhere))

    start(admin_client)

    run = ImportRun.objects.get()
    assert run.state == "failed"
    assert run.sealed is None
    assert "Redis does not answer" in seen(admin_client, run)


# The list


def test_the_list_shows_source_state_counts_and_by_whom(admin_client: Client) -> None:
    a_run("apply", exit_status=2, for_a_person=3)

    html = admin_client.get(reverse(LIST)).content.decode()

    for text in (LABEL, "needs a person", "3 findings to look at.", "by ada", "Import "):
        assert text in html


def test_the_list_takes_the_same_queries_for_one_run_and_for_many(
    admin_client: Client, django_assert_num_queries: Any
) -> None:
    a_run()
    with CaptureQueriesContext(connection) as one:
        admin_client.get(reverse(LIST))
    for _ in range(20):
        a_run()

    with django_assert_num_queries(len(one)):
        admin_client.get(reverse(LIST))
    assert not any("COUNT(" in query["sql"].upper() for query in one.captured_queries)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"exit_status": 0}, "all well"),
        ({"exit_status": 2, "for_a_person": 1}, "needs a person"),
        ({"exit_status": 1, "message": "why"}, "failed"),
        ({"state": "failed", "exit_status": None, "message": "why"}, "failed"),
        ({"state": "interrupted", "exit_status": None}, "interrupted"),
        ({"state": "running", "exit_status": None, "finished_at": None}, "running"),
        ({"state": "queued", "exit_status": None, "started_at": None, "finished_at": None}, "queued"),
        ({"undone_at": datetime(2026, 1, 2, tzinfo=timezone.get_default_timezone())}, "undone"),
    ],
)
def test_every_state_has_a_word_and_a_reason(fields: dict[str, Any], word: str) -> None:
    verdict = import_summaries.verdict(a_run(**fields))

    assert verdict.word == word
    assert verdict.why


def test_a_run_that_nobody_takes_says_so() -> None:
    run = a_run(state="queued", started_at=None, finished_at=None)

    assert "None has taken it" not in import_summaries.verdict(run, run.created_at).why
    assert "None has taken it" in import_summaries.verdict(run, run.created_at + timedelta(minutes=1)).why


# A run's page


def test_each_table_shows_that_its_rows_add_up(admin_client: Client) -> None:
    html = seen(admin_client, a_run())

    assert html.count("it adds up") == 3, "two tables and their sum"
    assert "llm_providers" in html


def test_a_table_whose_rows_do_not_add_up_is_marked(admin_client: Client) -> None:
    html = seen(admin_client, a_run(tables={"llm_models": {"rows": 3, "imported": 2}}))

    assert "it adds up" not in html
    assert re.search(r"gw-bad[^<]*<span[^>]*>✗", html)


def test_findings_are_grouped_by_reason_with_counts_meaning_and_examples(admin_client: Client) -> None:
    run = a_run()
    find(run, "null_flag", times=12, detail="NULL was read as true.")
    find(run, "undecryptable", "person", times=2)

    groups = import_summaries.groups_of(run)

    assert [(group.code, group.count, group.needs_a_person) for group in groups] == [
        ("undecryptable", 2, True),
        ("null_flag", 12, False),
    ]
    assert len(groups[1].examples) == import_summaries.EXAMPLES
    assert "none of the given legacy keys opens" in seen(admin_client, run)


def test_findings_of_a_finished_run_are_counted_once(admin_client: Client) -> None:
    run = a_run()
    find(run, times=3)
    seen(admin_client, run)

    with CaptureQueriesContext(connection) as queries:
        seen(admin_client, run)

    assert not any("COUNT(" in query["sql"].upper() for query in queries.captured_queries)


def test_findings_are_paged_by_their_last_id(admin_client: Client) -> None:
    run = a_run()
    find(run, times=import_summaries.FINDINGS_PER_PAGE + 5)

    first = seen(admin_client, run)
    after = re.search(r'rel="next" href="\?after=(\d+)#findings"', first)
    assert after is not None
    second = seen(admin_client, run, after=after[1])

    assert len(keys_listed(first)) == import_summaries.FINDINGS_PER_PAGE
    assert keys_listed(second) == [f"null_flag-{n:03}" for n in range(50, 55)]
    assert 'rel="next"' not in second


@pytest.mark.parametrize(
    ("query", "listed"),
    [
        ({"code": "conflict"}, ["conflict-000"]),
        ({"table": "llm_providers"}, ["orphan-000"]),
        ({"level": "note"}, ["null_flag-000"]),
        ({"code": "conflict", "level": "note"}, []),
    ],
)
def test_findings_are_filtered_by_table_reason_and_level(
    admin_client: Client, query: dict[str, str], listed: list[str]
) -> None:
    run = a_run()
    find(run, "null_flag")
    find(run, "conflict", "person")
    find(run, "orphan", "person", table="llm_providers")

    assert keys_listed(seen(admin_client, run, **query)) == listed


def test_what_needs_a_person_is_shown_first(admin_client: Client) -> None:
    run = a_run(for_a_person=1)
    find(run, "null_flag", times=3)
    find(run, "conflict", "person")

    assert keys_listed(seen(admin_client, run)) == ["conflict-000"]
    assert len(keys_listed(seen(admin_client, run, level=""))) == 4


def test_a_difference_shows_both_sides_by_more_than_colour(admin_client: Client) -> None:
    run = a_run()
    find(run, "updated", changes={"display_name": ["Old name", "New name"], "description": [None, "Added"]})

    html = seen(admin_client, run)

    assert re.search(r"gw-del[^>]*><pre><span[^>]*>−</span>Old name", html)
    assert re.search(r"gw-ins[^>]*><pre><span[^>]*>\+</span>New name", html)


def test_nothing_from_the_source_smuggles_markup_into_a_page(admin_client: Client) -> None:
    payload = "<script>alert(1)</script>"
    run = a_run(source_label=payload, message=payload, state="failed", source_facts={"engine": payload})
    find(run, detail=payload, field=payload, table=payload, changes={payload: [payload, payload]})

    assert payload not in seen(admin_client, run)
    assert payload not in admin_client.get(reverse(LIST)).content.decode()


def test_the_same_command_is_shown_without_secrets(admin_client: Client) -> None:
    run = a_run(secrets=True)

    html = seen(admin_client, run)

    assert "manage.py migrate_backoffice --source &quot;$LEGACY_DATABASE_URL&quot;" in html
    assert "--naive-timezone Europe/Zurich --only openai_prod" in html


@pytest.mark.parametrize(
    ("kind", "ends"),
    [("dry_run", '"$LEGACY_DATABASE_URL"'), ("apply", "--apply"), ("verify", "--verify"), ("delta", "--delta")],
)
def test_each_kind_has_its_command(kind: str, ends: str) -> None:
    assert import_summaries.command_of(kind, {}).endswith(ends)


def test_an_id_that_is_no_number_is_a_page_that_is_not_there(admin_client: Client) -> None:
    assert admin_client.get("/admin/providers/importrun/nonsense/change/").status_code == 404


# While it runs


def test_a_running_run_is_followed_with_and_without_scripts(admin_client: Client) -> None:
    run = a_run(state="running", finished_at=None, tables={})

    with lock.alone():
        html = seen(admin_client, run)

    assert f'data-live="{reverse(LIVE, args=[run.pk])}"' in html
    assert '<noscript><meta http-equiv="refresh"' in html


def test_the_moving_part_says_when_the_run_is_over(admin_client: Client) -> None:
    running, over = a_run(state="running", finished_at=None), a_run()

    assert "X-Live" not in admin_client.get(reverse(LIVE, args=[running.pk]))
    assert admin_client.get(reverse(LIVE, args=[over.pk]))["X-Live"] == "over"


def test_progress_is_told_in_rows_rate_and_time_left() -> None:
    meter = import_summaries.meter_of(
        runs.Progress(rows=50_000, total=250_000, doing="llm_models", rows_per_second=5000)
    )

    assert meter is not None
    assert meter.percent == 20.0
    assert (meter.rows, meter.rate, meter.left) == ("50\u202f000 of 250\u202f000", "5\u202f000", "40\u202fs")


def test_progress_without_a_total_promises_nothing() -> None:
    meter = import_summaries.meter_of(runs.Progress(rows=50, total=0, doing="reading", rows_per_second=0))

    assert meter is not None
    assert (meter.percent, meter.rows, meter.left) == (None, "50", "–")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.42, "420\u202fms"), (12, "12\u202fs"), (185, "3\u202fmin 05\u202fs"), (7800, "2\u202fh 10\u202fmin")],
)
def test_spans_are_told_in_two_units_at_most(seconds: float, text: str) -> None:
    assert import_summaries.span(seconds) == text


def test_a_run_whose_process_died_is_told_to_be_interrupted(admin_client: Client) -> None:
    run = a_run(state="running", finished_at=None, secrets=True)

    html = seen(admin_client, run)

    assert "interrupted" in html
    assert "Start again" in html


def test_nothing_is_begun_while_another_run_is_under_way(admin_client: Client, sent: list) -> None:
    running, plan = a_run(state="running", finished_at=None), a_run(secrets=True)

    with lock.alone():
        start_told = start(admin_client)
        admin_client.post(reverse(NEXT, args=[plan.pk]), {"kind": "apply"})

    assert start_told.url == reverse(RUN, args=[running.pk])
    assert ImportRun.objects.count() == 2
    assert sent == []


# The report


def report(client: Client, run: ImportRun) -> dict[str, Any]:
    response = client.get(reverse(REPORT, args=[run.pk]))
    assert f'filename="import-{run.pk}-{run.kind}.json"' in response["Content-Disposition"]
    return json.loads(b"".join(response.streaming_content))


def test_the_report_holds_the_runs_tables_and_every_finding(admin_client: Client) -> None:
    run = a_run("apply", secrets=True, exit_status=2)
    find(run, "null_flag", times=3)
    find(run, "updated", changes={"display_name": ["a", "b"]})

    told = report(admin_client, run)

    assert (told["format"], told["run"], told["kind"], told["exit_status"]) == (
        "llm-gateway/import-report",
        run.pk,
        "apply",
        2,
    )
    assert told["tables"] == TABLES
    assert told["codes"] == {"null_flag": 3, "updated": 1}
    assert [finding["key"] for finding in told["findings"]] == [
        *("null_flag-000", "null_flag-001", "null_flag-002"),
        "updated-000",
    ]
    assert told["findings"][3]["changes"] == {"display_name": ["a", "b"]}
    assert "changes" not in told["findings"][0]


def test_a_long_report_is_read_in_parts(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("providers.import_reports._AT_ONCE", 2)
    run = a_run()
    find(run, times=5)

    assert [finding["key"] for finding in report(admin_client, run)["findings"]] == [
        f"null_flag-{n:03}" for n in range(5)
    ]


def test_a_report_without_findings_is_json_too(admin_client: Client) -> None:
    assert report(admin_client, a_run())["findings"] == []


@pytest.mark.django_db(transaction=True)
async def test_an_asynchronous_server_gets_the_same_report(admin_user: User, async_client: AsyncClient) -> None:
    run = await sync_to_async(a_run)()
    await sync_to_async(find)(run, times=3)
    await async_client.aforce_login(admin_user)

    response = await async_client.get(reverse(REPORT, args=[run.pk]))

    told = json.loads(b"".join([part async for part in response.streaming_content]))
    assert len(told["findings"]) == 3


def test_a_run_that_is_not_over_has_no_report_yet(admin_client: Client) -> None:
    run = a_run(state="running", finished_at=None)

    assert admin_client.get(reverse(REPORT, args=[run.pk])).status_code == 404


# What comes next


def test_a_plan_is_applied_with_the_credentials_it_still_has(admin_client: Client, sent: list) -> None:
    plan = a_run(secrets=True)

    admin_client.post(reverse(NEXT, args=[plan.pk]), {"kind": "apply"})

    run = ImportRun.objects.get(kind="apply")
    options = runs.options_of(run)
    assert sent == [("providers.tasks.run_import", [run.pk])]
    assert options.source_url.reveal() == SOURCE
    assert [key.reveal() for key in options.legacy_keys] == [LEGACY_KEY]
    assert (options.naive_timezone, options.only) == ("Europe/Zurich", ("openai_prod",))


def test_credentials_move_on_to_the_next_run(admin_client: Client, sent: list) -> None:
    plan = a_run(secrets=True)

    admin_client.post(reverse(NEXT, args=[plan.pk]), {"kind": "apply"})

    assert ImportRun.objects.exclude(sealed=None).get().kind == "apply"


def test_without_credentials_the_next_step_asks_for_them_and_keeps_the_rest(admin_client: Client) -> None:
    done = a_run("apply")

    html = seen(admin_client, done)
    asking = f"{reverse(ADD)}?kind=verify&amp;like={done.pk}"
    fields = form_of_page(admin_client.get(reverse(ADD), {"kind": "verify", "like": done.pk}).content.decode())

    assert asking in html
    assert fields["kind"] == "verify"
    assert fields["naive_timezone"] == "Europe/Zurich"
    assert fields["only"] == "openai_prod"
    assert not fields["source_url"]
    assert not fields["legacy_keys"]


def test_a_step_that_the_run_does_not_offer_is_refused(admin_client: Client, sent: list) -> None:
    plan = a_run(secrets=True)

    admin_client.post(reverse(NEXT, args=[plan.pk]), {"kind": "undo"})

    assert ImportRun.objects.count() == 1
    assert sent == []


def test_steps_are_not_begun_by_following_a_link(admin_client: Client) -> None:
    plan = a_run(secrets=True)

    assert admin_client.get(reverse(NEXT, args=[plan.pk]), {"kind": "apply"}).status_code == 405
    assert admin_client.get(reverse(FORGET, args=[plan.pk])).status_code == 405


def test_credentials_can_be_forgotten(admin_client: Client) -> None:
    plan = a_run(secrets=True)
    assert "kept encrypted" in seen(admin_client, plan)

    admin_client.post(reverse(FORGET, args=[plan.pk]))

    plan.refresh_from_db()
    assert plan.sealed is None
    assert "not kept" in seen(admin_client, plan)


def an_apply_with_effect(**fields: Any) -> ImportRun:
    run = a_run("apply", **fields)
    ImportRecord.objects.create(
        run=run,
        origin="o",
        table="llm_providers",
        key="a",
        digest="d",
        outcome="created",
        target_kind="provider",
        target_id=1,
        after="x",
    )
    return run


def undo(client: Client, run: ImportRun, confirmation: str, reason: str = "the wrong installation") -> Any:
    return client.post(reverse(UNDO, args=[run.pk]), {"confirmation": confirmation, "reason": reason})


def test_an_undo_is_asked_for_by_the_runs_number_with_a_reason(admin_client: Client, sent: list) -> None:
    run = an_apply_with_effect()

    undo(admin_client, run, str(run.pk))

    asked = ImportRun.objects.get(kind="undo")
    assert asked.undoes == run
    assert asked.options["reason"] == "the wrong installation"
    assert sent == [("providers.tasks.run_import", [asked.pk])]
    assert "the wrong installation" in seen(admin_client, asked)


@pytest.mark.parametrize(
    ("confirmation", "reason", "said"), [("0", "why", "to confirm."), ("{pk}", "", "Say why"), ("", "why", "required")]
)
def test_an_undo_without_number_or_reason_does_nothing(
    admin_client: Client, sent: list, confirmation: str, reason: str, said: str
) -> None:
    run = an_apply_with_effect()

    response = undo(admin_client, run, confirmation.format(pk=run.pk), reason)

    assert said in response.content.decode()
    assert sent == []


def test_only_the_latest_import_can_be_undone(admin_client: Client, sent: list) -> None:
    first, last = an_apply_with_effect(), an_apply_with_effect()

    response = admin_client.post(
        reverse(UNDO, args=[first.pk]), {"confirmation": str(first.pk), "reason": "x"}, follow=True
    )

    assert f"Import {last.pk} came later: undo it first." in response.content.decode()
    assert reverse(UNDO, args=[first.pk]) not in seen(admin_client, first)
    assert reverse(UNDO, args=[last.pk]) in seen(admin_client, last)
    assert sent == []


# Who may do what


def test_viewing_is_not_starting(client: Client, sent: list) -> None:
    viewer = staff("view_importrun")
    run = an_apply_with_effect(secrets=True)

    html = seen(viewer, run)

    assert viewer.get(reverse(LIST)).status_code == 200
    assert report(viewer, run)["run"] == run.pk
    for button in ("Verify", "Undo", "Forget the credentials"):
        assert button not in html
    assert viewer.get(reverse(ADD)).status_code == 403
    assert viewer.post(reverse(ADD), {"source_url": SOURCE}).status_code == 403
    for name in (NEXT, FORGET, UNDO):
        assert viewer.post(reverse(name, args=[run.pk]), {"kind": "verify"}).status_code == 403
    assert ImportRun.objects.count() == 1


def test_somebody_without_the_right_sees_nothing() -> None:
    nobody = staff("view_provider")
    run = a_run()

    for url in (reverse(LIST), *(reverse(name, args=[run.pk]) for name in (RUN, LIVE, REPORT))):
        assert nobody.get(url).status_code == 403


def test_no_page_holds_a_credential(admin_client: Client, sent: list) -> None:
    plan, done = a_run(secrets=True), an_apply_with_effect(secrets=True)
    urls = [reverse(LIST), reverse(ADD), f"{reverse(ADD)}?kind=verify&like={plan.pk}"]
    urls += [reverse(name, args=[run.pk]) for run in (plan, done) for name in (RUN, LIVE)]
    urls.append(reverse(UNDO, args=[done.pk]))

    for url in urls:
        html = admin_client.get(url).content.decode()
        assert PASSWORD not in html
        assert LEGACY_KEY not in html
