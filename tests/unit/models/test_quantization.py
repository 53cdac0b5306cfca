"""Every format of ``quantization_config`` in the field is read; what is not known is refused."""

from typing import Any

import pytest

from vllm_operator.errors import UnknownModel
from vllm_operator.models.quantization import (
    METHODS,
    QUANTIZATION_KEYS,
    Quantization,
    quantization_from_config,
    relevant_quantization,
    with_hf_quant_config,
)

AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True, "desc_act": True}
BLOCK_FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
MXFP4 = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]}
NF4 = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_use_double_quant": True}
AUTO_ROUND = {"quant_method": "auto-round", "bits": 4, "group_size": 128, "sym": True}
INT4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": True}
FP8 = {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True}
NVFP4 = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}
TOKENS = {"num_bits": 8, "type": "float", "strategy": "token", "dynamic": True}


def read(settings: dict[str, Any], **config: Any) -> Quantization:
    return quantization_from_config({**config, "quantization_config": settings})


def modelopt(algorithm: str, *ignore: str, **settings: Any) -> dict[str, Any]:
    return {
        "quant_method": "modelopt",
        "quant_algo": algorithm,
        "ignore": list(ignore),
        **settings,
    }


def compressed(
    weights: dict[str, Any],
    *ignore: str,
    inputs: dict[str, Any] | None = None,
    targets: tuple[str, ...] = ("Linear",),
    storage: str = "pack-quantized",
) -> dict[str, Any]:
    group = {"weights": weights, "input_activations": inputs, "targets": list(targets)}
    return {
        "quant_method": "compressed-tensors",
        "format": storage,
        "config_groups": {"group_0": group},
        "ignore": list(ignore),
    }


def name_of(
    quantization: Quantization, module: str, layer: int | None = 0, *, expert: bool = False
) -> str | None:
    scheme = quantization.scheme(module, layer, expert=expert)
    return scheme.name if scheme else None


def bits(settings: dict[str, Any], module: str = "mlp.down_proj", *, expert: bool = False) -> float:
    """Bits for each element of a large matrix."""
    scheme = read(settings).scheme(module, 0, expert=expert)
    assert scheme is not None
    return scheme.bytes(8192, 8192) * 8 / 8192**2


def test_a_config_without_quantisation_keeps_every_matrix_in_full() -> None:
    assert quantization_from_config({"hidden_size": 1}).method is None


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (AWQ, 4 + 20 / 128),
        (GPTQ, 4 + 16 / 128),
        ({**GPTQ, "sym": False}, 4 + 20 / 128),
        ({**GPTQ, "group_size": -1}, 4 + 16 / 8192),
        (AUTO_ROUND, 4 + 16 / 128),
        (NF4, 4.5),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, 8 + 32 / 8192),
        (BLOCK_FP8, 8 + 32 / 128**2),
        ({"quant_method": "fp8", "activation_scheme": "static"}, 8),
        ({"quant_method": "fbgemm_fp8", "modules_to_not_convert": []}, 8 + 32 / 8192),
        (compressed(INT4), 4.5),
        (compressed({**INT4, "symmetric": False}), 4 + 20 / 32),
        (compressed({**INT4, "num_bits": 8}), 8.5),
        (compressed(FP8, inputs=TOKENS, storage="float-quantized"), 8 + 32 / 8192),
        (compressed(NVFP4, inputs=NVFP4, storage="nvfp4-pack-quantized"), 4.5),
        (modelopt("FP8"), 8),
        (modelopt("NVFP4"), 4.5),
        (modelopt("MXFP8"), 8.25),
        ({"quant_method": "mxfp8"}, 8.25),
    ],
)
def test_an_element_takes_the_bits_of_its_format(settings: dict[str, Any], expected: float) -> None:
    assert bits(settings) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (AWQ, "16bit"),
        (BLOCK_FP8, "fp8"),
        (compressed(FP8, storage="float-quantized"), "16bit"),
        (compressed(FP8, inputs=TOKENS, storage="float-quantized"), "fp8"),
        (
            compressed(
                {**INT4, "num_bits": 8, "strategy": "channel"},
                inputs={**TOKENS, "type": "int"},
                storage="int-quantized",
            ),
            "int8",
        ),
        (compressed(NVFP4, inputs=NVFP4, storage="nvfp4-pack-quantized"), "fp4"),
        (compressed(NVFP4, storage="nvfp4-pack-quantized"), "16bit"),
        (modelopt("NVFP4"), "fp4"),
        (modelopt("NVFP4", config_groups={"g": {"input_activations": None}}), "16bit"),
        (modelopt("W4A16_NVFP4"), "16bit"),
    ],
)
def test_a_scheme_says_what_it_multiplies_with(settings: dict[str, Any], expected: str) -> None:
    scheme = read(settings).scheme("mlp.down_proj", 0)
    assert scheme is not None
    assert scheme.compute == expected


