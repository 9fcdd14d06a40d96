import stat

from gateway_project import first_keys
from providers.secrets import load_keyring


def test_the_files_are_made_for_their_owner_only(tmp_path):
    data_dir = tmp_path / "new" / "data"
    made = first_keys.create_missing(data_dir)
    assert {path.name for path in made} == {"encryption.keys", "client_key.peppers", "django.secret"}
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o600}


def test_a_second_run_changes_nothing(tmp_path):
    first_keys.create_missing(tmp_path)
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert first_keys.create_missing(tmp_path) == []
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before


def test_only_the_missing_file_is_made(tmp_path):
    first_keys.create_missing(tmp_path)
    ring = (tmp_path / "encryption.keys").read_text()
    (tmp_path / "django.secret").unlink()
    assert [path.name for path in first_keys.create_missing(tmp_path)] == ["django.secret"]
    assert (tmp_path / "encryption.keys").read_text() == ring


def test_the_ring_opens(tmp_path):
    first_keys.create_missing(tmp_path)
    keyring = load_keyring(tmp_path / "encryption.keys")
    sealed = keyring.encrypt("sk-1", bound_to="a row")
    assert keyring.decrypt(sealed, bound_to="a row") == "sk-1"
