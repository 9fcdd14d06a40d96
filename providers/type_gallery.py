"""The provider types as a person looks for them: in groups, each with a tile of its own, narrowed by a word."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

from django.utils.translation import gettext as _

from providers import provider_types
from providers.provider_types import ProviderType

TONES = 8
"""Colours of tiles, by CSS class."""
_SPOKEN = {
    "fake": "Fa",
    "llama_cpp": "GG",
    "transformers": "PT",
    "openai_compatible": "{ }",
    "xai": "xA",
    "vllm": "vL",
    "openai": "OA",
    "openrouter": "OR",
    "deepseek": "DS",
    "gemini": "Ge",
    "azure_openai": "Az",
    "llama_server": "LL",
    "nvidia_nim": "Nv",
}
"""Where two letters of the label would be somebody else's too."""


@dataclass(frozen=True, slots=True)
class Tile:
    name: str
    label: str
    detail: str
    """Its address, or what it is."""
    monogram: str
    tone: int


@dataclass(frozen=True, slots=True)
class Group:
    title: str
    hint: str
    tiles: tuple[Tile, ...]


def groups(wanted: str = "") -> list[Group]:
    """Those with a type whose name, label, address or help holds the word; all of them without one."""
    kinds: dict[str, list[Tile]] = {"protocol": [], "here": [], "services": [], "servers": []}
    for kind in provider_types.registered().values():
        if _fits(kind, wanted):
            kinds[_group_of(kind)].append(_tile(kind))
    found = [
        Group(_("Any service"), _("Whatever speaks the OpenAI protocol."), tuple(kinds["protocol"])),
        Group(_("Cloud services"), _("The address is filled in; you bring the key."), tuple(kinds["services"])),
        Group(
            _("Your own servers"),
            _("Inference servers on this machine or your network; no key is needed."),
            tuple(kinds["servers"]),
        ),
        Group(_("Runs here"), _("No other machine is asked."), tuple(kinds["here"])),
    ]
    return [group for group in found if group.tiles]


def monogram(kind: ProviderType) -> str:
    """One to three letters that stand for a type without a logo."""
    if kind.name in _SPOKEN:
        return _SPOKEN[kind.name]
    words = kind.label.partition(" (")[0].replace("-", " ").split()
    return "".join(word[0] for word in words[:2]).upper() if len(words) > 1 else words[0][:2]


def tone(kind: ProviderType) -> int:
    """The same in every process and release."""
    return crc32(kind.name.encode()) % TONES


def _group_of(kind: ProviderType) -> str:
    if kind.name == "openai_compatible":
        return "protocol"
    if all(parameter.name != "base_url" for parameter in kind.parameters):
        return "here"
    return "services" if kind.needs_key else "servers"


def _tile(kind: ProviderType) -> Tile:
    address = str(kind.defaults.get("base_url", ""))
    detail = address.partition("://")[2].rstrip("/") if address else kind.help
    return Tile(kind.name, kind.label.partition(" (")[0], detail, monogram(kind), tone(kind))


def _fits(kind: ProviderType, wanted: str) -> bool:
    told = (kind.name, kind.label, kind.help, str(kind.defaults.get("base_url", "")), "local" if kind.local else "")
    text = " ".join(told).lower()
    return all(word in text for word in wanted.lower().split())
