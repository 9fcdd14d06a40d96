"""An empty database of each engine that a legacy system may have run on."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests import services
from tests.conftest import missing

ENGINES = ("sqlite", "mysql", "postgresql")


@contextlib.contextmanager
def empty_database(engine: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="gwtest-", dir="/tmp") as folder:
        if engine == "sqlite":
            yield f"sqlite:///{folder}/legacy.sqlite3"
            return
        find = services.mariadb if engine == "mysql" else services.postgresql
        try:
            service = find(Path(folder))
        except services.ServiceMissing as error:
            missing(str(error))
        with services.running(service) as url:
            yield url
