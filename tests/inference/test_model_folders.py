from pathlib import Path

import pytest

from inference.engine.spec import DEMO_PATH
from inference.model_folders import is_allowed, named


def test_a_folder_and_a_file_may_be_said_from_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert named(["~/models"]) == (tmp_path.resolve() / "models",)
    assert is_allowed(tmp_path / "models" / "m.gguf", named([Path("~/models")]))
    assert is_allowed(Path("~/models/m.gguf"), named([tmp_path / "models"]))
    assert not is_allowed(Path("~/other.gguf"), named(["~/models"]))


def test_a_link_is_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "m.gguf").symlink_to(tmp_path / "secret.gguf")
    assert not is_allowed(tmp_path / "models" / "m.gguf", named([tmp_path / "models"]))
    assert not is_allowed(tmp_path / "models" / ".." / "secret.gguf", named([tmp_path / "models"]))


def test_what_is_built_in_is_allowed_anywhere_and_everything_where_no_folder_is_named(tmp_path: Path) -> None:
    assert is_allowed(DEMO_PATH, named([tmp_path]))
    assert is_allowed(tmp_path / "m.gguf", named([]))
