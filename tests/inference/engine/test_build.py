from __future__ import annotations

import platform
import tomllib
from pathlib import Path

import pytest

from inference.engine import build, preflight
from inference.engine.build import BuildStatus, cmake_arguments, read_status
from tests.inference.engine.conftest import needs

MODERN = frozenset(
    [
        "sse4_2",
        "avx",
        "avx2",
        "bmi2",
        "fma",
        "f16c",
        "avx512f",
        "avx512cd",
        "avx512bw",
        "avx512dq",
        "avx512vl",
        "avx512_vnni",
        "amx_tile",
    ]
)
ROOT = Path(build.__file__).parent.parent.parent


@pytest.fixture
def without_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_installed_version", lambda: None)


def test_the_version_is_the_one_that_the_project_pins() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert f"{build.PACKAGE}=={build.VERSION}" in extras["engine"]


def test_what_is_installed_and_works_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("llama_cpp")
    monkeypatch.setattr(build, "_install", lambda *_: pytest.fail("nothing to install"))
    assert build.build(tmp_path)
    status = read_status(tmp_path)
    assert status is not None
    assert status.state == "ready"


def test_a_machine_without_compiler_is_told_what_to_install(
    tmp_path: Path, without_engine: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("CXX", raising=False)
    assert not build.build(tmp_path)
    status = read_status(tmp_path)
    assert status is not None
    assert status.state == "failed"
    assert "build-essential" in status.message


def test_progress_is_read_from_the_compilers_output(
    tmp_path: Path, without_engine: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[BuildStatus | None] = []
    real_say = build._Status.say

    def say(self: build._Status, *told: object) -> None:
        real_say(self, *told)  # type: ignore[arg-type]
        seen.append(read_status(tmp_path))

    script = "print('  [1/3] g++ -c a.cpp'); print('note'); print('  [3/3] Linking')"
    monkeypatch.setattr(build._Status, "say", say)
    monkeypatch.setattr(build, "_installer", lambda: [build.sys.executable, "-c", script])
    monkeypatch.setattr(preflight, "failure", lambda choice: None)
    assert build.build(tmp_path)
    assert [(status.state, status.step, status.steps) for status in seen if status] == [
        ("building", 0, 0),
        ("building", 1, 3),
        ("building", 3, 3),
        ("building", 0, 0),
        ("ready", 0, 0),
    ]


def test_a_failed_compile_keeps_its_reason(
    tmp_path: Path, without_engine: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "print('x.cpp: fatal error: no such header'); raise SystemExit(1)"
    monkeypatch.setattr(build, "_installer", lambda: [build.sys.executable, "-c", script])
    assert not build.build(tmp_path)
    status = read_status(tmp_path)
    assert status is not None
    assert (status.state, "no such header" in status.message) == ("failed", True)


def test_a_locked_requirements_file_is_used(
    tmp_path: Path, without_engine: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "import sys; open(sys.argv[-1] + '.seen', 'w').write(' '.join(sys.argv[1:]))"
    monkeypatch.setattr(build, "_installer", lambda: [build.sys.executable, "-c", script])
    monkeypatch.setattr(preflight, "failure", lambda choice: None)
    locked = tmp_path / "engine.txt"
    assert build.build(tmp_path, locked)
    assert f"-r {locked}" in (tmp_path / "engine.txt.seen").read_text()


def test_a_build_that_does_not_work_is_not_called_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_installed_version", lambda: build.VERSION)
    monkeypatch.setattr(preflight, "failure", lambda choice: "ended with code -11")
    assert not build.build(tmp_path)
    assert "code -11" in (read_status(tmp_path) or BuildStatus("", "")).message


def test_no_status_is_none(tmp_path: Path) -> None:
    assert read_status(tmp_path) is None


@pytest.mark.skipif(platform.machine() != "x86_64", reason="instruction sets of x86")
def test_a_modern_cpu_gets_its_instructions_but_never_amx() -> None:
    arguments = " ".join(cmake_arguments(MODERN))
    assert "-DGGML_NATIVE=OFF" in arguments
    assert "-DGGML_AVX512=ON -DGGML_AVX512_VNNI=ON" in arguments
    assert "AMX" not in arguments


@pytest.mark.skipif(platform.machine() != "x86_64", reason="instruction sets of x86")
def test_an_old_cpu_is_not_given_instructions_it_lacks() -> None:
    arguments = cmake_arguments(frozenset({"sse4_2", "avx"}))
    assert {"-DGGML_AVX2=OFF", "-DGGML_FMA=OFF"} <= set(arguments)
    assert not any(argument.endswith("=ON") and "AVX" in argument for argument in arguments)
