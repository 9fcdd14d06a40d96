"""Counters on their way to the database, in processes that come and go."""

from __future__ import annotations

import os

import pytest

from inference import alert_events


def test_a_forked_child_stores_what_it_notes_by_a_thread_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    events = alert_events.events
    monkeypatch.setattr(events, "write", lambda: 0)
    events.note("of the parent")
    events.start()
    child = os.fork()
    if child == 0:
        noted = dict(events._noted)
        events.start()
        os._exit(0 if not noted and events._thread is not None and events._thread.is_alive() else 1)
    try:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        events.stop()
        events._noted.clear()
