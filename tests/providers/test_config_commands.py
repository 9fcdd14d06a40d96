import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from providers import exporting
from providers.models import ApiKey, ImportRun, Provider, ProviderModel
from tests.providers import registries

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments):
    """What the command printed and its exit status."""
    out = io.StringIO()
    try:
        call_command(*arguments, stdout=out, no_color=True)
    except SystemExit as ended:
        return out.getvalue(), ended.code
    return out.getvalue(), 0


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "gateway.yaml"

    def write(text):
        path.write_text(text if isinstance(text, str) else json.dumps(text))
        return str(path)

    return write


def openai(**facts):
    return {"version": 1, "providers": {"openai": {"provider_type": "openai", **facts}}}


def test_an_export_is_printed():
    registries.build()
    assert run("export_config") == (exporting.text("yaml"), 0)
    assert run("export_config", "--format", "json", "--only", "local") == (exporting.text("json", ["local"]), 0)


def test_an_export_goes_into_a_file_in_the_format_of_its_name(tmp_path, capsys):
    registries.build()
    for name, file_format in (("a.json", "json"), ("a.yaml", "yaml")):
        call_command("export_config", str(tmp_path / name))
        assert (tmp_path / name).read_text("utf-8") == exporting.text(file_format)
        assert name in capsys.readouterr().err


def test_an_export_of_what_is_not_there_fails(tmp_path):
    with pytest.raises(CommandError, match="nobody"):
        call_command("export_config", "--only", "nobody")
    with pytest.raises(CommandError, match="cannot be written"):
        call_command("export_config", str(tmp_path / "no" / "folder.yaml"))


def test_a_dry_run_shows_the_difference_and_writes_nothing(file):
    path = file(
        openai(api_keys=[{"secret": "sk-proj-Qm82xWv71", "environment": "production"}], models=[{"model_id": "m"}])
    )
    shown, status = run("apply_config", path)
    assert status == 0
    assert "+ openai\n" in shown
    assert "+ openai model m" in shown
    assert "env:LLM_KEY_OPENAI_PRODUCTION_" in shown
    assert "sk-proj-Qm82xWv71" not in shown
    assert "Nothing was written" in shown
    assert not Provider.objects.exists()
    assert not ImportRun.objects.exists()


def test_a_change_is_shown_field_by_field(file):
    registries.build()
    shown, _ = run("apply_config", file(openai(priority=7, connection_params={"base_url": "https://x/v1"})))
    assert "~ openai\n    priority: 2 → 7\n" in shown
    assert "connection_params.base_url: https://api.openai.com/v1 → https://x/v1" in shown


def test_with_apply_it_is_written_and_again_changes_nothing(file):
    path = file(openai(models=[{"model_id": "m", "max_tokens": 10}]))
    shown, status = run("apply_config", path, "--apply")
    assert (status, "Written: 2 to add" in shown) == (0, True)
    assert ProviderModel.objects.get().max_tokens == 10
    shown, status = run("apply_config", path, "--apply")
    assert (status, "The registry says all of this already." in shown) == (0, True)


def test_the_file_wins_over_an_edit_here(file):
    path = file(openai(priority=3))
    run("apply_config", path, "--apply")
    Provider.objects.update(priority=9, description="edited here")
    _, status = run("apply_config", path, "--apply")
    provider = Provider.objects.get()
    assert (status, provider.priority, provider.description) == (0, 3, "edited here")


def test_the_variables_that_are_wanted_are_listed(file, monkeypatch):
    monkeypatch.setenv("SET_HERE", "sk-1")
    keys = [{"secret": "env:SET_HERE", "environment": "a"}, {"secret": "env:NOT_SET_HERE", "environment": "a"}]
    shown, _ = run("apply_config", file(openai(api_keys=keys)))
    assert "NOT_SET_HERE  is not set here\n    SET_HERE  is set here" in shown


