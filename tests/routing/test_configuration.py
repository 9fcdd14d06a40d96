"""What configuration files say beside providers, and what those of the source systems come to."""

from decimal import Decimal

import pytest

from providers import configuration, exporting
from providers.importers import documents, runs
from providers.importers.config_forms import BadConfiguration
from providers.models import ApiKey, ImportRun, PriceOverride, Provider, ProviderModel
from routing import building, decide, policies
from routing.types import RequestFacts
from tests.callers import caller
from tests.providers import registries
from tests.providers import seed_configurations as seeds
from tests.routing.second_connection import may_write

pytestmark = pytest.mark.django_db


def apply(text, **kwargs):
    return configuration.apply_document(text, label="test", write=True, **kwargs)


def codes(applied):
    return {(finding.code.name, finding.key) for finding in applied.findings}


def chosen(model="", **facts):
    decision = decide.decide(RequestFacts(model=model, **facts), building.build(), now=0.0)
    return [candidate.model.model_id for candidate in decision.candidates]


def stored(name):
    return policies.Policy.objects.get(name=name).document


OWN = """
version: 1
providers:
  local:
    provider_type: fake
    models: [a, b]
policies:
  quick:
    kind: alias
    description: The first one.
    targets: [{model: a}]
    fallbacks: [b]
    retries: {attempts: 2, delay_seconds: 0.5}
  everything:
    enabled: false
routing:
  max_cost_per_request: '0.25'
  breaker: {failure_threshold: 3}
prices:
  - model_prefix: a
    valid_from: 2026-01-01T00:00:00+00:00
    input_cost_per_million: '1.5'
  - provider: local
    model_prefix: a
    valid_from: 2026-01-01T00:00:00+00:00
    input_cost_per_million: '1'
    output_cost_per_million: '2'
    note: contract
"""


def test_a_file_of_ours_holds_policies_routing_and_prices():
    applied = apply(OWN)
    assert applied.exit_status == 0
    assert {(change.action, change.kind, change.name) for change in applied.changes if not change.provider_id} == {
        ("add", "policy", "quick"),
        ("add", "policy", "everything"),
        ("add", "settings", "routing"),
        ("add", "price", "*:a@2026-01-01T00:00:00+00:00"),
        ("add", "price", "local:a@2026-01-01T00:00:00+00:00"),
    }
    assert stored("quick")["retries"] == {"attempts": 2, "delay_seconds": 0.5}
    assert policies.RoutingSettings.load().max_cost_per_request == Decimal("0.25")
    assert PriceOverride.objects.get(provider=None).input_cost_per_million == Decimal("1.5")
    assert chosen("quick") == ["a", "b"]
    assert not apply(OWN).changes


def test_an_export_applied_to_an_empty_database_is_the_same_export():
    registries.build()
    apply(OWN)
    before = exporting.text()
    assert list(documents.parse(before)) == ["version", "providers", "prices", "policies", "routing"]
    for rows in (policies.Policy, policies.RoutingSettings, PriceOverride, Provider):
        rows.objects.all().delete()
    apply(before)
    keys = exporting.document()
    assert {**keys, "providers": {}} == {**documents.parse(before), "providers": {}}
    assert exporting.text() == before


@pytest.mark.django_db(transaction=True)
def test_no_trial_ends_while_a_file_is_laid_over_its_policy(monkeypatch):
    apply(OWN)
    full_clean, others = policies.Policy.full_clean, []

    def look_and_clean(row, *args, **kwargs):
        others.append(may_write(row))
        full_clean(row, *args, **kwargs)

    monkeypatch.setattr(policies.Policy, "full_clean", look_and_clean)
    assert apply(OWN.replace("targets: [{model: a}]", "targets: [{model: b}]")).exit_status == 0
    assert others == [False]


def test_what_a_file_does_not_name_of_a_policy_is_left_alone():
    apply(OWN)
    apply("version: 1\npolicies: {quick: {enabled: false}}")
    row = policies.Policy.objects.get(name="quick")
    assert (row.enabled, row.description, row.document["fallbacks"], row.version) == (False, "The first one.", ["b"], 1)
    apply("version: 1\npolicies: {quick: {targets: [b]}}")
    row.refresh_from_db()
    assert (row.document, row.version) == ({"targets": [{"model": "b"}], "strategy": "priority"}, 2)


