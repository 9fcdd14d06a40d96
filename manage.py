#!/usr/bin/env python
"""Run a management command. Every command also takes `--data-dir DIR`, as GATEWAY_DATA_DIR would say it."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main(arguments: list[str]) -> None:
    arguments, data_dir = without_data_dir(arguments)
    if data_dir is not None:
        os.environ["GATEWAY_DATA_DIR"] = data_dir
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
    try:
        from django.core.management import execute_from_command_line
    except ImportError as error:
        raise SystemExit(f"{error.msg}: run this as `make manage ARGS=...`, or with .venv/bin/python") from error
    from gateway_project.env import BadSetting

    try:
        execute_from_command_line(arguments)
    except BadSetting as error:
        raise SystemExit(f"settings: {error}") from error


def without_data_dir(arguments: list[str]) -> tuple[list[str], str | None]:
    """Take `--data-dir DIR` or `--data-dir=DIR` out, since settings are read before a command sees its options."""
    kept: list[str] = []
    data_dir = None
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            kept += [argument, *rest]
        elif argument == "--data-dir":
            data_dir = next(rest, None)
            if data_dir is None:
                raise SystemExit("--data-dir needs a directory")
        elif argument.startswith("--data-dir="):
            data_dir = argument.partition("=")[2]
        else:
            kept.append(argument)
    if data_dir == "":
        raise SystemExit("--data-dir needs a directory")
    return kept, None if data_dir is None else str(Path(data_dir).expanduser().resolve())


if __name__ == "__main__":
    main(sys.argv)
