"""Vision and audio towers have the shapes that vLLM builds, or are refused by the fact's name."""

from typing import Any

import pytest

from vllm_operator.errors import UnknownModel
from vllm_operator.models.matrices import Matrix, Split
from vllm_operator.models.towers import Tower, towers_of

CLIP = {
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "image_size": 336,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "patch_size": 14,
}
PIXTRAL = {"model_type": "pixtral", "image_size": 1540, "patch_size": 14}


def config(architecture: str, vision: Any = None, text: int = 0, **facts: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"architectures": [architecture], **facts}
    if vision is not None:
        made["vision_config"] = vision
    if text:
        made["text_config"] = {"hidden_size": text}
    return made


QWEN2_VL_2B = config("Qwen2VLForConditionalGeneration", {"hidden_size": 1536, "in_chans": 3})
QWEN2_5_VL_72B = config(
    "Qwen2_5_VLForConditionalGeneration",
    {"hidden_size": 1280, "intermediate_size": 3456, "out_hidden_size": 8192},
)
QWEN3_VL_30B = config(
    "Qwen3VLMoeForConditionalGeneration",
    {"out_hidden_size": 2048, "deepstack_visual_indexes": [8, 16, 24]},
)
QWEN3_VL_2B = config(
    "Qwen3VLForConditionalGeneration",
    {
        "depth": 24,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "out_hidden_size": 2048,
        "deepstack_visual_indexes": [5, 11, 17],
    },
)
QWEN3_5_27B = config("Qwen3_5ForConditionalGeneration", {"out_hidden_size": 5120})
LLAVA_7B = config("LlavaForConditionalGeneration", CLIP, vision_feature_layer=-2)
LLAVA_VIDEO = config("LlavaNextVideoForConditionalGeneration", CLIP, vision_feature_layer=-2)
LLAVA_13B = config(
    "LlavaLlamaForCausalLM",
    hidden_size=5120,
    mm_hidden_size=1024,
    mm_projector_type="mlp2x_gelu",
    mm_vision_tower="openai/clip-vit-large-patch14-336",
)
GEMMA3_12B = config(
    "Gemma3ForConditionalGeneration",
    {
        "hidden_size": 1152,
        "image_size": 896,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "patch_size": 14,
    },
    text=3840,
)
GEMMA4_26B = config(
    "Gemma4ForConditionalGeneration",
    {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "head_dim": 72,
        "standardize": True,
    },
    text=2816,
    audio_config=None,
)
GEMMA4_E2B = config(
    "Gemma4ForConditionalGeneration",
    {"use_clipped_linears": True},
    text=1536,
    audio_config={"subsampling_conv_channels": [128, 32]},
)
MISTRAL_24B = config(
    "Mistral3ForConditionalGeneration", PIXTRAL, text=5120, multimodal_projector_bias=False
)
LLAMA_11B = config("MllamaForConditionalGeneration", {"image_size": 560}, text=4096)
MAVERICK = config(
    "Llama4ForConditionalGeneration",
    {"hidden_size": 1408, "image_size": 336, "vision_output_dim": 4096},
    text=5120,
)
DOTS = config("DotsOCRForCausalLM", {"embed_dim": 1536, "hidden_size": 1536})
GLM = config(
    "Glm5NextForConditionalGeneration",
    {"out_hidden_size": 4096, "projection_intermediate_size": 10240},
)


def tower_of(made: dict[str, Any]) -> Tower:
    (tower,) = towers_of(made)
    return tower


def matrix(tower: Tower, ending: str) -> Matrix:
    (found,) = [one for one in tower.matrices if one.name.endswith(ending)]
    return found


def refused_field(made: dict[str, Any]) -> str:
    with pytest.raises(UnknownModel) as refusal:
        towers_of(made)
    return refusal.value.field


# Published parameter counts of the whole model, less those of its decoder.
@pytest.mark.parametrize(
    ("made", "parameters"),
    [
        pytest.param(QWEN2_VL_2B, 2_208_985_600 - 1_543_714_304, id="Qwen2-VL-2B"),
        pytest.param(QWEN2_5_VL_72B, 73_410_777_344 - 72_706_203_648, id="Qwen2.5-VL-72B"),
        pytest.param(QWEN3_VL_30B, 31_070_754_032 - 30_532_122_624, id="Qwen3-VL-30B-A3B"),
        pytest.param(QWEN3_VL_2B, 2_127_532_032 - 1_720_574_976, id="Qwen3-VL-2B"),
        pytest.param(MISTRAL_24B, 24_011_361_280 - 23_572_403_200, id="Mistral-Small-3.2"),
        pytest.param(GEMMA3_12B, 12_187_325_040 - 11_766_034_176, id="gemma-3-12b"),
        pytest.param(LLAMA_11B, 10_670_220_835 - 9_775_192_080, id="Llama-3.2-11B-Vision"),
        pytest.param(MAVERICK, 401_583_781_376 - 400_711_848_960, id="Llama-4-Maverick"),
        pytest.param(DOTS, 3_039_179_264 - 1_777_088_000, id="dots.ocr"),
        pytest.param(LLAVA_13B, 13_047_331_840 - 13_015_864_320, id="llava-v1.5-13b"),
    ],
)
def test_a_tower_has_the_parameters_that_the_model_has_beside_its_decoder(
    made: dict[str, Any], parameters: int
):
    assert tower_of(made).parameters == parameters


