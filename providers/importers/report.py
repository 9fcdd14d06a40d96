"""A run as one JSON file, for machines and archives; docs/import-report.md describes it.

The findings are copied from where they were collected, never held in memory; the file appears whole or not at all.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import orjson

from providers.importers.tally import Findings

FORMAT = "llm-gateway/import-report"
VERSION = 1


class ReportFile:
    """Opens the file at once, so that a folder which cannot be written is noticed before the import. Raises `OSError`."""

    def __init__(self, path: Path) -> None:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        self._path = path
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}")
        self._temporary.unlink(missing_ok=True)
        self._file: IO[bytes] = open(  # noqa: SIM115 - closed by write() or discard()
            os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb"
        )

    def write(self, facts: Mapping[str, Any], findings: Findings | None) -> None:
        head = orjson.dumps({"format": FORMAT, "version": VERSION, **facts}, option=orjson.OPT_INDENT_2)
        with self._file as file:
            file.write(head.removesuffix(b"\n}") + b',\n  "findings": [')
            between = b"\n    "
            for _, finding in findings.since() if findings else ():
                file.write(between + orjson.dumps(finding))
                between = b",\n    "
            file.write(b"\n  ]\n}\n")
            file.flush()
            os.fsync(file.fileno())
        self._temporary.replace(self._path)

    def discard(self) -> None:
        self._file.close()
        self._temporary.unlink(missing_ok=True)