def test_an_awq_checkpoint_of_qwen_7b_stores_as_many_bytes_as_its_tensors_have() -> None:
    hidden, key_value, intermediate, layers, vocabulary = 3584, 512, 18944, 28, 152064
    quantization = read(AWQ)
    shapes = {
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.k_proj": (hidden, key_value),
        "self_attn.v_proj": (hidden, key_value),
        "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (hidden, intermediate),
        "mlp.up_proj": (hidden, intermediate),
        "mlp.down_proj": (intermediate, hidden),
    }
    total = 2 * vocabulary * hidden * 2 + hidden * 2
    total += layers * 2 * (hidden + 2 * key_value + 2 * hidden)
    for layer in range(layers):
        for module, (inputs, outputs) in shapes.items():
            scheme = quantization.scheme(module, layer)
            assert scheme is not None
            total += scheme.bytes(inputs, outputs)
    assert total == 5_570_747_392


def test_the_experts_of_gpt_oss_are_padded_as_the_kernels_want_them() -> None:
    scheme = read(MXFP4).scheme("mlp.experts.down_proj", 0, expert=True)
    assert scheme is not None
    assert scheme.bytes(2880, 2880) == 2944 * 3072 * 4.25 / 8


def test_the_checkpoint_of_gpt_oss_has_no_padding() -> None:
    scheme = read(MXFP4).scheme("mlp.experts.down_proj", 0, expert=True)
    assert scheme is not None
    assert scheme.bytes(2880, 2880, padded=False) == 2880 * 2880 * 4.25 / 8


def test_mxfp4_quantises_routed_experts_only() -> None:
    assert name_of(read(MXFP4), "mlp.down_proj") is None


@pytest.mark.parametrize(
    "settings", [AWQ, GPTQ, BLOCK_FP8, NF4, AUTO_ROUND, MXFP4, compressed(INT4)]
)
def test_the_head_stays_in_full_unless_the_config_says_otherwise(settings: dict[str, Any]) -> None:
    assert name_of(read(settings), "lm_head", None) is None


@pytest.mark.parametrize(
    "settings",
    [
        {**AWQ, "lm_head": True},
        {**GPTQ, "lm_head": True},
        modelopt("FP8"),
        compressed(INT4, targets=("re:.*lm_head",)),
    ],
)
def test_a_head_that_the_config_quantises_is_quantised(settings: dict[str, Any]) -> None:
    assert name_of(read(settings), "lm_head", None) is not None


@pytest.mark.parametrize("settings", [AWQ, GPTQ, AUTO_ROUND])
def test_integer_methods_leave_the_vision_tower_in_full(settings: dict[str, Any]) -> None:
    assert name_of(read(settings), "visual.blocks.attn.qkv", None) is None


@pytest.mark.parametrize(
    "entry",
    [
        "model.layers.3.self_attn.q_proj",
        "model.language_model.layers.3.self_attn.q_proj",
        "language_model.model.layers.3.self_attn.q_proj",
        "backbone.layers.3.self_attn.q_proj",
        "model.layers.3.self_attn",
        "model.layers.3",
        "model.layers.3.self_attn.qkv_proj",
        "model.layers.*.self_attn",
        "self_attn",
        "*.self_attn*",
        "*.q_proj",
        "model.layers.3.*",
        "model.layers.3*",
        "re:.*self_attn.*",
        "re:.*layers\\.3\\..*",
        "re:model.layers.3.self_attn.*",
        "re:^model\\.language_model\\.layers\\.(1|3)\\.self_attn.*",
    ],
)
def test_a_module_that_a_list_names_in_any_spelling_stays_in_full(entry: str) -> None:
    quantization = read(compressed(INT4, entry))
    assert name_of(quantization, "self_attn.q_proj", 3) is None


