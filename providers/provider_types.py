"""Provider types: data that says which parameters a provider has, what it can do at least, and which class serves it.

A type is found by name. Built in are the engines and protocols below and the vendors of `providers.presets`, which are
rows of data over the OpenAI protocol. Other packages add theirs through the entry point `llm_gateway.provider_types`
(an object of class `ProviderType`); one that cannot be used is remembered in `failures` for the system check and skipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from providers.presets import PRESETS, Preset

ENTRY_POINT = "llm_gateway.provider_types"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A connection parameter as the form shows it. `kind` is text, integer, number, flag, choice or object."""

    name: str
    label: str
    help: str = ""
    kind: str = "text"
    required: bool = False
    sensitive: bool = False
    default: Any = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProviderType:
    """`backend` is the dotted path of the class, imported on first use; `runs_in` is `web` or `worker`."""

    name: str
    label: str
    backend: str
    parameters: tuple[Parameter, ...] = ()
    runs_in: str = "web"
    needs_key: bool = False
    capabilities: frozenset[str] = frozenset({"chat"})
    """What every model of this type can do at least."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Connection parameters that hold where the provider says nothing."""
    help: str = ""
    free: bool = False
    """Whether a call costs no money, so probes may make one."""
    local: bool = False
    """Whether it runs on one's own machines, as long as its address does not say otherwise; see `providers.locality`."""
    offer_changes: bool = False
    """What it serves comes and goes by itself, so its list is read again and again; see `providers.offers`."""


OPENAI_PARAMETERS = (
    Parameter("base_url", "Base URL", "Where the API answers, such as https://api.example.com/v1.", required=True),
    Parameter("organization", "Organisation", "Sent as OpenAI-Organization."),
    Parameter("project", "Project", "Sent as OpenAI-Project."),
    Parameter("headers", "Extra headers", "A JSON object of headers sent with every call.", kind="object"),
    Parameter("auth_header", "Key header", "Header that carries the key: `authorization` (as Bearer) or another name."),
    Parameter("url_style", "URL style", "How paths are built.", kind="choice", choices=("openai", "azure")),
    Parameter("api_version", "API version", "Query parameter of Azure-style URLs."),
    Parameter("proxy", "HTTP proxy", "URL of a proxy that calls go through."),
    Parameter(
        "verify_tls",
        "Verify TLS",
        "Turn off only for a self-signed upstream that you trust.",
        kind="flag",
        default=True,
    ),
    Parameter("ca_file", "CA file", "PEM file with the authority that signed the upstream's certificate."),
    Parameter(
        "allow_private", "Allow private addresses", "Whether addresses of private networks may be dialled.", kind="flag"
    ),
)

_OF_THE_CONNECTION = ("headers", "auth_header", "proxy", "verify_tls", "ca_file", "allow_private")

OPENAI_COMPATIBLE = ProviderType(
    name="openai_compatible",
    label="OpenAI-compatible API",
    backend="inference.backends.openai_compatible.OpenAICompatible",
    parameters=OPENAI_PARAMETERS,
    help="Any service that speaks the OpenAI protocol.",
)
LLAMA_CPP = ProviderType(
    name="llama_cpp",
    label="llama.cpp (GGUF files)",
    backend="inference.backends.llama_cpp.LlamaCpp",
    runs_in="worker",
    free=True,
    local=True,
    parameters=(
        Parameter(
            "model_path",
            "Model file",
            "Path of a GGUF file; of several shards, the first. A model's own parameter wins.",
            kind="text",
        ),
        Parameter(
            "context_size", "Context size", "Tokens of prompt and answer together.", kind="integer", default=2048
        ),
        Parameter("threads", "Threads", "Compute threads; empty takes all cores but one.", kind="integer"),
        Parameter(
            "gpu_layers", "GPU layers", "Layers that are put on a GPU; 0 uses the CPU only.", kind="integer", default=0
        ),
        Parameter(
            "max_sequences", "Parallel requests", "Requests that are decoded together.", kind="integer", default=8
        ),
        Parameter(
            "preload", "Preload", "Load at worker start instead of at the first request.", kind="flag", default=False
        ),
    ),
    help="Runs GGUF models in a Celery worker of this gateway.",
)
FAKE = ProviderType(
    name="fake",
    label="Scripted fake",
    backend="inference.backends.fake.Fake",
    free=True,
    local=True,
    capabilities=frozenset({"chat", "embedding", "tools", "json_mode"}),
    parameters=(
        Parameter("reply", "Reply", "What it answers; empty echoes the prompt."),
        Parameter("delay_seconds", "Delay per token", "Seconds between tokens.", kind="number", default=0),
        Parameter("scenario", "Scenario", "A failure that every call meets.", kind="text"),
    ),
    help="Answers from a script: for trying policies, failures and dashboards without a model.",
)

