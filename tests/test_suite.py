"""What fails beside others gets one more try alone, and is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import suite

FIRST_TIME_ONLY = """
from pathlib import Path
def test_unsteady():
    seen = Path(__file__).with_name("seen")
    if not seen.exists():
        seen.touch()
        raise AssertionError
"""


def ran(folder: Path, text: str) -> int:
    (folder / "pytest.ini").touch()
    (folder / "test_of_others.py").write_text(text)
    return suite.main(["-q", "-p", "no:django", f"--rootdir={folder}", str(folder)])


def test_what_passes_alone_is_named_and_passes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert ran(tmp_path, FIRST_TIME_ONLY) == 0
    assert "UNSTEADY" in (said := capfd.readouterr().out)
    assert said.rstrip().endswith("test_of_others.py::test_unsteady")


def test_what_fails_twice_has_failed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert ran(tmp_path, "def test_wrong():\n    assert not 1\n") == 1
    assert "UNSTEADY" not in capfd.readouterr().out


def test_many_failures_count_at_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = "".join(f"def test_{n}():\n    assert not 1\n" for n in range(suite.FEW + 1))
    assert ran(tmp_path, text) == 1
    assert "once more" not in capfd.readouterr().out


def test_a_suite_that_cannot_be_collected_has_failed(tmp_path: Path) -> None:
    assert ran(tmp_path, "import no_such_module\n") == 2