def test_pruning_removes_the_policies_that_a_file_does_not_name():
    apply(OWN)
    applied = apply("version: 1\npolicies: {quick: {}}", prune=True)
    assert [(change.action, change.name) for change in applied.changes] == [("remove", "everything")]
    assert [row.name for row in policies.Policy.objects.all()] == ["quick"]
    assert Provider.objects.exists()
    assert PriceOverride.objects.exists()


def test_every_mistake_of_a_section_is_named_and_nothing_is_written():
    with pytest.raises(BadConfiguration) as caught:
        apply(
            "version: 1\npolicies: {a: {strategy: fastest}, b: {requirements: {tasks: x}}}\n"
            "routing: {retries: many, speed: 1}\nprices: [{model_prefix: a, input_cost_per_million: -1}]"
        )
    places = {problem.place for problem in caught.value.problems}
    assert {"policies.a.strategy", "policies.b.requirements.tasks", "routing.retries", "routing.speed"} < places
    assert "prices[0].input_cost_per_million" in places
    assert not policies.Policy.objects.exists()


def test_an_application_to_sections_can_be_undone():
    apply(OWN)
    before = exporting.text()
    applied = apply(
        "version: 1\npolicies: {quick: {targets: [b]}, new: {}}\nrouting: {retries: 4}\nprices: []", prune=True
    )
    assert exporting.text() != before
    run = ImportRun.objects.get(pk=applied.run_pk)
    result = runs.undo(runs.start(ImportRun.Kind.UNDO, "", actor="test", undoes=run))
    assert result.exit_status == 0
    assert exporting.text() == before


def test_an_undo_keeps_what_was_edited_since():
    apply(OWN)
    applied = apply("version: 1\npolicies: {quick: {targets: [b]}}")
    row = policies.Policy.objects.get(name="quick")
    row.document = {"targets": [{"model": "c"}]}
    row.save()
    run = ImportRun.objects.get(pk=applied.run_pk)
    result = runs.undo(runs.start(ImportRun.Kind.UNDO, "", actor="test", undoes=run))
    assert result.codes == {"edited_since": 1}
    assert stored("quick")["targets"] == [{"model": "c"}]


# --- Model policies and nodes ------------------------------------------------------------------------------------------------


def test_the_model_policies_and_nodes_of_the_guide_load_as_printed():
    assert apply(seeds.MODEL_POLICIES).exit_status == 0
    assert apply(seeds.NODE_REQUIREMENTS).exit_status == 0
    kinds = list(policies.Policy.objects.order_by("kind", "name").values_list("kind", "name"))
    assert kinds == [
        ("logical", "claude-sonnet"),
        ("logical", "gemini-2.5-pro"),
        ("node", "evaluator"),
        ("node", "search_perplexity"),
        ("node", "writer"),
    ]
    gemini = ProviderModel.objects.get(model_id="google/gemini-2.0-flash-exp")
    assert (gemini.input_cost_per_million, gemini.output_cost_per_million) == (Decimal("0.15"), Decimal("0.6"))
    assert (gemini.context_window, gemini.cost_tier) == (32000, "MEDIUM")
    assert gemini.capabilities == ["creative_writing", "long_context", "streaming", "tools"]
    assert gemini.provider.connection_params == {"base_url": "https://openrouter.ai/api/v1"}
    assert ApiKey.objects.get().secret.reveal() == "env:OPENROUTER_API_KEY"


@pytest.mark.parametrize("together", [True, False])
def test_the_guides_nodes_choose_their_known_models(together):
    files = [seeds.MODEL_POLICIES, seeds.NODE_REQUIREMENTS]
    for text in ["".join(files)] if together else files:
        apply(text)
    ApiKey.objects.all().delete()  # the variable is not set here, and a key that is missing takes its models out
    assert chosen("node/writer")[0] == "google/gemini-2.0-flash-exp"
    assert chosen("evaluator")[0] == "anthropic/claude-3.5-sonnet-20241022"
    assert chosen("search_perplexity") == []


