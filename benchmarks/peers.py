"""Fetches what the gateway is compared with into build/peers: LiteLLM proxy in a venv of its own, and nginx.

`python -m benchmarks.peers`. Nothing is installed into the system or into the gateway's own venv; a peer that cannot be
fetched is named and left out, and the bench then names it as missing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PEERS = Path(__file__).resolve().parent.parent / "build" / "peers"


def litellm_program() -> Path | None:
    return _first(os.environ.get("LITELLM_BIN"), PEERS / "litellm" / "bin" / "litellm", shutil.which("litellm"))


def nginx_program() -> Path | None:
    packaged = PEERS / "nginx" / "usr" / "sbin" / "nginx"
    return _first(os.environ.get("NGINX_BIN"), shutil.which("nginx"), "/usr/sbin/nginx", packaged)


def _first(*places: Path | str | None) -> Path | None:
    return next((Path(place) for place in places if place and Path(place).is_file()), None)


def fetch_litellm() -> None:
    venv = PEERS / "litellm"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    subprocess.run([str(venv / "bin" / "pip"), "install", "--quiet", "litellm[proxy]"], check=True)


def fetch_nginx() -> None:
    """Unpack the distribution's package; Debian's binary needs only libraries that a base system has."""
    place = PEERS / "nginx"
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["apt-get", "download", "nginx"], check=True, cwd=place)
    package = next(place.glob("nginx_*.deb"))
    subprocess.run(["dpkg-deb", "-x", str(package), str(place)], check=True)
    package.unlink()


def main() -> None:
    for name, present, fetch in (
        ("LiteLLM proxy", litellm_program, fetch_litellm),
        ("nginx", nginx_program, fetch_nginx),
    ):
        if not present():
            print(f"Fetching {name} ...", flush=True)
            try:
                fetch()
            except (OSError, subprocess.CalledProcessError, StopIteration) as error:
                print(f"{name} could not be fetched: {error}")
        print(f"{name}: {present() or 'missing'}")


if __name__ == "__main__":
    main()
