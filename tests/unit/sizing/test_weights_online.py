"""What a 16-bit checkpoint becomes when vLLM quantises it while loading."""

import pytest

from vllm_operator.engine.versions import Version
from vllm_operator.errors import IllegalPin
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import Architecture, architecture_from_config
from vllm_operator.sizing.memory import weights
from vllm_operator.sizing.memory.online_quantization import (
    loading_bytes,
    method_of,
    methods_of,
    quantized_online,
)
from vllm_operator.sizing.split.parallelism import SINGLE, Parallelism

GIBIBYTE = 1024**3
DENSE, ROUTED = "Qwen/Qwen3-8B", "Qwen/Qwen3-30B-A3B"


def architecture(model: str) -> Architecture:
    return architecture_from_config(catalogue.find(model).config)


def version(text: str) -> Version:
    return Version.parse(text)


LOGGED = [
    # benchmarks/data/vllm_startup_logs.csv: L010, L230, and L123 of a version before the oldest
    ("Qwen/Qwen3-30B-A3B-Instruct-2507", "0.22.1", 1, 29.08),
    ("ibm-granite/granite-4.0-micro", "0.11.0", 1, 3.4244),
    ("mistralai/Mistral-Large-Instruct-2407", "0.8.0", 4, 28.7698),
]


@pytest.mark.parametrize(("model", "release", "tensor", "logged"), LOGGED)
def test_weights_that_vllm_rounded_to_fp8_are_what_it_logs(
    model: str, release: str, tensor: int, logged: float
):
    quantized = quantized_online(architecture(model), "fp8", version(release))
    loaded = weights.bytes_per_rank(quantized, Parallelism(tensor), 2) / GIBIBYTE
    assert loaded == pytest.approx(logged, rel=0.0005)


def schemes(model: str, method: str, release: str) -> dict[str, str | None]:
    quantized = quantized_online(architecture(model), method, version(release))
    layer = quantized.kinds[0]
    found = {
        matrix.name: scheme and scheme.name
        for matrix, scheme in zip(layer.matrices, quantized.schemes(layer, 0), strict=True)
    }
    head = quantized.quantization.scheme("lm_head", None)
    return {**found, "lm_head": head and head.name}


def test_head_and_router_stay_in_16_bits():
    found = schemes(ROUTED, "fp8", "0.30.0")
    assert found["lm_head"] is None
    assert found["mlp.gate"] is None
    assert found["mlp.experts.up_proj"] == "fp8"


def test_a_method_for_experts_leaves_the_others_as_they_are():
    found = schemes(ROUTED, "int8_per_channel_weight_only", "0.33.0")
    assert found["self_attn.q_proj"] is None
    assert found["mlp.experts.up_proj"] == "int8-w8a16"


def test_bitsandbytes_kept_its_scales_quantised_up_to_0_9_1():
    assert schemes(DENSE, "bitsandbytes", "0.9.1")["mlp.up_proj"] == "nf4-nested"
    assert schemes(DENSE, "bitsandbytes", "0.9.2")["mlp.up_proj"] == "nf4"


def test_fp8_was_replaced_by_fp8_per_tensor():
    assert "fp8" in methods_of(version("0.30.0"))
    with pytest.raises(IllegalPin, match="fp8_per_tensor"):
        method_of("fp8", version("0.31.0"))


@pytest.mark.parametrize(
    ("method", "release"),
    [("bitsandbytes", "0.28.0"), ("fp8_per_channel", "0.23.0"), ("gguf", "0.30.0")],
)
def test_a_method_that_this_version_does_not_know_is_refused_with_those_it_knows(
    method: str, release: str
):
    with pytest.raises(IllegalPin, match="it can with fp8") as refusal:
        method_of(method, version(release))
    assert refusal.value.field == "spec.engine.quantization"


def test_a_method_for_experts_is_refused_for_a_dense_model():
    with pytest.raises(IllegalPin, match="this model has none"):
        quantized_online(architecture(DENSE), "experts_int8", version("0.30.0"))


def test_experts_that_bitsandbytes_leaves_alone_are_refused():
    with pytest.raises(IllegalPin, match=r"0\.10\.0"):
        quantized_online(architecture(ROUTED), "bitsandbytes", version("0.9.2"))


@pytest.mark.parametrize(
    ("model", "method"),
    [
        ("Qwen/Qwen3-32B-AWQ", "awq_marlin"),
        ("Qwen/Qwen3-8B-FP8-of-unsloth", "fp8"),
        ("openai/gpt-oss-20b", "gpt_oss_mxfp4"),
        ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8", "modelopt"),
    ],
)
def test_a_checkpoints_own_method_changes_nothing(model: str, method: str):
    model = {"Qwen/Qwen3-8B-FP8-of-unsloth": "unsloth/Qwen3-8B-FP8"}.get(model, model)
    known = architecture(model)
    assert quantized_online(known, method, version("0.20.0")) is known


def test_another_method_than_the_checkpoints_is_refused():
    with pytest.raises(IllegalPin, match="leave the field out"):
        quantized_online(architecture("Qwen/Qwen3-32B-AWQ"), "fp8", version("0.20.0"))


def test_before_0_16_the_whole_model_lies_on_the_gpu_in_16_bits_first():
    model = architecture(DENSE)
    whole = weights.bytes_per_rank(model, SINGLE, 2)
    assert loading_bytes(model, "fp8", version("0.14.0"), SINGLE, 2) > whole


def test_since_0_16_one_matrix_in_16_bits_lies_beside_the_quantised_ones():
    model = architecture(DENSE)
    kept = weights.bytes_per_rank(quantized_online(model, "fp8", version("0.16.0")), SINGLE, 2)
    gate_and_up = 2 * 2 * 12288 * 4096
    assert loading_bytes(model, "fp8", version("0.16.0"), SINGLE, 2) == kept + gate_and_up
