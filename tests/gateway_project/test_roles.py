import pytest
from django.contrib.auth.models import Group, Permission, User

from gateway_project import roles
from gateway_project.roles import May
from routing.scope_grants import EVERY_SCOPE

pytestmark = pytest.mark.django_db


def held_by(name):
    rows = Permission.objects.filter(group__name=name).values_list("content_type__app_label", "codename")
    return {f"{app}.{codename}" for app, codename in rows}


def test_a_migration_makes_the_five_roles():
    assert set(Group.objects.filter(name__in=roles.ROLES).values_list("name", flat=True)) == set(roles.ROLES)


def test_making_them_again_changes_nothing_and_asks_little(django_assert_max_num_queries):
    before = {name: held_by(name) for name in roles.ROLES}
    with django_assert_max_num_queries(3):
        roles.make()
    assert {name: held_by(name) for name in roles.ROLES} == before


def test_a_role_that_was_widened_by_hand_is_narrowed_again_and_another_group_is_left_alone():
    added = Permission.objects.get(codename="add_user")
    own = Group.objects.create(name="ours")
    for group in (Group.objects.get(name="viewer"), own):
        group.permissions.add(added)
    roles.make()
    assert "auth.add_user" not in held_by("viewer")
    assert held_by("ours") == {"auth.add_user"}


def test_a_viewer_changes_nothing_and_reads_nothing_that_customers_wrote():
    held = held_by("viewer")
    assert all(name.partition(".")[2].startswith(("view_", "see_")) for name in held)
    assert not {"inference.view_shadowpair", "inference.view_tracecontent", "auth.view_user"} & held
    assert {"routing.view_clientkey", "inference.view_trace", "routing.see_every_team"} <= held


def test_an_operator_runs_the_gateway_but_lends_no_keys_and_no_money():
    held = held_by("operator")
    assert {"providers.change_provider", "routing.change_rollout", "inference.view_shadowpair"} <= held
    for what in ("clientkey", "team", "teammember", "ratelimit", "budget", "budgetraise"):
        assert not {f"routing.{verb}_{what}" for verb in ("add", "change", "delete")} & held


def test_keys_and_money_are_kept_by_different_people():
    keys, finance = held_by("keys"), held_by("finance")
    assert {"routing.add_clientkey", "routing.change_team", "routing.manage_every_team"} <= keys
    assert {"routing.change_budget", "routing.add_budgetraise", "providers.change_priceoverride"} <= finance
    assert "routing.change_budget" not in keys
    assert "routing.add_clientkey" not in finance
    assert "providers.change_provider" not in keys | finance


def test_only_the_admin_role_gives_roles_and_every_scope():
    for name in roles.ROLES:
        assert ({"auth.change_user", EVERY_SCOPE} <= held_by(name)) == (name == "admin")


@pytest.mark.parametrize(
    ("name", "seen"),
    [("inference.view_something", True), ("inference.view_tracecontent", False), ("auth.view_user", False)],
)
def test_a_new_table_is_a_viewers_at_once_unless_it_holds_texts(name, seen):
    app, _, codename = name.partition(".")
    verb, _, model = codename.partition("_")
    assert roles.ROLES["viewer"].holds(May(name, verb, f"{app}.{model}", app)) is seen


def test_whose_role_is_taken_away_may_not_do_it_any_more():
    ada = User.objects.create_user("ada", is_staff=True)
    ada.groups.add(Group.objects.get(name="operator"))
    assert User.objects.get(pk=ada.pk).has_perm("providers.change_provider")
    ada.groups.clear()
    assert not User.objects.get(pk=ada.pk).has_perm("providers.change_provider")
