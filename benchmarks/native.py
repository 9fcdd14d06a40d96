"""Compiles the upstream and the load generator, once per version of their source."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build" / "bench"


class CompilerMissing(RuntimeError):
    """Neither CC nor cc nor gcc was found; the message says what to install."""


def program(name: str) -> Path:
    """Path of the compiled `benchmarks/<name>.c`."""
    source = HERE / f"{name}.c"
    fingerprint = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
    binary = BUILD / "bin" / f"{name}-{fingerprint}"
    if binary.exists():
        return binary
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CC") or "cc", "gcc", "clang"))), None)
    if compiler is None:
        raise CompilerMissing("The bench compiles two small C programs and found no compiler: apt install gcc")
    binary.parent.mkdir(parents=True, exist_ok=True)
    unfinished = binary.with_suffix(f".{os.getpid()}")
    subprocess.run([compiler, "-O2", "-o", str(unfinished), str(source)], check=True)
    unfinished.rename(binary)
    return binary
