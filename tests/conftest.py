"""The ground under every test: a data directory with keys made for this run, a real Redis, a real database.

All of it stands in the environment before Django reads its settings, which is why it happens while this file is imported.
`GATEWAY_TEST_DATABASE` chooses between `sqlite` with an embedded Redis (the default) and `postgresql` with a Redis over TCP.
Each pytest-xdist worker is a process of its own and gets its own of everything.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import hypothesis
import pytest
import pytest_django
from django.contrib.auth.hashers import PBKDF2PasswordHasher

from gateway_project import first_keys
from tests import services

DATABASE = os.environ.get("GATEWAY_TEST_DATABASE", "sqlite")
IN_CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}
MISSING = "missing on this machine: "

# How long an example takes says more about the machine than about the code. Chance finds new examples on developers' machines; CI,
# which judges a change, tries the same ones each time.
hypothesis.settings.register_profile("untimed", deadline=None, derandomize=IN_CI)
hypothesis.settings.load_profile("untimed")

# A million rounds take half a second for every user that a test makes or logs in. The hash says how many it had, so that any
# process can verify it.
PBKDF2PasswordHasher.iterations = 1

_closing = contextlib.ExitStack()
atexit.register(_closing.close)


def _prepare() -> tuple[Path, str]:
    if DATABASE not in {"sqlite", "postgresql"}:
        raise pytest.UsageError(f"GATEWAY_TEST_DATABASE is {DATABASE!r}; say sqlite or postgresql")
    # Short, because the path of a Unix socket may have no more than 107 bytes.
    data_dir = Path(tempfile.mkdtemp(prefix="gwtest-", dir="/tmp"))
    _closing.callback(shutil.rmtree, data_dir, ignore_errors=True)
    first_keys.create_missing(data_dir)
    (data_dir / "static").mkdir()  # whitenoise warns of a folder that is not there
    # A developer's own settings must neither reach the tests nor be reached by them.
    kept = {"GATEWAY_TEST_DATABASE"}
    for name in [name for name in os.environ if name.startswith("GATEWAY_") and name not in kept]:
        del os.environ[name]
    for name in ["DATABASE_URL", "REDIS_URL", "DATABASE_URL_FILE", "REDIS_URL_FILE"]:
        os.environ.pop(name, None)
    os.environ["GATEWAY_DATA_DIR"] = str(data_dir)
    os.environ["DJANGO_SETTINGS_MODULE"] = "gateway_project.settings"
    try:
        if DATABASE == "postgresql":
            database = services.postgresql(data_dir)
            _closing.callback(database.stop)
            os.environ["DATABASE_URL"] = database.url
            store = services.external_redis(data_dir)
            os.environ["REDIS_URL"] = store.url
        else:
            store = services.private_redis(data_dir)
        _closing.callback(store.stop)
    except services.ServiceMissing as error:
        raise pytest.UsageError(str(error)) from error
    return data_dir, store.url


DATA_DIR, REDIS_URL = _prepare()

import django  # noqa: E402
import django.db  # noqa: E402
from django.conf import settings  # noqa: E402

if DATABASE == "sqlite":
    # A file, as in production: the in-memory database of Django's test runner locks whole tables between threads.
    settings.DATABASES["default"].setdefault("TEST", {})["NAME"] = str(DATA_DIR / "test.sqlite3")
assert str(settings.DATA_DIR) == os.path.realpath(DATA_DIR), (
    "Django read its settings before this file could prepare them"
)
django.setup()

from django.core.cache import cache  # noqa: E402

from gateway_project import health as health_page  # noqa: E402
from inference import events, kept_replies, shadow_budget  # noqa: E402
from inference.backends import worker_relay  # noqa: E402
from routing import (  # noqa: E402
    cached_answers,
    calibration,
    health,
    health_sharing,
    key_use,
    last_words,
    loop_store,
    metering,
    metering_store,
    selections,
    shared_health,
)

# A gateway does without a Redis that is silent for a second; tests are about what it says, on machines that may pause for longer.
for _module, _name in [
    *((one, "_PATIENCE_SECONDS") for one in (cached_answers, calibration, events, health_page, loop_store)),
    *((one, "_PATIENCE_SECONDS") for one in (metering_store, selections, shadow_budget)),
    *((one, "PATIENCE_SECONDS") for one in (health_sharing, last_words, shared_health)),
    (kept_replies, "_LAST_WORK_SECONDS"),
    (worker_relay, "_REDIS_SECONDS"),
]:
    assert hasattr(_module, _name)
    setattr(_module, _name, 60.0)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Keep our environment from the workers: pytest-django would load settings from it before they prepare their own."""
    for name in ["DJANGO_SETTINGS_MODULE", "GATEWAY_DATA_DIR", "DATABASE_URL", "REDIS_URL"]:
        os.environ.pop(name, None)


