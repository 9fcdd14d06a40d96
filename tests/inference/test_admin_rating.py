from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from inference import rating
from inference.models import CostCorrection, RatingRun
from routing.models import Team
from routing.teams import TeamMember
from tests.inference.test_rating import RIGHT, SPAN, book

pytestmark = pytest.mark.django_db

RUNS, CORRECTIONS = (
    reverse("admin:inference_ratingrun_changelist"),
    reverse("admin:inference_costcorrection_changelist"),
)


@pytest.fixture
def run() -> RatingRun:
    book(1)
    book(2)
    return rating.run(SPAN, "a contract entered late", "user:ada", RIGHT)[0]


def test_runs_tell_why_and_lead_to_their_corrections(admin_client: Client, run: RatingRun) -> None:
    page = admin_client.get(RUNS).content.decode()
    assert "a contract entered late" in page
    assert f"{CORRECTIONS}?run__id__exact={run.pk}" in page
    assert (
        "−1.00\u202fUSD"
        in admin_client.get(reverse("admin:inference_ratingrun_change", args=[run.pk])).content.decode()
    )


def test_corrections_show_both_figures(admin_client: Client, run: RatingRun) -> None:
    page = admin_client.get(CORRECTIONS, {"run__id__exact": run.pk}).content.decode()
    assert "req_1" in page
    assert "1.50" in page
    one = CostCorrection.objects.first()
    assert admin_client.get(reverse("admin:inference_costcorrection_change", args=[one.pk])).status_code == 200


def test_nobody_writes_them_here(admin_client: Client, run: RatingRun) -> None:
    assert admin_client.get(reverse("admin:inference_ratingrun_add")).status_code == 403
    assert admin_client.post(reverse("admin:inference_ratingrun_delete", args=[run.pk])).status_code == 403


def test_members_of_a_team_see_the_corrections_of_their_team_alone(client: Client, run: RatingRun) -> None:
    user = User.objects.create_user("ben", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_ratingrun", "view_costcorrection"]))
    TeamMember.objects.create(team=Team.objects.create(name="other"), user=user)
    client.force_login(user)
    assert client.get(RUNS).status_code == 403
    assert "req_1" not in client.get(CORRECTIONS).content.decode()
