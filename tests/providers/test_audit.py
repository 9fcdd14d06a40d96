import json
import random
import threading

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.urls import reverse

from providers import actions, actor, audit, audit_files
from providers.models import ApiKey, AuditEntry, AuditHead, Provider
from tests.callers import caller

pytestmark = pytest.mark.django_db


def write_entries(count=6):
    provider = actions.create_provider({"provider_id": "p", "provider_type": "openai"})
    for number in range(count - 1):
        actions.update_provider(provider, {"priority": number + 2})


def raw(**values):
    return AuditEntry._base_manager.filter(**values)


def test_an_untouched_log_is_whole(capsys):
    write_entries()
    assert list(audit.verify()) == []
    call_command("verify_audit")
    assert "whole: 6 entries" in capsys.readouterr().out


def test_a_log_is_whole_though_it_grows_while_it_is_read(monkeypatch):
    write_entries()
    last, hash_of = AuditEntry.objects.order_by("id").last(), audit._hash

    def hash_and_append(entry):
        if entry == last:
            monkeypatch.setattr(audit, "_hash", hash_of)
            audit.record("update", "provider", "p", before=None, after=None)
        return hash_of(entry)

    monkeypatch.setattr(audit, "_hash", hash_and_append)
    assert list(audit.verify()) == []


def test_what_was_changed_after_the_walk_came_by_its_end_is_found(monkeypatch):
    write_entries()
    last, hash_of = AuditEntry.objects.order_by("id").last(), audit._hash

    def hash_and_append(entry):
        if entry == last:
            monkeypatch.setattr(audit, "_hash", hash_of)
            appended = audit.record("update", "provider", "p", before=None, after=None)
            raw(pk=appended.pk).update(actor="user:mallory")
        return hash_of(entry)

    monkeypatch.setattr(audit, "_hash", hash_and_append)
    assert [finding.entry_id for finding in audit.verify()] == [last.pk + 1]


def test_an_empty_log_is_whole():
    assert list(audit.verify()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"actor": "user:mallory"},
        {"action": "delete"},
        {"target_type": "apikey"},
        {"target_id": "q"},
        {"before": {"priority": 99}},
        {"after": {"priority": 99}},
        {"request_id": "other"},
        {"reason": "because"},
        {"hash": "0" * 64},
        {"previous_hash": "f" * 64},
    ],
)
def test_a_changed_entry_is_found(change):
    write_entries()
    victim = AuditEntry.objects.order_by("id")[2]
    raw(pk=victim.pk).update(**change)
    assert victim.pk in {finding.entry_id for finding in audit.verify()}


def test_a_changed_time_is_found():
    write_entries()
    victim = AuditEntry.objects.order_by("id")[2]
    raw(pk=victim.pk).update(at=victim.at.replace(year=2000))
    assert [finding.entry_id for finding in audit.verify()] == [victim.pk]


@pytest.mark.parametrize("position", [0, 2, 5])
def test_a_removed_entry_is_found(position):
    write_entries()
    raw(pk=AuditEntry.objects.order_by("id")[position].pk).delete()
    assert list(audit.verify())


def test_the_whole_log_removed_is_found():
    write_entries()
    raw().delete()
    assert list(audit.verify())


def test_a_removed_head_is_found():
    write_entries()
    AuditHead.objects.all().delete()
    assert list(audit.verify())


def test_a_head_that_was_set_back_is_found():
    write_entries()
    last, cut = AuditEntry.objects.order_by("-id")[:2]
    raw(pk=last.pk).delete()
    AuditHead.objects.update(last_id=cut.pk, last_hash=cut.hash)
    assert list(audit.verify())


def test_an_inserted_entry_is_found():
    write_entries()
    forged = AuditEntry.objects.order_by("id")[3]
    forged.pk = None
    forged.target_id = "forged"
    forged.save()
    assert list(audit.verify())


def test_any_of_many_random_changes_is_found():
    write_entries(12)
    seed = random.Random(11)
    rows = list(AuditEntry.objects.order_by("id"))
    for _ in range(60):
        row = seed.choice(rows)
        field = seed.choice(["actor", "action", "target_id", "request_id", "reason", "hash", "previous_hash"])
        kept = getattr(row, field)
        raw(pk=row.pk).update(**{field: (kept + "x")[-60:]})
        assert list(audit.verify()), (row.pk, field)
        raw(pk=row.pk).update(**{field: kept})
    assert list(audit.verify()) == []


def test_the_command_fails_on_tampering():
    write_entries()
    raw(pk=AuditEntry.objects.order_by("id")[1].pk).update(actor="user:mallory")
    with pytest.raises(CommandError, match="tampered"):
        call_command("verify_audit")


def test_an_entry_names_who_why_and_in_which_request():
    with actor.acting_as("user:ada", request_id="req-1", reason="ticket 7"):
        actions.create_provider({"provider_id": "p", "provider_type": "openai"})
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.request_id, entry.reason) == ("user:ada", "req-1", "ticket 7")
    assert entry.before is None
    assert entry.after["provider_id"] == "p"


