"""Write the lock files anew from pyproject.toml: exact versions and hashes, and nothing about where they came from.

run.txt is what `make run` installs, development.txt that and the tools, engine.txt what the compiled engine adds, extra-NAME.txt
what `make run EXTRAS=NAME` adds, installer.txt the installer itself.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from install import find_uv

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent / "pyproject.toml"
UV = [find_uv() or sys.exit("make lock needs uv"), "pip", "compile", "--quiet", "--generate-hashes", "--universal"]
UV += ["--python-version", "3.11", "--upgrade"]
UV += ["--no-annotate", "--no-header", "--no-emit-index-url", "--no-emit-find-links"]
RUN = ["--extra", "engine-prebuilt", "--extra", "embedded"]
INSTALLER = "uv>=0.13"
EXTRAS = ("sso", "alerts", "telemetry")


def main() -> None:
    run, same = HERE / "run.txt", ["--constraints", str(HERE / "run.txt")]
    compile_lock([str(PROJECT), *RUN], run)
    compile_lock([str(PROJECT), *RUN, "--extra", "dev", *same], HERE / "development.txt")
    with tempfile.TemporaryDirectory() as folder:
        source, whole = Path(folder) / "installer.in", Path(folder) / "engine.txt"
        source.write_text(INSTALLER + "\n")
        compile_lock([str(source)], HERE / "installer.txt")
        compile_lock([str(PROJECT), "--extra", "engine", *same], whole)
        write_added(whole, HERE / "engine.txt")
        for extra in EXTRAS:
            lock_extra(extra, whole)
    for lock in HERE.glob("*.txt"):
        if re.search(r"://|\bfile:|--(extra-)?index", lock.read_text()):
            sys.exit(f"{lock.name} names an address; lock files hold names, versions and hashes only")
        print(f"{lock.name}: {len(names(lock.read_text()))} distributions")


def lock_extra(extra: str, whole: Path) -> None:
    """What an extra adds to run.txt, in the versions that the tests ran with."""
    compile_lock([str(PROJECT), "--extra", extra, "--constraints", str(HERE / "development.txt")], whole)
    write_added(whole, HERE / f"extra-{extra}.txt")


def write_added(whole: Path, lock: Path) -> None:
    have = names((HERE / "run.txt").read_text())
    lock.write_text("".join(block for block in blocks(whole.read_text()) if block.split("==")[0] not in have))


def compile_lock(sources: list[str], output: Path) -> None:
    output.unlink(missing_ok=True)
    subprocess.run([*UV, *sources, "--output-file", str(output)], check=True)


def blocks(lock: str) -> list[str]:
    """One text for each distribution: its pin and the lines of hashes below it."""
    return [block for block in re.split(r"(?m)^(?=\S)", lock) if "==" in block]


def names(lock: str) -> set[str]:
    return {block.split("==")[0] for block in blocks(lock)}


if __name__ == "__main__":
    main()