@pytest.mark.parametrize(
    "entry",
    [
        "model.layers.30.self_attn.q_proj",
        "model.layers.0.mlp.gate",
        "mlp.gate",
        "gate",
        "model.layers.2*",
        "vision_tower.layers.3.mlp.gate_proj",
        "mtp.layers.3*",
        "re:.*mlp.gate$",
        "re:^mtp.*",
        "re:model.layers.13.mlp.*",
    ],
)
def test_a_module_that_a_list_does_not_name_is_quantised(entry: str) -> None:
    assert name_of(read(compressed(INT4, entry)), "mlp.gate_proj", 3) == "int4"


def test_a_fused_matrix_stays_in_full_where_its_parts_are_listed() -> None:
    entries = [f"model.layers.0.self_attn.{part}_proj" for part in "qkv"]
    quantization = read({**BLOCK_FP8, "modules_to_not_convert": entries})
    assert name_of(quantization, "self_attn.qkv_proj") is None


def test_embeddings_for_each_layer_stay_in_full() -> None:
    assert name_of(read(compressed(INT4)), "embed_tokens_per_layer", None) is None


def test_a_shared_expert_is_found_under_either_name() -> None:
    quantization = read(modelopt("NVFP4", "model.layers.0.mlp.shared_expert.up_proj"))
    assert name_of(quantization, "mlp.shared_experts.up_proj") is None


def test_the_dense_mlp_beside_experts_is_told_from_them() -> None:
    quantization = read(modelopt("NVFP4", "model.language_model.layers.0.mlp*"))
    assert name_of(quantization, "moe.experts.up_proj", expert=True) == "nvfp4"


def test_a_tower_that_a_list_names_stays_in_full() -> None:
    quantization = read({**BLOCK_FP8, "modules_to_not_convert": ["model.visual*"]})
    assert name_of(quantization, "visual.blocks.attn.qkv", None) is None


def test_a_tower_that_is_listed_layer_by_layer_stays_in_full() -> None:
    entries = [f"model.visual.blocks.{number}.attn.qkv" for number in range(27)]
    quantization = read({**BLOCK_FP8, "modules_to_not_convert": entries})
    assert name_of(quantization, "visual.blocks.attn.qkv", None) is None


def test_layers_after_the_last_are_the_drafts() -> None:
    quantization = read(compressed(INT4, "re:^mtp.*"), num_hidden_layers=48)
    assert name_of(quantization, "mlp.down_proj", 48) is None


def test_prose_that_names_attention_and_the_mamba_before_it_is_understood() -> None:
    entry = "attention layers and the mamba layers preceding them (bf16)"
    quantization = read(modelopt("FP8", entry), hybrid_override_pattern="MEMEM*E")
    kept = [layer for layer in range(7) if not name_of(quantization, "mixer.in_proj", layer)]
    assert kept == [4, 5]


def test_other_prose_is_refused() -> None:
    with pytest.raises(UnknownModel, match="names no module"):
        read(modelopt("FP8", "the layers that matter"), hybrid_override_pattern="MEMEM*E")


def test_groups_that_name_modules_go_before_the_group_of_all() -> None:
    settings = compressed(INT4)
    settings["config_groups"]["group_1"] = {
        "weights": {**INT4, "num_bits": 8},
        "targets": ["re:.*down_proj"],
    }
    assert name_of(read(settings), "mlp.down_proj") == "int8"


def test_a_group_of_attention_modules_alone_is_about_the_cache() -> None:
    settings = compressed(INT4)
    settings["config_groups"]["group_1"] = {"weights": FP8, "targets": ["LlamaAttention"]}
    assert {name_of(read(settings), f"self_attn.{one}_proj") for one in "qkvo"} == {"int4"}


def test_attention_beside_other_modules_of_a_group_is_not_understood() -> None:
    with pytest.raises(UnknownModel, match="'LlamaAttention' is not understood"):
        read(compressed(INT4, targets=("LlamaAttention", "Linear")))


def test_a_group_of_named_modules_leaves_others_in_full() -> None:
    quantization = read(compressed(INT4, targets=("re:.*mlp.*",)))
    assert name_of(quantization, "self_attn.q_proj") is None


MIXED = modelopt(
    "MIXED_PRECISION",
    "mtp*",
    quantized_layers={
        "backbone.layers.0.mixer.in_proj": {"quant_algo": "FP8"},
        "backbone.layers.1.mixer.experts.0.up_proj": {"quant_algo": "W4A16_NVFP4"},
        "backbone.layers.1.mixer.experts.1.up_proj": {"quant_algo": "W4A16_NVFP4"},
        "lm_head": {"quant_algo": "W4A16_NVFP4"},
    },
)


