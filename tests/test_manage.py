import pytest

from manage import without_data_dir


@pytest.mark.parametrize(
    "arguments",
    [
        ["manage.py", "migrate", "--data-dir", "/data", "--check"],
        ["manage.py", "migrate", "--data-dir=/data", "--check"],
        ["manage.py", "--data-dir", "/data", "migrate", "--check"],
    ],
)
def test_every_command_takes_a_data_directory(arguments):
    assert without_data_dir(arguments) == (["manage.py", "migrate", "--check"], "/data")


def test_without_it_nothing_changes():
    assert without_data_dir(["manage.py", "check"]) == (["manage.py", "check"], None)


def test_what_follows_two_dashes_is_left_alone():
    arguments = ["manage.py", "shell", "--", "--data-dir", "/data"]
    assert without_data_dir(arguments) == (arguments, None)


@pytest.mark.parametrize("ending", [["--data-dir"], ["--data-dir="], ["--data-dir", ""]])
def test_a_directory_must_be_named(ending):
    with pytest.raises(SystemExit, match="needs a directory"):
        without_data_dir(["manage.py", "check", *ending])