def test_one_bad_entry_is_named_and_blocks_nothing_else():
    text = seeds.MODEL_POLICIES.replace("reasoning: true", "reasonning: true") + "  third:\n    provider: openrouter\n"
    text += "    provider_model_id: x/y\n    cost_tier: CHEAP\n"
    applied = apply(text)
    assert applied.exit_status == 2
    assert {row.name for row in policies.Policy.objects.all()} == {"gemini-2.5-pro"}
    told = {finding.key: finding.detail for finding in applied.findings if finding.code.name == "entry_refused"}
    assert "'reasonning' is no capability" in told["policies.claude-sonnet"]
    assert "'CHEAP' is none of LOW, MEDIUM, HIGH, PREMIUM" in told["policies.third"]


def test_a_model_goes_to_the_provider_of_its_type_that_is_there():
    Provider(provider_id="router", provider_type="openrouter", display_name="Ours", priority=7).save()
    apply(seeds.MODEL_POLICIES)
    provider = Provider.objects.get()
    assert (provider.provider_id, provider.display_name, provider.priority) == ("router", "Ours", 7)
    assert provider.models.count() == 2
    assert stored("claude-sonnet")["targets"][0]["provider"] == "router"


def test_the_address_of_openrouter_comes_from_its_variable(monkeypatch):
    monkeypatch.setenv("OPENROUTER_BASE_URL", "https://router.example/api/v1")
    apply(seeds.MODEL_POLICIES)
    assert Provider.objects.get().connection_params == {"base_url": "https://router.example/api/v1"}


# --- A bridge's file ---------------------------------------------------------------------------------------------------------


def test_the_bridges_first_file_loads_as_printed():
    applied = apply(seeds.ONE_PROVIDER)
    assert applied.exit_status == 0
    provider = Provider.objects.get()
    assert (provider.provider_id, provider.models.count()) == ("ollama_local", 3)
    embedding = provider.models.get(model_id="nomic-embed-text")
    assert (embedding.model_type, embedding.dimension, embedding.context_window) == ("embedding", 768, 8192)
    assert {name: stored(name)["targets"] for name in ("embedding", "chat_fast", "chat_smart")} == {
        "embedding": [{"model": "nomic-embed-text"}],
        "chat_fast": [{"model": "llama3.1:8b"}],
        "chat_smart": [{"model": "llama3.1:70b"}],
    }
    routing = policies.RoutingSettings.load()
    assert routing.max_cost_per_request == Decimal("0.1")
    assert routing.breaker == {"failure_threshold": 5, "open_seconds": 60, "success_threshold": 2}
    assert ("always_so", "routing.cost_aware") in codes(applied)
    assert chosen("chat_smart") == ["llama3.1:70b"]
    assert chosen("embedding", operation="embeddings") == ["nomic-embed-text"]


