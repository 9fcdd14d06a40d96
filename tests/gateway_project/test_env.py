from pathlib import Path

import pytest

from gateway_project.env import BadSetting, Environment


def test_a_value_is_read_from_the_variable():
    assert Environment({"NAME": " ada "}).text("NAME") == "ada"


def test_a_value_is_read_from_the_file_that_name_file_points_at(tmp_path):
    (tmp_path / "secret").write_text("from-a-file\n")
    assert Environment({"NAME_FILE": str(tmp_path / "secret")}).text("NAME") == "from-a-file"


def test_the_variable_wins_over_the_file(tmp_path):
    (tmp_path / "secret").write_text("from-a-file")
    assert Environment({"NAME": "direct", "NAME_FILE": str(tmp_path / "secret")}).text("NAME") == "direct"


def test_a_file_that_is_missing_stops_the_start_and_names_the_variable(tmp_path):
    with pytest.raises(BadSetting, match="NAME_FILE"):
        Environment({"NAME_FILE": str(tmp_path / "nothing")}).text("NAME")


@pytest.mark.parametrize(("text", "flag"), [("true", True), ("ON", True), ("1", True), ("no", False), ("0", False)])
def test_flags_read_as_people_write_them(text, flag):
    assert Environment({"FLAG": text}).flag("FLAG", default=not flag) is flag


def test_a_word_that_is_no_flag_stops_the_start():
    with pytest.raises(BadSetting, match="FLAG is 'maybe'"):
        Environment({"FLAG": "maybe"}).flag("FLAG")


@pytest.mark.parametrize("text", ["twelve", "1.5", "-1"])
def test_an_integer_that_is_none_or_too_small_stops_the_start(text):
    with pytest.raises(BadSetting, match="COUNT"):
        Environment({"COUNT": text}).integer("COUNT", 3)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30), ("30s", 30), ("5m", 300), ("1.5h", 5400), ("250ms", 0.25), ("2d", 172800)]
)
def test_durations_carry_their_unit(text, seconds):
    assert Environment({"SPAN": text}).seconds("SPAN", 1) == seconds


def test_a_duration_without_sense_stops_the_start():
    with pytest.raises(BadSetting, match="SPAN"):
        Environment({"SPAN": "soon"}).seconds("SPAN", 1)


def test_lists_are_split_at_commas():
    assert Environment({"HOSTS": "a.example, b.example,"}).words("HOSTS") == ["a.example", "b.example"]


def test_without_a_url_the_database_is_sqlite_with_wal_and_immediate_transactions():
    database = Environment({}).database("DATABASE_URL", default_path=Path("/data/db.sqlite3"))
    assert database["NAME"] == "/data/db.sqlite3"
    assert database["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
    assert "journal_mode=WAL" in database["OPTIONS"]["init_command"]


def test_a_postgresql_url_is_taken_apart_with_its_escapes():
    url = "postgresql://gate%40way:p%2Fw@db.example:5433/main?sslmode=require"
    database = Environment({"DATABASE_URL": url}).database("DATABASE_URL", default_path=Path("x"))
    assert database["ENGINE"] == "django.db.backends.postgresql"
    assert (database["USER"], database["PASSWORD"]) == ("gate@way", "p/w")
    assert (database["HOST"], database["PORT"], database["NAME"]) == ("db.example", "5433", "main")
    assert database["OPTIONS"] == {"sslmode": "require"}


def test_a_database_that_is_not_supported_stops_the_start_and_names_those_that_are():
    with pytest.raises(BadSetting, match="postgresql:// and sqlite:///"):
        Environment({"DATABASE_URL": "mysql://host/db"}).database("DATABASE_URL", default_path=Path("x"))


def test_a_number_has_bounds():
    assert Environment({"SHARE": "100"}).integer("SHARE", 0, most=100) == 100
    with pytest.raises(BadSetting, match="SHARE is 101; at most 100"):
        Environment({"SHARE": "101"}).integer("SHARE", 0, most=100)


def test_files_are_listed_by_several_variables_each_once(tmp_path):
    variables = {
        "OURS": f"{tmp_path}/a.yaml, {tmp_path}/b.yaml",
        "THEIRS": f"{tmp_path}/./a.yaml",
        "RELATIVE": "c.yaml",
    }
    found = Environment(variables).paths("OURS", "NOT_SET", "THEIRS", "RELATIVE")
    assert found == [f"{tmp_path}/a.yaml", f"{tmp_path}/b.yaml", str(Path("c.yaml").resolve())]
