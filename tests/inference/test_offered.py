from __future__ import annotations

from inference import offered
from routing.types import Snapshot
from tests.inference import registry


def held(**more: object) -> Snapshot:
    near, far = registry.provider("near", priority=1), registry.provider("far", priority=2)
    models = [
        registry.model(near, "gpt-a", capabilities=frozenset({"chat", "vision"})),
        registry.model(far, "gpt-a"),
        registry.model(far, "gpt-b"),
        registry.model(far, "embed-c", capabilities=frozenset({"embeddings"})),
    ]
    documents = {"fast": {"targets": ["gpt-b"]}, "writer": {"targets": ["gpt-a"]}}
    return registry.snapshot(*models, documents=documents, kinds={"writer": "node"}, **more)


def names(words: str = "", snapshot: Snapshot | None = None, most: int = 10, **key: object) -> list[tuple[str, str]]:
    identity = registry.key_view(**key).identity
    return [(one.group, one.name) for one in offered.for_chat(identity, snapshot or held(), words, most).names]


def test_what_decides_by_itself_comes_first_and_what_cannot_chat_not_at_all() -> None:
    assert names() == [("policy", "fast"), ("node", "writer"), ("model", "gpt-a"), ("model", "gpt-b")]


def test_single_routes_are_found_by_those_who_look_for_them() -> None:
    assert names("far gpt") == [("route", "far/gpt-a"), ("route", "far/gpt-b")]


def test_a_key_is_offered_what_it_may_ask_for() -> None:
    assert names(allowed_models=("gpt-b", "fast")) == [("policy", "fast"), ("model", "gpt-b")]
    assert names(allowed_policies=("writer",)) == [("node", "writer")]
    assert names(allowed_providers=("near",)) == [("node", "writer"), ("model", "gpt-a")]


def test_what_does_not_fit_is_counted() -> None:
    told = offered.for_chat(None, held(), "", 1)
    assert ([one.name for one in told.names], told.more) == (["fast", "writer", "gpt-a"], 1)


def test_a_policy_serves_an_operation_by_models_that_are_what_it_demands() -> None:
    picture = registry.model(registry.provider("near"), "paint", model_type="image", capabilities=frozenset())
    documents = {
        "any": {"targets": ["paint"]},
        "chats": {"targets": ["paint"], "requirements": {"capabilities": ["chat"]}},
    }
    assert offered.for_operation("images", None, registry.snapshot(picture, documents=documents), 5) == ["paint", "any"]


def test_a_name_sees_when_one_that_may_answer_does() -> None:
    snapshot = held()
    assert {name: offered.named(name, None, snapshot).sees for name in ("gpt-a", "writer", "fast", "gpt-b")} == {
        "gpt-a": True,
        "writer": True,
        "fast": False,
        "gpt-b": False,
    }
    assert offered.named("nothing", None, snapshot) is None