def test_what_the_file_does_not_name_stays_unless_it_is_pruned(file):
    registries.build()
    path = file(openai(models=[{"model_id": "gpt-4o"}], connection_params={"base_url": "https://x/v1"}))
    shown, _ = run("apply_config", path, "--apply")
    assert "- " not in shown
    assert set(ProviderModel.objects.values_list("model_id", flat=True)) == {"gpt-4o", "org/模型:7b"}
    assert Provider.objects.get(provider_id="openai").stored_secrets()

    shown, _ = run("apply_config", path, "--prune")
    assert "- local\n" in shown
    assert "- openai model org/模型:7b" in shown
    assert Provider.objects.count() == 2

    shown, status = run("apply_config", path, "--prune", "--apply")
    assert status == 0
    assert list(ProviderModel.objects.values_list("model_id", flat=True)) == ["gpt-4o"]
    assert list(Provider.objects.values_list("provider_id", flat=True)) == ["openai"]
    assert Provider.objects.get().stored_secrets() == {}
    assert ApiKey.objects.count() == 3  # the file has no list of keys
    assert "already" in run("apply_config", path, "--prune")[0]


def test_pruning_with_some_providers_only_leaves_the_others(file):
    registries.build()
    run("apply_config", file(openai(api_keys=[])), "--only", "openai", "--prune", "--apply")
    assert Provider.objects.count() == 2
    assert not ApiKey.objects.exists()


def test_values_that_need_a_person_make_the_status_two(file):
    path = file({"provider_id": "x", "provider_type": "biomedlm", "models": {"m": {}}})
    shown, status = run("apply_config", path, "--apply")
    assert status == 2
    assert "! type_unknown" in shown
    assert Provider.objects.get().provider_type == "biomedlm"


def test_a_provider_that_the_database_refuses_is_named_and_nothing_is_pruned(file):
    registries.build()
    with connection.cursor() as cursor:
        cursor.execute("CREATE UNIQUE INDEX one_display_name ON providers_provider (display_name)")
    document = {"version": 1, "providers": {"b": {"provider_type": "fake", "display_name": "OpenAI", "models": ["m"]}}}
    shown, status = run("apply_config", file(document), "--apply", "--prune")
    assert status == 2
    assert "! failed b" in shown
    assert "except the providers that are marked `failed`" in shown
    assert set(Provider.objects.values_list("provider_id", flat=True)) == {"openai", "local"}
    assert not ProviderModel.objects.filter(model_id="m").exists()


def test_every_mistake_is_shown_and_nothing_is_written(file):
    path = file(openai(prioritty=1, models=[{"model_id": "a", "max_tokens": "x"}]))
    with pytest.raises(CommandError) as caught:
        call_command("apply_config", path, "--apply")
    assert caught.value.returncode == 1
    assert str(caught.value).count("\n") == 1
    assert "providers.openai.models[0].max_tokens: a whole number" in str(caught.value)
    assert not Provider.objects.exists()
    assert not ImportRun.objects.exists()


def test_a_file_that_is_not_there_fails(tmp_path):
    with pytest.raises(CommandError, match="No such file"):
        call_command("apply_config", str(tmp_path / "none.yaml"))


def test_standard_input_is_read(monkeypatch):
    body = json.dumps(openai()).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(body)))
    assert run("apply_config", "-", "--apply")[1] == 0
    assert Provider.objects.get().provider_id == "openai"
    assert ImportRun.objects.get().source_label == "standard input"


def test_a_file_cannot_steer_the_terminal(file):
    shown, _ = run("apply_config", file(openai(display_name="\x1b[2J", description="a\nb")))
    assert "\x1b" not in shown


@pytest.mark.parametrize("command", ["apply_config", "export_config"])
def test_help_teaches_by_example(command, capsys):
    with pytest.raises(SystemExit) as ended:
        call_command(command, "--help")
    assert ended.value.code == 0
    assert f"manage.py {command} gateway." in capsys.readouterr().out


def manage(*arguments, database, data_dir):
    environment = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "REDIS_URL"}}
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment | {"DATABASE_URL": database, "GATEWAY_DATA_DIR": str(data_dir)},
        capture_output=True,
        check=True,
        timeout=300,
    ).stdout


