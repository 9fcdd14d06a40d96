from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from django.utils import timezone

from providers import dialling, probes, revision
from providers.models import ApiKey, AuditEntry, ConnectionParameter, ProbeResult, Provider, ProviderModel
from tests.fakes.upstream import FakeUpstream, failure, garbage, html, redirect

pytestmark = pytest.mark.django_db
KEY = "sk-probe-canary-0123456789"


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream(api_key=KEY) as fake:
        yield fake


class Generating:
    """Stands in for the data plane: answers, or raises what it is given."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.asked: list[tuple[str, str, bool]] = []

    def __call__(self, provider_id: str, model_id: str, stream: bool) -> dict[str, Any]:
        self.asked.append((provider_id, model_id, stream))
        if self.error:
            raise self.error
        return {"text": "ok", "first_token_ms": 12.0, "total_ms": 30.0}


class Refused(Exception):
    def __init__(self, message: str, code: str = "upstream_error") -> None:
        super().__init__(message)
        self.message, self.detail, self.code = message, "", code


@pytest.fixture
def generating() -> Iterator[Generating]:
    generation = Generating()
    before = probes._generation
    probes.register_generation(generation)
    yield generation
    probes.register_generation(before)


def a_provider(base_url: str, *, kind: str = "openai", key: str | None = KEY, **fields: Any) -> Provider:
    provider = Provider.objects.create(
        provider_id="up", provider_type=kind, connection_params={"base_url": base_url}, **fields
    )
    ProviderModel.objects.create(provider=provider, model_id="gpt-test")
    if key is not None:
        ApiKey.objects.create(provider=provider, secret=key)
    return provider


def statuses(result: ProbeResult) -> dict[str, str]:
    return {stage["name"]: stage["status"] for stage in result.stages}


def message_of(result: ProbeResult, name: str) -> str:
    return next(stage["message"] for stage in result.stages if stage["name"] == name)


def dead_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def test_a_healthy_provider_passes_every_stage(upstream: FakeUpstream, generating: Generating) -> None:
    provider = a_provider(upstream.base_url, allow_paid_probes=True)

    result = probes.probe(provider)

    assert result.healthy
    assert statuses(result) == {
        "dns": "ok",
        "tcp": "ok",
        "tls": "skipped",
        "auth": "ok",
        "list_models": "ok",
        "one_token": "ok",
        "one_stream": "ok",
    }
    assert message_of(result, "list_models") == "3 models"
    assert message_of(result, "one_stream") == "gpt-test, first token after 12 ms"
    assert generating.asked == [("up", "gpt-test", False), ("up", "gpt-test", True)]
    assert result.model_tested == "gpt-test"


def test_a_scheduled_probe_of_a_billed_provider_asks_for_no_token(
    upstream: FakeUpstream, generating: Generating
) -> None:
    result = probes.probe(a_provider(upstream.base_url))

    assert result.healthy
    assert statuses(result)["one_token"] == statuses(result)["one_stream"] == "skipped"
    assert "billed" in message_of(result, "one_token")
    assert generating.asked == []
    assert [request.path for request in upstream.requests] == ["/v1/models"]


def test_a_person_may_ask_for_a_token_that_is_billed(upstream: FakeUpstream, generating: Generating) -> None:
    probes.probe(a_provider(upstream.base_url), trigger="admin", generate=True)

    assert len(generating.asked) == 2


def test_the_schedule_never_makes_a_billed_call_whatever_it_is_told(
    upstream: FakeUpstream, generating: Generating
) -> None:
    probes.probe(a_provider(upstream.base_url), trigger="schedule", generate=True)

    assert generating.asked == []


def test_a_free_type_is_generated_with_on_schedule(upstream: FakeUpstream, generating: Generating) -> None:
    probes.probe(a_provider(upstream.base_url, kind="vllm"))

    assert len(generating.asked) == 2


def test_a_wrong_key_fails_at_auth_in_the_words_of_the_upstream_without_the_key(
    upstream: FakeUpstream, generating: Generating
) -> None:
    provider = a_provider(upstream.base_url, key="sk-wrong-canary-987654321", allow_paid_probes=True)

    result = probes.probe(provider)

    assert not result.healthy
    assert statuses(result)["auth"] == "failed"
    assert statuses(result)["list_models"] == statuses(result)["one_token"] == "skipped"
    assert result.message.startswith("auth: HTTP 401: Incorrect API key provided: ••••")
    assert "sk-wrong-canary" not in str(result.stages)
    assert generating.asked == []


def test_a_dead_port_fails_at_tcp_and_skips_the_rest(generating: Generating) -> None:
    result = probes.probe(a_provider(f"http://127.0.0.1:{dead_port()}/v1", allow_paid_probes=True))

    assert not result.healthy
    assert statuses(result)["tcp"] == "failed"
    assert statuses(result)["auth"] == statuses(result)["one_stream"] == "skipped"
    assert "connection refused" in message_of(result, "tcp")
    assert message_of(result, "auth") == "there is no connection"


def test_an_unknown_host_fails_at_dns(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_such_name(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)
    result = probes.probe(a_provider("http://no-such-host.invalid/v1"))

    assert statuses(result)["dns"] == "failed"
    assert "cannot be resolved" in message_of(result, "dns")


def test_a_metadata_address_is_not_dialled() -> None:
    result = probes.probe(a_provider("http://169.254.169.254/v1"))

    assert statuses(result)["dns"] == "failed"
    assert message_of(result, "dns") == "The address is a cloud's metadata service."


def test_a_proxy_at_a_metadata_address_is_not_dialled() -> None:
    provider = a_provider("http://127.0.0.1:9/v1")
    ConnectionParameter.objects.create(
        provider=provider, param_name="proxy", param_value="http://user:pass@169.254.169.254:80"
    )
    result = probes.probe(provider)

    assert statuses(result)["list_models"] == "failed"
    assert result.message.endswith("The proxy cannot be used: The address is a cloud's metadata service.")


def test_a_client_certificate_that_is_not_there_is_named(upstream: FakeUpstream) -> None:
    provider = a_provider(upstream.base_url.replace("http://", "https://"))
    provider.connection_params = {**provider.connection_params, "client_certificate": "/no/such/file.pem"}
    provider.save()

    assert "the client certificate cannot be read" in message_of(probes.probe(provider), "tls")


def test_a_private_address_is_not_dialled_where_the_provider_forbids_it(upstream: FakeUpstream) -> None:
    provider = a_provider(upstream.base_url)
    ConnectionParameter.objects.create(provider=provider, param_name="allow_private", param_value="false")

    result = probes.probe(provider)

    assert statuses(result)["dns"] == "failed"
    assert upstream.connections == 0


def test_a_plain_server_behind_https_fails_at_tls(upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = dialling.connect

    def in_a_hurry(*where: Any) -> tuple[socket.socket, str]:
        connection, address = connect(*where)
        connection.settimeout(0.2)  # it waits for the end of a head that never comes
        return connection, address

    monkeypatch.setattr(dialling, "connect", in_a_hurry)
    result = probes.probe(a_provider(upstream.base_url.replace("http://", "https://")))

    assert statuses(result)["tls"] == "failed"
    assert "handshake failed" in message_of(result, "tls")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "probe test")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "cert.pem").write_bytes(signed.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture
def tls_upstream(certificate: tuple[Path, Path]) -> Iterator[FakeUpstream]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with FakeUpstream(api_key=KEY, ssl_context=context) as fake:
        yield fake


def test_a_certificate_of_the_providers_own_authority_is_trusted(
    tls_upstream: FakeUpstream, certificate: tuple[Path, Path]
) -> None:
    provider = a_provider(tls_upstream.base_url)
    ConnectionParameter.objects.create(provider=provider, param_name="ca_file", param_value=str(certificate[0]))

    result = probes.probe(provider)

    assert result.healthy
    assert message_of(result, "tls").startswith("TLSv1")


def test_an_untrusted_certificate_fails_at_tls_and_gets_no_key(tls_upstream: FakeUpstream) -> None:
    result = probes.probe(a_provider(tls_upstream.base_url))

    assert statuses(result)["tls"] == "failed"
    assert "certificate is not trusted" in message_of(result, "tls")
    assert tls_upstream.requests == []


def test_a_provider_may_do_without_verification(tls_upstream: FakeUpstream) -> None:
    provider = a_provider(tls_upstream.base_url)
    ConnectionParameter.objects.create(provider=provider, param_name="verify_tls", param_value="false")

    assert probes.probe(provider).healthy


def test_a_missing_base_url_is_named() -> None:
    provider = Provider.objects.create(provider_id="bare", provider_type="openai_compatible")

    assert "no base URL" in probes.probe(provider).message


def test_a_failing_list_is_a_warning_when_generation_works(upstream: FakeUpstream, generating: Generating) -> None:
    upstream.reply_with(failure(500, "no list today"))

    result = probes.probe(a_provider(upstream.base_url, allow_paid_probes=True))

    assert result.healthy
    assert statuses(result)["list_models"] == "warning"
    assert statuses(result)["auth"] == "ok"
    assert result.message == "list_models: HTTP 500: no list today (generation works)"


def test_a_failing_list_is_a_failure_when_nothing_else_was_proven(upstream: FakeUpstream) -> None:
    upstream.reply_with(failure(500, "no list today"))

    assert not probes.probe(a_provider(upstream.base_url)).healthy


def test_an_upstream_without_a_list_is_not_called_unwell_for_it(upstream: FakeUpstream) -> None:
    upstream.reply_with(failure(404, "no such path"))

    result = probes.probe(a_provider(upstream.base_url))

    assert result.healthy
    assert statuses(result)["list_models"] == "warning"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (html(), "is not JSON"),
        (garbage(), "did not answer in HTTP"),
        (redirect("http://127.0.0.1:1/v1/models"), "redirects are not followed"),
    ],
)
def test_an_answer_outside_the_protocol_is_named(upstream: FakeUpstream, answer: Any, words: str) -> None:
    upstream.reply_with(answer)

    result = probes.probe(a_provider(upstream.base_url))

    assert not result.healthy
    assert words in message_of(result, "list_models")


def test_a_key_that_only_generation_refuses_fails_auth(upstream: FakeUpstream, generating: Generating) -> None:
    generating.error = Refused(f"the key {KEY} is out of credit", code="upstream_auth_failed")

    result = probes.probe(a_provider(upstream.base_url, allow_paid_probes=True))

    assert statuses(result)["auth"] == "failed"
    assert statuses(result)["one_token"] == "failed"
    assert statuses(result)["one_stream"] == "skipped"
    assert KEY not in str(result.stages) + result.message


def test_a_missing_key_is_explained_by_what_is_there_instead(upstream: FakeUpstream) -> None:
    provider = a_provider(upstream.base_url, key=None)
    ApiKey.objects.create(provider=provider, secret=KEY, environment="production")

    result = probes.probe(provider)

    assert message_of(result, "auth") == "There is no key for the environment 'development', only for: production."
    assert upstream.requests == []


def test_an_expired_key_is_never_shown(upstream: FakeUpstream) -> None:
    provider = a_provider(upstream.base_url, key=None)
    ApiKey.objects.create(provider=provider, secret=KEY, expires_at=timezone.now())

    assert "1 expired" in message_of(probes.probe(provider), "auth")


def test_an_embedding_only_provider_is_tested_with_an_embedding(upstream: FakeUpstream, generating: Generating) -> None:
    provider = a_provider(upstream.base_url, allow_paid_probes=True)
    provider.models.all().delete()
    ProviderModel.objects.create(provider=provider, model_id="embed-test", model_type="embedding")

    result = probes.probe(provider)

    assert generating.asked == [("up", "embed-test", False)]
    assert message_of(result, "one_token") == "embed-test made an embedding: this provider has no chat model enabled"
    assert message_of(result, "one_stream") == "embeddings are not streamed"


def test_a_disabled_chat_model_is_not_picked(upstream: FakeUpstream, generating: Generating) -> None:
    provider = a_provider(upstream.base_url, allow_paid_probes=True)
    ProviderModel.objects.create(provider=provider, model_id="a-first", enabled=False)

    probes.probe(provider)

    assert generating.asked[0][1] == "gpt-test"


def test_a_type_that_runs_here_dials_nobody(generating: Generating) -> None:
    provider = Provider.objects.create(provider_id="local", provider_type="fake")
    ProviderModel.objects.create(provider=provider, model_id="fake-chat")

    result = probes.probe(provider)

    assert result.healthy
    assert {message_of(result, name) for name in ("dns", "tcp", "tls", "auth")} == {"runs here"}
    assert statuses(result)["one_stream"] == "ok"


def test_a_probe_leaves_no_audit_entry_and_raises_no_revision(upstream: FakeUpstream) -> None:
    provider = a_provider(upstream.base_url)
    before = (revision.current(), AuditEntry.objects.count())

    probes.probe(provider)

    assert (revision.current(), AuditEntry.objects.count()) == before


def test_only_the_last_results_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "KEPT_PER_PROVIDER", 3)
    provider = Provider.objects.create(provider_id="local", provider_type="fake")

    made = [probes.probe(provider).pk for _ in range(5)]

    assert sorted(provider.probes.values_list("pk", flat=True)) == made[-3:]


def test_an_unregistered_type_is_a_finding_not_a_crash() -> None:
    provider = Provider.objects.create(provider_id="odd", provider_type="no_such_type")

    result = probes.probe(provider)

    assert not result.healthy
    assert "not registered" in result.message


def test_models_that_are_added_by_hand_need_no_folder_to_look_in(generating: Generating, settings: Any) -> None:
    settings.GATEWAY_MODEL_FOLDERS = []
    provider = Provider.objects.create(provider_id="gpu", provider_type="transformers")
    ProviderModel.objects.create(provider=provider, model_id="org/name")

    result = probes.probe(provider)

    assert result.healthy
    assert statuses(result)["list_models"] == "skipped"
    generating.error = Refused("org/name is no directory")
    assert "org/name is no directory" in probes.probe(provider).message
