"""What a process has to remember though it be killed: requests under way and records not yet in the database, in mapped files.

Each process has a folder of its own. A byte that was stored into a mapped file is the kernel's: it outlives `kill -9` without any
system call, so the request path writes here as it writes to memory. Two kinds of files lie in the folder:

    slots-N   a table of requests under way, one slot each, freed when the request has ended. Beside the record of what began,
              a slot has cells that are overwritten while the answer passes: tokens seen, and the usage once it was told.
    log-N     finished records, one after the other; the header counts how many of them the database has. A log that it has
              whole is used again.

The owner holds a lock on `owner`; a folder whose lock can be taken belongs to a dead process, see `inference.adoption`. The
space is reserved when a file is made, so a full disk is noticed there and never while something is stored.

One thread stores (that of the event loop), another reads and frees (the recorder's).
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import mmap
import os
import secrets
import shutil
import struct
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import NamedTuple

logger = logging.getLogger("gateway.recording")

LOG_BYTES = 2 * 1024 * 1024
SLOT_BYTES = 1024
SLOTS = 512
"""Of one file."""
_SLOT_HEAD = 64
_LONGEST_BEGUN = SLOT_BYTES - _SLOT_HEAD
_LOG_HEAD = 64
_SPARE_LOGS = 2
_OWNER = "owner"
_MAKING_SECONDS = 60.0

_NO_HEAD = bytes(_SLOT_HEAD)
_LENGTH = struct.Struct("<II")
_pack_length, _unpack_length = _LENGTH.pack_into, _LENGTH.unpack_from

# The cells of a slot, 64 bits each.
_SIZE, _SEEN, _STATUS, _INPUT, _OUTPUT, _CACHED, _REASONING = range(7)


class Begun(NamedTuple):
    """A request that was under way when its process died: what was stored of it, and how far its answer had come."""

    record: bytes
    seen: int
    """Tokens of its answer that had passed."""
    status: int
    """Of a reply that was ready; 0: it was not."""
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int


class Finished(NamedTuple):
    begun: bytes
    ended: bytes


class Slot:
    """One request's place in the table."""

    __slots__ = ("_at", "_bytes", "_cells", "_start", "record")

    def __init__(self, view: memoryview, number: int) -> None:
        self._bytes, self._cells = view, view.cast("Q")
        self._start = number * SLOT_BYTES
        self._at = self._start // 8
        self.record = b""

    def saw(self, tokens: int) -> None:
        """How many tokens the client has seen with what it is about to be sent."""
        self._cells[self._at + _SEEN] = tokens

    def told(self, status: int, tokens: tuple[int, int, int, int]) -> None:
        """The answer's status and what it used: input, output, cached and reasoning tokens. Told before its last bytes are
        sent: from then on the client may know of it."""
        cells, at = self._cells, self._at
        cells[at + _INPUT], cells[at + _OUTPUT], cells[at + _CACHED], cells[at + _REASONING] = tokens
        cells[at + _STATUS] = status

    def _take(self, record: bytes) -> None:
        start = self._start
        self.record = record
        self._bytes[start : start + _SLOT_HEAD] = _NO_HEAD
        self._bytes[start + _SLOT_HEAD : start + _SLOT_HEAD + len(record)] = record
        self._cells[self._at + _SIZE] = len(record)  # last: a slot counts from here on

    def _free(self) -> None:
        self._cells[self._at + _SIZE] = 0


class _Log:
    """A file of records. `stored` is counted by the one thread, `committed` by the other."""

    __slots__ = ("_read", "at", "committed", "map", "path", "stored", "view")

    def __init__(self, path: Path, mapped: mmap.mmap) -> None:
        self.path, self.map = path, mapped
        self.view = memoryview(mapped)
        self.at = _LOG_HEAD
        self.stored = self.committed = 0
        self._read = (0, _LOG_HEAD)

    def append(self, begun: bytes, ended: bytes) -> bool:
        """False when there is no room. The length comes last: what is cut off by a kill was never there."""
        at = self.at
        middle = at + 8 + len(begun)
        end = middle + len(ended)
        if end + 8 > LOG_BYTES:
            return False
        view = self.view
        view[at + 8 : middle] = begun
        view[middle:end] = ended
        _pack_length(view, at, end - at, middle - at)
        self.at = end
        self.stored += 1
        return True

    def commit(self, number: int) -> None:
        self.committed += number
        _pack_length(self.view, 0, self.committed, 0)

    def unread(self, most: int) -> list[Finished]:
        """The first records that are not committed."""
        number, at = self._read
        if number > self.committed:
            number, at = 0, _LOG_HEAD
        for _ in range(self.committed - number):
            at += _unpack_length(self.view, at)[0]
        self._read = (self.committed, at)
        found = []
        for _ in range(min(most, self.stored - self.committed)):
            end, middle = _unpack_length(self.view, at)
            found.append(Finished(bytes(self.view[at + 8 : at + middle]), bytes(self.view[at + middle : at + end])))
            at += end
        return found

    def clear(self) -> None:
        self.view[:] = bytes(LOG_BYTES)
        self.at = _LOG_HEAD
        self.stored = self.committed = 0
        self._read = (0, _LOG_HEAD)