def test_the_bridges_second_file_loads_as_printed(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-proj-" + "Qm82xWv71Lk3")
    applied = apply(seeds.TWO_PROVIDERS)
    assert applied.exit_status == 0
    openai = Provider.objects.get(provider_id="openai_cloud")
    assert openai.connection_params == {}
    assert ApiKey.objects.get().secret.reveal() == "env:OPENAI_API_KEY"
    assert chosen(task="chat_small") == ["llama3.1:8b", "gpt-4o-mini"]
    assert chosen(task="chat_small", require_vision=True) == ["gpt-4o-mini"]
    view = building.build().providers["openai_cloud"]
    assert view.connection["base_url"] == "https://api.openai.com/v1"
    assert view.keys[0].secret.reveal() == "sk-proj-" + "Qm82xWv71Lk3"


def test_a_missing_variable_is_named_and_leaves_out_its_provider_only(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    applied = apply(seeds.TWO_PROVIDERS)
    assert applied.exit_status == 2
    assert [row.provider_id for row in Provider.objects.all()] == ["ollama_local"]
    (finding,) = [finding for finding in applied.findings if finding.code.name == "variable_missing"]
    assert (finding.key, "OPENAI_API_KEY is not set" in finding.detail) == ("providers[1]", True)


def test_a_model_that_is_listed_for_two_tasks_serves_both():
    text = seeds.ONE_PROVIDER.replace("llama3.1:70b\n        task", "llama3.1:8b\n        task")
    apply(text)
    assert ProviderModel.objects.get(model_id="llama3.1:8b").tasks == ["chat_small", "chat_smart"]
    assert chosen(task="chat_small") == chosen(task="chat_smart") == ["llama3.1:8b"]


def test_the_other_models_of_a_task_follow_the_default(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-proj-" + "Qm82xWv71Lk3")
    apply(seeds.TWO_PROVIDERS + "default_models: {chat_fast: gpt-4o-mini, chat_vision: gpt-4o}\n")
    assert chosen("chat_fast") == ["gpt-4o-mini", "llama3.1:8b"]
    assert chosen("chat_vision") == ["gpt-4o", "gpt-4o-mini"]


def test_a_variable_is_read_into_an_address_and_no_secret_into_a_plain_place(monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST_NAME", "ollama.internal")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-proj-" + "Qm82xWv71Lk3")
    monkeypatch.setenv("GATEWAY_SOMETHING", "x")
    text = "providers:\n- {id: a, provider_type: ollama, base_url: 'http://${OLLAMA_HOST_NAME}:${PORT_OF_IT:-11434}'}\n"
    text += "- {id: b, provider_type: ollama, base_url: 'http://x', description: '${OPENAI_API_KEY}'}\n"
    text += "- {id: c, provider_type: ollama, base_url: 'http://${GATEWAY_SOMETHING}'}\n"
    applied = apply(text)
    assert Provider.objects.get().connection_params == {"base_url": "http://ollama.internal:11434"}
    assert [
        (found.key, "Qm82" in found.detail) for found in applied.findings if found.code.name == "entry_refused"
    ] == [
        ("providers[1]", False),
        ("providers[2]", False),
    ]


# --- Variables ---------------------------------------------------------------------------------------------------------------


def test_a_node_demands_what_it_did_where_it_came_from():
    apply("nodes:\n  formatter:\n    required_capabilities: [streaming]\n  any:\n    max_cost_tier: PREMIUM\n")
    demands = stored("formatter")["requirements"]
    assert (demands["min_context_window"], demands["max_cost_tier"]) == (4000, "HIGH")
    assert stored("any")["requirements"]["max_cost_tier"] == "PREMIUM"


def test_the_seven_variables_of_kamiwaza_become_a_provider_and_its_aliases():
    applied = apply(seeds.KAMIWAZA)
    assert applied.exit_status == 0
    provider = Provider.objects.get()
    assert (provider.provider_id, provider.provider_type) == ("kamiwaza", "kamiwaza")
    assert provider.connection_params == {
        "base_url": "http://host.docker.internal:7777/api/",
        "verify_tls": False,
    }
    assert stored("default")["retries"] == {"attempts": 3, "delay_seconds": 5.0, "backoff": 1.0}
    for name in ("default", "gpt-5", "gpt-4o", "gpt-4"):
        assert chosen(name) == ["llama3", "mistral"]
    for name in ("gpt-5-mini", "gpt-4o-mini", "gpt-3.5-turbo"):
        assert chosen(name) == ["mistral"]
    assert ("always_so", "KAMIWAZA_STREAMING") in codes(applied)


def test_the_most_tokens_of_kamiwaza_limit_its_models():
    apply(seeds.KAMIWAZA + "MAX_COMPLETION_TOKENS=16000\n")
    assert set(ProviderModel.objects.values_list("model_id", "max_tokens")) == {("llama3", 16000), ("mistral", 16000)}


def test_the_variables_of_llama_cpp_become_heavy_and_light():
    applied = apply(seeds.LLAMA_CPP)
    assert applied.exit_status == 0
    provider = Provider.objects.get()
    assert provider.provider_type == "llama_cpp"
    assert provider.connection_params == {"context_size": 4096, "threads": 4, "gpu_layers": 30, "preload": True}
    assert {row.model_id: row.parameters["model_path"] for row in provider.models.all()} == {
        "qwen2.5-7b-instruct-q4_k_m": "models/qwen-7b/qwen2.5-7b-instruct-q4_k_m-00001-of-00002.gguf",
        "qwen-1.5b": "models/qwen-1.5b/model.gguf",
    }
    assert (chosen("heavy"), chosen("light")) == (["qwen2.5-7b-instruct-q4_k_m"], ["qwen-1.5b"])
    assert {place for code, place in codes(applied) if code == "no_place"} == {
        "CUDA_VISIBLE_DEVICES",
        "GGML_CUDA_FORCE_CUBLAS",
    }


def test_the_variables_of_openai_become_heavy_and_light_and_the_placeholder_is_warned_of():
    applied = apply(seeds.OPENAI)
    assert (applied.exit_status, ("placeholder", "OPENAI_API_KEY") in codes(applied)) == (2, True)
    assert not ApiKey.objects.exists()
    assert (stored("heavy")["targets"], stored("light")["targets"]) == (
        [{"model": "gpt-4", "provider": "openai"}],
        [{"model": "gpt-3.5-turbo", "provider": "openai"}],
    )


def test_a_real_key_of_a_variables_file_is_stored_encrypted():
    secret = "sk-proj-" + "Qm82xWv71Lk3"
    applied = apply(seeds.OPENAI.replace("sk-your-api-key-here", secret))
    assert ApiKey.objects.get().secret.reveal() == secret
    assert secret not in repr(applied)


def test_the_variables_of_transformers_become_heavy_and_light():
    applied = apply(seeds.TRANSFORMERS)
    provider = Provider.objects.get()
    assert provider.provider_type == "transformers"
    assert provider.connection_params == {"max_memory_gb": 8, "dtype": "float16"}
    assert stored("heavy")["targets"] == [{"model": "microsoft/DialoGPT-medium", "provider": "transformers_gpu"}]
    assert applied.written


def test_a_variable_of_0_leaves_the_number_to_the_engine():
    told = seeds.LLAMA_CPP.replace("MODEL_N_THREADS=4", "MODEL_N_THREADS=0")
    apply(told.replace("MODEL_GPU_LAYERS=30", "MODEL_GPU_LAYERS=0"))
    assert not {"threads", "gpu_layers"} & Provider.objects.get().connection_params.keys()


def test_a_number_type_that_torch_does_not_have_is_a_mistake():
    with pytest.raises(BadConfiguration, match="GPU_TORCH_DTYPE: 'int7' is none of: auto, float32, float16, bfloat16"):
        apply(seeds.TRANSFORMERS.replace("float16 ", "int7 "))


def test_an_unknown_backend_is_a_mistake_that_lists_the_three():
    with pytest.raises(BadConfiguration, match="'lama_cpp' is none of: llama_cpp, openai, transformers_gpu"):
        apply("MODEL_BACKEND=lama_cpp")


def test_a_path_of_no_file_is_a_mistake():
    with pytest.raises(BadConfiguration, match="MODEL_1B_PATH: the path of a file is needed"):
        apply("MODEL_BACKEND=llama_cpp\nMODEL_1B_PATH=//")


def test_the_bridges_old_variables_become_a_provider():
    applied = apply(seeds.BRIDGE_BEFORE)
    assert applied.exit_status == 0
    provider = Provider.objects.get()
    assert provider.connection_params == {"base_url": "http://localhost:11434"}
    assert chosen("chat_fast") == chosen("chat_smart") == ["llama3.1:8b"]
    assert chosen("embedding", operation="embeddings") == ["nomic-embed-text"]


# --- Files that rule, as the gateway's administrators see them ----------------------------------------------------------------


def test_a_reload_takes_an_edited_file_and_names_its_bad_entry(tmp_path, settings):
    files = {"policies.yaml": seeds.MODEL_POLICIES, "nodes.yaml": seeds.NODE_REQUIREMENTS}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    settings.GATEWAY_CONFIG_FILES = [str(tmp_path / name) for name in files]
    admin, url = caller("admin"), "/api/admin/gateway"
    assert admin.post(f"{url}/policies/reload").json()["success"] is True
    assert admin.get(f"{url}/policies").json().keys() == {"gemini-2.5-pro", "claude-sonnet"}
    edited = seeds.NODE_REQUIREMENTS.replace("min_context_window: 16000", "min_context_window: 20000")
    (tmp_path / "nodes.yaml").write_text(edited.replace("[streaming, creative_writing]", "[streaming, telepathy]"))
    told = admin.post(f"{url}/policies/reload").json()
    assert [(one["changes"], [found["place"] for found in one["findings"]]) for one in told["files"]] == [
        (0, []),
        (1, ["nodes.writer"]),
    ]
    nodes = admin.get(f"{url}/node-requirements").json()
    assert nodes["search_perplexity"]["min_context_window"] == 20000
    assert nodes["writer"]["required_capabilities"] == ["creative_writing", "streaming"]
    validation = admin.get(f"{url}/validate").content.decode()
    assert "nodes.writer: required_capabilities: 'telepathy' is no capability" in validation
