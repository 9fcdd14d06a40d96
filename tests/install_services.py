"""Install what the tests want of the system and do not find: `make services`.

Only Debian's packages, only as root; elsewhere it says what to install. The tests start private servers from these binaries
(or from wheels), so nothing is enabled or left running.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from gateway_project import embedded_redis
from tests import services


def missing() -> list[str]:
    """Debian packages that would bring what is not here."""
    packages = []
    try:
        embedded_redis.find_binary()
    except embedded_redis.NoRedis:
        packages.append("redis-server")
    if not (os.environ.get("TEST_DATABASE_URL") or services.listens(5432) or services.postgresql_binaries()):
        packages.append("postgresql")
    if not (os.environ.get("TEST_MARIADB_URL") or services.listens(3306) or services.mariadb_binaries()):
        packages.append("mariadb-server")
    if not services.chromium():
        packages.append("chromium")
    return packages


def main() -> int:
    packages = missing()
    if not packages:
        return 0
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        print(f"services: some tests will be skipped; install them with: sudo {' '.join(command)}", file=sys.stderr)
        return 0
    print(f"services: installing {', '.join(packages)}", flush=True)
    # The packages would start their servers, on ports that something else may want.
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], env=quiet, check=False)
        return subprocess.run([*command, "-qq"], env=quiet, stdout=subprocess.DEVNULL, check=False).returncode
    finally:
        if ours:
            with contextlib.suppress(FileNotFoundError):
                policy.unlink()


if __name__ == "__main__":
    sys.exit(main())
