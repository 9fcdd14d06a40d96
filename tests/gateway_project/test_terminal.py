import errno
import io
from pathlib import Path

from rich.console import Console

from gateway_project.first_run import FirstRun
from gateway_project.serving import Plan
from gateway_project.terminal import Loudness, Terminal, snippet

FIRST = FirstRun("http://127.0.0.1:8000", "http://127.0.0.1:8000/admin/", "admin", None, "gw-client", "gw-registry")


def shown(lines, program="web", **options):
    loudness = Loudness(**options)
    return [line for line in lines if loudness.shows(program, line)]


def test_what_goes_well_stays_in_the_log():
    assert shown(["2026-11-21 01:02:03,004 INFO    celery: received", " -- ******* ---- banner", ""]) == []


def test_a_warning_is_shown_with_the_lines_that_belong_to_it():
    lines = ["2026-11-21 01:02:03,004 ERROR   web: failed", "Traceback (most recent call last):", "  File x"]
    assert shown([*lines, "2026-11-21 01:02:04,004 INFO    web: fine", "more"]) == lines


def test_a_bare_traceback_is_shown():
    assert shown(["Traceback (most recent call last):", "ImportError: x"]) == [
        "Traceback (most recent call last):",
        "ImportError: x",
    ]


def test_redis_is_not_loud():
    assert shown(["12:M 21 Nov 2026 01:02:03.004 # User requested shutdown..."], "redis") == []


def test_verbose_shows_everything():
    assert shown(["2026-11-21 01:02:03,004 INFO    x: y"], verbose=True)


def test_the_progress_of_a_compile_is_told_in_tenths(tmp_path):
    output = io.StringIO()
    terminal = Terminal(Console(file=output, width=200))
    for step in range(1, 83):
        terminal.heard("engine", f"[{step}/82] llama-cpp-python 0.3.36: compiling")
    lines = output.getvalue().splitlines()
    assert len(lines) == 11
    assert lines[-1].endswith("100 %")


def test_a_line_to_copy_is_never_broken(tmp_path):
    output = io.StringIO()
    Terminal(Console(file=output, width=40)).announce(FIRST, Plan(tmp_path, "127.0.0.1", 8000), 1.0)
    text = output.getvalue()
    assert any(line.strip().startswith("curl ") and line.endswith("'") for line in text.splitlines())
    assert "http://127.0.0.1:8000/admin/ as admin" in text


def test_the_snippet_is_python_of_five_lines():
    lines = snippet(FIRST)
    assert len(lines) == 5
    compile("\n".join(lines), "snippet", "exec")


def test_a_terminal_that_was_closed_stops_nothing():
    class Closed(io.StringIO):
        def write(self, text):
            raise OSError(errno.EIO, "Input/output error")

    terminal = Terminal(Console(file=Closed()), verbose=True)
    terminal.heard("web", "a line")
    terminal.told("gateway", "stopping")
    terminal.announce(FIRST, Plan(Path("."), "127.0.0.1", 8000), 1.0)