@pytest.mark.parametrize(
    ("module", "layer", "expert", "expected"),
    [
        ("mixer.in_proj", 0, False, "fp8"),
        ("mixer.experts.up_proj", 1, True, "nvfp4-w4a16"),
        ("mixer.q_proj", 5, False, None),
        ("lm_head", None, False, "nvfp4-w4a16"),
    ],
)
def test_mixed_precision_has_a_scheme_for_each_module_that_it_names(
    module: str, layer: int | None, expert: bool, expected: str | None
) -> None:
    assert name_of(read(MIXED), module, layer, expert=expert) == expected


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "deepseek_v4", "expert_dtype": "fp4", "quantization_config": BLOCK_FP8},
        {"model_type": "deepseek_v4", "quantization_config": BLOCK_FP8},
        {"quantization_config": {**BLOCK_FP8, "moe_quant": "mxfp4"}},
        {"quantization_config": {**BLOCK_FP8, "store_dtype": "mxfp4"}},
    ],
)
def test_experts_are_mxfp4_where_an_fp8_checkpoint_says_so(config: dict[str, Any]) -> None:
    quantization = quantization_from_config(config)
    assert name_of(quantization, "mlp.experts.up_proj", expert=True) == "mxfp4"


def test_what_is_no_expert_stays_block_fp8_beside_mxfp4_experts() -> None:
    quantization = read({**BLOCK_FP8, "moe_quant": "mxfp4"})
    assert name_of(quantization, "self_attn.o_proj") == "fp8-block"


def test_experts_int8_leaves_linear_layers_in_full() -> None:
    assert name_of(read({"quant_method": "experts_int8"}), "mlp.down_proj") is None


def test_auto_round_takes_its_exceptions_from_extra_config() -> None:
    settings = {**AUTO_ROUND, "extra_config": {".*in_proj_[ab]": {"bits": 16}}}
    assert name_of(read(settings), "linear_attn.in_proj_a") is None


def test_auto_round_quantises_the_blocks_that_it_lists() -> None:
    settings = {**AUTO_ROUND, "block_name_to_quantize": "model.layers,model.visual.blocks"}
    assert name_of(read(settings), "visual.blocks.attn.qkv", None) == "int4"


def test_a_rule_of_gptq_leaves_the_modules_that_it_denies_in_full() -> None:
    settings = {**GPTQ, "dynamic": {"-:.*\\.down_proj": {}}}
    assert name_of(read(settings), "mlp.down_proj") is None


def test_gptq_quantises_only_the_modules_that_it_lists() -> None:
    settings = {**GPTQ, "modules_in_block_to_quantize": [["self_attn.q_proj"]]}
    assert name_of(read(settings), "mlp.down_proj") is None


def test_modules_that_bitsandbytes_skips_stay_in_full() -> None:
    settings = {**NF4, "llm_int8_skip_modules": ["multi_modal_projector"]}
    assert name_of(read(settings), "multi_modal_projector.linear_1", None) is None


@pytest.mark.parametrize(
    ("settings", "capability"),
    [
        (AWQ, 7.5),
        (GPTQ, 6.0),
        (BLOCK_FP8, 7.5),
        (MXFP4, 8.0),
        (NF4, 7.0),
        (modelopt("FP8"), 8.0),
        (modelopt("NVFP4"), 7.5),
    ],
)
def test_a_method_demands_the_capability_that_vllm_demands(
    settings: dict[str, Any], capability: float
) -> None:
    assert read(settings).min_capability == capability


def test_the_edge_of_blocks_is_known_to_tensor_parallelism() -> None:
    assert read(BLOCK_FP8).block == 128


def test_the_size_of_groups_is_known_to_tensor_parallelism() -> None:
    assert read(AWQ).group == 128


def test_padded_groups_do_not_bind_tensor_parallelism() -> None:
    assert read(MXFP4).group == 0


@pytest.mark.parametrize(
    "settings",
    [
        modelopt("FP8", kv_cache_quant_algo="FP8"),
        modelopt("FP8", kv_cache_scheme={"type": "float", "num_bits": 8, "dynamic": False}),
        {**compressed(INT4), "kv_cache_scheme": {"type": "float", "num_bits": 8}},
    ],
)
def test_a_checkpoint_may_ask_for_an_fp8_cache(settings: dict[str, Any]) -> None:
    assert read(settings).kv_cache == "fp8"


