"""The layout's promises, read from the source: who may import whom, what stays pure, what the request path never touches.

`TYPE_CHECKING` blocks are knowledge too, but not dependencies: they count for directions and not for the request path.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("providers", "routing", "inference", "gateway_project")
"""From the ground up: a package imports itself and what stands before it."""

ROOTS = {"types", "errors", "capabilities", "pricing", "secrets", "provider_types", "presets"}
ROOTS |= {"breaker_settings", "cost_tiers", "locality", "policy_documents", "prices", "price_list", "allowances"}
"""Import nothing of ours but one another, and that only downwards."""

LEAVES = ("*.admin", "*.api.*", "*.endpoints.*", "*.management.commands.*", "*.tasks", "*.views")
DOORS = ("*.urls", "*.asgi", "inference.plane")
"""What turns a path into a leaf has to know it."""

PURE = ("routing.decide", "routing.filters", "routing.strategies", "routing.strategies.*", "routing.rollout")
PURE += (
    "routing.asked",
    "routing.estimates",
    "routing.nearest",
    "routing.replay",
    "routing.resolving",
    "routing.shortlists",
    "routing.policy_documents",
    "providers.breaker_settings",
    "providers.cost_tiers",
)
PURE += (
    "routing.trial_gates",
    "providers.prices",
    "providers.price_list",
    "providers.locality",
    "providers.capabilities",
    "providers.charts",
    "routing.explain",
    "routing.remedies",
    "routing.what_if",
)
PURE += ("routing.breakers", "routing.performance", "routing.key_exhaustion", "routing.budget_periods")
PURE += ("routing.validation", "routing.nodes", "routing.unwritten_nodes", "routing.savings", "routing.drafts")
PURE += ("routing.policy_standing",)
PURE += ("providers.engine_options", "providers.storable_json")
PURE += ("providers.pricing", "providers.connection", "providers.placeholders", "providers.importers.mapping")
PURE += ("providers.importers.drafts", "providers.importers.findings", "providers.importers.legacy")
PURE += ("providers.importers.documents", "providers.importers.config_forms", "providers.importers.config_values")
PURE += ("routing.client_addresses", "routing.policy_limits", "routing.foreign_keys", "routing.key_bounds")
PURE += tuple(
    f"inference.engine.{name}"
    for name in ("fairness", "grammar_choices", "schemas", "tools", "tool_calls", "tool_grammar", "tool_prompts")
)
PURE += ("routing.permits", "inference.offered")
PURE += ("routing.live_models", "inference.chat_requests", "inference.trace_ids", "inference.roles")
PURE += ("inference.output_limits",)
PURE += (
    "providers.kamiwaza",
    "providers.destinations",
    "providers.document_text",
    "providers.config_changes",
    "providers.config_review",
)
PURE += tuple(
    f"providers.importers.{name}"
    for name in ("foreign_forms", "model_policies", "bridge_yaml", "env_forms", "env_text")
)
PURE += tuple(
    f"providers.importers.{name}"
    for name in ("legacy_connection", "legacy_json", "legacy_keys", "legacy_texts", "legacy_times", "merging")
)
PURE += tuple(f"inference.{name}" for name in ("outcomes", "quiet_hours", "telemetry_names"))
PURE += tuple(f"inference.alert_{name}" for name in ("deciding", "signals", "texts"))
PURE += ("providers.importers.object_secrets", "providers.importers.remarks")
PURE += ("routing.allowances", "routing.purses", "inference.invoices")
PURE += ("inference.wire.tags", "inference.wire.responses_input", "inference.wire.sse", "inference.wire.retold")
PURE += ("inference.wire.call_numbers", "inference.wire.multipart", "inference.wire.bodies", "inference.wire.recalled")
PURE += ("inference.wire.other_models", "inference.wire.responses_names", "inference.wire.responses_tools")
PURE += ("inference.wire.long_arrays", "inference.wire.message_batches")
PURE += ("providers.ollama", "inference.wire.ollama_upstream")
PURE += ("providers.anthropic_offers", "inference.backends.anthropic_refusals", "inference.wire.anthropic")
PURE += tuple(
    f"inference.wire.anthropic_{name}"
    for name in ("answers", "asking", "blocks", "listings", "models", "native", "schemas", "usage")
)
PURE += tuple(f"inference.batch_{name}" for name in ("hours", "lines", "shares"))
IMPURE = {
    *("django", "rest_framework", "celery", "redis", "httpx", "aiohttp", "requests", "psycopg", "openai"),
    *(
        "asyncio",
        "socket",
        "ssl",
        "http",
        "urllib.request",
        "subprocess",
        "threading",
        "os",
        "pathlib",
        "io",
        "logging",
    ),
    *("time", "random", "secrets", "uuid"),
}
IMPURE_CALLS = {"open", "print", "input", "now", "utcnow", "today", "urandom", "getenv"}

REQUEST_PATH = (
    "inference.asgi",
    "inference.endpoints.*",
    "inference.wire.*",
    "inference.admission",
    "inference.asking",
    "inference.attempts",
    "inference.deciding",
    "inference.dispatch",
    "inference.refusing",
    "inference.forwarding",
)
REQUEST_PATH += ("inference.backends.*", "routing.decide", "routing.filters", "routing.strategies.*")
DATABASE = {*(f"{layer}.models" for layer in LAYERS), "django.db"}
BOUNDARY = "routing.snapshot"
"""Where the request path meets what the database said: it reads `current()`, the building behind it runs elsewhere."""

HEAVY = {"llama_cpp", "xllamacpp", "torch", "transformers", "opentelemetry"}
"""Optional libraries whose import is put off until they are wanted, and with it the module of ours that imports them."""

NO_NAMES = {"utils", "util", "common", "core", "helpers", "services", "manager", "managers", "misc"}


@dataclass(frozen=True, slots=True)
class Import:
    module: str
    line: int
    lazy: bool = False
    typing_only: bool = False


@dataclass(slots=True)
class Module:
    name: str
    tree: ast.Module
    imports: list[Import] = field(default_factory=list)

    @property
    def package(self) -> str:
        return self.name.split(".")[0]


class _Reader(ast.NodeVisitor):
    def __init__(self, module: Module, known: set[str]) -> None:
        self._module, self._known = module, known
        self._function_depth = 0
        self._typing_depth = 0

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._function_depth += 1
        self.generic_visit(node)
        self._function_depth -= 1

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_If(self, node: ast.If) -> None:
        typing_only = ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}
        self._typing_depth += typing_only
        for child in node.body:
            self.visit(child)
        self._typing_depth -= typing_only
        for child in node.orelse:
            self.visit(child)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._note(alias.name, node.lineno)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = node.module or ""
        if node.level:
            here = self._module.name.split(".")
            base = ".".join([*here[: len(here) - node.level], *filter(None, [base])])
        for alias in node.names:
            whole = f"{base}.{alias.name}"
            # `from routing import snapshot` imports a module, `from routing.types import Snapshot` a name of one.
            self._note(whole if whole in self._known else base, node.lineno)

    def _note(self, name: str, line: int) -> None:
        self._module.imports.append(Import(name, line, bool(self._function_depth), bool(self._typing_depth)))


def read(sources: dict[str, str]) -> dict[str, Module]:
    modules = {name: Module(name, ast.parse(source)) for name, source in sources.items()}
    for module in modules.values():
        _Reader(module, set(modules)).visit(module.tree)
    return modules


@cache
def ours() -> dict[str, Module]:
    sources = {}
    for package in LAYERS:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if "migrations" not in parts:
                sources[".".join(parts).removesuffix(".__init__")] = path.read_text()
    return read(sources)


def matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def is_ours(name: str) -> bool:
    return name.split(".")[0] in LAYERS


# --- The rules ------------------------------------------------------------------------------------------------------------


def upward_imports(modules: dict[str, Module]) -> Iterator[str]:
    for module in modules.values():
        height = LAYERS.index(module.package)
        for found in module.imports:
            if is_ours(found.module) and LAYERS.index(found.module.split(".")[0]) > height:
                yield f"{module.name}:{found.line} imports {found.module}, which stands above it"


def roots_that_lean(modules: dict[str, Module]) -> Iterator[str]:
    for module in modules.values():
        if not _is_root(module.name):
            continue
        for found in module.imports:
            if is_ours(found.module) and not _is_root(found.module):
                yield f"{module.name}:{found.line} is a root and imports {found.module}"


def _is_root(name: str) -> bool:
    parts = name.split(".")
    return len(parts) == 2 and parts[1] in ROOTS


def imports_of_leaves(modules: dict[str, Module]) -> Iterator[str]:
    for module in modules.values():
        if matches(module.name, DOORS):
            continue
        for found in module.imports:
            if matches(found.module, LEAVES) and found.module in modules and not _same_leaf(module.name, found.module):
                yield f"{module.name}:{found.line} imports {found.module}, which is a leaf"


def _same_leaf(name: str, other: str) -> bool:
    """The REST modules know each other, also those of a package below; the endpoints know their own folder."""
    if ".api." in other:
        return ".api" in name
    folder = other.rpartition(".")[0]
    return folder.endswith(".endpoints") and (name == folder or name.startswith(folder + "."))


def impurities(modules: dict[str, Module]) -> Iterator[str]:
    for module in modules.values():
        if not matches(module.name, PURE):
            continue
        for found in module.imports:
            if found.typing_only:
                continue
            if is_ours(found.module):
                if not _is_root(found.module) and not matches(found.module, PURE):
                    yield f"{module.name}:{found.line} is pure and imports {found.module}, which is not"
            elif any(found.module == name or found.module.startswith(name + ".") for name in IMPURE):
                yield f"{module.name}:{found.line} is pure and imports {found.module}"
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func).rpartition(".")[2]
                if called in IMPURE_CALLS:
                    yield f"{module.name}:{node.lineno} is pure and calls {called}()"


def database_on_the_request_path(modules: dict[str, Module]) -> Iterator[str]:
    for start in modules.values():
        if not matches(start.name, REQUEST_PATH):
            continue
        for path in _paths_to_the_database(modules, start.name):
            yield " -> ".join(path)


def _paths_to_the_database(modules: dict[str, Module], start: str) -> Iterator[list[str]]:
    """The shortest way to each forbidden module, lazy imports included: they run on the request path all the same."""
    ways, seen = [[start]], {start}
    while ways:
        way = ways.pop(0)
        for found in modules[way[-1]].imports:
            if found.typing_only:
                continue
            forbidden = any(found.module == name or found.module.startswith(name + ".") for name in DATABASE)
            if forbidden and found.module not in seen:
                seen.add(found.module)
                yield [*way, found.module]
            elif found.module in modules and found.module not in seen and found.module != BOUNDARY:
                seen.add(found.module)
                ways.append([*way, found.module])


def lazy_imports_of_our_own(modules: dict[str, Module]) -> Iterator[str]:
    for module in modules.values():
        # AppConfig.ready(), and the admin site, which Django makes before there are models.
        if module.name.endswith(".apps") or module.name == "gateway_project.admin_site":
            continue
        for found in module.imports:
            if found.lazy and is_ours(found.module) and not _is_heavy(modules, found.module):
                yield f"{module.name}:{found.line} imports {found.module} inside a function"


def _is_heavy(modules: dict[str, Module], name: str) -> bool:
    wanted, seen = [name], {name}
    while wanted:
        module = modules.get(wanted.pop())
        for found in module.imports if module else []:
            if found.module.split(".")[0] in HEAVY:
                return True
            if not found.lazy and found.module not in seen:
                seen.add(found.module)
                wanted.append(found.module)
    return False


def names_that_say_nothing(modules: dict[str, Module]) -> Iterator[str]:
    return (f"{name}: named for nothing it decides" for name in modules if NO_NAMES & set(name.split(".")[1:]))


RULES = [
    upward_imports,
    roots_that_lean,
    imports_of_leaves,
    impurities,
    database_on_the_request_path,
    lazy_imports_of_our_own,
    names_that_say_nothing,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_source_keeps_the_rule(rule):
    assert list(rule(ours())) == []


def test_every_package_was_read():
    assert {name.split(".")[0] for name in ours()} == set(LAYERS)
    assert len(ours()) > 50


def test_the_request_path_is_where_the_rules_look_for_it():
    unused = [pattern for pattern in REQUEST_PATH if not any(fnmatchcase(name, pattern) for name in ours())]
    assert set(unused) <= {"routing.strategies.*"}  # orderings come with policies


@pytest.mark.parametrize(
    ("rule", "sources"),
    [
        (upward_imports, {"providers.a": "import routing.types"}),
        (upward_imports, {"routing.a": "def f():\n    from inference.b import c"}),
        (upward_imports, {"routing.a": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import inference.b"}),
        (roots_that_lean, {"inference.errors": "from inference.recording import x"}),
        (imports_of_leaves, {"inference.a": "from inference.tasks import run", "inference.tasks": ""}),
        (imports_of_leaves, {"inference.a": "from inference.endpoints import chat", "inference.endpoints.chat": ""}),
        (impurities, {"routing.decide": "import time"}),
        (impurities, {"routing.filters": "from django.conf import settings"}),
        (impurities, {"routing.strategies.x": "from routing import snapshot", "routing.snapshot": ""}),
        (impurities, {"routing.decide": "from datetime import datetime\ndatetime.now()"}),
        (database_on_the_request_path, {"inference.dispatch": "from routing.models import Key"}),
        (
            database_on_the_request_path,
            {
                "inference.endpoints.chat": "from inference import b",
                "inference.b": "def f():\n    import providers.models",
            },
        ),
        (database_on_the_request_path, {"inference.wire.a": "from django.db import connection"}),
        (lazy_imports_of_our_own, {"inference.a": "def f():\n    import inference.b"}),
        (names_that_say_nothing, {"inference.utils": ""}),
    ],
)
def test_the_rule_sees_what_breaks_it(rule, sources):
    assert len(list(rule(read(sources)))) == 1


@pytest.mark.parametrize(
    ("rule", "sources"),
    [
        (upward_imports, {"inference.a": "import providers.models\nimport json"}),
        (roots_that_lean, {"routing.types": "from providers.secrets import Secret"}),
        (imports_of_leaves, {"inference.asgi": "from inference.endpoints import chat", "inference.endpoints.chat": ""}),
        (imports_of_leaves, {"providers.api.urls": "from providers.api import views", "providers.api.views": ""}),
        (database_on_the_request_path, {"inference.recording": "import inference.models"}),
        (lazy_imports_of_our_own, {"inference.apps": "def ready(self):\n    import inference.b"}),
        (lazy_imports_of_our_own, {"inference.a": "def f():\n    import llama_cpp"}),
        (
            lazy_imports_of_our_own,
            {"inference.a": "def f():\n    import inference.b", "inference.b": "import llama_cpp"},
        ),
        (
            database_on_the_request_path,
            {"inference.asgi": "from routing import snapshot", "routing.snapshot": "import routing.models"},
        ),
        (
            database_on_the_request_path,
            {"inference.asgi": "import inference.endpoints.models", "inference.endpoints.models": ""},
        ),
    ],
)
def test_the_rule_lets_what_is_right_pass(rule, sources):
    assert list(rule(read(sources))) == []
