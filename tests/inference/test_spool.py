from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from inference import spool as spooling
from inference.spool import LOG_BYTES, SLOTS, Finished, Spool, left_by_the_dead

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def spool(tmp_path):
    made = Spool(tmp_path, most_bytes=4 * LOG_BYTES)
    made.open()
    yield made
    made.close()


def drop(spool: Spool) -> None:
    """As a kill does: the lock goes, and nothing is tidied."""
    spool._unlock()


def test_what_was_stored_is_found_when_the_owner_is_gone(spool, tmp_path) -> None:
    spool.append(b"begun", b"ended")
    spool.append(b"second", b"")
    slot = spool.begin(b"under way")
    slot.saw(3)
    slot.told(200, (7, 5, 2, 1))
    drop(spool)
    (left,) = left_by_the_dead(tmp_path)
    assert list(left.finished()) == [Finished(b"begun", b"ended"), Finished(b"second", b"")]
    (begun,) = left.begun()
    assert begun == (b"under way", 3, 200, 7, 5, 2, 1)


def test_the_folder_of_a_living_process_is_left_alone(spool, tmp_path) -> None:
    spool.append(b"", b"mine")
    assert not list(left_by_the_dead(tmp_path))


def test_what_the_database_has_is_not_found_again(spool, tmp_path) -> None:
    for number in range(5):
        spool.append(b"", b"%d" % number)
    spool.committed(3)
    assert [one.ended for one in spool.unread(10)] == [b"3", b"4"]
    assert spool.waiting() == 2
    drop(spool)
    (left,) = left_by_the_dead(tmp_path)
    assert [one.ended for one in left.finished()] == [b"3", b"4"]


def test_a_request_that_ended_leaves_its_slot_to_another(spool, tmp_path) -> None:
    slot = spool.begin(b"a long first record")
    slot.saw(9)
    spool.end(slot)
    assert spool.begin(b"next") is slot
    drop(spool)
    (left,) = left_by_the_dead(tmp_path)
    assert [(one.record, one.seen) for one in left.begun()] == [(b"next", 0)]


def test_more_requests_than_slots_get_another_table(spool, tmp_path) -> None:
    for number in range(SLOTS + 1):
        assert spool.begin(b"%d" % number)
    drop(spool)
    (left,) = left_by_the_dead(tmp_path)
    assert len(list(left.begun())) == SLOTS + 1


def test_a_record_that_fits_no_slot_has_none(spool) -> None:
    assert spool.begin(bytes(spooling.SLOT_BYTES)) is None


def test_a_log_that_the_database_has_is_used_again(spool) -> None:
    record = bytes(100_000)
    for number in range(200):
        assert spool.append(b"", b"%d" % number + record)
        spool.committed(1)
    assert spool.bytes_used() <= 3 * LOG_BYTES + SLOTS * spooling.SLOT_BYTES
    assert not spool.full


def test_a_spool_that_is_full_says_so_and_has_room_again_when_the_database_is_back(spool) -> None:
    stored = 0
    while spool.append(b"", bytes(500_000)):
        stored += 1
    assert spool.full
    assert len(spool.unread(100)) == 4
    for _ in range(stored):
        spool.committed(1)
    assert not spool.full
    assert spool.append(b"", b"again")


def test_records_come_back_in_their_order_over_several_logs(spool) -> None:
    for number in range(10):
        assert spool.append(b"", b"%d" % number + bytes(500_000))
    found = []
    while some := spool.unread(3):
        found += [one.ended.rstrip(b"\0") for one in some]
        spool.committed(len(some))
    assert found == [b"%d" % number for number in range(10)]


def test_a_disk_without_room_is_noticed_before_anything_is_stored(spool, monkeypatch) -> None:
    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    while spool.append(b"", bytes(900_000)):
        pass
    assert (spool.full, spool.failing) == (True, "No space left on device")
    monkeypatch.undo()
    spool.prepare()
    assert spool.append(b"", b"again")
    assert (spool.full, spool.failing) == (False, "")


def test_a_spool_that_cannot_be_opened_keeps_no_file_open(tmp_path, monkeypatch) -> None:
    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    made = Spool(tmp_path, most_bytes=4 * LOG_BYTES)
    with pytest.raises(OSError, match="No space left"):
        made.open()
    assert not [path for path in opened() if path.startswith(str(tmp_path))]


def opened() -> list[str]:
    return [os.path.realpath(file) for file in Path("/proc/self/fd").iterdir()]


def test_a_spool_with_nothing_in_it_leaves_nothing(tmp_path) -> None:
    made = Spool(tmp_path, most_bytes=4 * LOG_BYTES)
    made.open()
    made.end(made.begin(b"x"))
    made.append(b"", b"y")
    made.committed(1)
    made.close()
    assert not list(tmp_path.iterdir())


def test_nobody_else_may_read_it(spool, tmp_path) -> None:
    (own,) = tmp_path.iterdir()
    assert own.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in own.iterdir())


def test_a_folder_that_was_never_finished_goes_when_it_is_old(tmp_path) -> None:
    young, old = tmp_path / ".1-young", tmp_path / ".2-old"
    young.mkdir()
    old.mkdir()
    os.utime(old, (1, 1))
    assert not list(left_by_the_dead(tmp_path))
    assert list(tmp_path.iterdir()) == [young]


def test_a_folder_whose_removal_was_cut_short_is_adopted_by_nobody_and_goes_when_it_is_old(
    spool, tmp_path, monkeypatch
) -> None:
    drop(spool)
    with monkeypatch.context() as killed:
        killed.setattr(shutil, "rmtree", lambda path, **_: (path / "owner").unlink())
        (left,) = left_by_the_dead(tmp_path)
        left.remove()
    (rest,) = tmp_path.iterdir()
    os.utime(rest, (1, 1))
    assert not list(left_by_the_dead(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_log_that_is_damaged_gives_what_comes_before(spool, tmp_path) -> None:
    spool.append(b"", b"good")
    spool.append(b"", b"bad")
    (path,) = sorted(tmp_path.glob("*/log-000002"))
    content = bytearray(path.read_bytes())
    content[76:80] = bytes([255] * 4)
    path.write_bytes(content)
    drop(spool)
    (left,) = left_by_the_dead(tmp_path)
    assert [one.ended for one in left.finished()] == [b"good"]


_CHILD = """
import os, sys
from pathlib import Path
from inference.spool import Spool
spool = Spool(Path(sys.argv[1]), most_bytes=2**24)
spool.open()
number = 0
slot = spool.begin(b"under way")
while True:
    number += 1
    slot.saw(number)
    spool.append(b"begun", b"%d" % number)
    os.write(1, b"%d\\n" % number)
"""


def test_a_kill_loses_nothing_that_was_stored(tmp_path) -> None:
    with subprocess.Popen([sys.executable, "-c", _CHILD, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT) as child:
        assert child.stdout is not None
        for _ in range(1000):
            child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        acknowledged = int([b"1000", *child.stdout.read().splitlines()][-1])
    (left,) = left_by_the_dead(tmp_path)
    stored = [int(one.ended) for one in left.finished()]
    assert stored[:acknowledged] == list(range(1, acknowledged + 1))
    assert len(stored) - acknowledged in (0, 1)
    (begun,) = left.begun()
    assert begun.seen - len(stored) in (0, 1)
