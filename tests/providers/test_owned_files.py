"""Files that own what they name: who may change it then, and what becomes of it when the file is read again."""

import contextlib
import io
import os
import secrets

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse

from gateway_project import server
from providers import configuration
from providers.importers import lock
from providers.models import AuditEntry, ConfigFile, Provider, ProviderModel
from routing.models import Policy, RoutingSettings
from tests.callers import REGISTRY, caller
from tests.providers import seed_configurations as seeds

pytestmark = pytest.mark.django_db

TEXT = """
version: 1
providers:
  local:
    provider_type: fake
    models: [a, b]
policies:
  quick: {targets: [a]}
routing: {retries: 3}
"""


@pytest.fixture
def file(tmp_path, settings):
    path = tmp_path / "gateway.yaml"
    path.write_text(TEXT)
    settings.GATEWAY_CONFIG_FILES = [str(path)]
    return path


def reload():
    (result,) = configuration.reload_files()
    return result


def owners():
    rows = (
        *Provider.objects.all(),
        *ProviderModel.objects.all(),
        *Policy.objects.all(),
        *RoutingSettings.objects.all(),
    )
    return {row.audit_name(): row.managed_by for row in rows}


def run(*arguments, **options):
    out = io.StringIO()
    try:
        call_command("apply_config", *arguments, stdout=out, no_color=True, **options)
    except SystemExit as ended:
        return out.getvalue(), ended.code
    return out.getvalue(), 0


def test_a_file_owns_what_it_names_and_nothing_else(file):
    Provider(provider_id="other", provider_type="fake").save()
    result = reload()
    assert (result.error, result.applied.written) == ("", True)
    path = str(file)
    assert owners() == {
        "local": path,
        "local:a": path,
        "local:b": path,
        "other": "",
        "quick": path,
        "routing": path,
    }
    assert AuditEntry.objects.filter(actor=f"file:{path}", target_type="policy").exists()


def test_an_edited_file_is_in_force_after_reading_it_again(file):
    reload()
    file.write_text(TEXT.replace("[a, b]", "[a, c]").replace("retries: 3", "retries: 5"))
    assert reload().applied.written
    assert RoutingSettings.load().retries == 5
    assert owners()["local:c"] == str(file)


def test_what_a_file_names_no_more_goes_and_a_provider_is_switched_off(file):
    Policy.objects.create(name="ours", document={})
    file.write_text(TEXT + "prices: [{model_prefix: a, valid_from: 2026-01-01, input_cost_per_million: '1'}]\n")
    reload()
    file.write_text(TEXT.replace("[a, b]", "[a]").replace("  quick: {targets: [a]}", "  other: {}"))
    changes = {(change.action, change.kind, change.name) for change in reload().applied.changes}
    assert changes == {("remove", "model", "b"), ("remove", "policy", "quick"), ("add", "policy", "other")}
    assert {row.name for row in Policy.objects.all()} == {"ours", "other"}
    file.write_text("version: 1\nproviders: {}\n")
    reload()
    assert (Provider.objects.get().enabled, owners()) == (False, {"local": "", "ours": "", "routing": ""})


def test_a_file_with_a_mistake_removes_nothing(file):
    reload()
    file.write_text(TEXT.replace("[a, b]", "[a]").replace("  quick: {targets: [a]}", "  quick: {strategy: fastest}"))
    reload()
    assert ProviderModel.objects.count() == 2
    assert Policy.objects.get().document["targets"] == [{"model": "a"}]
    assert set(owners().values()) == {str(file)}


def test_reading_the_same_file_again_writes_nothing(file):
    reload()
    before = AuditEntry.objects.count()
    result = reload()
    assert (result.applied.written, result.applied.changes) == (False, ())
    assert AuditEntry.objects.count() == before


def test_model_policies_own_the_provider_that_they_create(file):
    file.write_text(seeds.MODEL_POLICIES)
    reload()
    assert set(owners().values()) == {str(file)}
    assert reload().applied.changes == ()
    assert owners()["openrouter"] == str(file)


