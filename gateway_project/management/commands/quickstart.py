"""One command from a fresh checkout to a served request; `make run` calls it."""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from typing import Any

import redis
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console

from gateway_project import first_keys, first_run, serving
from gateway_project.embedded_redis import NoRedis, socket_path
from gateway_project.serving import NotServed, Plan
from gateway_project.terminal import Terminal


class Command(BaseCommand):
    help = (
        "Set up what is missing, then serve: web, worker, clock and, without REDIS_URL, a Redis. ctrl-C stops it all."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
        parser.add_argument("--port", type=int, default=8000, help="port to listen on; 0 takes a free one")
        parser.add_argument("--workers", type=int, default=1, help="web processes")
        parser.add_argument("--no-engine-build", action="store_true", help="do not compile llama-cpp-python")
        parser.add_argument("--setup-only", "--no-serve", action="store_true", help="set up and end")
        parser.add_argument("--verbose", action="store_true", help="show all that the processes write")

    def handle(self, *args: Any, **options: Any) -> None:
        started = time.monotonic()
        # The database, the logs and Redis's file hold what nobody else on the machine may read.
        os.umask(0o077)
        data_dir = settings.DATA_DIR
        self._make_keys()
        try:
            with serving.alone(data_dir):
                plan = self._plan(options)
                if not options["setup_only"]:
                    serving.refuse_taken_port(plan.host, plan.port)
                    _reach_redis(plan)
                first = first_run.set_up(data_dir, plan.base_url)
                if options["setup_only"]:
                    self.stdout.write(f"set up; see {data_dir / first_run.FILE}")
                    return
                terminal = Terminal(Console(file=self.stdout), verbose=options["verbose"])
                asyncio.run(
                    serving.serve(
                        plan,
                        heard=terminal.heard,
                        told=terminal.told,
                        on_ready=lambda: terminal.announce(first, plan, time.monotonic() - started),
                    )
                )
        except (NotServed, NoRedis) as error:
            raise CommandError(str(error)) from error

    def _make_keys(self) -> None:
        if first_keys.create_missing(settings.DATA_DIR) and not os.environ.get("GATEWAY_SECRET_KEY"):
            # Settings were read before there was a secret: the login link must be signed with the one that lasts.
            settings.SECRET_KEY = (settings.DATA_DIR / first_keys.DJANGO_SECRET).read_text().strip()

    def _plan(self, options: dict[str, Any]) -> Plan:
        own_redis = settings.REDIS_URL.startswith(f"unix://{settings.DATA_DIR}/")
        return Plan(
            data_dir=settings.DATA_DIR,
            host=options["host"],
            port=options["port"] or serving.free_port(options["host"]),
            workers=max(1, options["workers"]),
            redis_url=None if own_redis else settings.REDIS_URL,
            build_engine=not options["no_engine_build"],
        )


def _reach_redis(plan: Plan) -> None:
    if plan.redis_url is None:
        socket_path(plan.data_dir)
        return
    try:
        redis.Redis.from_url(plan.redis_url, socket_timeout=5, socket_connect_timeout=5).ping()
    except redis.RedisError as error:
        raise NotServed(f"REDIS_URL names a Redis that does not answer: {error}") from error