def test_llava_loads_its_tower_without_the_last_clip_layer_and_the_norm_after_it():
    clip_layer = 4 * 1024 * 1024 + 4 * 1024 + 2 * 1024 * 4096 + 4096 + 1024 + 4 * 1024
    whole = 7_063_427_072 - 6_738_939_904
    assert tower_of(LLAVA_7B).parameters == whole - clip_layer - 2 * 1024


def test_the_weights_of_llava_agree_with_what_vllm_reported_on_loading_it():
    """13.1343 GiB in float16, of which the decoder's rotary table takes 1 MiB."""
    loaded = 2 * (6_738_939_904 + tower_of(LLAVA_7B).parameters) + 4096 * 128 * 2
    assert loaded / 2**30 == pytest.approx(13.1343, abs=2e-4)


@pytest.mark.parametrize(("feature", "layers"), [(-1, 24), (-2, 23), (10, 10), ([3, -4], 21)])
def test_a_clip_tower_ends_at_the_deepest_feature_layer(feature: Any, layers: int):
    made = config("LlavaForConditionalGeneration", CLIP, vision_feature_layer=feature)
    assert tower_of(made).layers == layers


@pytest.mark.parametrize("feature", [25, -25, 0, "last", True, []])
def test_a_feature_layer_that_the_tower_does_not_have_is_refused(feature: Any):
    made = config("LlavaForConditionalGeneration", CLIP, vision_feature_layer=feature)
    assert refused_field(made) == "spec.model.config.vision_feature_layer"


def test_a_llava_without_vision_config_has_clip_vit_large():
    assert towers_of(config("LlavaForConditionalGeneration")) == towers_of(LLAVA_7B)


@pytest.mark.parametrize("kind", ["siglip_vision_model", "pixtral"])
def test_a_llava_may_have_another_encoder(kind: str):
    made = config("LlavaForConditionalGeneration", {"model_type": kind, "num_hidden_layers": 6})
    assert tower_of(made).layers == 5


def test_a_llava_with_an_unknown_encoder_is_refused():
    made = config("LlavaForConditionalGeneration", {"model_type": "eva"})
    assert refused_field(made) == "spec.model.config.vision_config.model_type"


def test_a_projector_that_is_not_known_is_refused():
    made = {**LLAVA_13B, "mm_projector_type": "resampler"}
    assert refused_field(made) == "spec.model.config.mm_projector_type"


def test_the_original_llava_checkpoint_brings_no_encoder():
    assert tower_of(LLAVA_13B).layers == 0


def test_the_video_llavas_projector_is_replicated():
    assert matrix(tower_of(LLAVA_VIDEO), "linear_1").split is Split.WHOLE


def test_qwen3_vl_has_a_merger_for_every_deepstack_layer():
    merger = matrix(tower_of(QWEN3_VL_30B), "deepstack_merger_list.linear_fc1")
    assert merger.copies == 3


def test_qwen3_5_has_no_deepstack_mergers_unless_it_says_so():
    assert not any("deepstack" in one.name for one in tower_of(QWEN3_5_27B).matrices)


@pytest.mark.parametrize("indexes", [7, "8", [0] * 28])
def test_deepstack_layers_that_are_no_list_of_layers_are_refused(indexes: Any):
    made = config("Qwen3VLForConditionalGeneration", {"deepstack_visual_indexes": indexes})
    expected = "spec.model.config.vision_config.deepstack_visual_indexes"
    assert refused_field(made) == expected


@pytest.mark.parametrize(
    ("ending", "split"),
    [
        ("attn.qkv", Split.OUTPUTS),
        ("attn.proj", Split.INPUTS),
        ("blocks.mlp.fc1", Split.OUTPUTS),
        ("blocks.mlp.fc2", Split.INPUTS),
        ("merger.mlp.0", Split.OUTPUTS),
        ("merger.mlp.2", Split.INPUTS),
        ("patch_embed.proj", Split.WHOLE),
    ],
)
def test_tensor_parallelism_divides_a_qwen_tower_as_vllm_does(ending: str, split: Split):
    assert matrix(tower_of(QWEN2_VL_2B), ending).split is split


@pytest.mark.parametrize(
    "made", [QWEN2_VL_2B, QWEN3_VL_30B, LLAVA_7B, GEMMA3_12B, MISTRAL_24B, DOTS, GLM]
)
def test_the_convolution_that_makes_patches_is_never_quantised(made: dict[str, Any]):
    assert tower_of(made).matrices[0].kind == "other"


def test_siglips_mlp_is_not_quantised_where_64_does_not_divide_its_width():
    assert matrix(tower_of(GEMMA3_12B), "mlp.fc1").kind == "other"


def test_mistrals_patch_merger_is_whole_on_every_rank():
    assert matrix(tower_of(MISTRAL_24B), "merging_layer").split is Split.WHOLE