def test_the_web_process_reads_the_files_before_it_serves(file, monkeypatch, capsys):
    monkeypatch.setattr(server.connections, "close_all", lambda: None)
    server.read_configuration_files()
    assert Policy.objects.filter(name="quick").exists()
    file.unlink()
    server.read_configuration_files()
    assert "not applied whole (status 1)" in capsys.readouterr().err
    monkeypatch.setattr(configuration, "own_file", lambda path: [][0])
    server.read_configuration_files()
    assert "IndexError" in capsys.readouterr().err


def test_a_reading_waits_for_the_one_before_it(file, monkeypatch):
    os.utime(file, (0, 0))
    with contextlib.ExitStack() as other:
        other.enter_context(lock.alone())
        monkeypatch.setattr(configuration.time, "sleep", lambda seconds: other.close())
        assert reload().applied.written


def test_a_file_that_is_being_written_is_read_when_it_is_whole(file, monkeypatch):
    reload()
    monkeypatch.setattr(configuration, "_QUIET_SECONDS", 3600)
    file.write_text("version: 1\nproviders: {}\n")
    rest = iter([lambda: file.write_text(TEXT)])
    monkeypatch.setattr(configuration.time, "sleep", lambda seconds: next(rest, lambda: None)())
    assert reload().applied.changes == ()
    assert Provider.objects.get().enabled
    monkeypatch.setattr(configuration.time, "sleep", lambda seconds: file.write_text(file.read_text() + "\n"))
    file.touch()
    assert "somebody is writing it" in reload().error


def test_a_broken_file_leaves_everything_as_it_was_and_says_so(file):
    reload()
    file.write_text("version: 1\nproviders: {local: {provider_type: fake")
    assert "Not YAML" in reload().error
    assert owners()["quick"] == str(file)
    row = ConfigFile.objects.get()
    assert row.error
    assert row.applied_at < row.read_at
    file.unlink()
    assert "cannot be read" in reload().error


def test_a_bad_entry_stays_as_it_was_and_blocks_nothing_else(file):
    reload()
    file.write_text(TEXT.replace("[a]", "[b], strategy: fastest") + "prices: []\n")
    file.write_text(file.read_text().replace("retries: 3", "retries: 7"))
    result = reload()
    assert result.applied.exit_status == 2
    assert Policy.objects.get().document["targets"] == [{"model": "a"}]
    assert owners()["quick"] == str(file)
    assert RoutingSettings.load().retries == 7
    (finding,) = [one for one in ConfigFile.objects.get().findings if one["level"] == "person"]
    assert (finding["code"], finding["place"]) == ("entry_refused", "policies.quick.strategy")


def test_a_bad_model_leaves_its_provider_and_the_other_models(file):
    file.write_text(TEXT.replace("[a, b]", "[a, {model_id: b, max_tokens: many}]"))
    assert reload().applied.exit_status == 2
    assert [row.model_id for row in ProviderModel.objects.all()] == ["a"]


def test_another_file_does_not_change_what_a_file_owns(file):
    reload()
    provider = Provider.objects.get()
    provider.api_keys.create(secret=secrets.token_hex(16), environment="development")
    Provider.objects.create(provider_id="free", provider_type="fake").models.create(model_id="f", managed_by=str(file))
    text = "version: 1\nproviders: {local: {priority: 9, api_keys: [], models: [{model_id: a, max_tokens: 5}, c]}}\n"
    text += "policies: {quick: {targets: [b]}, more: {targets: [b]}}"
    applied = configuration.apply_document(text, label="by hand", write=True, prune=True)
    assert applied.exit_status == 2
    assert {finding.code.name for finding in applied.findings} == {"owned"}
    assert "remove" not in {change.action for change in applied.changes}
    assert (Provider.objects.get(pk=provider.pk).priority, provider.api_keys.count()) == (1, 1)
    assert Provider.objects.count() == 2
    assert {row.model_id: row.max_tokens for row in provider.models.all()} == {"a": None, "b": None, "c": None}
    assert {row.name: row.document["targets"][0]["model"] for row in Policy.objects.all()} == {
        "quick": "a",
        "more": "b",
    }


