import importlib.util
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))


def load():
    spec = importlib.util.spec_from_file_location("install", ROOT / "requirements" / "install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


install = load()


def pins(lock):
    return dict(re.findall(r"(?m)^([a-z0-9._-]+)==(\S+)", (ROOT / "requirements" / lock).read_text()))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_names_versions_and_hashes_and_no_address(lock):
    text = lock.read_text()
    assert not re.search(r"://|\bfile:|--index|--extra|--find", text)
    for block in re.split(r"(?m)^(?=\S)", text)[1:]:
        assert re.match(r"[a-z0-9._\[\]-]+==", block)
        assert "--hash=sha256:" in block


def test_development_is_what_runs_and_more():
    run, development = pins("run.txt"), pins("development.txt")
    assert run.items() <= development.items()


def test_the_engine_adds_only_what_the_others_lack():
    assert "llama-cpp-python" in pins("engine.txt")
    assert not pins("engine.txt").keys() & pins("development.txt").keys()


@pytest.mark.parametrize("extra", ["sso", "alerts", "telemetry"])
def test_an_extra_adds_what_the_tests_ran_with_and_only_that(extra):
    added, development = pins(f"extra-{extra}.txt"), pins("development.txt")
    assert added.items() <= development.items()
    assert not added.keys() & pins("run.txt").keys()
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"][extra]
    assert {re.split(r"[\[<>=; ]", line)[0] for line in wanted} <= added.keys()


def test_the_extra_of_torch_holds_no_cuda_and_adds_to_what_runs():
    added = pins("extra-transformers.txt")
    assert {"torch", "transformers", "tokenizers", "safetensors", "llguidance"} <= added.keys()
    assert not added.keys() & pins("run.txt").keys()
    assert not [name for name in added if name.startswith(("nvidia-", "cuda-", "triton"))]


@pytest.mark.parametrize("mirror", [True, False])
def test_torch_without_cuda_is_looked_for_where_pytorch_offers_it(monkeypatch, mirror):
    monkeypatch.setattr(install, "pip_settings", lambda: {"find-links": "/wheels"} if mirror else {})
    lock = ROOT / "requirements" / "extra-transformers.txt"
    assert install._sources(lock) == ([()] if mirror else []) + [(install.CPU_BUILDS,)]
    assert install._sources(ROOT / "requirements" / "run.txt") == [()]


def test_only_an_extra_is_installed_without_what_it_needs(monkeypatch):
    asked = []
    monkeypatch.setattr(install, "with_uv", lambda lock, *indexes: False)
    monkeypatch.setattr(
        install.subprocess, "run", lambda command, **_: asked.append(command) or subprocess.CompletedProcess([], 0)
    )
    for lock in ("run.txt", "extra-sso.txt"):
        install.main(ROOT / "requirements" / lock)
    assert ["--no-deps" in command for command in asked] == [False, True]
    assert all("--require-hashes" in command for command in asked)


def test_make_refuses_an_extra_that_there_is_not():
    done = subprocess.run(["make", "-n", "run", "EXTRAS=sso,magic"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode
    assert "not magic" in done.stderr


def test_make_installs_the_extras_that_it_is_told():
    done = subprocess.run(["make", "-n", "-B", "run", "EXTRAS=sso,alerts"], cwd=ROOT, capture_output=True, text=True)
    assert "install.py requirements/extra-sso.txt" in done.stdout
    assert "install.py requirements/extra-alerts.txt" in done.stdout
    assert "telemetry" not in done.stdout


def test_every_dependency_of_the_project_is_locked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    names = {re.split(r"[\[<>=; ]", line)[0].lower().replace("_", "-") for line in wanted}
    locked = ("development.txt", "engine.txt", "extra-transformers.txt")
    assert names - {project["name"]} <= set().union(*map(pins, locked))


def test_uv_is_told_what_pip_knows():
    told = install.translated(
        {"index-url": "https://a.example/simple", "find-links": "/wheels /more", "cert": "/ca.pem", "timeout": "5"}
    )
    assert told["UV_DEFAULT_INDEX"] == "https://a.example/simple"
    assert told["UV_FIND_LINKS"] == "/wheels,/more"
    assert "timeout" not in told


def test_what_the_user_told_uv_stands(monkeypatch):
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://mine.example/simple")
    assert "UV_DEFAULT_INDEX" not in install.translated({"index-url": "https://a.example/simple"})


def test_with_settings_that_uv_does_not_know_pip_installs(monkeypatch):
    monkeypatch.setattr(install, "pip_settings", lambda: {"client-cert": "/me.pem"})
    assert install.with_uv(ROOT / "requirements" / "run.txt") is False


def test_pip_does_it_when_asked_to(monkeypatch):
    monkeypatch.setenv("GATEWAY_INSTALLER", "pip")
    assert install.with_uv(ROOT / "requirements" / "run.txt") is False


@pytest.mark.xdist_group("together")
def test_tests_of_one_group_stay_on_one_worker(request: pytest.FixtureRequest) -> None:
    """Their module starts a product once then, not once on each worker."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        assert request.node.nodeid.endswith("@together")
