"""The YAML of a bridge between providers: a list of `providers` with tasks, `default_models` and `routing`. Pure.

Each default becomes a name that clients may send: its model first, the other models of the task after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from providers import breaker_settings
from providers.capabilities import TASKS
from providers.importers import findings
from providers.importers.config_values import LeftOut, Unusable, flag, price
from providers.importers.documents import place
from providers.importers.foreign_forms import Foreign, Refused, expanded

FORM = "bridge"
POLICIES, ROUTING = "policies", "routing"

TASKS_OF_DEFAULTS = {
    "embedding": "embedding",
    "chat_fast": "chat_small",
    "chat_smart": "chat_smart",
    "chat_vision": "vision",
}
"""The names under which defaults stand, and whose other models follow them."""

DESCRIPTIONS = {
    "embedding": "Embeddings.",
    "chat_fast": "Short and simple tasks.",
    "chat_smart": "Tasks that need thought.",
    "chat_vision": "Messages with pictures.",
}
_TYPES = {"litellm": "openai_compatible"}
_TYPE_OF_TASK = {"embedding": "embedding", "audio": "audio", "image_generation": "image"}
_CAPABILITIES = {"supports_vision": "vision", "supports_audio": "audio", "supports_function_calling": "tools"}
_BREAKER = {
    "failure_threshold": "failure_threshold",
    "timeout_secs": "open_seconds",
    "success_threshold": "success_threshold",
}
_ALWAYS = {
    "cost_aware": "Among models of the same priority the cheaper one is always asked first.",
    "require_vision_for_images": "Pictures always need a model with vision.",
}
"""Settings that say what is so in any case; only the contrary has no place."""


def recognises(document: Any) -> bool:
    """The list of providers alone is read elsewhere; its entries are the same."""
    if not isinstance(document, dict) or "allowed_providers" in document or "additional_config" in document:
        return False
    listed = document.get("providers")
    if not isinstance(listed, list) or document.get("version") not in (None, "2.0", 2.0, 2, "2"):
        return False
    entries = [one for one in listed if isinstance(one, dict)]
    return len(entries) == len(listed) and all("id" in one or "provider_id" in one for one in entries)


def read(document: Mapping[str, Any], variables: Mapping[str, str]) -> Foreign:
    """`variables` is the environment."""
    return _Reading(variables).read(document)


class _Reading:
    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self._told = Foreign(FORM)
        self._models: list[tuple[int, str, dict[str, Any]]] = []
        """Priority of the provider, its id, and each model."""

    def read(self, document: Mapping[str, Any]) -> Foreign:
        told = self._told
        for index, raw in enumerate(document["providers"]):
            where = place("providers", index)
            try:
                self._provider(where, expanded(raw, self._variables, {"api_key"}))
            except Refused as refused:
                name = raw.get("id") or raw.get("provider_id")
                told.refuse("providers", where, [f"{name}: {said}" for said in refused.sentences], refused.code)
        if "default_models" in document:
            self._defaults(document["default_models"])
        if "routing" in document:
            self._routing(document["routing"])
        for name in document:
            if name not in ("version", "providers", "default_models", "routing"):
                told.no_place(place("", name))
        return told

    def _provider(self, where: str, raw: dict[str, Any]) -> None:
        provider = dict(raw)
        if "id" in provider:
            provider["provider_id"] = provider.pop("id")
        if "provider_type" in provider:
            provider["provider_type"] = _TYPES.get(provider["provider_type"], provider["provider_type"])
        if "timeout_secs" in provider:
            settings = provider.get("request_settings")
            seconds = provider.pop("timeout_secs")
            provider["request_settings"] = {
                **(settings if isinstance(settings, dict) else {}),
                "timeout_seconds": seconds,
            }
        listed = provider.get("models")
        if isinstance(listed, list):
            provider["models"] = list(self._once(where, listed))
            priority = provider.get("priority")
            rank = priority if isinstance(priority, int) else 1
            self._models += [
                (rank, str(provider.get("provider_id")), model)
                for model in provider["models"]
                if isinstance(model, dict)
            ]
        self._told.providers.append((where, provider))

    def _once(self, where: str, listed: list[Any]) -> Iterator[Any]:
        """Each model once: one that is listed for several tasks serves them all."""
        found: dict[str, dict[str, Any]] = {}
        for index, raw in enumerate(listed):
            at = place(place(where, "models"), index)
            if not isinstance(raw, dict) or not isinstance(raw.get("model_id"), str):
                yield raw
                continue
            model = self._model(at, raw)
            first = found.get(model["model_id"])
            if first is None:
                found[model["model_id"]] = model
                continue
            detail = f"{model['model_id']!r} is listed for several tasks; it serves them all."
            self._told.find("models", at, findings.DUPLICATE, "merged", detail)
            for name in ("tasks", "capabilities"):
                both = [*first.get(name, ()), *model.get(name, ())]
                if both:
                    first[name] = list(dict.fromkeys(both))
            for name, value in model.items():
                if name not in ("tasks", "capabilities") and first.setdefault(name, value) != value:
                    detail = f"{name} differs from where the model was listed first; that one counts."
                    self._told.find("models", at, findings.DUPLICATE_DIFFERS, "kept", detail, name)
        yield from found.values()

    def _model(self, where: str, raw: dict[str, Any]) -> dict[str, Any]:
        model = dict(raw)
        task = model.pop("task", None)
        if task in TASKS:
            model["tasks"] = list(dict.fromkeys([*model.get("tasks", []), task]))
        elif task:
            detail = f"{task!r} is none of {', '.join(TASKS)}."
            self._told.find("models", where, findings.UNKNOWN_NAME, "rejected", detail, "task")
        if kind := next((_TYPE_OF_TASK[one] for one in model.get("tasks", ()) if one in _TYPE_OF_TASK), None):
            model.setdefault("model_type", kind)
        said = list(model.get("capabilities") or ())
        for name, capability in _CAPABILITIES.items():
            if model.pop(name, None) is True:
                said.append(capability)
        if "vision" in model.get("tasks", ()):
            said.append("vision")
        if said:
            model["capabilities"] = list(dict.fromkeys(said))
        return model

    # --- Defaults and routing -----------------------------------------------------------------------------------------------

    def _defaults(self, raw: Any) -> None:
        if not isinstance(raw, dict):
            self._told.refuse(POLICIES, "default_models", ["an object of names and models is needed."])
            return
        for name, told in raw.items():
            where = place("default_models", name)
            try:
                default = expanded(told, self._variables)
                if default is None:
                    continue
                if name not in TASKS_OF_DEFAULTS:
                    raise Refused([f"{name!r} is none of {', '.join(TASKS_OF_DEFAULTS)}."])
                if not isinstance(default, str) or not default.strip():
                    raise Refused(["a model's id is needed."])
            except Refused as refused:
                self._told.refuse(POLICIES, where, refused.sentences, refused.code)
                continue
            self._told.section(POLICIES)[name] = self._policy(where, name, default.strip())

    def _policy(self, where: str, name: str, default: str) -> dict[str, Any]:
        here = {model["model_id"] for _, _, model in self._models if isinstance(model.get("model_id"), str)}
        qualified = {f"{provider_id}/{model.get('model_id')}" for _, provider_id, model in self._models}
        if default not in here | qualified:
            detail = f"No provider of this file has a model named {default!r}."
            self._told.find(POLICIES, where, findings.ORPHAN, "kept", detail)
        fallbacks = [one for one in self._of_task(TASKS_OF_DEFAULTS[name]) if one != default]
        document: dict[str, Any] = {
            "kind": "task",
            "description": DESCRIPTIONS[name],
            "targets": [{"model": default}],
        }
        return document | ({"fallbacks": fallbacks} if fallbacks else {})

    def _of_task(self, task: str) -> list[str]:
        """The models of a task, those of the provider with the lowest number first."""
        ordered = sorted(self._models, key=lambda one: one[0])
        found = [
            model["model_id"]
            for _, _, model in ordered
            if task in model.get("tasks", ()) or (task == "vision" and "vision" in model.get("capabilities", ()))
        ]
        return list(dict.fromkeys(found))

    def _routing(self, raw: Any) -> None:
        if not isinstance(raw, dict):
            self._told.refuse(ROUTING, ROUTING, ["an object of names and values is needed."])
            return
        for name, told in raw.items():
            where = place(ROUTING, name)
            try:
                self._setting(where, name, expanded(told, self._variables))
            except Refused as refused:
                self._told.refuse(ROUTING, where, refused.sentences, refused.code)
            except Unusable as error:
                self._told.refuse(ROUTING, where, [f"{error}."])
            except LeftOut:
                continue

    def _setting(self, where: str, name: str, told: Any) -> None:
        if name == "auto_fallback":
            self._told.section(ROUTING)["fallback_enabled"] = flag(told).value
        elif name == "max_cost_per_request":
            amount = price(told).value
            self._told.section(ROUTING)[name] = None if amount is None else format(amount.normalize() + 0, "f")
        elif name == "circuit_breaker":
            self._breaker(told)
        elif name in _ALWAYS:
            self._always(where, name, told)
        else:
            self._told.no_place(where)

    def _always(self, where: str, name: str, told: Any) -> None:
        if flag(told).value:
            self._told.find(ROUTING, where, findings.ALWAYS_SO, "kept", _ALWAYS[name])
        else:
            self._told.no_place(where, f"It cannot be turned off. {_ALWAYS[name]}")

    def _breaker(self, told: Any) -> None:
        if not isinstance(told, dict):
            raise Refused(["an object of numbers is needed."])
        unknown = [name for name in told if name not in _BREAKER]
        if unknown:
            raise Refused([f"{name!r} is none of {', '.join(_BREAKER)}." for name in unknown])
        breaker = {_BREAKER[name]: value for name, value in told.items() if value is not None}
        if wrong := breaker_settings.problems(breaker):
            raise Refused([f"{name}: {sentence}" for name, sentence in wrong.items()])
        self._told.section(ROUTING)["breaker"] = breaker
