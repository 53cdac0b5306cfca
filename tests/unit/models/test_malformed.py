"""A fact of another type, sign or size than any model's is refused by its own name."""

from typing import Any

import pytest

from vllm_operator.errors import UnknownModel
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import architecture_from_config, relevant_facts
from vllm_operator.models.quantization import quantization_from_config
from vllm_operator.models.quantization.settings import layer_counts
from vllm_operator.models.reader import layer_number

QWEN_MOE = "Qwen/Qwen3-235B-A22B-FP8"
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True}


def config_of(model: str, **facts: Any) -> dict[str, Any]:
    found = {**catalogue.find(model).config, **facts}
    return {key: value for key, value in found.items() if value is not None}


def refused(config: dict[str, Any]) -> str:
    with pytest.raises(UnknownModel) as refusal:
        architecture_from_config(config)
    return refusal.value.field.removeprefix("spec.model.config.")


@pytest.mark.parametrize("kind", [["llama3"], {"a": 1}, 7])
def test_a_scaling_whose_type_is_no_word(kind: object):
    config = config_of("Qwen/Qwen3-4B", rope_scaling={"rope_type": kind, "factor": 2.0})
    assert refused(config) == "rope_scaling"


@pytest.mark.parametrize("layers", [7, "x", [[1]], ["1"], [-1]])
def test_numbers_of_dense_layers_that_are_none(layers: object):
    assert refused(config_of(QWEN_MOE, mlp_only_layers=layers)) == "mlp_only_layers"


@pytest.mark.parametrize(
    ("model", "number", "active"),
    [
        (QWEN_MOE, "num_experts", "num_experts_per_tok"),
        ("openai/gpt-oss-20b", "num_local_experts", "num_experts_per_tok"),
        ("deepseek-ai/DeepSeek-V3", "n_routed_experts", "num_experts_per_tok"),
        ("deepseek-ai/DeepSeek-V4-Flash", "n_routed_experts", "num_experts_per_tok"),
        ("ai21labs/AI21-Jamba-1.5-Mini", "num_experts", "num_experts_per_tok"),
    ],
)
def test_fewer_experts_than_a_token_goes_through(model: str, number: str, active: str):
    assert refused(config_of(model, **{number: 1})) == active


def test_states_in_a_type_that_is_no_word():
    text = {**catalogue.find("Qwen/Qwen3.5-27B").config["text_config"], "mamba_ssm_dtype": ["x"]}
    config = config_of("Qwen/Qwen3.5-27B", text_config=text)
    assert refused(config) == "text_config.mamba_ssm_dtype"


def test_an_indexer_without_the_compressed_queries_that_it_reads():
    assert refused(config_of("deepseek-ai/DeepSeek-V3.2", q_lora_rank=None)) == "q_lora_rank"


def test_more_layers_that_share_a_cache_than_there_are():
    model = "google/gemma-4-E2B-it-qat-w4a16-ct"
    text = {**catalogue.find(model).config["text_config"], "num_kv_shared_layers": 4000}
    assert refused(config_of(model, text_config=text)) == "text_config.num_kv_shared_layers"


@pytest.mark.parametrize("block", [[1], 7, "x"])
def test_a_block_that_is_no_object(block: object):
    model = "nvidia/Llama-3_3-Nemotron-Super-49B-v1_5-FP8"
    blocks = [block, *catalogue.find(model).config["block_configs"][1:]]
    assert refused(config_of(model, block_configs=blocks)) == "block_configs[0]"


@pytest.mark.parametrize("heads", [{"a": 1}, "4", 0, 10**9])
def test_heads_of_a_layer_that_are_no_number(heads: object):
    model = "poolside/Laguna-S-2.1-INT4"
    listed = [heads, *catalogue.find(model).config["num_attention_heads_per_layer"][1:]]
    config = config_of(model, num_attention_heads_per_layer=listed)
    assert refused(config) == "num_attention_heads_per_layer"


