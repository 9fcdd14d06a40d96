import json
import sqlite3
from hashlib import sha256
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from providers.models import AuditEntry
from routing import building, client_keys, issuing
from routing.models import Budget, ClientKey, RateLimit, Team

pytestmark = pytest.mark.django_db

KEYS = ["sk-" + letter * 30 for letter in "abc"]


def digest(key):
    return sha256(key.encode()).hexdigest()


def run(*args, **options):
    out = StringIO()
    call_command("import_client_keys", *args, stdout=out, **options)
    return out.getvalue()


@pytest.fixture
def csv_file(tmp_path):
    path = tmp_path / "keys.csv"
    lines = ["token,key_alias,models,rpm_limit,max_budget,budget_duration,team_alias"]
    lines += [f'{digest(KEYS[0])},search,"{{gpt-4o}}",60,10,1d,research', f"{digest(KEYS[1])},chat,,,,,"]
    path.write_text("\n".join(lines) + "\n")
    return path


def admitted(key, **more):
    return client_keys.verify(key, building.build(), now=0.0, **more)


def test_a_client_of_litellm_goes_on_with_its_key(csv_file):
    Team.objects.create(name="research")
    run("litellm", file=csv_file, apply=True)
    identity = admitted(KEYS[0])
    assert (identity.name, identity.allowed_models, identity.scopes) == ("search", ("gpt-4o",), {"generate"})
    row = ClientKey.objects.get(name="search")
    assert (row.imported_from, row.team.name) == ("litellm", "research")
    assert (RateLimit.objects.get().client_key, RateLimit.objects.get().requests_per_minute) == (row, 60)
    assert (Budget.objects.get().period, Budget.objects.get().amount) == ("day", 10)
    assert admitted(KEYS[1]).name == "chat"


def test_the_digest_alone_opens_nothing_and_is_not_what_is_stored(csv_file):
    run("litellm", file=csv_file, apply=True)
    for shown in (digest(KEYS[0]), ClientKey.objects.first().digest, ClientKey.objects.first().prefix):
        with pytest.raises(client_keys.KeyRefused, match="unknown"):
            admitted(shown)
    assert digest(KEYS[0]) not in str(list(ClientKey.objects.values()))
    assert digest(KEYS[0]) not in str(list(AuditEntry.objects.values()))


def test_the_control_plane_knows_an_imported_key_by_its_row(csv_file):
    run("litellm", file=csv_file, apply=True)
    held = building.credentials(KEYS[0])
    assert client_keys.verify(KEYS[0], held, now=0.0).name == "search"
    assert building.credentials("sk-unknown").client_keys == {}


def test_without_apply_nothing_is_written(csv_file):
    told = run("litellm", file=csv_file)
    assert "2 new. Nothing was written" in told
    assert "there is no team" in " ".join(told.split())
    assert not ClientKey.objects.exists()


def test_a_second_run_changes_nothing(csv_file):
    run("litellm", file=csv_file, apply=True)
    ClientKey.objects.filter(name="search").update(name="renamed")
    assert "2 known. There was nothing to write." in run("litellm", file=csv_file, apply=True)
    assert ClientKey.objects.get(name="renamed")


def test_a_key_that_was_imported_under_an_older_pepper_is_known(csv_file, tmp_path, settings):
    run("litellm", file=csv_file, apply=True)
    ring = tmp_path / "peppers"
    ring.write_text("fresh:" + "B" * 43 + "=\n" + settings.CLIENT_KEY_PEPPERS_FILE.read_text())
    settings.CLIENT_KEY_PEPPERS_FILE = ring
    assert "2 known" in run("litellm", file=csv_file, apply=True)
    assert admitted(KEYS[0]).name == "search"