def test_a_gemma4_with_audio_has_two_towers():
    vision, audio = towers_of(GEMMA4_E2B)
    assert (vision.layers, audio.layers) == (16, 12)


def test_a_gemma4_whose_audio_config_is_null_has_one_tower():
    assert tower_of(GEMMA4_26B).layers == 27


def test_a_gemma4_without_towers_has_none():
    assert towers_of(config("Gemma4ForConditionalGeneration", text=2816)) == ()


@pytest.mark.parametrize("made", [GEMMA4_26B, GEMMA4_E2B])
def test_gemma4s_towers_are_whole_on_every_rank(made: dict[str, Any]):
    splits = {one.split for tower in towers_of(made) for one in tower.matrices}
    assert splits == {Split.WHOLE}


def test_clipped_linears_bring_their_bounds():
    clipped, _ = towers_of(GEMMA4_E2B)
    plain = tower_of(config("Gemma4ForConditionalGeneration", {}, text=1536))
    assert clipped.norms - plain.norms == 16 * 7 * 4


def test_subsampling_channels_that_are_no_numbers_are_refused():
    made = config(
        "Gemma4ForConditionalGeneration", audio_config={"subsampling_conv_channels": [128, "32"]}
    )
    assert refused_field(made) == "spec.model.config.audio_config.subsampling_conv_channels"


@pytest.mark.parametrize(
    ("made", "tokens"),
    [
        pytest.param(QWEN2_VL_2B, 65_536, id="12.8 megapixels of 14 x 14"),
        pytest.param(QWEN3_VL_30B, 65_536, id="16.8 megapixels of 16 x 16"),
        pytest.param(LLAVA_7B, 24 * 24 + 1, id="an image and the class token"),
        pytest.param(LLAVA_VIDEO, 0, id="as many frames as fit a request"),
        pytest.param(GEMMA3_12B, 64 * 64, id="one image without crops"),
        pytest.param(GEMMA4_26B, 280 * 9, id="280 soft tokens of 3 x 3 patches"),
        pytest.param(MISTRAL_24B, 110 * 110, id="the longest edge squared"),
        pytest.param(LLAMA_11B, 4 * 1608, id="four padded tiles"),
        pytest.param(MAVERICK, 17 * 577, id="sixteen tiles and the whole"),
        pytest.param(DOTS, 57_600, id="11.3 megapixels of 14 x 14"),
        pytest.param(GLM, 32_000, id="8,000 merged tokens"),
    ],
)
def test_the_largest_image_has_as_many_patches_as_the_processor_allows(
    made: dict[str, Any], tokens: int
):
    assert tower_of(made).max_tokens == tokens


def test_a_text_model_has_no_towers():
    assert towers_of(config("LlamaForCausalLM")) == ()


@pytest.mark.parametrize("part", ["vision_config", "audio_config"])
def test_a_multimodal_architecture_that_is_not_known_is_refused(part: str):
    made = {"architectures": ["NewForConditionalGeneration"], part: {"hidden_size": 64}}
    assert refused_field(made) == f"spec.model.config.{part}"


@pytest.mark.parametrize("names", [None, [], "Qwen2VLForConditionalGeneration", [7], [["a"]]])
def test_a_vision_config_without_an_architecture_is_refused(names: Any):
    made = {"architectures": names, "vision_config": {}}
    assert refused_field(made) == "spec.model.config.vision_config"


@pytest.mark.parametrize("value", [0, -1, 1.5, "1280", True, 2**25, [1280]])
def test_a_fact_that_is_no_plausible_number_is_refused_by_its_name(value: Any):
    made = config("Qwen2_5_VLForConditionalGeneration", {"hidden_size": value})
    assert refused_field(made) == "spec.model.config.vision_config.hidden_size"


def test_a_vision_config_that_is_no_object_is_refused():
    made = config("Qwen2VLForConditionalGeneration", "large")
    assert refused_field(made) == "spec.model.config.vision_config"


def test_patches_larger_than_the_image_are_refused():
    made = config("LlavaForConditionalGeneration", {**CLIP, "patch_size": 337})
    assert refused_field(made) == "spec.model.config.vision_config.patch_size"


@pytest.mark.parametrize("ratio", [1e-9, 1e6])
def test_an_mlp_ratio_that_makes_no_plausible_mlp_is_refused(ratio: float):
    made = config("Qwen2VLForConditionalGeneration", {"mlp_ratio": ratio})
    assert refused_field(made) == "spec.model.config.vision_config.mlp_ratio"


def test_an_encoder_of_plausible_facts_and_absurd_size_is_refused():
    made = config(
        "Qwen3_5ForConditionalGeneration", {"hidden_size": 2**18, "intermediate_size": 2**20}
    )
    assert refused_field(made) == "spec.model.config.vision_config"


def test_a_merger_width_that_has_no_default_must_be_given():
    made = config("Glm5NextForConditionalGeneration", {"out_hidden_size": 4096})
    expected = "spec.model.config.vision_config.projection_intermediate_size"
    assert refused_field(made) == expected
