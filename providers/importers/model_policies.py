"""The YAML of a gateway with model policies and node requirements: `policies` and `nodes`, in one file or in two. Pure.

A policy becomes a model of its provider and a name that clients may send for it, with its fallbacks; a node becomes a name
that chooses among all of those by what it requires.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers import provider_types
from providers.capabilities import canonical
from providers.cost_tiers import COST_TIERS, is_tier
from providers.importers import findings
from providers.importers.documents import place
from providers.importers.foreign_forms import Foreign, Refused, expanded, named, per_million, whole, words

FORM = "model policies"
POLICIES = "policies"

CAPABILITIES = (
    *("streaming", "function_calling", "vision", "reasoning", "web_search", "long_context", "creative_writing"),
    *("code_generation", "json_mode"),
)
PROVIDERS = {
    "openrouter": "openrouter",
    "direct_openai": "openai",
    "direct_anthropic": "anthropic",
    "direct_gemini": "gemini",
    "direct_perplexity": "perplexity",
}
"""What the file calls a provider, to our type; its id is the type's name unless the registry has another of that type."""

KEY_VARIABLES = {
    "openrouter": "OPENROUTER_API_KEY",
    "openai": "OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "gemini": "GEMINI_API_KEY",
    "perplexity": "PERPLEXITY_API_KEY",
}
ADDRESS_VARIABLES = {"openrouter": "OPENROUTER_BASE_URL"}

USUAL_CONTEXT_WINDOW, USUAL_MAX_TIER = 4000, "HIGH"
"""What a node demands there that says nothing of them."""

_OF_A_POLICY = {
    *("provider", "provider_model_id", "capabilities", "cost_tier", "context_window", "input_cost_per_1k"),
    *("output_cost_per_1k", "fallback_models", "admin_overridable", "description", "max_tokens", "logical_id"),
}
_OF_A_NODE = {
    *("required_capabilities", "preferred_capabilities", "min_context_window", "max_cost_tier", "reasoning_required"),
    *("description", "node_name"),
}


def recognises(document: Any) -> bool:
    return (
        isinstance(document, dict)
        and "version" not in document
        and "providers" not in document
        and any(isinstance(document.get(name), dict | list) for name in ("policies", "nodes"))
    )


def read(document: Mapping[str, Any], stored_types: Mapping[str, str], variables: Mapping[str, str]) -> Foreign:
    """`stored_types` are the types of the registry's providers, by id; `variables` is the environment."""
    return _Reading(stored_types, variables).read(document)