@pytest.mark.parametrize("layers", [10**12, -1, 0, 2**63])
def test_layers_are_counted_within_bounds_before_anything_is_made_of_them(layers: int):
    with pytest.raises(UnknownModel):
        layer_counts({"num_hidden_layers": layers})


def test_facts_with_layers_that_no_model_has_are_shown_as_they_are():
    config = {"quantization_config": GPTQ, "num_hidden_layers": 10**12}
    assert relevant_facts(config) == config


@pytest.mark.parametrize("draft", [10**6, -1])
def test_more_draft_layers_than_any_model_has(draft: int):
    config = config_of("deepseek-ai/DeepSeek-V3", num_nextn_predict_layers=draft)
    assert refused(config) == "num_nextn_predict_layers"


@pytest.mark.parametrize(("length", "taken"), [(512, True), (513, False)])
def test_an_expression_of_512_characters_is_matched_and_a_longer_one_refused(
    length: int, taken: bool
):
    pattern = "re:" + "x" * length
    config = {"quantization_config": {"quant_method": "fp8", "ignored_layers": [pattern]}}
    if taken:
        assert quantization_from_config(config).method == "fp8"
    else:
        with pytest.raises(UnknownModel, match="longer than 512 characters"):
            quantization_from_config(config)


@pytest.mark.parametrize(
    "pattern",
    [
        "re:(a+)+b",  # repeats of repeats
        "re:(a|a)*b",
        "re:" + "a?" * 40 + "a" * 40,
        "re:" + "(a|a)" * 40,
        "re:" + "x" * 1000,
        "re:a{99999999999}",
        "re:(",
    ],
)
def test_expressions_that_take_for_ever_or_are_none(pattern: str):
    config = {"quantization_config": {"quant_method": "fp8", "ignored_layers": [pattern]}}
    with pytest.raises(UnknownModel) as refusal:
        quantization_from_config(config)
    assert refusal.value.field == "spec.model.config.quantization_config.ignore"


@pytest.mark.parametrize(
    "pattern",
    [
        r"re:.*mlp\.(gate|up|gate_up|down)_proj.*",
        r"re:model.layers.92.(eh_proj|shared_head.*|embed_tokens)",
        r"re:^model\.layers\.(?:[0-9]|[1-3][0-9])\.(self_attn|linear_attn)\.[a-z]_proj$",
        r"re:.*\.layers\.\d+\.mlp\.experts\.\d+\..*_proj.*",
    ],
)
def test_expressions_of_real_checkpoints_are_read(pattern: str):
    config = {"quantization_config": {"quant_method": "fp8", "ignored_layers": [pattern]}}
    assert quantization_from_config(config).method == "fp8"


@pytest.mark.parametrize("name", ["model.layers.²", "model.layers." + "1" * 50 + ".mlp"])
def test_numbers_of_layers_that_no_layer_has_name_no_layer(name: str):
    config = {"quantization_config": {"quant_method": "fp8", "ignored_layers": [name]}}
    found = quantization_from_config(config)
    assert found.scheme("mlp.up_proj", 2) is not None


@pytest.mark.parametrize(
    ("text", "number"), [("7", 7), ("0012", 12), ("²", None), ("1234567", None), ("", None)]
)
def test_the_number_of_a_layer_is_a_few_plain_digits(text: str, number: int | None):
    assert layer_number(text) == number


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("group_size", 10**30),
        ("bits", -(10**9)),
        ("modules_in_block_to_quantize", 7),
    ],
)
def test_settings_of_a_quantisation_are_bounded(key: str, value: int):
    with pytest.raises(UnknownModel) as refusal:
        quantization_from_config({"quantization_config": {**GPTQ, key: value}})
    assert refusal.value.field.endswith(key)


def test_groups_of_less_than_one_element():
    settings = {"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": -1}
    with pytest.raises(UnknownModel):
        quantization_from_config({"quantization_config": settings})
