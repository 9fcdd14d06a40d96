from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from inference import cutover_history, cutover_looks
from inference.cutover import HOUR, Figures, Hour, HourOfSide, SideFigures
from inference.models import ShadowPair
from providers import actor
from providers.models import AuditEntry
from routing.models import Rollout
from tests.inference.ledger import record
from tests.page_forms import form_of_page

pytestmark = pytest.mark.django_db

HOME = "admin:routing_rollout_changelist"
LEGACY_URL = "http://127.0.0.1:9/backoffice"
CANARY = "legacy-header-canary-0123456789"


def url(name: str) -> str:
    return reverse(f"admin:routing_rollout_{name}")


def page(client: Client, **query: Any) -> str:
    response = client.get(reverse(HOME), query)
    assert response.status_code == 200
    return response.content.decode()


def parallel(percentage: str = "25", **values: Any) -> Rollout:
    with actor.acting_as("user:grace", reason="begin"):
        return Rollout.change(percentage=Decimal(percentage), legacy_base_url=LEGACY_URL, **values)


def move(client: Client, was: str = "25", **fields: str) -> str:
    response = client.post(url("share"), {"was": was, "slider": was, "percentage": was} | fields, follow=True)
    return response.content.decode()


def share() -> Decimal:
    return Rollout.objects.get().percentage


def requests(count: int, **fields: Any) -> None:
    record(count, **{"at": timezone.now() - timedelta(minutes=5), "duration_ms": 100.0} | fields)


def staff(*permissions: str) -> Client:
    user = User.objects.create_user("bob", password="x", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=[*permissions, "see_every_team"]))
    client = Client()
    client.force_login(user)
    return client


def test_who_sees_one_team_only_does_not_see_who_asks_on_which_side() -> None:
    client = staff("view_rollout")
    User.objects.get(username="bob").user_permissions.remove(Permission.objects.get(codename="see_every_team"))
    assert client.get(reverse(HOME)).status_code == 403


# Where requests go


def test_without_a_legacy_side_the_page_teaches_and_offers_to_name_it(admin_client: Client) -> None:
    html = page(admin_client)

    assert "there is no legacy side" in html
    assert 'name="legacy_base_url"' in html
    assert 'name="slider"' not in html
    assert "Back to 0" not in html


def test_the_share_is_told_with_since_when_by_whom_and_why(admin_client: Client) -> None:
    parallel("12.5")

    html = page(admin_client)

    assert "12.5\u202f% of clients are served here" in html
    assert "by grace: begin" in html


def test_the_slider_moves_the_share(admin_client: Client) -> None:
    parallel("25")

    html = move(admin_client, slider="60", reason="level for a day")

    assert share() == 60
    assert "60\u202f% of clients are served here" in html
    entry = AuditEntry.objects.latest("id")
    assert (entry.actor, entry.reason) == ("user:admin", "level for a day")


def test_a_typed_number_counts_before_the_slider_and_may_hold_decimals(admin_client: Client) -> None:
    parallel("25")

    move(admin_client, slider="60", percentage="33.33")

    assert share() == Decimal("33.33")


def test_a_share_with_decimals_stays_when_nothing_is_moved(admin_client: Client) -> None:
    parallel("12.5")

    move(admin_client, was="12.50", slider="12", percentage="12.50")

    assert share() == Decimal("12.5")


@pytest.mark.parametrize("wrong", ["101", "-1", "abc", "1.234"])
def test_what_is_no_share_changes_nothing(admin_client: Client, wrong: str) -> None:
    parallel("25")

    assert "Nothing was changed." in move(admin_client, percentage=wrong)
    assert share() == 25


def test_two_people_do_not_undo_each_other_unseen(admin_client: Client) -> None:
    parallel("25")
    seen = form_of_page(page(admin_client))["was"]
    Rollout.change(percentage=Decimal(0))

    html = move(admin_client, was=seen, slider="50")

    assert share() == 0
    assert "meanwhile somebody moved the share to 0\u202f%" in html


def test_one_button_brings_everybody_back(admin_client: Client) -> None:
    parallel("80")
    assert "Back to 0" in page(admin_client)

    admin_client.post(url("back"), {"reason": "errors"})

    assert share() == 0
    assert AuditEntry.objects.latest("id").reason == "errors"
    assert "Back to 0" not in page(admin_client)


def test_the_kill_switch_says_since_when_by_whom_and_why(admin_client: Client) -> None:
    parallel("80")

    admin_client.post(url("switch"), {"to": "off", "reason": "wrong prices"})
    html = page(admin_client)

    assert not Rollout.objects.get().gateway_enabled
    assert "The kill switch is thrown" in html
    assert "by admin: wrong prices" in html

    admin_client.post(url("switch"), {"to": "on"})
    assert Rollout.objects.get().gateway_enabled
    assert share() == 80, "the share waited"


def test_the_switch_cannot_be_thrown_without_a_legacy_side(admin_client: Client) -> None:
    response = admin_client.post(url("switch"), {"to": "off"}, follow=True)

    assert "name its base URL first" in response.content.decode()
    assert not Rollout.objects.exists()


