"""Compile and install llama-cpp-python for this machine: `python -m inference.engine.build`.

The package comes as source only. Its default build takes three times as long as needed and dies of any quantised model on
CPUs with AMX (https://github.com/ggml-org/llama.cpp/issues/20824); the flags below are quick and safe, and name the CPU's own
instructions one by one. pip would reuse a wheel that was built with other flags, so the flags choose the cache.

Progress stands in a status file (`engine_build.json` in the data directory) for whoever wants to show it. A second build
waits for the first; with the right version installed and working there is nothing to do.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from inference.engine import preflight
from inference.engine.supervised import EngineChoice

PACKAGE = "llama-cpp-python"
VERSION = "0.3.36"
STATUS_FILE = "engine_build.json"

_ROOT = Path(__file__).resolve().parent.parent.parent
_HOOKS = Path(__file__).resolve().parent / "cmake"
_NINJA_STEP = re.compile(r"^\s*\[(\d+)/(\d+)\]")
_NICENESS = 10
_TAIL_LINES = 15
_NO_COMPILER = (
    "No C and C++ compiler was found, so llama-cpp-python cannot be built here. On Debian and Ubuntu: "
    "`apt-get install build-essential`; on macOS: `xcode-select --install`. The prebuilt engine (xllamacpp) works without."
)

# The CPU's flag in /proc/cpuinfo and llama.cpp's switch. Without GGML_NATIVE the first group is on, the second off.
_EXPECTED = {"sse4_2": "SSE42", "avx": "AVX", "avx2": "AVX2", "bmi2": "BMI2", "fma": "FMA", "f16c": "F16C"}
_WELCOME = {"avx512_vnni": "AVX512_VNNI", "avx_vnni": "AVX_VNNI"}
_AVX512 = {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}


@dataclass(frozen=True, slots=True)
class BuildStatus:
    """`state` is building, ready or failed; `step` of `steps` is 0 of 0 while nothing is compiled. `at` is in epoch seconds."""

    state: str
    message: str
    step: int = 0
    steps: int = 0
    at: float = 0.0


def read_status(data_dir: Path) -> BuildStatus | None:
    """The last build's status, or None when none was ever begun here."""
    try:
        return BuildStatus(**json.loads((data_dir / STATUS_FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None


class _Status:
    def __init__(self, data_dir: Path) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        self._file = data_dir / STATUS_FILE

    def say(self, state: str, message: str, step: int = 0, steps: int = 0) -> None:
        draft = self._file.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(asdict(BuildStatus(state, message, step, steps, time.time()))))
        draft.replace(self._file)
        print(f"[{step}/{steps}] {message}" if steps else message, flush=True)


def build(data_dir: Path, requirements: Path | None = None) -> bool:
    """Make llama-cpp-python ready for use; False, with the reason in the status file, when that cannot be done."""
    status = _Status(data_dir)
    with _alone(data_dir, status):
        if _installed_version() != VERSION:
            if not _compilers_found():
                status.say("failed", _NO_COMPILER)
                return False
            if not _install(status, requirements):
                return False
        return _try_out(status)


@contextlib.contextmanager
def _alone(data_dir: Path, status: _Status) -> Iterator[None]:
    with (data_dir / "engine_build.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another build of the engine is at work; waiting for it.", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _installed_version() -> str | None:
    importlib.invalidate_caches()
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return None


def _compilers_found() -> bool:
    c = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    cxx = os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), None)
    return bool(c and cxx)


def _install(status: _Status, requirements: Path | None) -> bool:
    arguments = cmake_arguments(cpu_flags())
    environment = {
        **os.environ,
        "CMAKE_ARGS": " ".join(arguments),
        "CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count() or 1),
        "PYTHONUNBUFFERED": "1",
    }
    wanted = ["-r", str(requirements)] if requirements is not None else [f"{PACKAGE}=={VERSION}"]
    command = [*_installer(), "--cache-dir", str(_cache(arguments)), *wanted]
    status.say("building", f"{PACKAGE} {VERSION}: downloading and preparing")
    tail: list[str] = []
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            tail = [*tail[-_TAIL_LINES:], line.rstrip()]
            _follow(line, status.say)
    if process.returncode == 0:
        return True
    print("\n".join(tail), flush=True)
    errors = [line for line in tail if "error" in line.lower()] or tail[-1:]
    status.say("failed", f"{PACKAGE} {VERSION} could not be built: {(errors or ['no reason given'])[-1].strip()}")
    return False


def _installer() -> list[str]:
    """pip of this interpreter; uv where an environment was made without pip."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "install", "--verbose", "--disable-pip-version-check"]
    uv = shutil.which("uv") or str(Path(sys.executable).parent / "uv")
    return [uv, "pip", "install", "--verbose", "--python", sys.executable]


def _follow(line: str, say: Callable[[str, str, int, int], None]) -> None:
    found = _NINJA_STEP.match(line)
    if found:
        say("building", f"{PACKAGE} {VERSION}: compiling", int(found[1]), int(found[2]))


def cmake_arguments(flags: frozenset[str]) -> list[str]:
    """How llama.cpp is compiled for a CPU with these flags; without any (not Linux on x86) its portable default."""
    return [
        "-DLLAVA_BUILD=OFF",
        "-DGGML_NATIVE=OFF",
        "-DGGML_CCACHE=OFF",
        "-DCMAKE_UNITY_BUILD=ON",
        "-DCMAKE_UNITY_BUILD_BATCH_SIZE=16",
        f"-DCMAKE_PROJECT_llama_cpp_INCLUDE={_HOOKS / 'unity_exceptions.cmake'}",
        f"-DCMAKE_PROJECT_llama.cpp_INCLUDE={_HOOKS / 'without_common.cmake'}",
        *_instruction_sets(flags),
    ]


def _instruction_sets(flags: frozenset[str]) -> list[str]:
    if not flags or platform.machine() not in ("x86_64", "AMD64"):
        return []
    lacking = [f"-DGGML_{switch}=OFF" for flag, switch in _EXPECTED.items() if flag not in flags]
    if lacking:
        return lacking
    extra = [f"-DGGML_{switch}=ON" for flag, switch in _WELCOME.items() if flag in flags]
    return (["-DGGML_AVX512=ON"] if flags >= _AVX512 else []) + [
        switch for switch in extra if flags >= _AVX512 or "AVX512" not in switch
    ]


def cpu_flags() -> frozenset[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line for line in lines if line.startswith("flags")), ":").partition(":")[2].split())


def _cache(arguments: list[str]) -> Path:
    """One pip cache per set of flags, shared by all checkouts: a second clone installs what the first compiled."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llm-gateway"
    hooks = [hook.read_text() for hook in sorted(_HOOKS.glob("*.cmake"))]
    portable = [argument.replace(str(_HOOKS), "") for argument in arguments]
    return base / f"engine-{hashlib.sha256(json.dumps([VERSION, portable, hooks]).encode()).hexdigest()[:16]}"


def _try_out(status: _Status) -> bool:
    status.say("building", f"{PACKAGE} {VERSION}: trying it out")
    reason = preflight.failure(EngineChoice("llama_cpp"))
    if reason is None:
        status.say("ready", f"{PACKAGE} {VERSION} is ready")
        return True
    if preflight.failure(EngineChoice("llama_cpp", safe=True)) is None:
        status.say("ready", f"{PACKAGE} {VERSION} is ready, without the CPU's extra buffers ({reason})")
        return True
    status.say("failed", f"{PACKAGE} {VERSION} is installed but does not work here: {reason}")
    return False


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m inference.engine.build", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--data-dir", type=Path, default=Path(os.environ.get("GATEWAY_DATA_DIR") or _ROOT / "var"))
    parser.add_argument("--requirements", type=Path, help="a (hashed) requirements file that pins llama-cpp-python")
    options = parser.parse_args(arguments)
    os.nice(_NICENESS)
    return 0 if build(options.data_dir, options.requirements) else 1


if __name__ == "__main__":
    sys.exit(main())
