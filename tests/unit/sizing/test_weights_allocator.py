"""What PyTorch's allocator adds to the weights is what vLLM logs beyond them."""

import pytest

from vllm_operator.engine.versions import Version
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import Architecture, architecture_from_config
from vllm_operator.sizing.memory import weights
from vllm_operator.sizing.memory.allocator import CachingAllocator
from vllm_operator.sizing.split.parallelism import SINGLE, Parallelism

OLD, LIMITED = Version((0, 20, 0)), Version((0, 21, 0))
MEBIBYTE = 1024**2
GIBIBYTE = 1024**3


def architecture(model: str) -> Architecture:
    return architecture_from_config(catalogue.find(model).config)


def allocated(version: Version, *mebibytes: float) -> float:
    allocator = CachingAllocator(version)
    for size in mebibytes:
        allocator.allocate(int(size * MEBIBYTE))
    return allocator.allocated / MEBIBYTE


@pytest.mark.parametrize("version", [OLD, LIMITED])
def test_a_small_rest_of_a_segment_counts(version: Version):
    assert allocated(version, 31.5) == 32


def test_a_larger_rest_is_split_off():
    assert allocated(OLD, 24.5) == 24.5


def test_blocks_from_20_mebibytes_on_are_not_split_since_0_21():
    assert allocated(LIMITED, 24.5) == 26


def test_blocks_below_the_limit_are_split_as_before():
    assert allocated(LIMITED, 12.5) == 12.5


@pytest.mark.parametrize("version", [OLD, LIMITED])
def test_medium_tensors_share_a_segment(version: Version):
    assert allocated(version, 6, 6, 7.5) == 20


def test_what_was_split_off_is_taken_by_a_tensor_that_fits():
    assert allocated(OLD, 24.25, 1.5) == 24.25 + 1.75


@pytest.mark.parametrize("version", [OLD, LIMITED])
def test_small_tensors_count_as_they_are(version: Version):
    assert allocated(version, 0.5, 0.25) == 0.75


LOGGED = [
    # benchmarks/data/vllm_startup_logs.csv, model_loading_gib of unquantised models
    ("Qwen/Qwen2.5-7B-Instruct", "0.11.0", 1, 14.2488, 0.0015),
    ("Qwen/Qwen2.5-7B-Instruct", "0.22.0", 1, 14.29, 0.0051),
    ("Qwen/Qwen2.5-Coder-14B-Instruct", "0.11.2", 1, 27.5681, 0.0015),
    ("rednote-hilab/dots.ocr", "0.10.0", 1, 5.7174, 0.0015),
    ("Qwen/Qwen3.5-27B", "0.19.0", 4, 13.01, 0.0051),
    ("Qwen/Qwen3-Embedding-8B", "0.12.0", 1, 14.1062, 0.0015),
    ("Qwen/Qwen2.5-32B-Instruct", "0.18.1", 4, 15.39, 0.0051),
]


@pytest.mark.parametrize(("model", "version", "tensor", "logged", "tolerance"), LOGGED)
def test_logged_weights_are_met(
    model: str, version: str, tensor: int, logged: float, tolerance: float
):
    found = weights.bytes_per_rank(
        architecture(model), Parallelism(tensor), 2, version=Version.parse(version)
    )
    assert found / GIBIBYTE == pytest.approx(logged, abs=tolerance)


def test_quantised_weights_are_not_rounded():
    model = architecture("Qwen/Qwen3-32B-AWQ")
    plain = weights.bytes_per_rank(model, SINGLE, 2)
    assert weights.bytes_per_rank(model, SINGLE, 2, version=OLD) == plain


def test_deepstack_buffers_lie_beside_the_weights():
    model = architecture("Qwen/Qwen3-VL-Embedding-2B")
    assert weights.input_buffer_bytes(model, 8192, 2) == 96 * MEBIBYTE
    loaded = weights.bytes_per_rank(model, SINGLE, 2, version=Version((0, 11, 0)))
    whole = (loaded + weights.input_buffer_bytes(model, 8192, 2)) / GIBIBYTE
    assert whole == pytest.approx(4.3072, abs=0.0015)


def test_a_text_model_has_no_input_buffers():
    assert weights.input_buffer_bytes(architecture("Qwen/Qwen3-8B"), 8192, 2) == 0
