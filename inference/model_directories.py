"""What is offered of a model directory before it is registered: what it is, by its configuration and the headers of its weights."""

from __future__ import annotations

from pathlib import Path

from inference.engine.transformers_files import ModelFiles
from inference.errors import ModelUnavailable
from providers.discovery import Offered


def offered(path: Path, name: str) -> Offered | None:
    """None when the directory is only a part of a model, such as its pooling; a broken one is offered with what is wrong."""
    try:
        files = ModelFiles.read(path, pickles=True)
    except ModelUnavailable as error:
        return Offered(name, parameters={"model_path": str(path)}, note=error.message) if _is_meant(path) else None
    if not files.configuration.get("architectures"):
        return None
    notes = [f"{files.size_bytes / 1_000_000:.0f} MB"]
    if not files.weight_numbers:
        notes.append("pickled: needs `allow_pickle`")
    if files.needs_own_code:
        notes.append("brings its own code")
    return Offered(
        name,
        model_type="chat" if files.generates else "embedding",
        context_window=files.trained_context,
        parameters={"model_path": str(path)},
        note=", ".join(notes),
    )


def _is_meant(path: Path) -> bool:
    """Whether it is a model of which something is missing: with an index of its parts, or a cut file."""
    return any(path.glob("*.safetensors*")) and not (path.parent / "modules.json").exists()