@pytest.fixture(autouse=True)
def unseen() -> Iterator[None]:
    """What one test saw of a provider, or holds of a limit, is nothing to the next."""
    health.replace(None)
    metering.replace(None)
    yield
    health.replace(None)
    metering.replace(None)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The data directory of this run: fresh keys and peppers, the embedded Redis's socket."""
    return DATA_DIR


@pytest.fixture(scope="session")
def redis_url() -> str:
    """A real Redis that only this session uses; emptied before each test."""
    return REDIS_URL


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: pytest_django.DjangoDbBlocker) -> Iterator[None]:
    """PostgreSQL drops no database that a session is open on, and threads of the pool keep theirs while they live."""
    from tests import emptying  # its tables are known once Django is set up

    with contextlib.ExitStack() as until_the_end:
        with django_db_blocker.unblock():
            until_the_end.enter_context(emptying.quickly())
        yield
    if DATABASE == "postgresql":
        with django_db_blocker.unblock(), django.db.connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


@pytest.fixture(autouse=True)
def _empty_redis() -> None:
    services.empty(REDIS_URL)


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    """What this process knows of an earlier test: its prompts' prices, keys by their ids, choices of models, parts of pages."""
    calibration.replace(calibration.Calibration())
    key_use.forget()
    selections._of_keys.clear()
    selections._asked_again_at = 0.0
    cache.clear()


@pytest.fixture(scope="module")
def postgresql_url() -> Iterator[str]:
    """An empty PostgreSQL database of our own, whichever database the suite itself runs on."""
    yield from _found(services.postgresql)


@pytest.fixture(scope="module")
def mariadb_url() -> Iterator[str]:
    """An empty MariaDB database of our own."""
    yield from _found(services.mariadb)


@pytest.fixture(scope="session")
def pgvector_url() -> Iterator[str]:
    """A PostgreSQL database of our own with the extension pgvector at hand."""
    yield from _found(services.pgvector)


@pytest.fixture(scope="session")
def chroma_url() -> Iterator[str]:
    """A Chroma server of our own."""
    yield from _found(services.chroma)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium."""
    return services.chromium() or missing("a Chromium for browser tests (make services)")


def missing(what: str) -> NoReturn:
    """Skip for want of `what`, named again in the closing summary; in CI a test that cannot run has failed."""
    if IN_CI:
        pytest.fail(MISSING + what, pytrace=False)
    pytest.skip(MISSING + what)


def _found(find: Callable[[Path], services.Service]) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="gwtest-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        try:
            service = find(Path(folder))
        except services.ServiceMissing as error:
            missing(str(error))
        with services.running(service) as url:
            yield url


_STORES = {"db", "transactional_db", "django_db_setup", "redis_url", "postgresql_url", "live_server"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--stores", action="store_true", help="Only the tests that a database or Redis takes part in.")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On a second pair of stores, what touches neither would only say the same again."""
    if not config.getoption("--stores"):
        return
    touching = [item for item in items if _touches_a_store(item)]
    config.hook.pytest_deselected(items=[item for item in items if not _touches_a_store(item)])
    items[:] = touching


def _touches_a_store(item: pytest.Item) -> bool:
    used = set(getattr(item, "fixturenames", ()))
    return bool(used & _STORES) or item.get_closest_marker("django_db") is not None


def pytest_report_header() -> str:
    return f"stores: {DATABASE}, Redis at {REDIS_URL}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", []):
        text = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        if MISSING in text:
            reason = text.partition(MISSING)[2]
            reasons[reason] = reasons.get(reason, 0) + 1
    if reasons:
        terminalreporter.section("NOT TESTED on this machine", sep="!", red=True, bold=True)
        for reason, count in reasons.items():
            terminalreporter.line(f"{count} skipped for want of {reason}", red=True)
