from __future__ import annotations

import os
import sys
import time

import pytest

from benchmarks import machine
from benchmarks.processes import DidNotStart, Program, free_port, resident_kb

SLEEPS = "import subprocess, sys; print('up', flush=True); subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"


def test_a_program_runs_on_its_core_and_ends_with_its_children(tmp_path):
    core = machine.cores().contender
    program = Program([sys.executable, "-c", SLEEPS], core=core, log=tmp_path / "log")
    program.await_ready(lambda: "up" in program.log_tail() and len(program.pids()) == 2, 60)
    family = program.pids()
    assert [os.sched_getaffinity(pid) for pid in family] == [{core}, {core}]
    assert all(resident_kb(pid) > 0 for pid in family)
    program.stop()
    assert _gone(family)


def _gone(pids: list[int]) -> bool:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if not any(resident_kb(pid) for pid in pids):
            return True
        time.sleep(0.01)
    return False


def test_a_program_that_ends_at_once_is_quoted(tmp_path):
    program = Program([sys.executable, "-c", "raise SystemExit('no such option')"], core=None, log=tmp_path / "log")
    with pytest.raises(DidNotStart, match=r"status 1.*no such option"):
        program.await_ready(lambda: False, 60)


def test_a_program_that_stays_silent_is_named(tmp_path):
    with (
        Program([sys.executable, "-c", "import time; time.sleep(600)"], core=None, log=tmp_path / "log") as program,
        pytest.raises(DidNotStart, match="was not ready"),
    ):
        program.await_ready(lambda: False, 0.2)


def test_free_ports_can_be_listened_on():
    assert 1024 <= free_port() <= 65535
