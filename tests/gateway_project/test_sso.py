"""The whole way to a real issuer and back, with allauth loaded into this process for as long as this module runs."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from django.conf import settings
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import override_settings
from django.urls import path, reverse

from gateway_project import roles, sign_on, urls
from gateway_project.env import Environment
from providers.models import AuditEntry
from routing.models import Team, TeamMember
from tests.fakes.issuer import CLIENT_ID, CLIENT_SECRET, Issuer

ROOT = Path(__file__).resolve().parent.parent.parent
ADA = {"sub": "u-1", "preferred_username": "ada", "email": "ada@example.org", "groups": ["platform"]}

urlpatterns = []


@pytest.fixture(scope="module")
def sso(django_db_setup, django_db_blocker):
    """The settings as `GATEWAY_SSO_ISSUER` makes them; the tables of allauth are taken out again at the end."""
    with Issuer() as issuer:
        told = {
            "GATEWAY_SSO_ISSUER": issuer.url,
            "GATEWAY_SSO_CLIENT_ID": CLIENT_ID,
            "GATEWAY_SSO_CLIENT_SECRET": CLIENT_SECRET,
            "GATEWAY_SSO_ROLES": "platform=operator, audit=viewer",
            "GATEWAY_SSO_TEAMS": "lab=research, lab-leads=research:manages",
        }
        on = sign_on.read(Environment(told))
        middleware = [*settings.MIDDLEWARE, "allauth.account.middleware.AccountMiddleware"]
        told = {"SIGN_ON": on, "ROOT_URLCONF": __name__, "MIDDLEWARE": middleware, **sign_on.django_settings(on)}
        apps = override_settings(INSTALLED_APPS=[*sign_on.APPS, *settings.INSTALLED_APPS])
        with override_settings(**told), apps:
            from gateway_project import sso

            for model in [model for model in admin.site._registry if model.__module__.startswith("allauth.")]:
                admin.site.unregister(model)  # as `gateway_project.admin` does when it is loaded after allauth

            urlpatterns[:] = [path("", _including(sso)), *urls.urlpatterns]
            with django_db_blocker.unblock():
                call_command("migrate", "account", verbosity=0)
                call_command("migrate", "socialaccount", verbosity=0)
            try:
                yield issuer
            finally:
                with django_db_blocker.unblock():
                    call_command("migrate", "socialaccount", "zero", verbosity=0)
                    call_command("migrate", "account", "zero", verbosity=0)


def _including(module):
    from django.urls import include

    return include(module)


@pytest.fixture
def issuer(sso, db):
    sso.claims, sso.spoil = dict(ADA), {}
    roles.make()
    Team.objects.create(name="research")
    return sso


def way_back(client, **sent):
    """From the button to the address that the issuer sends the browser back to."""
    there = client.post(reverse("sso_login"), sent)
    assert there.status_code == 302, there.content
    return httpx.get(there["Location"], timeout=60).headers["Location"].removeprefix("http://testserver")


def sign_in(client):
    return client.get(way_back(client))


def signed_in_as(client):
    pk = client.session.get("_auth_user_id")
    return get_user_model().objects.get(pk=pk) if pk else None


def test_somebody_new_comes_in_with_the_role_of_their_group(client, issuer):
    assert sign_in(client)["Location"] == "/admin/"
    ada = signed_in_as(client)
    assert (ada.username, ada.email, ada.is_staff, ada.is_superuser) == ("ada", "ada@example.org", True, False)
    assert [group.name for group in ada.groups.all()] == ["operator"]
    assert not ada.has_usable_password()
    assert client.get("/admin/").status_code == 200
    assert 0 < client.session.get_expiry_age() <= 8 * 3600
    assert AuditEntry.objects.filter(target_type="user", target_id="ada", actor="user:ada").exists()


def test_a_changed_group_changes_role_and_team_at_the_next_sign_on(client, issuer):
    sign_in(client)
    client.logout()
    issuer.claims["groups"] = ["audit", "lab-leads", "lab"]
    sign_in(client)
    ada = signed_in_as(client)
    assert get_user_model().objects.count() == 1
    assert [group.name for group in ada.groups.all()] == ["viewer"]
    assert TeamMember.objects.get(user=ada).role == "manages"
    client.logout()
    issuer.claims["groups"] = ["audit"]
    sign_in(client)
    assert not TeamMember.objects.filter(user=ada).exists()


def test_who_lost_every_group_is_kept_out_and_loses_the_sessions_there_were(client, issuer):
    sign_in(client)
    issuer.claims["groups"] = []
    other = type(client)()
    assert sign_in(other).status_code == 403
    assert signed_in_as(other) is None
    assert client.get("/admin/").status_code == 302


def test_a_stranger_without_a_group_leaves_no_account_behind(client, issuer):
    issuer.claims["groups"] = ["canteen"]
    response = sign_in(client)
    assert response.status_code == 403
    assert b"no group of yours" in response.content
    assert not get_user_model().objects.exists()


def test_an_account_of_the_same_name_and_address_is_somebody_elses(client, issuer):
    local = get_user_model().objects.create_superuser("ada", email="ada@example.org", password="correct horse battery")
    sign_in(client)
    assert signed_in_as(client) != local
    assert signed_in_as(client).username != "ada"


def test_nobody_adds_an_identity_to_an_account_that_is_open(client, issuer):
    local = get_user_model().objects.create_superuser("root", password="correct horse battery")
    client.force_login(local, backend="django.contrib.auth.backends.ModelBackend")
    assert client.get(way_back(client, process="connect")).status_code == 400
    assert not local.socialaccount_set.exists()


def test_who_was_switched_off_here_stays_out(client, issuer):
    sign_in(client)
    client.logout()
    get_user_model().objects.update(is_active=False)
    assert sign_in(client).status_code == 403
    assert signed_in_as(client) is None


def test_an_answer_to_another_browsers_question_is_no_answer(client, issuer):
    address = way_back(type(client)())
    assert client.get(address).status_code == 502
    assert signed_in_as(client) is None


def test_an_answer_is_good_once(client, issuer):
    address = way_back(client)
    client.get(address)
    client.logout()
    assert client.get(address).status_code == 502


@pytest.mark.parametrize(
    "spoil",
    [
        {"signed_by": rsa.generate_private_key(public_exponent=65537, key_size=2048)},
        {"aud": "somebody-else"},
        {"iss": "https://elsewhere.example"},
        {"exp": 1},
        {"sub": "u-2"},
        {"userinfo": {"sub": "u-2"}},
    ],
    ids=lambda spoil: next(iter(spoil)),
)
def test_a_token_that_does_not_hold_lets_nobody_in(client, issuer, spoil):
    issuer.spoil = spoil
    assert sign_in(client).status_code == 502
    assert not get_user_model().objects.exists()


def test_an_issuer_that_calls_itself_otherwise_is_not_followed(client, issuer):
    issuer.spoil = {"issuer": "https://elsewhere.example"}
    response = client.post(reverse("sso_login"))
    assert response.status_code == 502
    assert b"elsewhere" not in response.content


def test_an_issuer_that_is_away_is_said_to_be_so(client, issuer):
    away = dataclasses.replace(settings.SIGN_ON, issuer="http://127.0.0.1:9")
    with override_settings(SIGN_ON=away, **sign_on.django_settings(away)):
        assert client.post(reverse("sso_login")).status_code == 502


def test_after_the_sign_on_comes_the_page_that_was_wanted_and_none_of_another_site(client, issuer):
    assert client.get(way_back(client, next="/admin/providers/provider/"))["Location"] == "/admin/providers/provider/"
    client.logout()
    assert client.get(way_back(client, next="https://elsewhere.example/"))["Location"] == "/admin/"


def test_a_link_alone_signs_nobody_on(client, issuer):
    assert client.get(reverse("sso_login")).status_code == 405


def test_the_login_page_offers_it(client, issuer):
    assert b"Sign in with single sign-on" in client.get("/admin/login/").content


def python(folder, code, **environment):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "DATABASE_URL"))}
    told = {"GATEWAY_DATA_DIR": str(folder), "GATEWAY_SSO_ISSUER": "https://id.example", **environment}
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=clean | told, capture_output=True, text=True)


def test_in_production_nothing_is_amiss_and_the_secrets_of_allauths_tables_have_no_page(data_dir):
    code = """