def test_old_variables_are_ignored_with_a_warning(file, monkeypatch):
    monkeypatch.setenv("CHAT_MODEL", "llama3.1:8b")
    reload()
    assert [one["detail"] for one in ConfigFile.objects.get().findings] == [
        "CHAT_MODEL is set and ignored: configuration comes from files."
    ]
    assert not Policy.objects.filter(name="chat_fast").exists()


def test_the_admin_shows_what_a_file_owns_and_refuses_to_change_it(file, admin_client):
    reload()
    for row, name in ((Provider.objects.get(), "provider"), (ProviderModel.objects.get(model_id="a"), "providermodel")):
        url = reverse(f"admin:providers_{name}_change", args=[row.pk])
        page = admin_client.get(url).content.decode()
        assert f"Read-only: The configuration file {file} owns this" in page
        assert 'name="_save"' not in page
        assert admin_client.post(url, {"priority": 5}).status_code == 403
        url = reverse(f"admin:providers_{name}_delete", args=[row.pk])
        assert admin_client.post(url, {"post": "yes", "confirmation": "local"}).status_code == 403


def test_actions_pass_over_what_a_file_owns(file, admin_client):
    reload()
    free = ProviderModel.objects.create(provider=Provider.objects.get(), model_id="free")
    chosen = [str(row.pk) for row in ProviderModel.objects.all()]
    url = reverse("admin:providers_providermodel_changelist")
    page = admin_client.post(url, {"action": "disable", "_selected_action": chosen}, follow=True).content.decode()
    assert str(file) in page
    free.refresh_from_db()
    assert not free.enabled
    assert ProviderModel.objects.filter(enabled=True).count() == 2


def test_a_provider_that_nobody_owns_cannot_lose_models_that_a_file_owns(file, admin_client):
    reload()
    Provider.objects.update(managed_by="")
    provider, model = Provider.objects.get(), ProviderModel.objects.get(model_id="a")
    data = {
        "provider_id": "local",
        "priority": "1",
        "probe_interval_seconds": "60",
        "enabled": "on",
        "extra_params": "{}",
    }
    data |= {"request_settings": "{}", "models-TOTAL_FORMS": "1", "models-INITIAL_FORMS": "1", "models-0-DELETE": "on"}
    data |= {"models-0-id": model.pk, "models-0-provider": provider.pk, "models-0-model_id": "a"}
    for prefix in ("api_keys", "parameters", "probes"):
        data |= {f"{prefix}-TOTAL_FORMS": "0", f"{prefix}-INITIAL_FORMS": "0"}
    admin_client.post(reverse("admin:providers_provider_change", args=[provider.pk]), data)
    assert ProviderModel.objects.filter(model_id="a").exists()


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("/providers/local", "/providers/local/models/a"),
        ("/api/providers/local", "/api/providers/local/models/a"),
        ("/api/v1/providers/local", "/api/v1/provider-models/{pk}"),
    ],
)
def test_rest_refuses_to_change_what_a_file_owns_and_to_delete_around_it(file, provider, model):
    reload()
    api = caller(*REGISTRY)
    model = model.format(pk=ProviderModel.objects.get(model_id="a").pk)
    for path in (provider, model):
        for refused in (api.patch(path, {"display_name": "mine"}), api.delete(path)):
            assert (refused.status_code, str(file) in refused.json()["detail"]) == (409, True)
    Provider.objects.update(managed_by="")
    assert api.patch(provider, {"display_name": "mine"}).status_code == 200
    assert api.delete(provider).status_code == 409
    assert ProviderModel.objects.count() == 2