KAMIWAZA = ProviderType(
    name="kamiwaza",
    label="Kamiwaza",
    backend="inference.backends.kamiwaza.Kamiwaza",
    local=True,
    offer_changes=True,
    defaults={"url_style": "kamiwaza"},
    parameters=(
        Parameter(
            "base_url",
            "Endpoint",
            "The platform's API, such as https://HOST/api, which lists its deployments; or the URL of one deployment, "
            "such as https://HOST/runtime/models/DEPLOYMENT/v1.",
            required=True,
        ),
        Parameter(
            "url_rule",
            "Where deployments answer",
            "now: at their path, else at their port; lb_port: at http://HOST:PORT/v1, as in early 2025; "
            "auto tells by what the platform says of them.",
            kind="choice",
            choices=("auto", "now", "lb_port"),
            default="auto",
        ),
        Parameter(
            "scheme",
            "Scheme of deployments",
            "Empty: https, and http with the rule lb_port.",
            kind="choice",
            choices=("https", "http"),
        ),
        Parameter("username", "User name", "Instead of a key: a token is fetched for this user and the password."),
        Parameter("password", "Password", sensitive=True),
        Parameter(
            "refresh_seconds",
            "Read the list every",
            "Seconds between two readings of the deployments; 0 reads them only when asked to.",
            kind="integer",
            default=60,
        ),
        *(parameter for parameter in OPENAI_PARAMETERS if parameter.name in _OF_THE_CONNECTION),
    ),
    help="A platform whose deployments appear here as models while they are deployed.",
)

failures: dict[str, str] = {}
"""Entry points that cannot be used, by name, with the reason."""


def find(name: str) -> ProviderType | None:
    return registered().get(name)


@cache
def registered() -> Mapping[str, ProviderType]:
    """All types by name, in the order in which forms show them."""
    types = {kind.name: kind for kind in (OPENAI_COMPATIBLE, LLAMA_CPP, FAKE)}
    types |= {preset.name: _from_preset(preset) for preset in PRESETS}
    types[KAMIWAZA.name] = KAMIWAZA
    for point_name, kind in _plugins():
        if kind.name in types:
            failures[point_name] = f"a provider type is named {kind.name!r} already"
        else:
            types[kind.name] = kind
    return types


def _from_preset(preset: Preset) -> ProviderType:
    defaults = dict(preset.defaults) | ({"base_url": preset.base_url} if preset.base_url else {})
    return replace(
        OPENAI_COMPATIBLE,
        name=preset.name,
        label=preset.label,
        needs_key=preset.needs_key,
        free=preset.free,
        local=preset.local or preset.free,
        defaults=defaults,
        help=preset.help or OPENAI_COMPATIBLE.help,
        parameters=tuple(
            replace(parameter, default=defaults[parameter.name], required=False)
            if parameter.name in defaults
            else parameter
            for parameter in OPENAI_COMPATIBLE.parameters
        ),
    )


def _plugins() -> list[tuple[str, ProviderType]]:
    found = []
    for point in entry_points(group=ENTRY_POINT):
        try:
            kind = point.load()
        except Exception as error:  # a plugin's import may fail in any way; the system check names it
            failures[point.name] = f"{type(error).__name__}: {error}"
            continue
        if isinstance(kind, ProviderType):
            found.append((point.name, kind))
        else:
            failures[point.name] = f"{point.value} is not a ProviderType"
    return found
