"""GGUF files on their way into the registry: what a file says of itself, whether it may be loaded, and the row it becomes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction

from inference import model_folders
from inference.engine.gguf_file import GgufHeader, read_header
from inference.errors import GatewayError
from providers import discovery
from providers.discovery import Offered
from providers.models import Provider, ProviderModel

KIND = "llama_cpp"

_SHARD = re.compile(r"-\d{5}-of-\d{5}$")
_RANK = 4
"""llama.cpp's number of the pooling by which models rank texts."""
_QUANTISATIONS = {
    **dict(enumerate(("F32", "F16", "Q4_0", "Q4_1"))),
    **dict(enumerate(("Q8_0", "Q5_0", "Q5_1", "Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_K_S", "Q4_K_M"), start=7)),
    **dict(enumerate(("Q5_K_S", "Q5_K_M", "Q6_K", "IQ2_XXS", "IQ2_XS", "Q2_K_S", "IQ3_XS", "IQ3_XXS"), start=16)),
    **dict(enumerate(("IQ1_S", "IQ4_NL", "IQ3_S", "IQ3_M", "IQ2_S", "IQ2_M", "IQ4_XS", "IQ1_M", "BF16"), start=24)),
    **dict(enumerate(("TQ1_0", "TQ2_0", "MXFP4_MOE", "NVFP4", "Q1_0"), start=36)),
}
"""By `general.file_type`, as llama.cpp numbers them (`llama_ftype` in its llama.h)."""


class NotAdded(Exception):
    """A sentence for the operator: why the file is not in the registry now, and what to do."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """What the header of a GGUF file says. `template` is the chat template as it stands there; `size_bytes` is of all its parts."""

    path: Path
    name: str
    architecture: str
    quantisation: str
    size_label: str
    """Of the parameters, such as 8B; empty when the file does not say."""
    context: int
    dimension: int
    kind: str
    """As the registry's model type."""
    template: str
    parts: tuple[Path, ...]
    size_bytes: int

    @property
    def capabilities(self) -> tuple[str, ...]:
        return ("tools",) if "tools" in self.template else ()

    @property
    def model_id(self) -> str:
        return _SHARD.sub("", self.path.stem)

    @property
    def summary(self) -> str:
        """In one line, for lists."""
        facts = (self.architecture, self.size_label, self.quantisation, f"{self.size_bytes / 1_000_000:,.0f} MB")
        return " · ".join(fact for fact in facts if fact)


def inspect(path: Path) -> ModelFile:
    """Read the header. Raises `NotAdded` for what is no loadable GGUF file, and for one outside the allowed folders."""
    path = path.expanduser().resolve()
    check_there(path)
    check_folder(path)
    try:
        header = read_header(path)
    except GatewayError as error:
        raise NotAdded(f"{error.message} {error.detail}.") from error
    return described(path, header)


def described(path: Path, header: GgufHeader) -> ModelFile:
    said = header.metadata
    return ModelFile(
        path=path,
        name=str(said.get("general.name") or ""),
        architecture=header.architecture,
        quantisation=_QUANTISATIONS.get(kind, "") if isinstance(kind := said.get("general.file_type"), int) else "",
        size_label=str(said.get("general.size_label") or ""),
        context=header.trained_context,
        dimension=header.number("embedding_length"),
        kind=_kind(header),
        template=str(said.get("tokenizer.chat_template") or ""),
        parts=header.shards,
        size_bytes=header.size_bytes,
    )


def _kind(header: GgufHeader) -> str:
    pooling = header.number("pooling_type")
    if pooling == _RANK:
        return "rerank"
    causal = header.metadata.get(f"{header.architecture}.attention.causal", True)
    return "embedding" if pooling or causal is False else "chat"


def check_there(path: Path) -> None:
    """Raises `NotAdded` where this machine has no such file, with where one may lie."""
    folders = ", ".join(map(str, model_folders.named(settings.GATEWAY_MODEL_FOLDERS)))
    try:
        if path.is_file():
            return
        what = f"{path} is a folder" if path.is_dir() else f"{path} does not exist"
    except OSError as error:
        what = f"{path} cannot be looked at here ({error.strerror})"
    if folders:
        raise NotAdded(
            f"{what}. Models are loaded from {folders} (GATEWAY_MODEL_FOLDERS): copy the GGUF file there, and give its path."
        )
    raise NotAdded(
        f"{what}. Give the path of a GGUF file; it may lie anywhere, as GATEWAY_MODEL_FOLDERS names no folders."
    )


def check_folder(path: Path) -> None:
    """Raises `NotAdded` for a file that no worker would load."""
    folders = model_folders.named(settings.GATEWAY_MODEL_FOLDERS)
    if not model_folders.is_allowed(path, folders):
        raise NotAdded(
            f"{path} is outside GATEWAY_MODEL_FOLDERS ({', '.join(map(str, folders))}): copy it there, or allow its folder."
        )


# Registering -------------------------------------------------------------------------------------------------------


def provider_named(provider_id: str) -> Provider:
    """The provider that a file goes to: by its name, else the only one that loads such files, else a new one."""
    ours = Provider.objects.filter(provider_type=KIND)
    if provider_id:
        named = Provider.objects.filter(provider_id=provider_id).first()
        if named is None:
            raise NotAdded(f"There is no provider {provider_id}.")
        if named.provider_type != KIND:
            raise NotAdded(f"{provider_id} is of the type {named.provider_type}, which loads no GGUF files.")
        return named
    found = list(ours[:2])
    if len(found) > 1:
        names = ", ".join(ours.values_list("provider_id", flat=True))
        raise NotAdded(f"Several providers load GGUF files: say --provider with one of {names}.")
    return found[0] if found else Provider(provider_id="local", provider_type=KIND, display_name="Local models")


def register(
    file: ModelFile,
    provider: Provider,
    *,
    model_id: str = "",
    sha256: str = "",
    parameters: dict[str, Any] | None = None,
) -> ProviderModel:
    """The row of the file, all or nothing. Raises `NotAdded` when the file or the name is there already."""
    model_id = model_id or file.model_id
    with transaction.atomic():
        if provider.pk is None:
            provider.save()
        for row in provider.models.all():
            told = row.parameters if isinstance(row.parameters, dict) else {}
            if told.get("model_path") == str(file.path):
                raise NotAdded(f"{file.path} is registered already, as {row.route}.")
            if row.model_id == model_id:
                raise NotAdded(
                    f"{row.route} is another file ({told.get('model_path', 'none')}): say --id with a new name."
                )
        row = ProviderModel(
            provider=provider,
            model_id=model_id,
            display_name=file.name,
            model_type=file.kind,
            context_window=file.context or None,
            dimension=file.dimension or None if file.kind == "embedding" else None,
            capabilities=list(file.capabilities),
            parameters={"model_path": str(file.path), **({"sha256": sha256} if sha256 else {}), **(parameters or {})},
        )
        row.full_clean()
        row.save()
    return row


# Discovery ---------------------------------------------------------------------------------------------------------


def offered(path: Path) -> Offered:
    """What discovery shows of a file in the allowed folders; one that cannot be loaded says so."""
    parameters = {"model_path": str(path)}
    name = _SHARD.sub("", path.stem)
    try:
        file = described(path, read_header(path))
    except GatewayError as error:
        return Offered(name, model_type=discovery.guessed_type(name), parameters=parameters, note=error.message)
    return Offered(
        file.model_id,
        model_type=file.kind,
        context_window=file.context or None,
        capabilities=file.capabilities,
        parameters=parameters,
        note=file.summary,
    )
