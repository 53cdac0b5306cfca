"""Facts that a user gives are read, and what cannot be read is pointed to."""

import pytest

from vllm_operator.api.v1alpha1 import Model
from vllm_operator.errors import IllegalPin, UnknownModel
from vllm_operator.models.facts import ModelFacts, facts_from_inline, facts_from_json, pools


def test_inline_facts_carry_the_given_size():
    model = Model(id="a/b", config={"hidden_size": 8}, weight_bytes=2_000_000)
    assert facts_from_inline(model) == ModelFacts({"hidden_size": 8}, 2_000_000, "inline")


def test_an_empty_inline_config_is_no_config():
    with pytest.raises(UnknownModel):
        facts_from_inline(Model(id="a/b", config={}))


def test_json_of_a_config_map_is_read():
    assert facts_from_json('{"hidden_size": 8}', "configMap").config == {"hidden_size": 8}


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "NaN"])
def test_text_that_is_no_json_object_points_to_the_config_map(text: str):
    with pytest.raises(IllegalPin) as refusal:
        facts_from_json(text, "configMap")
    assert refusal.value.field == "spec.model.configMapRef"


def test_what_the_hub_sends_is_not_the_users_fault():
    with pytest.raises(UnknownModel):
        facts_from_json("<html>", "hub")


def test_facts_survive_a_round_trip_through_json():
    facts = ModelFacts({"hidden_size": 8, "eos_token_id": 2}, None, "hub")
    restored = ModelFacts.from_json_object(facts.to_json_object())
    assert restored == ModelFacts({"hidden_size": 8}, None, "hub")


@pytest.mark.parametrize(
    ("modules", "found"),
    [
        ('[{"type": "sentence_transformers.models.Pooling"}]', True),
        ('[{"type": "sentence_transformers.models.Normalize"}]', False),
        ("[]", False),
        ('["Pooling"]', False),
        ('{"type": "sentence_transformers.models.Pooling"}', False),
        ("<html>", False),
    ],
)
def test_a_pooling_module_makes_an_embedding_model(modules: str, found: bool):
    assert pools(modules) is found
