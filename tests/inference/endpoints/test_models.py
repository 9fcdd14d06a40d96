import orjson
import pytest

from inference.endpoints import models
from inference.errors import ModelNotFound
from tests.inference import registry

POLICIES = {"p": {"targets": ["a"]}, "q": {"targets": ["b"]}, "b": {"targets": ["azure/b"]}}
HELD = registry.snapshot(
    registry.model(registry.provider("openai"), "a"),
    registry.model(registry.provider("azure"), "b"),
    documents=POLICIES,
)


def listed(**limits):
    identity = registry.key_view(**limits).identity
    told = orjson.loads(models.listing(identity, HELD))["data"]
    for one in told:
        assert orjson.loads(models.one(one["id"], identity, HELD))["id"] == one["id"]
    return {one["id"] for one in told}


@pytest.mark.parametrize(
    ("limits", "names"),
    [
        ({}, {"a", "b", "p", "q"}),
        ({"allowed_policies": ("p",)}, {"p"}),
        ({"allowed_policies": ("policy/*",)}, {"p", "q", "b"}),
        ({"allowed_policies": ("p",), "allowed_models": ("a",)}, {"a", "p"}),
        ({"allowed_policies": ("p",), "allowed_models": ("b",)}, {"p"}),
        ({"allowed_providers": ("azure",)}, {"b", "q"}),
        ({"allowed_models": ("a",)}, {"a", "p"}),
        ({"allowed_policies": ()}, set()),
    ],
)
def test_a_key_is_told_of_what_it_may_send_alone(limits, names):
    assert listed(**limits) == names


@pytest.mark.parametrize("name", ["a", "openai/a", "q", "policy/q", "b", "nothing"])
def test_what_a_key_may_not_send_does_not_exist(name):
    with pytest.raises(ModelNotFound):
        models.one(name, registry.key_view(allowed_policies=("p",)).identity, HELD)