def test_the_admin_deletes_no_provider_whose_models_a_file_owns(file, admin_client):
    reload()
    Provider.objects.update(managed_by="")
    free = Provider.objects.create(provider_id="free", provider_type="fake")
    url = reverse("admin:providers_provider_delete", args=[Provider.objects.get(provider_id="local").pk])
    assert admin_client.post(url, {"post": "yes", "confirmation": "local"}).status_code == 403
    chosen = [str(row.pk) for row in Provider.objects.all()]
    data = {"action": "delete_selected", "_selected_action": chosen, "post": "yes", "confirmation": "2"}
    page = admin_client.post(reverse("admin:providers_provider_changelist"), data, follow=True).content.decode()
    assert str(file) in page
    assert not Provider.objects.filter(pk=free.pk).exists()
    assert ProviderModel.objects.count() == 2


def test_the_command_owns_reloads_and_lets_go(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(TEXT)
    shown, status = run(str(path), own=True)
    assert (status, "+ policy quick" in shown, owners()["quick"]) == (0, True, str(path))
    path.write_text(TEXT.replace("retries: 3", "retries: 4"))
    shown, status = run(reload=True)
    assert (status, "~ settings routing\n    retries: 3 → 4" in shown) == (0, True)
    assert run(str(path), disown=True)[1] == 0
    assert set(owners().values()) == {""}
    assert "No file owns anything" in run(reload=True)[0]


def test_the_command_fails_for_a_file_that_cannot_be_read(file):
    file.unlink()
    shown, status = run(reload=True)
    assert (status, "cannot be read" in shown) == (1, True)


def test_a_check_says_what_is_in_a_file_and_no_secret(tmp_path):
    path = tmp_path / "gateway.yaml"
    secret = "sk-proj-" + "Qm82xWv71Lk3"
    path.write_text(f"{TEXT}".replace("    models", f"    api_keys: [{secret}]\n    models"))
    shown, status = run(str(path), check=True)
    assert status == 0
    assert "providers (1): local" in shown
    assert "policies (1): quick" in shown
    assert secret not in shown
    assert not Provider.objects.exists()
    path.write_text("providers: [{id: x, provider_type: openai, api_key: '${NO_SUCH_KEY}'}]")
    shown, status = run(str(path), check=True)
    assert (status, "NO_SUCH_KEY is not set" in shown) == (2, True)


def test_the_last_file_is_taken_back(tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text(TEXT)
    run(str(path), apply=True)
    path.write_text(TEXT.replace("[a]", "[b]").replace("fake", "fake\n    priority: 4"))
    run(str(path), apply=True)
    assert Provider.objects.get().priority == 4
    shown, status = run(previous=True)
    assert (status, "is taken back" in shown) == (0, True)
    assert (Provider.objects.get().priority, Policy.objects.get().document["targets"]) == (1, [{"model": "a"}])
    run(previous=True)
    assert not Provider.objects.exists()
    assert not Policy.objects.exists()
    with pytest.raises(CommandError, match="No file was written"):
        run(previous=True)


def test_variables_of_the_process_become_configuration(monkeypatch):
    monkeypatch.setenv("OLLAMA_BASE_URL", "http://localhost:11434")
    monkeypatch.setenv("CHAT_MODEL", "llama3.1:8b")
    shown, status = run(from_env=True, apply=True)
    assert (status, "+ policy chat_fast" in shown) == (0, True)
    assert Provider.objects.get().provider_id == "ollama_local"


def test_a_variables_file_is_known_by_its_name(tmp_path):
    path = tmp_path / ".env"
    path.write_text("export OLLAMA_BASE_URL='http://localhost:11434' # here\nCHAT_MODEL=\"llama3\"\n")
    assert "+ ollama_local model llama3" in run(str(path))[0]


def test_a_command_needs_either_a_file_or_something_else_to_do():
    with pytest.raises(CommandError, match="Name a file"):
        run()
    with pytest.raises(CommandError, match="--reload takes no file"):
        run("x.yaml", reload=True)