class _Reading:
    def __init__(self, stored_types: Mapping[str, str], variables: Mapping[str, str]) -> None:
        self._stored_types, self._variables = stored_types, variables
        self._told = Foreign(FORM)
        self._models: dict[str, dict[str, dict[str, Any]]] = {}

    def read(self, document: Mapping[str, Any]) -> Foreign:
        told = self._told
        for name in document:
            if name not in ("policies", "nodes"):
                told.no_place(place("", name))
        for member, one_of in (("policies", self._policy), ("nodes", self._node)):
            key = "logical_id" if member == "policies" else "node_name"
            for where, name, raw in named(document.get(member), member, key):
                try:
                    self._named_once(name)
                    one_of(where, name, expanded(raw, self._variables))
                except Refused as refused:
                    told.refuse(POLICIES, where, refused.sentences, refused.code)
        for kind, models in self._models.items():
            told.providers.append((POLICIES, self._provider(kind, list(models.values()))))
        return told

    def _named_once(self, name: Any) -> None:
        if not isinstance(name, str) or not name.strip():
            raise Refused(["a name is needed."])
        if name in self._told.section(POLICIES):
            raise Refused([f"{name!r} stands in this file already; a policy and a node cannot share a name."])

    # --- A policy -----------------------------------------------------------------------------------------------------------

    def _policy(self, where: str, name: str, raw: Any) -> None:
        wrong = _Wrong(raw, _OF_A_POLICY)
        said = wrong.told
        kind = PROVIDERS.get(str(said.get("provider") or "").strip())
        if kind is None:
            wrong.add(f"provider: {said.get('provider')!r} is none of {', '.join(PROVIDERS)}.")
        model_id = said.get("provider_model_id")
        if not isinstance(model_id, str) or not model_id.strip():
            wrong.add("provider_model_id: a model's id is needed.")
        capabilities = wrong.trying(_capabilities, said.get("capabilities"))
        tier = wrong.trying(_tier, said.get("cost_tier"), "cost_tier")
        window = wrong.trying(whole, said.get("context_window"), "context_window")
        most = wrong.trying(whole, said.get("max_tokens"), "max_tokens")
        prices = {
            f"{side}_cost_per_million": wrong.trying(
                per_million, said.get(f"{side}_cost_per_1k"), f"{side}_cost_per_1k"
            )
            for side in ("input", "output")
        }
        fallbacks = wrong.trying(words, said.get("fallback_models"), "fallback_models")
        overridable = wrong.trying(_flag, said.get("admin_overridable"), "admin_overridable")
        wrong.end()
        assert kind is not None
        facts = {"context_window": window, "max_tokens": most, "cost_tier": tier, **prices}
        model = {"model_id": model_id, "model_type": "chat"}
        if capabilities is not None:
            model["capabilities"] = capabilities
        model |= {key: value for key, value in facts.items() if value is not None}
        self._add_model(where, kind, model)
        document: dict[str, Any] = {"kind": "logical"}
        if said.get("description"):
            document["description"] = str(said["description"])
        document["targets"] = [{"model": model_id, "provider": self._provider_id(kind)}]
        if fallbacks:
            document["fallbacks"] = fallbacks
        if overridable is False:
            document["overridable"] = False
        self._told.section(POLICIES)[name] = document

    def _add_model(self, where: str, kind: str, model: dict[str, Any]) -> None:
        models = self._models.setdefault(kind, {})
        first = models.setdefault(model["model_id"], model)
        if first != model:
            detail = f"Another policy of this file says something else of the model {model['model_id']!r}; the first one counts."
            self._told.find(POLICIES, where, findings.DUPLICATE_DIFFERS, "rejected", detail)

    def _provider_id(self, kind: str) -> str:
        """The registry's provider of that type if there is one; several are told apart by the id."""
        alike = sorted(name for name, its in self._stored_types.items() if its == kind)
        if alike:
            return kind if kind in alike else alike[0]
        return f"direct_{kind}" if kind in self._stored_types else kind

    def _provider(self, kind: str, models: list[dict[str, Any]]) -> dict[str, Any]:
        provider: dict[str, Any] = {"provider_id": self._provider_id(kind)}
        if provider["provider_id"] not in self._stored_types:
            found = provider_types.find(kind)
            usual = found.defaults.get("base_url", "") if found is not None else ""
            address = self._variables.get(ADDRESS_VARIABLES.get(kind, ""), "") or usual
            provider |= {"provider_type": kind, "display_name": found.label if found is not None else kind}
            provider["connection_params"] = {"base_url": address} if address else {}
            provider["api_keys"] = [{"secret": f"env:{KEY_VARIABLES[kind]}"}]
        return {**provider, "models": models}

    # --- A node -------------------------------------------------------------------------------------------------------------

    def _node(self, where: str, name: str, raw: Any) -> None:
        wrong = _Wrong(raw, _OF_A_NODE)
        said = wrong.told
        requirements = {
            "capabilities": wrong.trying(_known, said.get("required_capabilities"), "required_capabilities"),
            "preferred_capabilities": wrong.trying(
                _known, said.get("preferred_capabilities"), "preferred_capabilities"
            ),
            "min_context_window": wrong.trying(
                whole, said.get("min_context_window", USUAL_CONTEXT_WINDOW), "min_context_window"
            ),
            "max_cost_tier": wrong.trying(_tier, said.get("max_cost_tier", USUAL_MAX_TIER), "max_cost_tier"),
            "reasoning": wrong.trying(_flag, said.get("reasoning_required"), "reasoning_required"),
        }
        wrong.end()
        document: dict[str, Any] = {"kind": "node"}
        if said.get("description"):
            document["description"] = str(said["description"])
        document["targets"] = [{"kind": "logical"}]
        document["requirements"] = {key: value for key, value in requirements.items() if value}
        document["strategy"] = "balanced"
        self._told.section(POLICIES)[name] = document


class _Wrong:
    """Everything that is wrong with one entry, told at once."""

    def __init__(self, raw: Any, known: set[str]) -> None:
        if not isinstance(raw, dict):
            raise Refused(["an object of names and values is needed."])
        self.told: dict[str, Any] = raw
        self._sentences = [f"{name}: there is no such member." for name in raw if name not in known]

    def add(self, sentence: str) -> None:
        self._sentences.append(sentence)

    def trying(self, read: Any, *told: Any) -> Any:
        try:
            return read(*told)
        except Refused as refused:
            self._sentences += refused.sentences
            return None

    def end(self) -> None:
        if self._sentences:
            raise Refused(self._sentences)


def _capabilities(told: Any) -> list[str] | None:
    if told is None:
        return None
    if isinstance(told, list):
        return _known(told, "capabilities")
    if not isinstance(told, dict):
        raise Refused(["capabilities: an object of names and flags is needed."])
    _known(list(told), "capabilities")
    wanted = [name for name, value in told.items() if _flag(value, f"capabilities.{name}")]
    return sorted(canonical(wanted))


def _known(told: Any, where: str) -> list[str]:
    names = words(told, where)
    unknown = [name for name in names if name.lower() not in CAPABILITIES]
    if unknown:
        raise Refused([f"{where}: {name!r} is no capability; there are {', '.join(CAPABILITIES)}." for name in unknown])
    return sorted(canonical(names))


def _tier(told: Any, where: str) -> str | None:
    if told is None:
        return None
    tier = str(told).strip().upper()
    if not is_tier(tier):
        raise Refused([f"{where}: {told!r} is none of {', '.join(COST_TIERS)}."])
    return tier


def _flag(told: Any, where: str) -> bool | None:
    if told is not None and not isinstance(told, bool):
        raise Refused([f"{where}: true or false is needed."])
    return told
