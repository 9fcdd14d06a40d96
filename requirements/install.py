"""Install one lock file into the environment of the Python that runs this, every file checked against its hash.

pip is the installer that must work. uv does the same in a tenth of the time, so it is tried first, told what pip's own
configuration says (index, extra indexes, wheel folders, certificate, proxy); when it cannot, pip does the whole of it.
Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
UNTRANSLATED = {"client-cert", "trusted-host", "no-index", "keyring-provider"}
"""Settings of pip that decide what can be reached and that uv is not told: with these, pip installs."""
CPU_BUILDS = "https://download.pytorch.org/whl/cpu"
"""Where PyTorch offers torch without CUDA, which is what a lock takes of it; its hashes decide, not who offers them."""


def main(lock: Path) -> int:
    started = time.monotonic()
    for indexes in _sources(lock):
        for installer, install in (("uv", with_uv), ("pip", with_pip)):
            if install(lock, *indexes):
                print(f"installed {lock.name} with {installer} in {time.monotonic() - started:.1f} s")
                return 0
    print(f"could not install {lock.name}: see pip's message above", file=sys.stderr)
    return 1


def _sources(lock: Path) -> list[tuple[str, ...]]:
    """Further indexes to try, one set after the other. Those that pip was told of may have a torch without CUDA themselves."""
    if "\ntorch==" not in lock.read_text():
        return [()]
    own = {"index-url", "extra-index-url", "find-links"} & pip_settings().keys()
    return [(), (CPU_BUILDS,)] if own else [(CPU_BUILDS,)]


def with_pip(lock: Path, *indexes: str) -> bool:
    command = [*PIP, "install", "--quiet", *_beside(lock), "--require-hashes", "-r", str(lock)]
    command += [word for index in indexes for word in ("--extra-index-url", index)]
    return subprocess.run(command, check=False).returncode == 0


def with_uv(lock: Path, *indexes: str) -> bool:
    if os.environ.get("GATEWAY_INSTALLER") == "pip":
        return False
    settings = pip_settings()
    if UNTRANSLATED & settings.keys():
        return False
    uv = find_uv()
    if uv is None:
        return False
    environment = {"UV_HTTP_TIMEOUT": "20", "UV_HTTP_RETRIES": "1", **os.environ, **translated(settings)}
    command = [uv, "pip", "install", "--quiet", "--python", sys.executable]
    command += [*_beside(lock), "--require-hashes", "-r", str(lock)]
    # Every file's hash is in the lock, so it does not matter which index offers it.
    command += ["--index-strategy", "unsafe-best-match"]
    command += [word for index in indexes for word in ("--index", index)]
    # As pip does: where the environment keeps Python from writing bytecode, every process would compile Django anew.
    command += ["--compile-bytecode"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[0]
        print(f"uv could not ({reason.strip()}); pip does it, which takes longer", file=sys.stderr)
    return done.returncode == 0


def _beside(lock: Path) -> list[str]:
    """An extra's lock lists what it adds to run.txt; the rest is there, and would be asked for with no hash."""
    return ["--no-deps"] if lock.name.startswith("extra-") else []


def find_uv() -> str | None:
    own = Path(sys.executable).with_name("uv")
    if not own.exists() and (on_path := shutil.which("uv")):
        return on_path
    if not own.exists():
        command = [
            *PIP,
            "install",
            "--quiet",
            "--only-binary",
            ":all:",
            "--require-hashes",
            "-r",
            str(HERE / "installer.txt"),
        ]
        subprocess.run(command, capture_output=True, check=False)
    return str(own) if own.exists() else None


def pip_settings() -> dict[str, str]:
    """What `pip config list` says for installing, later sources over earlier ones, lists kept apart by spaces."""
    listing = subprocess.run([*PIP, "config", "list"], capture_output=True, text=True, check=False).stdout
    found: dict[str, str] = {}
    for section in ("global", "install", ":env:"):
        for line in listing.splitlines():
            name, _, value = line.partition("=")
            where, _, key = name.partition(".")
            if where == section:
                found[key] = " ".join(value.strip("'\"").replace("\\n", " ").split())
    return found


def translated(settings: dict[str, str]) -> dict[str, str]:
    """The same settings under the names that uv reads; what the user told uv itself stands."""
    names = {
        "index-url": "UV_DEFAULT_INDEX",
        "extra-index-url": "UV_INDEX",
        "find-links": "UV_FIND_LINKS",
        "cert": "SSL_CERT_FILE",
        "proxy": "ALL_PROXY",
    }
    environment = {}
    for key, name in names.items():
        if key in settings and name not in os.environ:
            value = settings[key]
            environment[name] = value.replace(" ", ",") if key == "find-links" else value
    return environment


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python requirements/install.py LOCK")
    sys.exit(main(Path(sys.argv[1])))