def test_old_and_new_differ_after_an_update():
    provider = actions.create_provider({"provider_id": "p", "provider_type": "openai"})
    actions.update_provider(provider, {"display_name": "Other"})
    entry = AuditEntry.objects.first()
    assert (entry.before["display_name"], entry.after["display_name"]) == ("p", "Other")


def test_a_secret_that_changed_shows_as_two_fingerprints():
    provider = actions.create_provider({"provider_id": "p", "provider_type": "openai"}, keys=[{"secret": "sk-one"}])
    key = ApiKey.objects.get()
    actions.update_key(key, {"secret": "sk-two"})
    entry = AuditEntry.objects.first()
    assert entry.before["secret"] != entry.after["secret"]
    assert entry.before["secret"].startswith("fingerprint:")
    assert not any("sk-" in f"{row.before}{row.after}" for row in AuditEntry.objects.all())
    assert provider.api_keys.count() == 1


def test_deleting_a_provider_tells_what_went_with_it():
    provider = actions.create_provider(
        {"provider_id": "p", "provider_type": "openai"}, models=[{"model_id": "m"}], keys=[{"secret": "sk-one"}]
    )
    provider.delete()
    before = AuditEntry.objects.first().before
    assert before["models"][0]["model_id"] == "m"
    assert before["api_keys"][0]["secret"].startswith("fingerprint:")
    Provider.objects.create(provider_id="q", provider_type="openai").models.create(model_id="n")
    Provider.objects.filter(provider_id="q").delete()
    assert AuditEntry.objects.first().before["q"]["models"][0]["model_id"] == "n"


def test_a_write_that_is_rolled_back_leaves_no_entry():
    with pytest.raises(actions.AlreadyExists):
        actions.create_provider({"provider_id": "p", "provider_type": "openai"}, models=[{"model_id": "m"}] * 2)
    assert not AuditEntry.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_writers_at_the_same_time_make_one_chain():
    Provider.objects.create(provider_id="p", provider_type="openai")
    errors = []

    def write(number):
        try:
            Provider.objects.create(provider_id=f"p{number}", provider_type="openai")
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert AuditEntry.objects.count() == 9
    assert list(audit.verify()) == []


def test_the_log_is_written_to_files_by_command_and_rest(capsys):
    write_entries(3)
    with actor.acting_as("user:=cmd()"):
        actions.create_provider({"provider_id": "q", "provider_type": "openai"})
    call_command("audit", "export", "--object", "p", "--action", "update")
    by_command = capsys.readouterr().out
    assert by_command.splitlines()[0].startswith("id,at,actor,action")
    assert [line.split(",")[3] for line in by_command.splitlines()[1:]] == ["update", "update"]
    told = caller("admin").get("/api/v1/audit/export", {"target_id": "p", "action": "update"})
    assert b"".join(told.streaming_content).decode() == by_command.replace("\n", "\r\n").replace("\r\r", "\r")
    call_command("audit", "export", "--format", "json", "--since", "2020-01-01")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["actor"] for line in lines if line["target_id"] == "q"] == ["user:=cmd()"]
    call_command("audit", "list", "--type", "provider", "--limit", "1")
    assert "q" in capsys.readouterr().out
    call_command("audit", "verify")
    assert "is whole" in capsys.readouterr().out


def test_a_table_takes_no_text_of_the_log_for_a_formula():
    with actor.acting_as("=cmd()"):
        write_entries(1)
    assert ",'=cmd()," in "".join(audit_files.csv_lines(AuditEntry.objects.all()))


def test_the_admins_file_is_narrowed_as_its_list_is(admin_client):
    write_entries(3)
    url = reverse("admin:providers_auditentry_export")
    found = b"".join(admin_client.get(url, {"action": "create", "format": "json"}).streaming_content)
    assert [json.loads(line)["action"] for line in found.splitlines()] == ["create"]
    assert admin_client.get(url, {"id__exact": "x"}).status_code == 302


def test_what_is_copied_from_the_list_runs_nothing_that_an_address_brought(admin_client):
    url = reverse("admin:providers_auditentry_changelist")
    html = admin_client.get(url, {"action": "x; curl evil.example&more"}).content.decode()
    assert "--action &#x27;x; curl evil.example&amp;more&#x27;" in html
    assert "action=x%3B+curl+evil.example%26more" in html


def test_the_list_counts_nothing_and_asks_for_no_choices(admin_client, django_assert_num_queries):
    write_entries(3)
    url = reverse("admin:providers_auditentry_changelist")
    admin_client.get(url)
    with django_assert_num_queries(4) as asked:
        admin_client.get(url)
    assert not any("COUNT(" in query["sql"] or "DISTINCT" in query["sql"] for query in asked.captured_queries)


def test_one_entry_tells_whether_it_stands_as_it_was_written():
    write_entries(3)
    first, second, third = AuditEntry.objects.order_by("pk")
    assert [audit.stands_as_written(one) for one in (first, second, third)] == [True] * 3
    raw(pk=second.pk).update(reason="none of my doing")
    assert not audit.stands_as_written(AuditEntry.objects.get(pk=second.pk))
    raw(pk=second.pk).delete()
    assert not audit.stands_as_written(third)
