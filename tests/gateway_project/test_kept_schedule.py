"""Beat starts again over whatever a killed one left of its file."""

import dbm.dumb
import shelve
from pathlib import Path

import pytest

from gateway_project.celery import app
from gateway_project.kept_schedule import KeptSchedule


def test_what_was_kept_is_read_again(tmp_path: Path) -> None:
    first = started(tmp_path)
    first.schedule["sweep-jobs"].total_run_count = 7
    first.close()
    assert started(tmp_path).schedule["sweep-jobs"].total_run_count == 7


@pytest.mark.parametrize("left", [b"", b"\x80", b"no pickle at all", b"\x80\x04\x95\xff\xff\xff"])
def test_a_file_that_was_half_written_is_begun_anew(tmp_path: Path, left: bytes) -> None:
    with shelve.Shelf(dbm.dumb.open(str(tmp_path / "beat.schedule"), "c")) as shelf:
        shelf.dict[b"entries"] = left
    assert set(started(tmp_path).schedule) >= set(app.conf.beat_schedule)


def test_a_file_of_which_the_contents_are_gone_is_begun_anew(tmp_path: Path) -> None:
    started(tmp_path).close()
    for path in tmp_path.iterdir():
        if path.suffix != ".dir":
            path.write_bytes(b"")
    assert set(started(tmp_path).schedule) >= set(app.conf.beat_schedule)


def started(folder: Path) -> KeptSchedule:
    return KeptSchedule(app=app, schedule_filename=str(folder / "beat.schedule"))
