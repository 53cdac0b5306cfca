"""A config.json is understood whole or refused by the name of the fact."""

import json
from importlib.resources import files
from typing import Any

import pytest

from vllm_operator.errors import UnknownModel
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import architecture_from_config, relevant_facts
from vllm_operator.models.families import FAMILIES
from vllm_operator.models.shapes import AttentionCache, LatentCache, StateCache

LLAMA = dict(catalogue.find("meta-llama/Llama-3.1-8B-Instruct").config)
QWEN3 = dict(catalogue.find("Qwen/Qwen3-0.6B").config)
ENTRIES = json.loads(
    files("vllm_operator.models").joinpath("catalogue.json").read_text(encoding="utf-8")
)["models"]


def refused_fact(config: dict[str, Any]) -> str:
    with pytest.raises(UnknownModel) as refusal:
        architecture_from_config(config)
    return refusal.value.field.removeprefix("spec.model.config.")


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["id"])
def test_the_parameters_of_a_catalogued_model_are_those_that_were_published(entry: dict):
    assert architecture_from_config(entry["config"]).parameters == entry["parameters"]


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", 8_030_261_248),
        ("meta-llama/Llama-3.1-70B-Instruct", 70_553_706_496),
        ("Qwen/Qwen2.5-7B-Instruct", 7_615_616_512),
        ("Qwen/Qwen3-8B", 8_190_735_360),
        ("Qwen/Qwen3-0.6B", 596_049_920),
        ("facebook/opt-125m", 125_239_296),
    ],
)
def test_parameter_counts_agree_with_the_model_cards(model: str, parameters: int):
    assert architecture_from_config(catalogue.find(model).config).parameters == parameters


def test_an_explicit_head_dim_wins_over_hidden_size_by_heads():
    assert architecture_from_config(QWEN3).kinds[0].query_dim == 128
    assert QWEN3["hidden_size"] // QWEN3["num_attention_heads"] == 64


def test_tied_embeddings_count_once():
    untied = architecture_from_config({**QWEN3, "tie_word_embeddings": False})
    tied = architecture_from_config({**QWEN3, "tie_word_embeddings": True})
    assert untied.parameters - tied.parameters == 151936 * 1024


def test_a_missing_architectures_list_is_made_up_for_by_model_type():
    config = {key: value for key, value in LLAMA.items() if key != "architectures"}
    assert architecture_from_config(config).name == "LlamaForCausalLM"


def test_llama_without_key_value_heads_has_one_for_each_head():
    config = {key: value for key, value in LLAMA.items() if key != "num_key_value_heads"}
    assert architecture_from_config(config).key_value_heads == 32


def test_yarn_multiplies_the_original_positions():
    scaling = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    assert architecture_from_config({**LLAMA, "rope_scaling": scaling}).context_length == 131072


def test_linear_scaling_multiplies_the_positions():
    config = {**LLAMA, "max_position_embeddings": 4096}
    config["rope_scaling"] = {"type": "linear", "factor": 4.0}
    assert architecture_from_config(config).context_length == 16384


def test_llama3_scaling_is_in_the_positions_already():
    assert architecture_from_config(LLAMA).context_length == 131072


def test_rope_parameters_are_the_newer_name_of_the_scaling():
    config = {key: value for key, value in LLAMA.items() if key != "rope_scaling"}
    config["max_position_embeddings"] = 4096
    config["rope_parameters"] = {"rope_type": "dynamic", "factor": 2.0}
    assert architecture_from_config(config).context_length == 8192


def test_an_unused_sliding_window_is_no_obstacle():
    config = {**QWEN3, "sliding_window": 4096, "use_sliding_window": False}
    assert architecture_from_config(config).layers == 28


def test_a_window_that_no_request_outgrows_is_no_obstacle():
    config = {**LLAMA, "architectures": ["MistralForCausalLM"], "sliding_window": 131072}
    assert architecture_from_config(config).name == "MistralForCausalLM"


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"architectures": ["NeverHeardOfForCausalLM"]}, "architectures"),
        ({"architectures": None, "model_type": "never_heard_of"}, "architectures"),
        ({"architectures": "LlamaForCausalLM"}, "architectures"),
        ({"quantization_config": {"quant_method": "exl3"}}, "quantization_config.quant_method"),
        ({"num_local_experts": 8}, "num_local_experts"),
        ({"kv_lora_rank": 512}, "kv_lora_rank"),
        ({"vision_config": {"depth": 32}}, "vision_config"),
        ({"layer_types": ["sliding_attention", "full_attention"]}, "layer_types"),
        ({"layer_types": ["chunked_attention"] * 32}, "layer_types"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder"),
        ({"is_causal": False}, "is_causal"),
        ({"runner": "draft"}, "runner"),
        ({"architectures": ["BertModel"]}, "architectures"),
        ({"hidden_size": None}, "hidden_size"),
        ({"hidden_size": "4096"}, "hidden_size"),
        ({"hidden_size": True}, "hidden_size"),
        ({"hidden_size": 0}, "hidden_size"),
        ({"hidden_size": 10**30}, "hidden_size"),
        ({"num_key_value_heads": 7}, "num_key_value_heads"),
        ({"hidden_size": 4097}, "head_dim"),
        ({"attention_bias": "no"}, "attention_bias"),
        ({"torch_dtype": "int8"}, "torch_dtype"),
        ({"partial_rotary_factor": 2}, "partial_rotary_factor"),
        ({"rope_scaling": "yarn"}, "rope_scaling"),
        ({"rope_scaling": {"rope_type": "unheard-of"}}, "rope_scaling"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": -1}}, "rope_scaling.factor"),
    ],
)
def test_a_config_that_is_not_understood_is_refused_by_the_name_of_the_fact(
    change: dict, fact: str
):
    assert refused_fact({**LLAMA, **change}) == fact