import django; from django.conf import settings; settings.ROOT_URLCONF; django.setup()
from django.contrib import admin; from django.core.management import call_command; from django.urls import reverse
call_command("check", deploy=True, fail_level="WARNING")
print(sorted(m._meta.app_label for m in admin.site._registry if "account" in m._meta.app_label), reverse("sso_callback"))
"""
    told = {"GATEWAY_SSO_CLIENT_ID": "x", "GATEWAY_SSO_CLIENT_SECRET": "y", "GATEWAY_PRODUCTION": "1"}
    done = python(data_dir, code, DJANGO_SETTINGS_MODULE="gateway_project.settings", **told)
    assert done.stdout.splitlines()[-1:] == ["[] /admin/sso/callback/"], done.stderr


def test_without_the_extra_the_gateway_starts_and_says_what_sign_on_needs(data_dir):
    code = """
import sys, os
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "allauth": raise ModuleNotFoundError(name)
import importlib.util as u; found = u.find_spec
u.find_spec = lambda name, *a: None if name == "allauth" else found(name, *a)
sys.meta_path.insert(0, Missing()); sys.argv = ["manage.py", "check"]
issuer = os.environ.pop("GATEWAY_SSO_ISSUER"); import manage; manage.main(["manage.py", "check"])
os.environ["GATEWAY_SSO_ISSUER"] = issuer
from gateway_project.env import BadSetting; import importlib, gateway_project.settings as s
try: importlib.reload(s)
except BadSetting as error: print(error)
"""
    done = python(data_dir, code, GATEWAY_SSO_CLIENT_ID="x", GATEWAY_SSO_CLIENT_SECRET="y")
    assert "no issues" in done.stdout, done.stderr
    assert "make run EXTRAS=sso" in done.stdout, done.stderr
