import stat

from providers import private_files


def test_a_private_file_is_made_once_and_for_its_owner(tmp_path):
    path = tmp_path / "key"
    assert private_files.create(path, "first")
    assert not private_files.create(path, "second")
    assert path.read_text() == "first"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [found.name for found in tmp_path.iterdir()] == ["key"]


def test_a_private_file_is_replaced_whole(tmp_path):
    path = tmp_path / "quickstart.json"
    path.write_text("old")
    path.chmod(0o644)
    private_files.replace(path, "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [found.name for found in tmp_path.iterdir()] == ["quickstart.json"]