@pytest.mark.parametrize("fact", ["vocab_size", "num_hidden_layers", "max_position_embeddings"])
def test_a_missing_fact_is_named(fact: str):
    assert refused_fact({key: value for key, value in LLAMA.items() if key != fact}) == fact


def test_facts_that_mean_nothing_when_they_are_empty_are_no_obstacle():
    config = {**LLAMA, "quantization_config": None, "num_experts": 0, "is_encoder_decoder": False}
    assert architecture_from_config(config).layers == 32


def test_facts_without_influence_are_not_kept():
    kept = relevant_facts({**LLAMA, "eos_token_id": 2, "head_dim": None})
    assert kept == LLAMA


def test_a_pooled_model_has_no_output_head():
    pooled = architecture_from_config({**LLAMA, "runner": "pooling"})
    generating = architecture_from_config({**LLAMA, "runner": "generate"})
    assert pooled.pooling
    assert pooled.parameters == generating.parameters - 128256 * 4096


@pytest.mark.parametrize("name", ["LlamaForSequenceClassification", "LlamaModel"])
def test_an_architecture_that_pools_is_the_generating_one_without_its_head(name: str):
    pooled = architecture_from_config({**LLAMA, "architectures": [name]})
    assert (pooled.pooling, pooled.head, pooled.layers) == (True, None, 32)


def test_a_model_without_a_head_is_not_one_with_tied_embeddings():
    assert not architecture_from_config({**LLAMA, "runner": "pooling"}).tied_embeddings


def caches(model: str) -> set[type]:
    return {
        type(kind.cache) for kind in architecture_from_config(catalogue.find(model).config).kinds
    }


def test_a_quantised_config_is_cut_without_a_change_of_its_bytes():
    config = dict(catalogue.find("openai/gpt-oss-20b").config)
    once = relevant_facts(config)
    assert architecture_from_config(once).stored_bytes == 13_761_264_768


def test_gpt_oss_has_as_many_sliding_layers_as_full_ones():
    model = architecture_from_config(catalogue.find("openai/gpt-oss-120b").config)
    windows = [kind.cache.window for kind, count in model.counts for _ in range(count)]
    assert sorted(windows, key=str) == [128] * 18 + [None] * 18


def test_deepseek_keeps_a_latent_state_of_576_elements():
    model = architecture_from_config(catalogue.find("deepseek-ai/DeepSeek-V3").config)
    assert {kind.cache for kind in model.kinds} == {LatentCache(512, 64)}


def test_sparse_attention_keeps_the_indexers_keys_besides():
    model = architecture_from_config(catalogue.find("deepseek-ai/DeepSeek-V3.2").config)
    assert {kind.cache for kind in model.kinds} == {LatentCache(512, 64, 128)}


def test_hybrids_have_recurrent_and_attending_layers():
    assert caches("Qwen/Qwen3-Next-80B-A3B-Instruct") == {StateCache, AttentionCache}
    assert caches("ai21labs/AI21-Jamba-1.5-Mini") == {StateCache, AttentionCache}


def test_layers_that_read_another_layers_cache_keep_nothing():
    model = architecture_from_config(catalogue.find("google/gemma-4-E2B").config)
    assert sum(count for kind, count in model.counts if kind.cache is None) == 20


def test_layers_without_attention_keep_nothing():
    model = architecture_from_config(
        catalogue.find("nvidia/Llama-3_3-Nemotron-Super-49B-v1_5-FP8").config
    )
    assert 0 < sum(count for kind, count in model.counts if kind.cache is None) < model.layers


def test_draft_layers_are_counted_apart():
    model = architecture_from_config(catalogue.find("deepseek-ai/DeepSeek-V3").config)
    assert model.parameters == pytest.approx(671_026_404_352, rel=1e-7)
    assert model.draft_parameters > 10**10


def test_equal_configs_are_read_once():
    assert architecture_from_config(dict(LLAMA)) is architecture_from_config(dict(LLAMA))


def test_every_family_has_a_label():
    assert all(family.label for family in FAMILIES.values())