class Spool:
    """The files of this process. `most_bytes` bounds its logs; `open` may raise `OSError`."""

    def __init__(self, folder: Path, *, most_bytes: int) -> None:
        self.folder = folder
        self._most_logs = max(2, most_bytes // LOG_BYTES)
        self._own: Path | None = None
        self._lock = -1
        self._pid = 0
        self._numbers = count(1)
        self._free: list[Slot] = []
        self._slots = 0
        self._logs: deque[_Log] = deque()
        self._spare: deque[_Log] = deque()
        self._current: _Log | None = None
        self.full = False
        """The last log that may be made is being filled."""
        self.failing = ""
        """Why no file could be made lately."""
        os.register_at_fork(after_in_child=_forgetting(weakref.ref(self)))

    @property
    def is_open(self) -> bool:
        return self._own is not None

    def open(self) -> None:
        if self._own is not None:
            return
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        own = self.folder / f"{os.getpid()}-{secrets.token_hex(6)}"
        # Prepared under a name that nobody adopts, for the moment between the folder and the lock.
        making = self.folder / f".{own.name}"
        making.mkdir(mode=0o700)
        try:
            self._lock = os.open(making / _OWNER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            self._own, self._pid = making, os.getpid()
            self._add_slots()
            self._current = self._make_log()
            self._logs.append(self._current)
            self._spare.append(self._make_log())
            making.rename(own)
            self._own = own
        except OSError:
            self._forget()
            self._unlock()
            shutil.rmtree(making, ignore_errors=True)
            raise

    # The request path

    def begin(self, record: bytes) -> Slot | None:
        """None when there is no place for it."""
        free = self._free
        if len(record) > _LONGEST_BEGUN or not (free or self._grew()):
            return None
        slot = free.pop()
        slot._take(record)
        return slot

    def end(self, slot: Slot) -> None:
        slot._free()
        self._free.append(slot)

    def append(self, begun: bytes, ended: bytes) -> bool:
        """Store a finished record. False when there is no room for it."""
        log = self._current
        if log is None:
            return False
        if log.append(begun, ended):
            return True
        return self._turned_over() and self._current is not None and self._current.append(begun, ended)

    def _turned_over(self) -> bool:
        if not self._spare and not self._made_spare():
            self.full = True
            return False
        log = self._current = self._spare.popleft()
        self._logs.append(log)
        self.full = not self._spare and len(self._logs) >= self._most_logs
        return True

    def _grew(self) -> bool:
        if self._own is None:
            return False
        try:
            self._add_slots()
        except OSError as error:
            self._cannot_make(error)
            return False
        return True

    # The recorder's thread

    def committed(self, number: int) -> None:
        """The database has `number` further records, in the order in which they were stored."""
        while number and self._logs:
            log = self._logs[0]
            some = min(number, log.stored - log.committed)
            log.commit(some)
            number -= some
            if log is self._current or log.committed < log.stored:
                return
            self._logs.popleft()
            self._put_back(log)

    def waiting(self) -> int:
        """How many records the database does not have."""
        return sum(log.stored - log.committed for log in tuple(self._logs))

    def unread(self, most: int) -> list[Finished]:
        """The first of those."""
        for log in tuple(self._logs):
            if found := log.unread(most):
                return found
        return []

    def prepare(self) -> None:
        """Make ahead what the request path would otherwise have to make."""
        if self._own is None:
            return
        if len(self._spare) < _SPARE_LOGS:
            self._made_spare()
        if self._spare:
            self.full = False
        if len(self._free) < SLOTS // 8:
            self._grew()

    def bytes_used(self) -> int:
        return (len(self._logs) + len(self._spare)) * LOG_BYTES + self._slots * SLOT_BYTES

    def close(self) -> None:
        """Give the folder up: it goes when nothing in it is needed, and is else there to be adopted."""
        own, needed = self._own, self.waiting() or len(self._free) < self._slots
        self._forget()
        if own is not None and not needed:
            _remove(own)
        self._unlock()

    def forget_after_fork(self) -> None:
        """In a child: the files are the parent's."""
        self._forget()
        self._unlock()

    def _forget(self) -> None:
        self._own = self._current = None
        self._free, self._slots = [], 0
        self._logs.clear()
        self._spare.clear()

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _put_back(self, log: _Log) -> None:
        if len(self._spare) < _SPARE_LOGS:
            log.clear()
            self._spare.append(log)
            self.full = False
        else:
            log.path.unlink(missing_ok=True)

    def _made_spare(self) -> bool:
        if self._own is None or len(self._logs) + len(self._spare) >= self._most_logs:
            return False
        try:
            self._spare.append(self._make_log())
        except OSError as error:
            self._cannot_make(error)
            return False
        self.failing = ""
        return True

    def _make_log(self) -> _Log:
        path = self._next_path("log")
        return _Log(path, _mapped(path, LOG_BYTES))

    def _add_slots(self) -> None:
        view = memoryview(_mapped(self._next_path("slots"), SLOTS * SLOT_BYTES))
        self._free.extend(Slot(view, number) for number in range(SLOTS))
        self._slots += SLOTS

    def _next_path(self, kind: str) -> Path:
        assert self._own is not None
        return self._own / f"{kind}-{next(self._numbers):06d}"

    def _cannot_make(self, error: OSError) -> None:
        if not self.failing:
            logger.error("the spool cannot grow: %s", error.strerror)
        self.failing = error.strerror or type(error).__name__


def _forgetting(spool: weakref.ref[Spool]) -> Callable[[], None]:
    """A child has its parent's lock as well, and would hold it when the parent is dead."""

    def forget() -> None:
        if (one := spool()) is not None:
            one.forget_after_fork()

    return forget


def _mapped(path: Path, size: int) -> mmap.mmap:
    """A new file whose space is there already: a page that the disk has no room for would kill the process that touches it."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(file, 0, size)
        return mmap.mmap(file, size, flags=mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0))
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(file)


# What the dead left -----------------------------------------------------------------------------------------------


class Left:
    """The folder of a process that is gone, held while this lives."""

    def __init__(self, folder: Path, lock: int) -> None:
        self._folder, self._lock = folder, lock

    def finished(self) -> Iterator[Finished]:
        """Records that the database may not have. One that cannot be read ends its file, since the next is not found then."""
        for path in sorted(self._folder.glob("log-*")):
            yield from _records_in(path.read_bytes())

    def begun(self) -> Iterator[Begun]:
        """Requests without an end."""
        for path in sorted(self._folder.glob("slots-*")):
            yield from _begun_in(path.read_bytes())

    def remove(self) -> None:
        _remove(self._folder)

    def let_go(self) -> None:
        os.close(self._lock)


def left_by_the_dead(folder: Path) -> Iterator[Left]:
    """Folders in the spool that nobody holds; each is held until the next one is asked for."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.startswith("."):
            _remove_if_old(path)
            continue
        try:
            lock = os.open(path / _OWNER, os.O_RDWR | os.O_CLOEXEC)
        except OSError:  # another has adopted it meanwhile
            continue
        left = Left(path, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if (path / _OWNER).exists():
                yield left
        except BlockingIOError:
            continue
        finally:
            left.let_go()


def _remove(folder: Path) -> None:
    """What is needed no more. First under a name that nobody adopts: a kill might leave its logs without their lock."""
    going = folder.with_name(f".{folder.name}")
    with contextlib.suppress(OSError):
        folder.rename(going)
        shutil.rmtree(going, ignore_errors=True)


def _remove_if_old(hidden: Path) -> None:
    """What a process began to make, or to remove, and was killed in that moment; nobody needs what is in it."""
    with contextlib.suppress(OSError):
        if time.time() - hidden.stat().st_mtime > _MAKING_SECONDS:
            shutil.rmtree(hidden, ignore_errors=True)


def _records_in(log: bytes) -> Iterator[Finished]:
    if len(log) < LOG_BYTES:
        return
    committed, at, number = _unpack_length(log)[0], _LOG_HEAD, 0
    while at + 8 <= len(log):
        end, middle = _unpack_length(log, at)
        if not 8 <= middle <= end <= len(log) - at:
            return
        if number >= committed:
            yield Finished(log[at + 8 : at + middle], log[at + middle : at + end])
        at, number = at + end, number + 1


def _begun_in(slots: bytes) -> Iterator[Begun]:
    for start in range(0, len(slots) - SLOT_BYTES + 1, SLOT_BYTES):
        size, seen, status, read, written, cached, reasoned = struct.unpack_from("=7Q", slots, start)
        if 0 < size <= _LONGEST_BEGUN:
            record = slots[start + _SLOT_HEAD : start + _SLOT_HEAD + size]
            yield Begun(record, seen, status, read, written, cached, reasoned)
