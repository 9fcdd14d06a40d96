from __future__ import annotations

import datetime
import ipaddress
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.db import connections

from inference import client, loop, trace_search, usage_rows
from inference.metrics import Metrics
from inference.recording import Recorder
from routing import client_keys, snapshot
from routing.types import Identity, ModelView, Snapshot
from tests.inference import registry, workers
from tests.inference.door import Door


@pytest.fixture
def serve() -> Iterator[Callable[..., Snapshot]]:
    """Put models in force: `serve(model, …, keys=…)`."""

    def put(*models: ModelView, **more: object) -> Snapshot:
        built = registry.snapshot(*models, **more)
        snapshot.replace(built)
        return built

    yield put
    snapshot.replace(None)


@pytest.fixture
def words(transactional_db: None) -> Iterator[None]:
    """A registry of one model, `words`, that says again what it is told."""
    workers.fresh_registry()
    workers.add_model(workers.add_provider("web", "fake"))
    yield
    snapshot.replace(None)


@pytest.fixture
def secret(words: None) -> str:
    """A client key that may generate, known to every request."""
    told = workers.client_key("generate")[1]
    snapshot.refresh()
    return told


@pytest.fixture
def owner(secret: str) -> Identity:
    return snapshot.current().client_keys[client_keys.prefix_of(secret)].identity


@pytest.fixture(autouse=True)
def all_the_time_that_a_search_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page may end short on a busy machine; tests are about what is found."""
    monkeypatch.setattr(trace_search, "_ENOUGH", 60.0)
    monkeypatch.setattr(trace_search, "_SHORTLY", 60.0)


@pytest.fixture
def client_recorder(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """The in-process client's own: usage is written before the test's tables are emptied, and no thread keeps a connection."""

    def write(rows: Any) -> None:
        try:
            usage_rows.write(rows)
        finally:
            connections.close_all()

    recorder = Recorder(write, Metrics())
    monkeypatch.setattr(client, "_recorder", recorder)
    monkeypatch.setattr(loop, "_background_plane", None)
    monkeypatch.setattr(client, "close_old_connections", connections.close_all)
    yield recorder
    recorder.stop()


@pytest.fixture
def store(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that adds provider types to a worker which has it on its path."""
    with workers.plugin(tmp_path_factory.mktemp("plugins")) as folder:
        yield folder


@pytest.fixture
async def door(serve: Callable[..., Snapshot]) -> AsyncIterator[Door]:
    """The data plane over one fake provider with a chat and an embedding model."""
    fake = registry.provider()
    serve(registry.model(fake), registry.model(fake, "fake-embedding", dimension=6))
    async with Door() as opened:
        yield opened


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A self-signed certificate for 127.0.0.1 and localhost, and its key, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test upstream")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "upstream.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return str(path)
