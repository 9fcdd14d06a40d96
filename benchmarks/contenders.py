"""Who is measured: the upstream called directly, this gateway, nginx as a plain reverse proxy, LiteLLM proxy.

Each is started as its own documentation says, with one worker process, on one core, in front of the same upstream.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Protocol

from benchmarks import peers
from benchmarks.load import Target
from benchmarks.processes import DidNotStart, Program, accepts, children, free_port, last_lines, resident_kb
from benchmarks.upstream import MODELS

ROOT = Path(__file__).resolve().parent.parent


class Missing(RuntimeError):
    """The contender is not installed; the message says how to get it."""


class Contender(Protocol):
    name: str
    how: str
    """Version and set-up in a line, for the report."""

    def start(self, upstream_port: int, core: int, directory: Path) -> None: ...

    def stop(self) -> None: ...

    @property
    def target(self) -> Target: ...

    def pids(self) -> list[int]:
        """The processes that do its work; none for the direct call."""
        ...

    def model(self, name: str) -> str:
        """What a client of this contender calls the upstream's model `name`."""
        ...


class Direct:
    name = "direct"
    how = "the load generator calls the upstream itself"

    def start(self, upstream_port: int, core: int, directory: Path) -> None:
        self.target = Target(upstream_port)

    def stop(self) -> None:
        pass

    def pids(self) -> list[int]:
        return []

    def model(self, name: str) -> str:
        return name


class _Served:
    """A contender that is one program with its children."""

    program: Program

    def stop(self) -> None:
        self.program.stop()

    def pids(self) -> list[int]:
        return self.program.pids()

    def model(self, name: str) -> str:
        return name

    def resident_kb(self) -> int:
        """Of the largest of its processes: the one that serves."""
        return max(map(resident_kb, self.pids()), default=0)


class Nginx(_Served):
    name = "nginx"
    how = "nginx"

    def start(self, upstream_port: int, core: int, directory: Path) -> None:
        binary = peers.nginx_program()
        if binary is None:
            raise Missing("nginx: `make bench-peers` or `apt install nginx`")
        port = free_port()
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "nginx.conf").write_text(NGINX_CONF.format(port=port, upstream=upstream_port, user=_worker_user()))
        argv = [
            str(binary),
            "-p",
            str(directory),
            "-e",
            str(directory / "error.log"),
            "-c",
            str(directory / "nginx.conf"),
        ]
        self.program = Program(argv, core=core, log=directory / "nginx.log")
        self.program.await_ready(lambda: accepts(port), 10)
        self.target = Target(port)
        version = subprocess.run([str(binary), "-v"], capture_output=True, text=True, check=True).stderr
        self.how = f"nginx {version.strip().rpartition('/')[2]}, one worker, proxy_pass with keep-alive, no access log"

    def resident_kb(self) -> int:
        return max(map(resident_kb, children(self.program.pid)), default=0)


def _worker_user() -> str:
    """As root, nginx would drop its worker to `nobody`, who may not enter the run's directory."""
    return f"user {getpass.getuser()};" if os.geteuid() == 0 else ""


NGINX_CONF = """
{user}
daemon off;
worker_processes 1;
worker_rlimit_nofile 16384;
pid nginx.pid;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    keepalive_requests 100000000;
    upstream mock {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 100000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://mock;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_read_timeout 300s;
        }}
    }}
}}
"""


class LiteLLM(_Served):
    name = "litellm"
    how = "LiteLLM proxy"

    def start(self, upstream_port: int, core: int, directory: Path) -> None:
        binary = peers.litellm_program()
        if binary is None:
            raise Missing("LiteLLM proxy: `make bench-peers`, or name its program in LITELLM_BIN")
        port = free_port()
        directory.mkdir(parents=True, exist_ok=True)
        config = {
            "model_list": [
                {
                    "model_name": name,
                    "litellm_params": {
                        "model": f"openai/{name}",
                        "api_base": f"http://127.0.0.1:{upstream_port}/v1",
                        "api_key": "sk-upstream",
                    },
                }
                for name in MODELS
            ],
            "general_settings": {"master_key": "sk-bench"},
        }
        (directory / "config.yaml").write_text(json.dumps(config))
        argv = [str(binary), "--config", str(directory / "config.yaml"), "--host", "127.0.0.1", "--port", str(port)]
        argv += ["--num_workers", "1", "--telemetry", "False"]
        self.program = Program(
            argv,
            core=core,
            log=directory / "litellm.log",
            cwd=directory,
            env={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION"},
        )
        self.program.await_ready(lambda: accepts(port), 120)
        self.target = Target(port, key="sk-bench")
        self.how = f"LiteLLM proxy {_litellm_version(binary)}, one worker, master key, no database (nothing recorded)"


def _litellm_version(binary: Path) -> str:
    out = subprocess.run([str(binary), "--version"], capture_output=True, text=True, check=False, timeout=120)
    found = re.search(r"\d+\.\d+\.\d+\S*", out.stdout + out.stderr)
    return found.group() if found else "(version unknown)"


class Gateway(_Served):
    name = "gateway"
    how = "this gateway, one worker process, client key checked, every request recorded to SQLite"
    module = "gateway_project.server"

    def prepare(self, env: dict[str, str]) -> None:
        """What else the installation needs before it serves."""

    def start(self, upstream_port: int, core: int, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        # Whatever database and Redis the caller's shell names, the figures are those of a fresh checkout.
        env = {
            "GATEWAY_DATA_DIR": str(directory),
            "DATABASE_URL": "",
            "REDIS_URL": "",
            "GATEWAY_ENVIRONMENT": "development",
        }
        set_up(["manage.py", "quickstart", "--setup-only"], env)
        set_up(["-m", "benchmarks.registry", str(upstream_port)], env)
        self.prepare(env)
        key = json.loads((directory / "quickstart.json").read_text())["client_key"]
        port = free_port()
        argv = [
            sys.executable,
            "-m",
            self.module,
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--workers",
            "1",
        ]
        self.program = Program(argv, core=core, log=directory / "server.log", env=env, cwd=ROOT)
        self.program.await_ready(lambda: accepts(port), 60)
        self.target = Target(port, key=key)


def set_up(arguments: list[str], env: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **env},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    if done.returncode:
        raise DidNotStart(f"{' '.join(arguments)} failed: {last_lines(done.stdout + done.stderr)}")


CONTENDERS: tuple[type, ...] = (Direct, Gateway, Nginx, LiteLLM)
