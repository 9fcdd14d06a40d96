import stat

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.test.utils import override_settings
from django.utils import timezone

from gateway_project import checks
from inference import kept_files
from inference.batch_models import Batch, BatchAnswer
from inference.file_models import KeptFile
from inference.response_models import KeptResponse
from providers import actions, audit, keyring, revision, rotation
from providers.models import ApiKey, AuditEntry, ConnectionParameter, Provider
from providers.secrets import EncryptionKey, KeyringError

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def ring(tmp_path):
    """A ring of this test's own, so that rotating it touches no other test."""
    path = tmp_path / "encryption.keys"
    path.write_text("# kept apart from the database\n" + EncryptionKey.generate().line() + "\n")
    path.chmod(0o600)
    with override_settings(ENCRYPTION_KEYS_FILE=path):
        yield path


@pytest.fixture
def provider():
    return actions.create_provider(
        {
            "provider_id": "p",
            "provider_type": "openai_compatible",
            "connection_params": {"base_url": "https://u.example", "headers": {"Authorization": "Bearer inline"}},
        },
        keys=[{"secret": f"sk-{number}"} for number in range(5)],
        parameters=[{"param_name": "client_secret", "param_value": "cs-1"}],
    )


def secrets():
    return (
        [key.secret.reveal() for key in ApiKey.objects.order_by("id")],
        ConnectionParameter.objects.get().secret_value.reveal(),
        Provider.objects.get().full_connection_params()["headers"]["Authorization"].reveal(),
    )


EXPECTED = ([f"sk-{number}" for number in range(5)], "cs-1", "Bearer inline")


def test_every_secret_reads_back_and_the_old_key_opens_nothing(ring, provider):
    old = keyring.current()
    call_command("rotate_encryption_key", "--new-key", "--drop-old")
    assert secrets() == EXPECTED
    assert set(rotation.keys_in_use()) == {keyring.current().primary_id}
    assert keyring.current().key_ids == (keyring.current().primary_id,)
    assert old.primary_id not in keyring.current().key_ids


def test_the_ring_stays_private_and_keeps_the_old_key_until_it_is_dropped(ring, provider):
    old = keyring.current().primary_id
    call_command("rotate_encryption_key", "--new-key")
    assert stat.S_IMODE(ring.stat().st_mode) == 0o600
    assert keyring.current().key_ids == (keyring.current().primary_id, old)
    assert "# kept apart" in ring.read_text()
    call_command("rotate_encryption_key", "--drop-old")
    assert old not in ring.read_text()
    assert "# kept apart" in ring.read_text()


def test_one_audit_entry_and_one_revision_for_a_whole_rotation(provider):
    entries, number = AuditEntry.objects.count(), revision.current()
    call_command("rotate_encryption_key", "--new-key")
    assert revision.current() == number + 1
    assert AuditEntry.objects.count() == entries + 1
    entry = AuditEntry.objects.first()
    assert (entry.actor, entry.action) == ("command:rotate_encryption_key", "rotate")
    assert entry.after["rewritten"] == 7
    assert list(audit.verify()) == []


def test_nothing_but_the_ciphertext_changes(provider):
    before = ApiKey.objects.values("updated_at", "fingerprint", "hint", "created_by").first()
    call_command("rotate_encryption_key", "--new-key")
    assert ApiKey.objects.values("updated_at", "fingerprint", "hint", "created_by").first() == before


def test_a_second_run_has_nothing_to_do(provider):
    call_command("rotate_encryption_key", "--new-key")
    before = AuditEntry.objects.count(), revision.current()
    call_command("rotate_encryption_key")
    assert (AuditEntry.objects.count(), revision.current()) == before


class Killed(BaseException):
    pass


def test_killed_in_the_middle_it_goes_on_where_it_was(provider, monkeypatch):
    monkeypatch.setattr(rotation, "BATCH", 2)
    rotation.put_new_key_in_front()

    def die(done):
        raise Killed

    with pytest.raises(Killed):
        rotation.reencrypt(die)
    assert len(rotation.keys_in_use()) == 2
    assert secrets() == EXPECTED
    assert rotation.reencrypt().rewritten == 6, "one provider was done"
    assert rotation.waiting() == 0
    assert secrets() == EXPECTED


