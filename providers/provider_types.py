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

from providers.capabilities import EVERY_OPERATION, TEXT_OPERATIONS
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
    operations: frozenset[str] = TEXT_OPERATIONS
    """What its backend can pass on at all; see `providers.capabilities`. Whether a model serves it, the model's type says."""
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
    Parameter(
        "responses_api",
        "Has the Responses API",
        "Requests to /v1/responses go there as they are; without, they are said as chat completions.",
        kind="flag",
        default=False,
    ),
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

_CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")
_OF_THE_CONNECTION = ("headers", "auth_header", "proxy", "verify_tls", "ca_file", "allow_private")

OPENAI_COMPATIBLE = ProviderType(
    name="openai_compatible",
    label="OpenAI-compatible API",
    backend="inference.backends.openai_compatible.OpenAICompatible",
    parameters=OPENAI_PARAMETERS,
    operations=EVERY_OPERATION,
    help="Any service that speaks the OpenAI protocol.",
)
LLAMA_OPTIONS = (
    Parameter("lora", "LoRA adapters", "Path of an adapter (GGUF), or a JSON list of paths and {path, scale}."),
    Parameter(
        "pooling", "Pooling", "How token vectors become an embedding.", kind="choice", choices=("mean", "cls", "last")
    ),
    Parameter(
        "truncate_inputs",
        "Cut long inputs",
        "Cut texts that are too long to embed; else they are refused.",
        kind="flag",
    ),
    Parameter(
        "flash_attn", "Flash attention", "Empty: where it is faster.", kind="choice", choices=("auto", "on", "off")
    ),
    Parameter(
        "cache_type_k",
        "Cache of keys",
        "Numbers of the cache; smaller ones take less memory.",
        kind="choice",
        choices=_CACHE_TYPES,
    ),
    Parameter(
        "cache_type_v",
        "Cache of values",
        "As above; smaller than 16 bits needs flash attention.",
        kind="choice",
        choices=_CACHE_TYPES,
    ),
    Parameter("batch_size", "Batch size", "Tokens of prompts that are read at once.", kind="integer"),
    Parameter("ubatch_size", "Physical batch size", "Tokens that are computed at once; empty: 512.", kind="integer"),
    Parameter(
        "rope_scaling",
        "RoPE scaling",
        "For contexts longer than trained.",
        kind="choice",
        choices=("none", "linear", "yarn"),
    ),
    Parameter("rope_freq_base", "RoPE base frequency", "Empty: the file's.", kind="number"),
    Parameter("rope_freq_scale", "RoPE frequency scale", "Empty: the file's.", kind="number"),
    Parameter(
        "split_mode",
        "Split over GPUs",
        "By layers or rows, or not at all.",
        kind="choice",
        choices=("none", "layer", "row"),
    ),
    Parameter("main_gpu", "Main GPU", "Number of the GPU that holds what is not split.", kind="integer"),
    Parameter("tensor_split", "Shares of GPUs", "What each GPU takes, such as 3,1."),
    Parameter("mmap", "Map the file", "Read weights from the file as they are needed.", kind="flag", default=True),
    Parameter("mlock", "Lock in memory", "Keep weights from being swapped out.", kind="flag", default=False),
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
            "max_sequences", "Parallel requests", "Requests that are decoded together.", kind="integer", default=16
        ),
        Parameter(
            "max_sequences_per_key",
            "Parallel requests of one key",
            "Of one client key; further ones wait. Empty: as many as there is room for, shared evenly when others wait.",
            kind="integer",
        ),
        Parameter(
            "preload", "Preload", "Load at worker start instead of at the first request.", kind="flag", default=False
        ),
        *LLAMA_OPTIONS,
    ),
    help="Runs GGUF models in a Celery worker of this gateway.",
)
TRANSFORMERS = ProviderType(
    name="transformers",
    label="Transformers (PyTorch)",
    backend="inference.backends.transformers.Transformers",
    runs_in="worker",
    free=True,
    local=True,
    parameters=(
        Parameter(
            "model_path",
            "Model directory",
            "Directory with config.json and safetensors, or the id of a model that was downloaded, such as org/name. "
            "A model's own parameter wins; without one, its id is looked up.",
        ),
        Parameter("device", "Device", "auto takes a GPU if there is one; cpu, cuda, cuda:1 or mps.", default="auto"),
        Parameter(
            "dtype",
            "Number type",
            "Of the weights; auto is as they are stored.",
            kind="choice",
            choices=("auto", "float32", "float16", "bfloat16"),
            default="auto",
        ),
        Parameter(
            "max_memory_gb",
            "Memory limit (GB)",
            "That one model, and all loaded models of this kind together, may take on the device.",
            kind="number",
        ),
        Parameter("context_size", "Context size", "Tokens of prompt and answer together.", kind="integer"),
        Parameter(
            "max_sequences", "Parallel requests", "Answers that are computed together.", kind="integer", default=8
        ),
        Parameter("threads", "Threads", "Compute threads; empty takes all cores but one.", kind="integer"),
        Parameter(
            "pooling",
            "Pooling",
            "How embeddings are made of token vectors; empty does as the model's files say, else the mean.",
            kind="choice",
            choices=("mean", "cls", "last"),
        ),
        Parameter(
            "preload", "Preload", "Load at worker start instead of at the first request.", kind="flag", default=False
        ),
        Parameter(
            "allow_pickle",
            "Load pickled weights",
            "For models without safetensors, from a source that you trust.",
            kind="flag",
            default=False,
        ),
        Parameter(
            "trust_remote_code",
            "Run the model's own code",
            "Off: a model that needs it is refused. On: its Python files run on the worker.",
            kind="flag",
            default=False,
        ),
    ),
    help="Runs models of the Hugging Face transformers library in a Celery worker of this gateway; needs EXTRAS=transformers.",
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
    operations=EVERY_OPERATION,
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

ANTHROPIC = ProviderType(
    name="anthropic",
    label="Anthropic",
    backend="inference.backends.anthropic.Anthropic",
    needs_key=True,
    defaults={
        "base_url": "https://api.anthropic.com/v1",
        "auth_header": "x-api-key",
        "anthropic_version": "2023-06-01",
    },
    parameters=(
        Parameter(
            "base_url",
            "Base URL",
            "Where the Messages API answers; another service that speaks it has another address.",
            default="https://api.anthropic.com/v1",
        ),
        Parameter(
            "anthropic_version",
            "API version",
            "Sent as anthropic-version. Requests of Anthropic's own clients keep the version that they name.",
            default="2023-06-01",
        ),
        Parameter(
            "anthropic_beta", "Betas", "Sent as anthropic-beta with every call, beside those that a client asks for."
        ),
        *(
            replace(parameter, default="x-api-key") if parameter.name == "auth_header" else parameter
            for parameter in OPENAI_PARAMETERS
            if parameter.name in _OF_THE_CONNECTION
        ),
    ),
    help="The Messages API: chat completions are translated, requests of Anthropic's clients pass as they are.",
)

OLLAMA = ProviderType(
    name="ollama",
    label="Ollama",
    backend="inference.backends.ollama.Ollama",
    free=True,
    local=True,
    defaults={"url_style": "ollama", "base_url": "http://127.0.0.1:11434"},
    parameters=(
        Parameter(
            "base_url",
            "Base URL",
            "Where Ollama answers, such as http://127.0.0.1:11434.",
            default="http://127.0.0.1:11434",
        ),
        Parameter(
            "keep_alive",
            "Keep alive",
            "How long a model stays in memory after a request: 10m, seconds, or -1 for ever. Here and in the three that follow, "
            "a model's own parameter of the name wins over the provider's, and a request's over both.",
        ),
        Parameter("num_ctx", "Context length", "Tokens of prompt and answer together.", kind="integer"),
        Parameter("think", "Thinking", "true, false, or low, medium or high."),
        Parameter("options", "Options", "A JSON object of Ollama's options, such as num_gpu or top_k.", kind="object"),
        *(parameter for parameter in OPENAI_PARAMETERS if parameter.name in _OF_THE_CONNECTION),
    ),
    help="A server of Ollama, in its own protocol.",
)

failures: dict[str, str] = {}
"""Entry points that cannot be used, by name, with the reason."""


def find(name: str) -> ProviderType | None:
    return registered().get(name)


@cache
def registered() -> Mapping[str, ProviderType]:
    """All types by name, in the order in which forms show them."""
    types = {kind.name: kind for kind in (OPENAI_COMPATIBLE, LLAMA_CPP, TRANSFORMERS, FAKE)}
    types |= {preset.name: _from_preset(preset) for preset in PRESETS}
    types[ANTHROPIC.name] = ANTHROPIC
    types |= {OLLAMA.name: OLLAMA, KAMIWAZA.name: KAMIWAZA}
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
