"""Divisions that vLLM accepts and refuses, by rules that are stated here once more."""

import pytest

from support.divisions import PLAIN, refusals
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import architecture_from_config
from vllm_operator.sizing.split.parallelism import Parallelism, illegal_because

PLAIN_MODELS = [
    name
    for name in catalogue.known_models()
    if set(catalogue.find(name).config["architectures"]) & PLAIN
]


def why(model: str, **split: int) -> str | None:
    config = catalogue.find(model).config
    return illegal_because(architecture_from_config(config), Parallelism(**split))


@pytest.mark.parametrize("model", PLAIN_MODELS)
def test_a_division_is_refused_where_and_only_where_a_rule_forbids_it(model: str):
    config = catalogue.find(model).config
    for tensor in range(1, 17):
        for pipeline, data in ((1, 1), (2, 1), (1, 2), (1, 4)):
            for expert in (False, True):
                split = {"tensor": tensor, "pipeline": pipeline, "data": data, "expert": expert}
                assert bool(why(model, **split)) == bool(refusals(config, **split)), split


@pytest.mark.parametrize(
    ("model", "refused", "message", "accepted"),
    [
        (
            "cpatonn/Qwen3-30B-A3B-Thinking-2507-AWQ-4bit",
            4,
            "down_proj's 768 over 4 GPUs is 192, no multiple of the quantisation's group of 128",
            2,
        ),
        (
            "casperhansen/deepseek-r1-distill-qwen-14b-awq",
            8,
            "13824 over 8 GPUs is 1728, no multiple of the quantisation's group of 128",
            4,
        ),
        (
            "Qwen/Qwen2.5-0.5B-Instruct-AWQ",
            2,
            "896 over 2 GPUs is 448, no multiple of the quantisation's group of 128",
            1,
        ),
        (
            "Qwen/Qwen3-4B-Instruct-2507-FP8",
            8,
            "9728 over 8 GPUs is 1216, no multiple of the quantisation's block of 128",
            4,
        ),
        ("Qwen/Qwen2.5-7B-Instruct", 8, "28 attention heads are not divisible by 8", 4),
        ("facebook/opt-125m", 5, "12 attention heads are not divisible by 5", 6),
    ],
)
def test_a_refusal_names_the_shape_that_is_cut(
    model: str, refused: int, message: str, accepted: int
):
    assert message in str(why(model, tensor=refused))
    assert why(model, tensor=accepted) is None


def test_stages_are_no_more_than_layers():
    assert why("Qwen/Qwen3-0.6B", pipeline=28) is None
    assert why("Qwen/Qwen3-0.6B", pipeline=29) == "28 layers cannot be spread over 29 stages"


def test_whole_experts_on_each_rank_are_not_cut_and_want_a_model_that_has_them():
    assert "block of 128" in str(why("Qwen/Qwen3-235B-A22B-FP8", tensor=4, data=2))
    assert why("Qwen/Qwen3-235B-A22B-FP8", tensor=4, data=2, expert=True) is None
    assert why("Qwen/Qwen3-0.6B", tensor=2, expert=True) == "the model has no experts"
    assert why("Qwen/Qwen3-0.6B", expert=True) == "the model has no experts"


def test_the_state_s_groups_are_replicated_where_there_is_one_and_divided_where_there_are_more():
    assert "groups of the recurrent state" in str(
        why("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8", tensor=16)
    )
    assert why("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8", tensor=8) is None
