"""The engine's own process: `python -m inference.engine.child FD`, started and watched by `supervised`.

It knows nothing but the model it was told to load: no secrets in its environment, no files it could write, no core dumps. It
dies with the worker: by the kernel's word where there is one (Linux), and because its socket closes everywhere.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from inference.engine import protocol, transformers_spec
from inference.engine.gguf_file import read_header
from inference.engine.spec import ModelSpec
from inference.errors import EngineError, GatewayError, ModelUnavailable

_SET_PARENT_DEATH_SIGNAL = 1
_MOST_FILES = 512


def main(descriptor: int, parent: int) -> int:
    connection = socket.socket(fileno=descriptor)
    _die_with(parent)
    frames = protocol.commands(connection)
    load = next(frames, [None])[0]
    if not isinstance(load, protocol.Load):
        return 0
    # torch sets its limit itself, once it knows on which device it computes. Code that a model brings is copied before it runs.
    of_torch = load.engine == transformers_spec.NAME
    _confine(None if of_torch else load.memory_limit, may_write=of_torch and bool(load.spec.get("trust_remote_code")))
    sending = threading.Lock()

    def emit(events: list[protocol.Event]) -> None:
        with sending:
            connection.sendall(protocol.encode(events))

    try:
        engine = _load(load, emit)
    except GatewayError as error:
        emit([protocol.Failed.of(0, error)])
        return 0
    emit([engine.ready(_resident_bytes())])
    threading.Thread(target=_read, args=(frames, engine), daemon=True).start()
    try:
        engine.run()
    except BrokenPipeError:
        return 0
    except EngineError:
        return 1
    return 0


def _read(frames: Any, engine: Any) -> None:
    try:
        for frame in frames:
            for command in frame:
                engine.submit(command)
    except Exception:  # without a reader the engine would never hear of another request: better a new one
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)  # the worker is gone or wants us gone: nobody is left to finish a step for


def _load(load: protocol.Load, emit: Any) -> Any:
    if load.engine == transformers_spec.NAME:
        return _load_transformers(load, emit)
    spec = ModelSpec.of(load.spec)
    header = read_header(spec.path)
    spec.verify_checksum()
    spec = spec.sized(header)
    try:
        if load.engine == "xllamacpp":
            from inference.engine.prebuilt import PrebuiltEngine

            return PrebuiltEngine(spec, emit)
        from inference.engine.batched import BatchedEngine

        return BatchedEngine(spec, header, emit, safe=load.safe)
    except (ImportError, OSError) as error:
        raise ModelUnavailable(
            "The engine for local models is not installed on the worker.",
            detail=f"{load.engine}: {error}; `make engine` builds llama-cpp-python, `pip install xllamacpp` brings a prebuilt engine",
        ) from error


def _load_transformers(load: protocol.Load, emit: Any) -> Any:
    spec = transformers_spec.TransformersSpec(**{**load.spec, "path": Path(load.spec["path"])})
    # Files of this machine only: the libraries must not even ask whether there is something newer.
    os.environ.update({"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TRANSFORMERS_VERBOSITY": "error"})
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    if not spec.trust_remote_code:
        # Looked up by torch as it is imported, and by default found by writing a file, which is not allowed here.
        tempfile.tempdir = os.environ.get("TMPDIR", "/tmp")
    with _folder_for_code() if spec.trust_remote_code else contextlib.nullcontext():
        try:
            from inference.engine.transformers_engine import TransformersEngine
        except (ImportError, OSError) as error:
            raise ModelUnavailable(
                "The engine for models of the transformers library is not installed on the worker.",
                detail=f"{error}; `make run EXTRAS=transformers` installs it",
            ) from error
        return TransformersEngine(spec, emit, memory_limit=load.memory_limit)


@contextlib.contextmanager
def _folder_for_code() -> Iterator[None]:
    """Where the library copies a model's own code to before it runs it; it must be told before it is imported."""
    with tempfile.TemporaryDirectory(prefix="gateway-model-") as folder:
        os.environ["HF_MODULES_CACHE"] = folder
        yield


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
    # A terminal's ctrl-C reaches the whole group; the worker decides when its engines stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _confine(memory_limit: int | None, *, may_write: bool = False) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(_MOST_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if not may_write:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if memory_limit is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (memory_limit, memory_limit))


def _resident_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return pages * os.sysconf("SC_PAGESIZE")


if __name__ == "__main__":
    try:
        code = main(int(sys.argv[1]), int(sys.argv[2]))
    except msgspec.DecodeError as error:
        sys.exit(f"the worker spoke another protocol: {error}")
    # C++ destructors of the library may hang or crash; there is nothing left to lose.
    sys.stderr.flush()
    os._exit(code)