def test_an_imported_key_rotates_into_one_of_ours_and_is_good_until_the_overlap_ends(csv_file):
    from datetime import timedelta

    run("litellm", file=csv_file, apply=True)
    row = ClientKey.objects.get(name="search")
    ours = issuing.rotate(row, timedelta(hours=1)).reveal()
    before, after = row.rotated_at.timestamp() + 3599, row.rotated_at.timestamp() + 3600
    snapshot = building.build()
    for shown in (ours, KEYS[0]):
        assert client_keys.verify(shown, snapshot, now=before).key_id == row.pk
    assert client_keys.verify(ours, snapshot, now=after).key_id == row.pk
    with pytest.raises(client_keys.KeyRefused, match="rotated"):
        client_keys.verify(KEYS[0], snapshot, now=after)
    assert "2 known" in run("litellm", file=csv_file, apply=True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("token\nnonsense\n", "record 1, token"),
        (f"token,expires\n{digest(KEYS[0])},\n{digest(KEYS[1])},soon\n", "record 2, expires"),
        (f"token,models\n{digest(KEYS[0])}\n", "not as many values"),
        ('[{"token": 1', "JSON cannot be read"),
        ('{"rows": []}', "list of objects"),
        ("", "empty"),
    ],
)
def test_one_bad_record_and_nothing_is_written(tmp_path, text, says):
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(CommandError, match=says) as caught:
        run("litellm", file=path, apply=True)
    assert "Nothing was written" in str(caught.value)
    assert not any(digest(key) in str(caught.value) for key in KEYS)
    assert not ClientKey.objects.exists()


def test_expired_and_doubled_keys_are_passed_over(tmp_path):
    path = tmp_path / "keys.json"
    records = [{"key": KEYS[0], "expires_at": "2020-01-01"}, {"key": KEYS[1]}, {"key": KEYS[1]}]
    path.write_text(json.dumps({"keys": records}))
    told = json.loads(run("other", file=path, apply=True, json=True))
    assert [one["becomes"] for one in told] == ["expired", "new", "twice"]
    assert ClientKey.objects.get().prefix == told[1]["prefix"]


def test_the_keys_of_one_api_are_read_from_its_database(tmp_path):
    path = tmp_path / "one-api.db"
    with sqlite3.connect(path) as database:
        database.execute(
            "CREATE TABLE tokens (id INTEGER, key CHAR(48), status INTEGER, name TEXT, expired_time INTEGER, "
            "unlimited_quota NUMERIC, remain_quota INTEGER, models TEXT, subnet TEXT)"
        )
        rows = [(1, KEYS[0][3:], 1, "bot", -1, 1, 0, None, ""), (2, KEYS[1][3:], 2, "off", -1, 0, 500000, "gpt-4o", "")]
        database.executemany("INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    run("one-api", database=f"sqlite:///{path}", apply=True)
    assert admitted(KEYS[0]).name == "bot"
    with pytest.raises(client_keys.KeyRefused, match="disabled"):
        admitted(KEYS[1])


def test_the_keys_of_litellm_are_read_from_its_database_with_their_teams(tmp_path):
    path = tmp_path / "litellm.db"
    Team.objects.create(name="research")
    with sqlite3.connect(path) as database:
        database.execute(
            'CREATE TABLE "LiteLLM_VerificationToken" (token TEXT, key_alias TEXT, team_id TEXT, models TEXT)'
        )
        database.execute(
            'CREATE TABLE "LiteLLM_TeamTable" (team_id TEXT, team_alias TEXT, models TEXT, blocked BOOLEAN)'
        )
        database.execute(
            'INSERT INTO "LiteLLM_VerificationToken" VALUES (?, ?, ?, ?)',
            (digest(KEYS[0]), "search", "t1", '["all-team-models"]'),
        )
        database.execute('INSERT INTO "LiteLLM_TeamTable" VALUES (?, ?, ?, ?)', ("t1", "research", '["gpt-4o"]', False))
    run("litellm", database=f"sqlite:///{path}", apply=True)
    row = ClientKey.objects.get()
    assert (row.team.name, row.allowed_models) == ("research", ["gpt-4o"])


def test_a_database_that_cannot_be_read_is_told_without_its_password():
    with pytest.raises(CommandError) as caught:
        run("litellm", database="postgresql://reader:hunter2@127.0.0.1:1/litellm")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [({}, "Say where"), ({"file": "x", "database": "y"}, "not both"), ({"database": "sqlite:////x"}, "can be read")],
)
def test_what_is_asked_must_make_sense(options, says):
    with pytest.raises(CommandError, match=says):
        run("other", **options)


def test_an_unknown_team_is_refused(csv_file):
    with pytest.raises(CommandError, match="no team 'ghosts'"):
        run("litellm", file=csv_file, team="ghosts")
