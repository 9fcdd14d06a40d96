"""The menu shows what somebody may see; the search box and the crumbs speak its words."""

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import reverse

from gateway_project import sidebar
from gateway_project.templatetags.gateway_sidebar import crumbs

pytestmark = pytest.mark.django_db


@pytest.fixture
def viewer(client: Client) -> Client:
    user = User.objects.create_user("vera", is_staff=True)
    user.groups.add(Group.objects.get(name="viewer"))
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def test_every_entry_of_the_menu_leads_to_a_page(admin_client: Client) -> None:
    for _, items in sidebar.GROUPS:
        for item in items:
            assert admin_client.get(reverse(item.url_name), follow=True).status_code == 200, item.url_name


def test_a_group_without_anything_to_see_is_not_shown(viewer: Client) -> None:
    page = viewer.get(reverse("admin:index"))

    shown = {str(item["title"]) for group in page.context["sidebar_navigation"] for item in group["items"]}
    assert "Providers" in shown
    text = page.content.decode()
    assert reverse("admin:providers_provider_changelist") in text
    assert reverse("admin:auth_user_changelist") not in text


def test_the_search_finds_pages_by_name_and_by_group(rf: object, admin_user: User) -> None:
    request = rf.get("/")  # type: ignore[attr-defined]
    request.user = admin_user

    assert [found.title for found in sidebar.pages_named(request, "BUDG")] == ["Budgets"]
    assert "Providers" in [found.title for found in sidebar.pages_named(request, "registry")]


def test_the_search_finds_no_page_that_one_may_not_see(rf: object) -> None:
    request = rf.get("/")  # type: ignore[attr-defined]
    request.user = User.objects.create_user("nobody", is_staff=True)

    assert [found.title for found in sidebar.pages_named(request, "")] == ["Overview"]


def test_what_tells_of_all_teams_is_not_offered_to_who_sees_some(client: Client) -> None:
    user = User.objects.create_user("clerk", is_staff=True)
    user.user_permissions.add(*Permission.objects.filter(codename__in=("view_provider", "view_job", "change_job")))
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    page = client.get(reverse("admin:inference_job_changelist"))

    items = [item for group in page.context["sidebar_navigation"] for item in group["items"]]
    shown = {str(item["title"]) for item in items if item["has_permission"]}
    assert {"Jobs", "Providers"} <= shown
    assert not {"Doctor", "Workers"} & shown
    assert client.get(reverse("admin:workers")).status_code == 403
    assert client.post(reverse("admin:workers-ask"), {"do": "pause", "worker": "w"}).status_code == 403


@pytest.mark.parametrize(
    ("model", "title"),
    [("providers_provider", "Providers"), ("routing_ratelimit", "Limits"), ("auth_user", "Users")],
    ids=["provider", "limit", "user"],
)
def test_a_list_s_tab_is_titled_as_in_the_menu(admin_client: Client, model: str, title: str) -> None:
    html = admin_client.get(reverse(f"admin:{model}_changelist")).content.decode()

    assert html.partition("<title>")[2].partition("</title>")[0].strip() == f"{title} | LLM Gateway"


def test_crumbs_leave_the_app_out_and_use_the_name_of_the_menu() -> None:
    parts = [
        {"link": "/admin/routing/", "title": "Routing"},
        {"link": reverse("admin:routing_ratelimit_changelist"), "title": "rate limits"},
        {"link": "/admin/routing/ratelimit/7/change/", "title": "all keys"},
    ]

    assert [str(part["title"]) for part in crumbs(parts)] == ["Limits", "all keys"]
    assert crumbs([{"title": "Overview"}]) == [{"title": "Overview"}]
