"""What ``--quantization`` makes of a checkpoint in 16 bits, method by method."""

from __future__ import annotations

import pytest

from vllm_operator.engine.versions import Version
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import Architecture, architecture_from_config
from vllm_operator.sizing.memory.online_quantization import (
    method_of,
    methods_of,
    quantized_online,
)

EXPERTS = "Qwen/Qwen3-30B-A3B"
# Scheme of linear layers and of experts, and the least compute capability.
METHODS = {
    ("fp8", "0.13.0"): ("fp8", "fp8", 8.0),
    ("fp8", "0.14.0"): ("fp8", "fp8", 7.5),
    ("fp8_per_tensor", "0.30.0"): ("fp8", "fp8", 7.5),
    ("fp8_per_block", "0.30.0"): ("fp8-block", "fp8-block", 7.5),
    ("fp8_per_channel", "0.30.0"): ("fp8-channel", "fp8-channel", 7.5),
    ("int8_per_channel_weight_only", "0.30.0"): (None, "int8-w8a16", 7.5),
    ("nvfp4_per_token", "0.30.0"): (None, "nvfp4", 10.0),
    ("mxfp8", "0.30.0"): ("mxfp8", "mxfp8", 8.0),
    ("mxfp4", "0.30.0"): ("mxfp4", "mxfp4", 8.0),
    ("experts_int8", "0.30.0"): (None, "int8-w8a16", 8.0),
    ("bitsandbytes", "0.20.0"): ("nf4", "nf4", 7.0),
}


def stored(method: str, version: str) -> Architecture:
    facts = catalogue.find(EXPERTS)
    assert facts is not None
    return quantized_online(architecture_from_config(facts.config), method, Version.parse(version))


@pytest.mark.parametrize("given", METHODS, ids=" ".join)
def test_a_method_stores_layers_and_experts_so_and_wants_such_a_gpu(given: tuple[str, str]) -> None:
    quantization = stored(*given).quantization
    schemes = (
        quantization.scheme("self_attn.q_proj", 0, expert=False),
        quantization.scheme("mlp.experts.down_proj", 0, expert=True),
    )
    names = tuple(one.name if one is not None else None for one in schemes)
    assert (*names, quantization.min_capability) == METHODS[given]


@pytest.mark.parametrize("given", METHODS, ids=" ".join)
def test_head_and_embedding_stay_as_they_are(given: tuple[str, str]) -> None:
    quantization = stored(*given).quantization
    assert quantization.scheme("lm_head", None, expert=False) is None
    assert quantization.scheme("model.embed_tokens", None, expert=False) is None


@pytest.mark.parametrize(
    ("version", "padded"), [("0.20.0", set()), ("0.27.0", set()), ("0.28.0", {"mxfp4"})]
)
def test_experts_are_padded_by_one_method_alone(version: str, padded: set[str]) -> None:
    release = Version.parse(version)
    known = [method_of(name, release) for name in methods_of(release)]
    assert {one.name for one in known if one.padded_experts} == padded
