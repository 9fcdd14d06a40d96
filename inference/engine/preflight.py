"""Which engine this machine can trust: each is tried in a throwaway process before a request may meet it.

The trial loads the built-in model, for llama-cpp-python as a q8_0 copy because that is what broken builds die of
(https://github.com/ggml-org/llama.cpp/issues/20824), and decodes a few tokens. The result is kept in the data directory
under the libraries' versions and the CPU's flags, so a new build, a new version or another machine is tried again.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from inference.engine.requests import Sampling
from inference.engine.spec import DEMO_PATH, ModelSpec
from inference.engine.supervised import EngineChoice, clean_environment
from inference.errors import ModelUnavailable

PACKAGES = {"llama_cpp": "llama-cpp-python", "xllamacpp": "xllamacpp"}
"""Those for GGUF files, of which one is chosen."""
OF_TRANSFORMERS = ("torch", "transformers", "llguidance")
"""What models of that library need; there is no other engine for them, so nothing is tried beforehand."""
CANDIDATES = (EngineChoice("llama_cpp"), EngineChoice("llama_cpp", safe=True), EngineChoice("xllamacpp"))
_TRIAL_SECONDS = 120
_LOOK_AGAIN_SECONDS = 10.0
_FILE = "engine_preflight.json"


class Preflight:
    """Remembers, per process and in `data_dir`, the first candidate that passed its trial."""

    def __init__(self, data_dir: Path | None = None, *, only: str | None = None) -> None:
        self._file = data_dir / _FILE if data_dir is not None else None
        self._candidates = tuple(choice for choice in CANDIDATES if only in (None, choice.name))
        self._lock = threading.Lock()
        self._known: dict[str, EngineChoice] = {}
        self._looked_at = float("-inf")
        self._last: EngineChoice | None = None

    def choose(self) -> EngineChoice:
        """Raise `ModelUnavailable`, saying how to install one, when no engine works here."""
        with self._lock:
            if self._last is not None and time.monotonic() - self._looked_at < _LOOK_AGAIN_SECONDS:
                return self._last
            key = fingerprint()
            if key not in self._known:
                self._known[key] = self._remembered(key) or self._try_all(key)
            self._last, self._looked_at = self._known[key], time.monotonic()
            return self._last

    def _remembered(self, key: str) -> EngineChoice | None:
        try:
            found = json.loads(self._file.read_text()).get(key) if self._file else None
        except (OSError, ValueError):
            return None
        choice = EngineChoice(found["engine"], found["safe"]) if found else None
        return choice if choice in self._candidates else None

    def _try_all(self, key: str) -> EngineChoice:
        reasons = []
        for choice in self._candidates:
            reason = failure(choice)
            if reason is None:
                self._remember(key, choice)
                return choice
            reasons.append(f"{choice.name}{' (safe)' if choice.safe else ''}: {reason}")
        raise ModelUnavailable(
            "No engine for local models works on this worker.",
            detail=f"{'; '.join(reasons)}. `make engine` builds llama-cpp-python, `pip install xllamacpp` brings a prebuilt engine",
        )

    def _remember(self, key: str, choice: EngineChoice) -> None:
        if self._file is None:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        draft = self._file.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps({key: {"engine": choice.name, "safe": choice.safe}}))
        draft.replace(self._file)


def fingerprint() -> str:
    """Changes with the installed engines, each rebuild of them, and the CPU."""
    parts = [platform.machine(), _cpu_flags()]
    for package in PACKAGES.values():
        try:
            distribution = importlib.metadata.distribution(package)
        except importlib.metadata.PackageNotFoundError:
            parts.append(f"{package} absent")
            continue
        record = Path(
            str(
                distribution.locate_file(
                    f"{distribution.name.replace('-', '_')}-{distribution.version}.dist-info/RECORD"
                )
            )
        )
        stamp = record.stat().st_mtime_ns if record.exists() else 0
        parts.append(f"{package} {distribution.version} {stamp}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


def _cpu_flags() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def installed(engine: str) -> bool:
    try:
        for package in OF_TRANSFORMERS if engine == "transformers" else (PACKAGES[engine],):
            importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def failure(choice: EngineChoice) -> str | None:
    """Try an engine in a process of its own; None when it passed, else what went wrong."""
    if not installed(choice.name):
        return "not installed"
    try:
        trial = subprocess.run(
            [sys.executable, "-m", "inference.engine.preflight", choice.name, str(int(choice.safe))],
            env=clean_environment(),
            cwd=Path(__file__).resolve().parent.parent.parent,
            capture_output=True,
            text=True,
            timeout=_TRIAL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"did not answer within {_TRIAL_SECONDS} seconds"
    if trial.returncode == 0:
        return None
    said = trial.stderr.strip().splitlines()[-1:]
    return f"ended with code {trial.returncode}{': ' + said[0] if said else ''}"


def _try_llama_cpp(*, safe: bool) -> None:
    from inference.engine import llama_library

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "q8_0.gguf"
        llama_library.quantize(str(DEMO_PATH), str(path))
        model = llama_library.Model(ModelSpec(path=path), safe=safe)
        context = llama_library.Context(model, cells=256, sequences=1, batch_size=256, threads=1)
        sampler = llama_library.Sampler(model, Sampling(temperature=0.0), window=256)
        tokens = model.encode("Who are you? " * 4, add_special=True, parse_special=True)
        position = 0
        for _ in range(4):
            context.start_batch()
            place = context.add(tokens, position, 0, logits=True)
            if not context.decode():
                raise RuntimeError("no room for one prompt")
            position += len(tokens)
            tokens = [sampler.choose(context, place) or 0]


def _try_xllamacpp() -> None:
    from inference.engine.prebuilt import open_server

    server = open_server(ModelSpec(path=DEMO_PATH, context_size=256, cache_tokens=256, max_sequences=1))
    answers: list[dict] = []
    server.handle_completions({"prompt": "Who are you?", "max_tokens": 4, "temperature": 0}, answers.append)
    if not answers or "choices" not in answers[-1]:
        raise RuntimeError(f"no answer: {answers}")


def main(engine: str, safe: bool) -> None:
    if engine == "llama_cpp":
        _try_llama_cpp(safe=safe)
    else:
        _try_xllamacpp()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] == "1")
    os._exit(0)