@pytest.mark.parametrize(
    "config",
    [
        {"quantization_config": BLOCK_FP8},
        {"text_config": {"quantization_config": BLOCK_FP8}},
        {"compression_config": compressed(FP8, inputs=TOKENS, storage="float-quantized")},
    ],
)
def test_the_settings_are_found_wherever_checkpoints_keep_them(config: dict[str, Any]) -> None:
    assert quantization_from_config(config).method is not None


def test_settings_that_lie_beside_the_config_count_where_it_has_none() -> None:
    beside = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4"}}
    merged = with_hf_quant_config({"hidden_size": 1}, beside)
    assert quantization_from_config(merged).method == "modelopt_fp4"


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"quant_method": "exl3", "bits": 4.0}, "quant_method"),
        ({"bits": 4}, "quant_method"),
        ({**AWQ, "bits": 5}, "bits"),
        ({**AWQ, "bits": "four"}, "bits"),
        ({**GPTQ, "bits": 5}, "bits"),
        ({**BLOCK_FP8, "weight_block_size": [1, 128]}, "weight_block_size"),
        ({**BLOCK_FP8, "moe_quant": "int3"}, "moe_quant"),
        ({**BLOCK_FP8, "modules_to_not_convert": 7}, "modules_to_not_convert"),
        ({**AUTO_ROUND, "data_type": "nv_fp"}, "data_type"),
        (modelopt("W4A8_AWQ"), "quant_algo"),
        (modelopt("MIXED_PRECISION"), "quantized_layers"),
        (compressed({**INT4, "strategy": "tensor"}), "config_groups.group_0.weights"),
        (compressed(INT4, targets=("Conv2d",)), "config_groups.group_0.targets"),
        (compressed(INT4, "re:("), "ignore"),
    ],
)
def test_what_is_not_understood_is_refused_at_its_field(
    settings: dict[str, Any], field: str
) -> None:
    with pytest.raises(UnknownModel) as refusal:
        read(settings)
    assert refusal.value.field == f"spec.model.config.quantization_config.{field}"


@pytest.mark.parametrize("method", METHODS)
def test_every_method_that_the_refusal_names_has_a_reader(method: str) -> None:
    settings = {
        **compressed(INT4),
        **AWQ,
        "quant_algo": "FP8",
        "quant_method": method,
    }
    assert read(settings).method is not None


def test_nothing_of_an_unquantised_config_is_relevant() -> None:
    assert relevant_quantization({"hidden_size": 1}) == {}


def test_settings_that_nobody_reads_are_not_relevant() -> None:
    relevant = relevant_quantization({"quantization_config": {**AWQ, "version": "gemm"}})
    assert relevant["quantization_config"].keys() <= QUANTIZATION_KEYS


def test_norms_and_routers_are_not_relevant() -> None:
    entries = ["model.layers.0.mlp.gate", "model.norm", "model.layers.0.self_attn.q_proj"]
    relevant = relevant_quantization(
        {"quantization_config": {**BLOCK_FP8, "modules_to_not_convert": entries}}
    )
    assert relevant["quantization_config"]["modules_to_not_convert"] == entries[2:]


def test_what_is_said_of_every_layer_is_kept_once() -> None:
    entries = [f"model.layers.{number}.self_attn" for number in range(4)]
    relevant = relevant_quantization(
        {"num_hidden_layers": 4, "quantization_config": modelopt("FP8", *entries)}
    )
    assert relevant["quantization_config"]["ignore"] == ["model.layers.*.self_attn"]


@pytest.mark.parametrize(
    "config",
    [
        {"quantization_config": MIXED},
        {"quantization_config": {**BLOCK_FP8, "moe_quant": "mxfp4"}},
        {"quantization_config": compressed(INT4, "re:.*layers\\.1\\..*"), "num_hidden_layers": 2},
        {"quantization_config": BLOCK_FP8, "model_type": "deepseek_v4"},
        {
            "quantization_config": modelopt("FP8", "attention layers"),
            "hybrid_override_pattern": "M*",
        },
    ],
)
def test_the_relevant_part_reads_as_the_whole(config: dict[str, Any]) -> None:
    def survey(part: dict[str, Any]) -> list[str | None]:
        quantization = quantization_from_config(part)
        return [
            name_of(quantization, module, layer, expert="experts" in module)
            for layer in range(3)
            for module in ("mixer.in_proj", "mixer.experts.up_proj", "self_attn.q_proj")
        ]

    assert survey(relevant_quantization(config)) == survey(config)