def test_an_environment_that_switches_off_is_named(admin_client: Client, settings: Any) -> None:
    parallel()
    settings.GATEWAY_V2_ENABLED = False

    html = page(admin_client)

    assert "GATEWAY_V2_ENABLED=false" in html
    assert "The kill switch is thrown" in html


def test_traffic_is_not_moved_by_following_a_link(admin_client: Client) -> None:
    parallel()

    for name in ("share", "back", "switch", "legacy", "shadow"):
        assert admin_client.get(url(name)).status_code == 405
    assert share() == 25


# The legacy side and the copies


def save_legacy(client: Client, **fields: str) -> Any:
    form = LegacyFields | fields
    return client.post(url("legacy"), {name: value for name, value in form.items() if value is not None}, follow=True)


LegacyFields = {
    "legacy_base_url": LEGACY_URL,
    "headers": "",
    "extra_paths": "",
    "verify_tls": "on",
    "connect_timeout_seconds": "5",
    "reply_timeout_seconds": "600",
    "idle_timeout_seconds": "60",
}


def test_the_legacy_side_is_named_with_headers_that_are_never_shown(admin_client: Client) -> None:
    response = save_legacy(admin_client, headers=f"X-Legacy-Key: {CANARY}", extra_paths="/chat\n/ask", reason="begin")

    row = Rollout.objects.get()
    html = response.content.decode()
    assert row.legacy_base_url == LEGACY_URL
    assert row.extra_paths == ["/chat", "/ask"]
    assert {name: value.reveal() for name, value in row.headers().items()} == {"X-Legacy-Key": CANARY}
    assert "X-Legacy-Key" in html
    assert CANARY not in html


def test_headers_stay_are_replaced_by_name_and_can_be_forgotten(admin_client: Client) -> None:
    def stored() -> dict[str, str]:
        return {name: value.reveal() for name, value in Rollout.objects.get().headers().items()}

    save_legacy(admin_client, headers="A: 1\nB: 2")
    save_legacy(admin_client)
    assert stored() == {"A": "1", "B": "2"}
    save_legacy(admin_client, headers="a: 3")
    assert stored() == {"B": "2", "a": "3"}
    save_legacy(admin_client, forget_headers="B")
    assert stored() == {"a": "3"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"legacy_base_url": "http://169.254.169.254/"}, "metadata service"),
        ({"legacy_base_url": "ftp://legacy.example"}, "http"),
        ({"extra_paths": "/admin"}, "always served here"),
        ({"headers": "no colon"}, "Line 1 is not"),
        ({"headers": f"Host: {CANARY}"}, "no header that can be set"),
        ({"connect_timeout_seconds": "0"}, "greater than or equal"),
    ],
)
def test_what_the_legacy_side_cannot_be_is_said_at_its_field(
    admin_client: Client, fields: dict[str, str], said: str
) -> None:
    html = save_legacy(admin_client, **fields).content.decode()

    assert said in html
    assert CANARY not in html
    assert not Rollout.objects.exists()


def test_the_legacy_side_cannot_be_taken_away_while_the_switch_is_thrown(admin_client: Client) -> None:
    parallel(gateway_enabled=False)

    html = save_legacy(admin_client, legacy_base_url="").content.decode()

    assert "Without a legacy side nobody would serve" in html
    assert Rollout.objects.get().legacy_base_url == LEGACY_URL


def test_copies_are_switched_on_with_a_cap(admin_client: Client) -> None:
    parallel()

    fields = {"shadow_percentage": "5", "shadow_daily_cap": "2.5", "shadow_retention_hours": "24"}
    html = admin_client.post(url("shadow"), fields, follow=True).content.decode()

    row = Rollout.objects.get()
    assert (row.shadow_percentage, row.shadow_daily_cap, row.shadow_retention_hours) == (5, Decimal("2.5"), 24)
    assert "5\u202f% of generating requests are copied" in html.replace("&#8239;", "\u202f")


def a_pair(**facts: Any) -> ShadowPair:
    told = {"at": timezone.now(), "answered_by": "gateway", "path": "/v1/chat/completions", "model": "gpt-test"}
    told |= {"request_text": "What is red?", "equal": False, "similarity": 0.25}
    for side in ("gateway", "legacy"):
        told |= {f"{side}_text": f"Said by {side}", f"{side}_status": 200, f"{side}_ms": 40.0}
    return ShadowPair.objects.create(**(told | facts))


def test_compared_answers_are_summed_and_the_most_different_named(admin_client: Client) -> None:
    parallel()
    a_pair(similarity=1.0, equal=True)
    worst = a_pair()

    html = page(admin_client)

    assert "50\u202f%" in html, "equal"
    assert "62\u202f%" in html, "similarity"
    assert reverse("admin:routing_rollout_pair", args=[worst.pk]) in html
    assert "What is red?" not in html