def test_an_edit_during_the_rotation_is_never_lost(provider, monkeypatch):
    rotation.put_new_key_in_front()
    changes = rotation._changes

    def changes_while_somebody_edits(rows, field, unreadable):
        found = list(changes(rows, field, unreadable))
        if rows[0].__class__ is ApiKey and rows[0].pk == ApiKey.objects.order_by("id").first().pk and found:
            key = ApiKey.objects.order_by("id").first()
            if key.secret.reveal() == "sk-0":
                actions.update_key(key, {"secret": "sk-edited"})
        return found

    monkeypatch.setattr(rotation, "_changes", changes_while_somebody_edits)
    rotation.reencrypt()
    assert secrets()[0] == ["sk-edited", *EXPECTED[0][1:]]
    assert rotation.waiting() == 0


def test_a_key_still_in_use_is_not_dropped(provider):
    old = keyring.current().primary_id
    rotation.put_new_key_in_front()
    assert rotation.drop_unused_keys() == []
    assert old in keyring.current().key_ids


def test_values_that_no_key_opens_are_named_and_left(ring, provider):
    key = ApiKey.objects.order_by("id").first()
    other = ApiKey.objects.order_by("id").last()
    stolen = other.__dict__["secret"].ciphertext
    ApiKey._base_manager.filter(pk=key.pk).update(secret=stolen)
    with pytest.raises(CommandError, match="1 values"):
        call_command("rotate_encryption_key", "--new-key")
    assert ApiKey._base_manager.get(pk=key.pk).__dict__["secret"].ciphertext == stolen
    assert [row.secret.reveal() for row in ApiKey.objects.exclude(pk=key.pk).order_by("id")] == EXPECTED[0][1:]


def test_a_ring_from_the_environment_is_not_changed_here(ring, provider):
    with (
        override_settings(ENCRYPTION_KEYS=ring.read_text().splitlines()[1]),
        pytest.raises(CommandError, match="GATEWAY_ENCRYPTION_KEYS"),
    ):
        call_command("rotate_encryption_key", "--new-key")


def test_a_lost_key_is_a_system_check_error(ring, provider):
    assert checks.stored_secrets_can_be_opened(None) == []
    lost = keyring.current().primary_id
    ring.write_text(EncryptionKey.generate().line() + "\n# another length\n")
    findings = checks.stored_secrets_can_be_opened(None)
    assert [finding.id for finding in findings] == ["gateway.E006"]
    assert "7 stored secrets" in findings[0].msg
    assert lost in findings[0].msg


def test_a_missing_ring_file_says_what_to_do(ring):
    ring.unlink()
    with pytest.raises(KeyringError, match="create_keys"):
        rotation.put_new_key_in_front()
    assert not settings.ENCRYPTION_KEYS_FILE.exists()


def test_what_customers_wrote_is_encrypted_anew_too():
    text = "what a customer wrote " * 20_000
    file = kept_files.keep(KeptFile(owner="gw-1", filename="in.jsonl", purpose="batch"), [text.encode()])
    batch = Batch.objects.create(owner="gw-1", endpoint="/v1/embeddings", expires_at=timezone.now())
    BatchAnswer.objects.create(batch=batch, number=1, ok=True, content=text)
    KeptResponse.objects.create(
        response_id="resp_1", owner="gw-1", thread="resp_1", model="m", input="[1]", body="{}", question="{}"
    )
    call_command("rotate_encryption_key", "--new-key", "--drop-old")
    assert set(rotation.keys_in_use()) == {keyring.current().primary_id}
    assert b"".join(kept_files.pieces(file.pk)).decode() == text
    assert BatchAnswer.objects.get().content.reveal() == text
    row = KeptResponse.objects.get()
    assert (row.input.reveal(), row.body.reveal(), row.question.reveal()) == ("[1]", "{}", "{}")
