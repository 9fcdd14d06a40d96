from __future__ import annotations

import os
import subprocess
import sys


def test_retention_and_sampling_are_read_under_another_systems_names_too(data_dir) -> None:
    code = "from gateway_project import settings as s; print(s.GATEWAY_TRACE_HOURS, s.GATEWAY_CONTENT_SAMPLING)"
    told = {"GATEWAY_METRICS_RETENTION_HOURS": "24", "GATEWAY_TRACE_SAMPLING_RATE": "0.5"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "GATEWAY_DATA_DIR": str(data_dir), **told},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["24", "0.5"], done.stderr
