"""Run pytest with the arguments given; the few tests that fail run once more, alone on the machine, before they count.

Thousands of tests share two cores with servers, workers and a browser, and one that waited too little for one of them says little
of the change it was run for. It is named at the end all the same, because a test that fails by chance is a fault of its own.
More than `FEW` failures are not chance.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

FEW = 3


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="gwtest-") as cache:
        pytest = [sys.executable, "-m", "pytest", *arguments, "-o", f"cache_dir={cache}"]
        code = subprocess.run(pytest, check=False).returncode
        failed = _failed(Path(cache))
        if code != 1 or not 0 < len(failed) <= FEW:
            return code
        print(f"\nonce more, alone: {', '.join(failed)}\n", flush=True)
        code = subprocess.run([*pytest, "-n", "0", "--last-failed"], check=False).returncode
        if code == 0:
            print("\nUNSTEADY: these failed beside others and passed alone, so something races:")
            print("\n".join(f"  {name}" for name in failed))
        return code


def _failed(cache: Path) -> list[str]:
    """The names of the tests that failed, as pytest keeps them for `--last-failed`."""
    kept = cache / "v/cache/lastfailed"
    return sorted(json.loads(kept.read_text())) if kept.exists() else []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
