import pytest

from providers.importers.env_forms import model_of
from providers.importers.foreign_forms import Refused, expanded, per_million


def test_variables_are_replaced_wherever_they_stand():
    told = {"url": "http://${HOST}:${PORT:-80}/", "list": ["${HOST}", 1], "plain": "$HOST"}
    assert expanded(told, {"HOST": "a"}) == {"url": "http://a:80/", "list": ["a", 1], "plain": "$HOST"}


def test_a_secrets_variable_stays_to_become_a_reference():
    assert expanded({"api_key": "${KEY}"}, {"KEY": "sk-1"}, {"api_key"}) == {"api_key": "${KEY}"}


def test_every_missing_variable_is_named():
    with pytest.raises(Refused) as caught:
        expanded(["${ONE}", {"api_key": "${TWO}"}, "${ONE}"], {}, {"api_key"})
    assert [sentence.split()[3] for sentence in caught.value.sentences] == ["ONE", "TWO"]
    assert caught.value.code.name == "variable_missing"


@pytest.mark.parametrize("name", ["GATEWAY_ENCRYPTION_KEYS", "DATABASE_URL", "REDIS_URL", "PGPASSWORD", "MY_PASSWORD"])
def test_the_gateways_own_variables_and_secrets_are_not_read_into_a_file(name):
    with pytest.raises(Refused) as caught:
        expanded("${" + name + "}", {name: "value-of-it"})
    assert "value-of-it" not in str(caught.value)


@pytest.mark.parametrize(
    ("told", "price"), [(0.00015, "0.15"), ("0.0006", "0.6"), (0, "0"), (None, None), (1e-7, "0.0001")]
)
def test_a_price_per_thousand_is_multiplied_exactly(told, price):
    assert per_million(told, "input_cost_per_1k") == price


@pytest.mark.parametrize("told", [-1, "much", True, float("inf")])
def test_a_price_that_is_none_is_refused(told):
    with pytest.raises(Refused, match="input_cost_per_1k"):
        per_million(told, "input_cost_per_1k")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("models/qwen-7b/qwen2.5-7b-instruct-q4_k_m-00001-of-00002.gguf", "qwen2.5-7b-instruct-q4_k_m"),
        ("models/qwen-1.5b/model.gguf", "qwen-1.5b"),
        ("C:\\models\\tiny.GGUF", "tiny"),
        ("model.gguf", "model"),
    ],
)
def test_a_model_file_gives_its_model_a_name(path, name):
    assert model_of(path) == name
