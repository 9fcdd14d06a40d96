import json
import stat

import pytest
from django.contrib.auth import get_user_model

from gateway_project import first_run
from providers.models import Provider, ProviderModel
from routing.models import ClientKey

pytestmark = pytest.mark.django_db
BASE = "http://127.0.0.1:8000"


def test_a_first_run_leaves_an_admin_two_keys_and_a_model(tmp_path):
    first = first_run.set_up(tmp_path, BASE)
    admin = get_user_model().objects.get(username=first.admin_username)
    assert admin.is_superuser
    assert not admin.has_usable_password()
    scopes = {key.prefix: set(key.scopes) for key in ClientKey.objects.all()}
    assert scopes[first.client_key[:15]] == {"generate"}
    assert scopes[first.registry_key[:15]] == {"registry:read", "registry:write", "secrets:read", "generate"}
    model = ProviderModel.objects.get(provider__provider_id="local", model_id="demo")
    assert model.enabled
    assert model.provider.enabled
    assert model.parameters["model_path"] == "builtin:demo"
    assert model.provider.priority > Provider(provider_id="a-real-one").priority


def test_what_was_made_is_written_for_the_owner_only(tmp_path):
    first = first_run.set_up(tmp_path, BASE)
    path = tmp_path / "quickstart.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    written = json.loads(path.read_text())
    assert written["base_url"] == BASE
    assert written["client_key"] == first.client_key
    assert written["registry_key"] == first.registry_key
    assert written["admin_login_link"].startswith(f"{BASE}/welcome/")


def test_a_second_run_changes_nothing_but_the_link(tmp_path):
    first = first_run.set_up(tmp_path, BASE)
    second = first_run.set_up(tmp_path, BASE)
    assert (second.client_key, second.registry_key) == (first.client_key, first.registry_key)
    assert ClientKey.objects.count() == 2
    assert Provider.objects.count() == 1
    assert get_user_model().objects.count() == 1


def test_a_key_that_was_disabled_is_made_anew(tmp_path):
    first = first_run.set_up(tmp_path, BASE)
    row = ClientKey.objects.get(prefix=first.client_key[:15])
    row.enabled = False
    row.save()
    second = first_run.set_up(tmp_path, BASE)
    assert second.client_key != first.client_key
    assert second.registry_key == first.registry_key


def test_a_lost_file_means_new_keys(tmp_path):
    first = first_run.set_up(tmp_path, BASE)
    (tmp_path / "quickstart.json").unlink()
    assert first_run.set_up(tmp_path, BASE).client_key != first.client_key


def test_a_spoilt_file_means_new_keys(tmp_path):
    (tmp_path / "quickstart.json").write_text("[not json")
    assert first_run.set_up(tmp_path, BASE).client_key.startswith("gw-")


def test_a_key_of_another_installation_is_not_taken_over(tmp_path):
    first = first_run.set_up(tmp_path, BASE)
    forged = first.client_key[:-4] + ("AAAA" if not first.client_key.endswith("AAAA") else "BBBB")
    (tmp_path / "quickstart.json").write_text(json.dumps({"client_key": forged}))
    assert first_run.set_up(tmp_path, BASE).client_key != forged


def test_a_deleted_model_stays_deleted(tmp_path):
    first_run.set_up(tmp_path, BASE)
    Provider.objects.get(provider_id="local").delete()
    first_run.set_up(tmp_path, BASE)
    assert not Provider.objects.exists()


def test_another_provider_of_that_name_is_left_alone(tmp_path):
    Provider.objects.bulk_create([Provider(provider_id="local", provider_type="fake")])  # as imports do, without audit
    first_run.set_up(tmp_path, "http://127.0.0.1:8000")
    assert Provider.objects.get(provider_id="local").provider_type == "fake"


def test_an_admin_with_a_password_gets_no_link(tmp_path):
    get_user_model().objects.create_superuser("ada", password="a long enough one")
    first = first_run.set_up(tmp_path, BASE)
    assert first.admin_username == "ada"
    assert first.admin_login_link is None


def test_the_keys_stand_nowhere_in_the_database(tmp_path):
    first = first_run.set_up(tmp_path, BASE)
    stored = str(list(ClientKey.objects.values()))
    assert first.client_key not in stored
    assert first.client_key[16:] not in stored
