from __future__ import annotations

import pytest

from inference.wire.anthropic_files import mime_type


@pytest.mark.parametrize(
    ("filename", "told"),
    [
        ("paper.PDF", "application/pdf"),
        ("notes.md", "text/markdown"),
        ("requests.jsonl", "application/x-jsonl"),
        ("data:text/html,.csv", "text/csv"),
        ("all.tar.gz", "application/octet-stream"),
        ("upload", "application/octet-stream"),
    ],
)
def test_a_files_type_is_told_by_its_name(filename: str, told: str) -> None:
    assert mime_type(filename) == told
