"""Weights as a version keeps them on a GPU, where kernels differ."""

import pytest

from vllm_operator.engine.versions import Version
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import Architecture, architecture_from_config
from vllm_operator.sizing.memory import weights
from vllm_operator.sizing.memory.kernels import as_loaded
from vllm_operator.sizing.split.parallelism import SINGLE

GIBIBYTE = 1024**3
SMALL, LARGE = "openai/gpt-oss-20b", "openai/gpt-oss-120b"
BNB = "unsloth/mistral-7b-instruct-v0.3-bnb-4bit"


def architecture(model: str) -> Architecture:
    return architecture_from_config(catalogue.find(model).config)


def loaded(model: str, version: str, capability: tuple[int, int] | None) -> float:
    found = as_loaded(architecture(model), Version.parse(version), capability)
    return weights.bytes_per_rank(found, SINGLE, 2) / GIBIBYTE


@pytest.mark.parametrize(
    ("model", "version", "capability", "logged", "tolerance"),
    [
        # benchmarks/data/vllm_startup_logs.csv: L146, L147, L166, L011
        (SMALL, "0.15.1", (9, 0), 13.47, 0.001),
        (LARGE, "0.15.1", (9, 0), 64.38, 0.003),
        (LARGE, "0.10.1", (9, 0), 65.9651, 0.001),
        (SMALL, "0.13.0", (12, 1), 13.7193, 0.003),
    ],
)
def test_padding_is_that_of_the_kernel_of_version_and_gpu(
    model: str, version: str, capability: tuple[int, int], logged: float, tolerance: float
):
    assert loaded(model, version, capability) == pytest.approx(logged, rel=tolerance)


def test_tensorrt_llm_pads_more_up_to_0_26():
    assert loaded(LARGE, "0.26.0", (10, 0)) > loaded(LARGE, "0.27.0", (10, 0))


@pytest.mark.parametrize("capability", [None, (8, 0), (12, 0)])
def test_without_another_kernel_the_model_is_the_same(capability: tuple[int, int] | None):
    known = architecture(LARGE)
    assert as_loaded(known, Version((0, 30, 0)), capability) is known


def test_bitsandbytes_undoes_double_quantisation_since_0_9_2():
    assert loaded(BNB, "0.9.1", (8, 9)) < loaded(BNB, "0.9.2", (8, 9))


def test_the_checkpoints_bytes_are_those_before_padding():
    known = architecture(SMALL)
    assert as_loaded(known, Version((0, 30, 0)), (9, 0)).stored_bytes == known.stored_bytes
