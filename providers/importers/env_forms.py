"""Variables of the environment that configured other systems, as providers, models and names for them. Pure.

Four families, told apart by their names: a Kamiwaza endpoint with a default and a fallback model, a backend with a heavy and
a light model, a bridge to Ollama, and a gateway in front of OpenRouter. A file may hold several of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from providers.importers import findings
from providers.importers.bridge_yaml import DESCRIPTIONS
from providers.importers.config_forms import BadConfiguration, Problem
from providers.importers.foreign_forms import Foreign
from providers.placeholders import looks_like_placeholder

FORM = "environment"
POLICIES, ROUTING = "policies", "routing"

BACKENDS = ("llama_cpp", "openai", "transformers_gpu")
TRANSFORMERS = "transformers"
"""Our type for models of the transformers library."""
DTYPES = ("auto", "float32", "float16", "bfloat16")

ALIASES_OF_DEFAULT = ("gpt-5", "gpt-4o", "gpt-4")
ALIASES_OF_FALLBACK = ("gpt-5-mini", "gpt-4o-mini", "gpt-3.5-turbo")
BRIDGE = ("OLLAMA_BASE_URL", "EMBEDDING_MODEL", "CHAT_MODEL", "VISION_MODEL")
"""What a bridge read before it had a file."""

_OLLAMA = "http://127.0.0.1:11434"
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}
_OF_THE_WORKER = "It belongs into the environment of the worker that runs the models."


def read(variables: Mapping[str, str], *, references: bool) -> Foreign:
    """With `references` the variables are this gateway's own and keys are named by them; otherwise keys are taken as they are.

    Raises `BadConfiguration` for a value that is none of those there are, and when no known variable is set.
    """
    return _Reading({name: value.strip() for name, value in variables.items()}, references).read()


class _Reading:
    def __init__(self, variables: Mapping[str, str], references: bool) -> None:
        self._variables, self._references = variables, references
        self._told = Foreign(FORM)
        self._used: set[str] = set()
        self._problems: list[Problem] = []

    def read(self) -> Foreign:
        for family in (self._kamiwaza, self._backend, self._bridge, self._openrouter):
            family()
        if not self._references:
            self._settings()
        if self._problems:
            raise BadConfiguration(self._problems)
        if not self._used:
            known = "KAMIWAZA_ENDPOINT, MODEL_BACKEND, OLLAMA_BASE_URL, OPENROUTER_API_KEY"
            raise BadConfiguration([Problem("", f"No variable that is known here is set, such as {known}.")])
        if not self._references:
            for name in self._variables:
                if name not in self._used:
                    self._told.no_place(name)
        return self._told

    # --- The families -------------------------------------------------------------------------------------------------------

    def _kamiwaza(self) -> None:
        if not any(name.startswith("KAMIWAZA_") for name in self._variables):
            return
        endpoint, default, fallback = (
            self._text(f"KAMIWAZA_{name}") for name in ("ENDPOINT", "DEFAULT_MODEL", "FALLBACK_MODEL")
        )
        params: dict[str, Any] = {"base_url": endpoint} if endpoint else {}
        verify = self._flag("KAMIWAZA_VERIFY_SSL")
        if verify is not None:
            params["verify_tls"] = verify
        most = self._whole("MAX_COMPLETION_TOKENS")
        limit = {} if most is None else {"max_tokens": most}
        provider: dict[str, Any] = {
            "provider_id": "kamiwaza",
            "provider_type": "kamiwaza",
            "display_name": "Kamiwaza",
            "connection_params": params,
            "models": [{"model_id": name, **limit} for name in dict.fromkeys(filter(None, (default, fallback)))],
        }
        self._with_key(provider, "KAMIWAZA_API_KEY")
        self._told.providers.append(("KAMIWAZA_ENDPOINT", provider))
        if self._text("KAMIWAZA_STREAMING"):
            self._told.find(
                "settings", "KAMIWAZA_STREAMING", findings.ALWAYS_SO, "kept", "Each request says whether it streams."
            )
        retries = self._retries("KAMIWAZA_MAX_RETRIES", "KAMIWAZA_RETRY_DELAY")
        policies = self._told.section(POLICIES)
        if default:
            chain = {"fallbacks": [fallback]} if fallback else {}
            targets = [{"model": default, "provider": "kamiwaza"}]
            policies["default"] = {"kind": "alias", "description": "The model for everything.", "targets": targets}
            policies["default"] |= chain | retries
            for name in ALIASES_OF_DEFAULT:
                policies[name] = {"kind": "alias", "targets": [{"model": "default"}], **retries}
        if fallback:
            for name in ALIASES_OF_FALLBACK:
                policies[name] = {"kind": "alias", "targets": [{"model": fallback, "provider": "kamiwaza"}], **retries}

    def _backend(self) -> None:
        if not {"MODEL_BACKEND", "MODEL_7B_PATH", "MODEL_1B_PATH"} & self._variables.keys():
            return
        backend = (self._text("MODEL_BACKEND") or BACKENDS[0]).lower()
        families: dict[str, Callable[[], None]] = dict(
            zip(BACKENDS, (self._llama_cpp, self._openai, self._transformers), strict=True)
        )
        if backend not in families:
            self._wrong("MODEL_BACKEND", f"{backend!r} is none of: {', '.join(BACKENDS)}.")
            return
        families[backend]()

    def _llama_cpp(self) -> None:
        params: dict[str, Any] = {}
        for name, variable in (
            ("context_size", "MODEL_CONTEXT_SIZE"),
            ("threads", "MODEL_N_THREADS"),
            ("gpu_layers", "MODEL_GPU_LAYERS"),
        ):
            if number := self._whole(variable):  # 0 left it to the other gateway's engine, as nothing does here
                params[name] = number
        preload = self._flag("MODEL_PRELOAD")
        if preload is not None:
            params["preload"] = preload
        paths = {"heavy": self._path("MODEL_7B_PATH"), "light": self._path("MODEL_1B_PATH")}
        window = {"context_window": params["context_size"]} if "context_size" in params else {}
        models = {role: model_of(path) for role, path in paths.items() if path}
        self._roles("llama_cpp", "llama_cpp", "Local models", params, models)
        for model in self._told.providers[-1][1]["models"]:
            role = next(role for role, model_id in models.items() if model_id == model["model_id"])
            model |= {**window, "parameters": {"model_path": paths[role]}}
        self._of_the_worker("CUDA_VISIBLE_DEVICES", "GGML_CUDA_FORCE_CUBLAS")

    def _openai(self) -> None:
        models = {"heavy": self._text("OPENAI_HEAVY_MODEL"), "light": self._text("OPENAI_LIGHT_MODEL")}
        self._roles("openai", "openai", "OpenAI", None, models)
        self._with_key(self._told.providers[-1][1], "OPENAI_API_KEY", needed=True)

    def _transformers(self) -> None:
        params: dict[str, Any] = {}
        if memory := self._number("GPU_MAX_MEMORY"):
            params["max_memory_gb"] = memory
        if dtype := self._text("GPU_TORCH_DTYPE"):
            params["dtype"] = self._dtype(dtype)
        models = {"heavy": self._text("GPU_HEAVY_MODEL"), "light": self._text("GPU_LIGHT_MODEL")}
        self._roles("transformers_gpu", TRANSFORMERS, "Transformers on GPUs", params, models)
        self._of_the_worker("CUDA_VISIBLE_DEVICES")

    def _dtype(self, said: str) -> str:
        dtype = said.lower().removeprefix("torch.")
        if dtype not in DTYPES:
            self._wrong("GPU_TORCH_DTYPE", f"{said!r} is none of: {', '.join(DTYPES)}.")
        return dtype

    def _roles(
        self, provider_id: str, kind: str, label: str, params: dict[str, Any] | None, models: Mapping[str, str]
    ) -> None:
        """A provider whose models are asked for as `heavy` and `light`."""
        provider: dict[str, Any] = {"provider_id": provider_id, "provider_type": kind, "display_name": label}
        if params is not None:
            provider["connection_params"] = params
        provider["models"] = [{"model_id": name} for name in dict.fromkeys(filter(None, models.values()))]
        self._told.providers.append(("MODEL_BACKEND", provider))
        for role, words in (("heavy", "For complex analysis."), ("light", "For simpler tasks.")):
            if models.get(role):
                targets = [{"model": models[role], "provider": provider_id}]
                self._told.section(POLICIES)[role] = {"kind": "task", "description": words, "targets": targets}

    def _bridge(self) -> None:
        if not set(BRIDGE) & self._variables.keys():
            return
        address = self._text("OLLAMA_BASE_URL") or _OLLAMA
        embedding, chat, vision = (self._text(name) for name in BRIDGE[1:])
        models: dict[str, dict[str, Any]] = {}
        for name, tasks, more in (
            (embedding, ["embedding"], {"model_type": "embedding"}),
            (chat, ["chat_small", "chat_smart"], {}),
            (vision, ["vision"], {"capabilities": ["vision"]}),
        ):
            if name:
                model = models.setdefault(name, {"model_id": name, "tasks": []})
                model["tasks"] = [*model["tasks"], *tasks]
                model.update(more)
        provider = {
            "provider_id": "ollama_local",
            "provider_type": "ollama",
            "display_name": "Ollama",
            "connection_params": {"base_url": address},
            "models": list(models.values()),
        }
        self._told.providers.append(("OLLAMA_BASE_URL", provider))
        for name, model_id in (
            ("embedding", embedding),
            ("chat_fast", chat),
            ("chat_smart", chat),
            ("chat_vision", vision),
        ):
            if model_id:
                self._told.section(POLICIES)[name] = {
                    "kind": "task",
                    "description": DESCRIPTIONS[name],
                    "targets": [{"model": model_id}],
                }

    def _openrouter(self) -> None:
        if "OPENROUTER_API_KEY" not in self._variables:
            return
        provider: dict[str, Any] = {"provider_id": "openrouter", "provider_type": "openrouter"}
        if address := self._text("OPENROUTER_BASE_URL"):
            provider["connection_params"] = {"base_url": address}
        self._with_key(provider, "OPENROUTER_API_KEY")
        self._told.providers.append(("OPENROUTER_API_KEY", provider))

    def _settings(self) -> None:
        """What the gateway reads from its own environment, said in a file: the routing settings say it then."""
        fallback = self._flag("GATEWAY_FALLBACK_ENABLED")
        retries, delay = self._whole("GATEWAY_MAX_RETRIES"), self._number("GATEWAY_RETRY_DELAY")
        said = {"fallback_enabled": fallback, "retries": retries, "retry_delay_seconds": delay}
        given = {name: value for name, value in said.items() if value is not None}
        if given:
            self._told.section(ROUTING).update(given)

    # --- Single variables ---------------------------------------------------------------------------------------------------

    def _with_key(self, provider: dict[str, Any], name: str, *, needed: bool = False) -> None:
        value = self._text(name)
        if not value:
            if needed:
                self._told.find("api_keys", name, findings.EMPTY_SECRET, "rejected", f"{name} is not set.")
            return
        if looks_like_placeholder(value):
            detail = f"{name} is a placeholder, not a key; it was left out."
            self._told.find("api_keys", name, findings.PLACEHOLDER, "rejected", detail)
            return
        provider["api_keys"] = [{"secret": f"env:{name}" if self._references else value}]

    def _retries(self, attempts: str, delay: str) -> dict[str, Any]:
        said = {"attempts": self._whole(attempts), "delay_seconds": self._number(delay)}
        given: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
        return {"retries": {**given, "backoff": 1.0}} if given else {}

    def _of_the_worker(self, *names: str) -> None:
        for name in names:
            if self._text(name):
                self._told.no_place(name, _OF_THE_WORKER)

    def _text(self, name: str) -> str:
        if name not in self._variables:
            return ""
        self._used.add(name)
        return self._variables[name]

    def _path(self, name: str) -> str:
        said = self._text(name)
        if said and not said.strip("/\\"):
            self._wrong(name, "the path of a file is needed.")
            return ""
        return said

    def _flag(self, name: str) -> bool | None:
        said = self._text(name).lower()
        if said and said not in _TRUE | _FALSE:
            self._wrong(name, "true or false is needed.")
        return said in _TRUE if said else None

    def _whole(self, name: str) -> int | None:
        said = self._text(name)
        if said and not (said.isdecimal() and len(said) < 10):
            self._wrong(name, "a whole number is needed.")
            return None
        return int(said) if said else None

    def _number(self, name: str) -> float | int | None:
        said = self._text(name)
        if not said:
            return None
        if not re.fullmatch(r"\d{1,9}(\.\d{1,6})?", said):
            self._wrong(name, "a number is needed.")
            return None
        number = float(said)
        return int(number) if number.is_integer() else number

    def _wrong(self, name: str, sentence: str) -> None:
        self._problems.append(Problem(name, sentence))


def model_of(path: str) -> str:
    """What a model file is called: its name without shard and ending; its folder's name where it says no more than `model`."""
    steps = [step for step in path.replace("\\", "/").split("/") if step]
    name = _SHARD.sub("", re.sub(r"\.gguf$", "", steps[-1], flags=re.IGNORECASE))
    return steps[-2] if name.lower() in ("model", "ggml-model") and len(steps) > 1 else name


def ignored(names: Iterable[str]) -> list[str]:
    """The variables of an old configuration among these: a file says it all now."""
    return sorted(set(names) & {*BRIDGE, "MODEL_BACKEND", "MODEL_7B_PATH", "MODEL_1B_PATH"})