def test_one_pair_shows_both_answers(admin_client: Client) -> None:
    response = admin_client.get(reverse("admin:routing_rollout_pair", args=[a_pair().pk]))

    html = response.content.decode()
    for text in ("What is red?", "Said by gateway", "Said by legacy"):
        assert text in html
    assert "no-store" in response["Cache-Control"]


def test_what_customers_wrote_needs_a_right_of_its_own() -> None:
    viewer = staff("view_rollout", "change_rollout")
    parallel()
    pair = a_pair()
    address = reverse("admin:routing_rollout_pair", args=[pair.pk])

    assert address not in page(viewer)
    assert viewer.get(address).status_code == 403


def test_an_answer_that_cannot_be_decrypted_says_so(admin_client: Client) -> None:
    pair = a_pair()
    ShadowPair.objects.filter(pk=pair.pk).update(legacy_text="gw1.00000000.AAAA")

    html = admin_client.get(reverse("admin:routing_rollout_pair", args=[pair.pk])).content.decode()

    assert "Cannot be read" in html
    assert "Said by gateway" in html


# The figures


def test_both_sides_stand_beside_each_other_with_a_verdict_in_words(admin_client: Client) -> None:
    parallel()
    requests(10, duration_ms=50.0, cost=Decimal("0.25"), currency="USD")
    requests(8, side="legacy", duration_ms=100.0)
    requests(2, side="legacy", duration_ms=100.0, status=500)

    html = admin_client.get(url("live")).content.decode()

    assert re.search(r"better: -\d\d %", html)
    assert "better: -20.00 points" in html
    assert "20.00\u202f%" in html
    assert "2.50\u202fUSD" in html
    assert "&lt;span" not in html


def test_a_side_without_requests_gets_no_verdict(admin_client: Client) -> None:
    requests(3)

    html = admin_client.get(url("live")).content.decode()

    assert "better" not in html
    assert "worse" not in html


def test_the_span_is_one_of_those_offered(admin_client: Client) -> None:
    requests(1, at=timezone.now() - timedelta(hours=3))

    assert "No generating request" in page(admin_client, hours=1)
    assert "No generating request" not in page(admin_client, hours=6)
    assert "last 24 hours" in page(admin_client, hours="99999999")


def test_the_hours_are_drawn_as_requests_and_as_the_share_that_failed() -> None:
    at = datetime(2026, 11, 20, tzinfo=UTC)
    hours = [Hour(at + n * HOUR, HourOfSide(100, 10), HourOfSide(50 * n, 0)) for n in range(3)]
    (_title, requests), (_other, failed) = cutover_looks.charts_of(hours)
    assert [said.text for said in requests.columns[2].said] == ["100", "100"]
    assert [said.text for said in failed.columns[0].said] == ["10\u202f%", "–"]


def test_costs_are_compared_by_the_thousand_requests() -> None:
    sides = [SideFigures("gateway", requests=500, costs={"USD": Decimal(1)})]
    sides.append(SideFigures("legacy", requests=100, costs={"USD": Decimal("0.4")}))
    now = datetime(2026, 11, 20, tzinfo=UTC)
    cost = cutover_looks.versus(Figures(now, now, *sides, hours=()))[-1]
    assert ("2.00" in cost.gateway, "4.00" in cost.legacy, cost.verdict, cost.tone) == (True, True, "-50 %", "good")


def test_changes_are_told_with_before_after_who_and_why() -> None:
    parallel("0")
    with actor.acting_as("user:ada", reason="a first quarter"):
        Rollout.change(percentage=Decimal(25), headers={"X-Key": CANARY})

    latest, first = cutover_history.changes()

    assert (latest.actor, latest.reason) == ("user:ada", "a first quarter")
    assert ("share", "0 %", "25 %") in latest.what
    assert ("extra headers", "none", "set") in latest.what
    assert ("legacy side", "", LEGACY_URL) in first.what
    assert CANARY not in str([latest, first])


def test_a_states_beginning_is_not_moved_by_other_changes() -> None:
    parallel("25")
    Rollout.change(shadow_percentage=Decimal(5))

    since = cutover_history.since("percentage")

    assert since is not None
    assert since.actor == "user:grace"


# Who may do what


def test_viewing_is_not_moving() -> None:
    viewer = staff("view_rollout")
    parallel("25")

    html = page(viewer)

    assert 'name="slider"' not in html
    assert "Back to 0" not in html
    for name in ("share", "back", "switch", "legacy", "shadow"):
        assert viewer.post(url(name), {"was": "25", "slider": "0", "to": "off"}).status_code == 403
    assert share() == 25
    assert Rollout.objects.get().gateway_enabled


def test_somebody_without_the_right_sees_nothing() -> None:
    nobody = staff("view_provider")

    assert nobody.get(reverse(HOME)).status_code == 403
    assert nobody.get(url("live")).status_code == 403


def test_commands_and_requests_that_do_the_same_are_shown(admin_client: Client) -> None:
    html = page(admin_client)

    for text in ("manage.py cutover --percentage", "manage.py retirement_report", "/api/v1/rollout/figures"):
        assert text in html