@pytest.mark.slow
def test_a_registry_moves_between_sqlite_and_postgresql_byte_by_byte(tmp_path, data_dir, postgresql_url):
    registries.build()
    first = tmp_path / "first.yaml"
    first.write_text(exporting.text(), "utf-8")
    for database in (postgresql_url, f"sqlite:///{tmp_path}/other.sqlite3"):
        manage("migrate", "--verbosity", "0", database=database, data_dir=data_dir)
        manage("apply_config", str(first), "--apply", database=database, data_dir=data_dir)
        assert manage("export_config", database=database, data_dir=data_dir).decode() == first.read_text("utf-8")


def test_the_seeds_before_and_after_dicts_are_imported(file):
    before = {
        "provider_id": "openai",
        "api_key": "your-api-key",
        "api_base": "https://api.openai.com/v1",
        "models": {"gpt-4-turbo-preview": {"max_tokens": 4096}},
    }
    shown, status = run("apply_config", file(before), "--apply")
    assert (status, "! placeholder_dropped api_key" in shown) == (0, True)
    provider = Provider.objects.get()
    assert (provider.provider_id, provider.provider_type) == ("openai", "openai")
    assert provider.connection_params == {"api_base": "https://api.openai.com/v1"}
    assert ProviderModel.objects.get().max_tokens == 4096
    assert not ApiKey.objects.exists()

    model = {"display_name": "GPT-4 Turbo", "context_window": 128000, "max_tokens": 4096}
    after = {**before, "provider_type": "openai", "display_name": "OpenAI", "models": {"gpt-4-turbo-preview": model}}
    assert run("apply_config", file({**after, "api_key": "sk-proj-Qm82xWv71"}), "--apply")[1] == 0
    assert ProviderModel.objects.get().context_window == 128000
    assert Provider.objects.get().display_name == "OpenAI"
    assert ApiKey.objects.get().secret.reveal() == "sk-proj-Qm82xWv71"


@pytest.mark.parametrize("nested", [True, False])
def test_both_shapes_of_the_legacy_gateways_yaml_are_imported(file, nested):
    parameters = {"api_base": "https://api.openai.com/v1", "api_key": "sk-proj-Qm82xWv71"}
    provider = {"provider_type": "openai", "models": {"gpt-4o": {"max_tokens": 4096}}}
    provider |= {"connection_params": parameters} if nested else parameters
    providers = {"openai": provider, "off": {"provider_type": "anthropic", "models": {}}}
    document = {
        "default_provider": "openai",
        "allowed_providers": ["openai"],
        "additional_config": {"providers": providers},
    }
    shown, status = run("apply_config", file(document), "--apply")
    assert (status, "! no_place default_provider" in shown) == (0, True)
    assert dict(Provider.objects.values_list("provider_id", "enabled")) == {"openai": True, "off": False}
    assert Provider.objects.get(provider_id="openai").connection_params == {"api_base": "https://api.openai.com/v1"}
    assert ApiKey.objects.get().secret.reveal() == "sk-proj-Qm82xWv71"
    assert ProviderModel.objects.get().max_tokens == 4096


def test_what_a_provider_may_get_and_when_it_rests_can_be_undone(file):
    run("apply_config", file(openai(data_tags=["eu"])), "--apply")
    before = exporting.text()
    text = openai(locality="local", data_tags=[], breaker={"failure_threshold": 2})
    shown, _ = run("apply_config", file(text), "--apply")
    assert '    data_tags: ["eu"] → []' in shown
    assert "    breaker.failure_threshold: null → 2" in shown
    assert Provider.objects.get().locality == "local"
    assert run("apply_config", "--previous")[1] == 0
    assert exporting.text() == before


def test_a_provider_with_wrong_numbers_is_a_mistake(file):
    with pytest.raises(CommandError, match=r"providers.openai.breaker: failure_rate: A share"):
        run("apply_config", file(openai(breaker={"failure_rate": 2})))
    with pytest.raises(CommandError, match=r"providers.openai.locality: one of local, remote or nothing"):
        run("apply_config", file(openai(locality="here")))


def test_an_application_can_be_undone(file):
    registries.build()
    before = exporting.text()
    run("apply_config", file(openai(priority=7, models=[{"model_id": "new"}])), "--apply")
    assert exporting.text() != before
    assert run("migrate_backoffice", "--undo", str(ImportRun.objects.get().pk))[1] == 0
    assert exporting.text() == before
