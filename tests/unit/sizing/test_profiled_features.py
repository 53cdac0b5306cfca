"""What the profiling run takes for drafts, graphs and sparse attention, by vLLM's code and logs."""

import pytest

from vllm_operator.engine.versions import Version
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import Architecture, architecture_from_config
from vllm_operator.models.shapes import AttentionCache, CompressedCache, LatentCache
from vllm_operator.sizing.memory import accounting, peak
from vllm_operator.sizing.memory.accounting import Footprint
from vllm_operator.sizing.memory.device import ANY_DEVICE, Device
from vllm_operator.sizing.memory.graphs import captured_sizes
from vllm_operator.sizing.memory.load import Load
from vllm_operator.sizing.memory.sparse import sparse_logits, sparse_workspace
from vllm_operator.sizing.split.parallelism import SINGLE, Parallelism

GIBIBYTE = 1024**3
MEBIBYTE = 1024**2
QWEN = "Qwen/Qwen3.8-27B-FP8"
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
V3 = "deepseek-ai/DeepSeek-V3.2"
ROCM = Device(memory_bytes=192 * GIBIBYTE, rocm=True)
V3_2 = LatentCache(rank=512, rope_dim=64, indexer_dim=128)
V4 = CompressedCache(dim=512, rope_dim=64, window=128, ratio=4, indexer_dim=128)
WINDOW = CompressedCache(dim=512, rope_dim=64, window=128, ratio=0)


def architecture(model: str) -> Architecture:
    return architecture_from_config(catalogue.find(model).config)


def footprint(
    model: str, version: str, load: Load, device: Device = ANY_DEVICE, ranks: int = 1
) -> Footprint:
    return accounting.footprint(
        architecture(model),
        Version.parse(version),
        Parallelism(ranks),
        load,
        enforce_eager=False,
        device=device,
    )


def sampled(version: str, drafts: int) -> float:
    """Bytes a logit of the peak that 1,024 sequences make."""
    model, load = architecture(QWEN), Load(1024, 1024, 2, 1024, drafts=drafts)
    found = peak.activation_peak(model, Version.parse(version), SINGLE, load).expected
    kept = peak.kept_pictures(model, Version.parse(version), load)
    last = 2 * 1024 * model.hidden_size
    return (found - kept - last) / (1024 * model.vocabulary_size)


@pytest.mark.parametrize(
    ("version", "alone", "drafting"),
    [("0.12.0", 38.3, 46.3), ("0.14.0", 38.3, 50.3), ("0.25.1", 14, 30)],
)
def test_a_drafted_token_of_each_sequence_is_verified_beside_the_bonus_token(
    version: str, alone: float, drafting: float
):
    assert sampled(version, 0) == pytest.approx(alone, abs=0.1)
    assert sampled(version, 3) == pytest.approx(drafting, abs=0.1)


@pytest.mark.parametrize("version", ["0.29.0", "0.32.0"])
def test_the_second_runner_verifies_none_while_it_is_profiled(version: str):
    bare, drafting = (
        peak.activation_peak(
            architecture(LLAMA), Version.parse(version), SINGLE, Load(1024, 1024, 2, drafts=drafts)
        )
        for drafts in (0, 3)
    )
    assert bare == drafting


@pytest.mark.parametrize(
    ("version", "seqs", "tokens", "drafts", "sizes"),
    [
        ("0.25.1", 1024, 8192, 0, 51),  # PIECEWISE=51 (largest=512) in logs
        ("0.19.0", 128, 2048, 0, 35),  # PIECEWISE=35 (largest=256)
        ("0.10.2", 1024, 8192, 0, 67),
        ("0.26.1", 16, 2048, 0, 7),
        ("0.25.1", 8, 8192, 0, 5),  # PIECEWISE=5 (largest=16)
        ("0.25.1", 10, 8192, 4, 15),  # PIECEWISE=15 (largest=96), ten sequences and four drafts
        ("0.12.0", 10, 8192, 4, 5),
        ("0.25.1", 1024, 64, 0, 11),
        ("0.25.1", 1, 8192, 0, 2),
    ],
)
def test_as_many_sizes_are_captured_as_logs_say(
    version: str, seqs: int, tokens: int, drafts: int, sizes: int
):
    load = Load(seqs, tokens, 2, drafts=drafts)
    assert captured_sizes(Version.parse(version), load) == sizes


@pytest.mark.parametrize(
    ("version", "capability", "sizes"),
    [
        ("0.33.0", (9, 0), 51),
        ("0.27.1", (10, 0), 51),
        ("0.28.0", (10, 0), 83),
        ("0.33.0", (10, 3), 83),
        ("0.33.0", (12, 0), 51),
        ("0.33.0", None, 51),
    ],
)
def test_graphs_of_1024_tokens_are_captured_on_data_centre_blackwell_from_0_28_on(
    version: str, capability: tuple[int, int] | None, sizes: int
):
    load = Load(1024, 8192, 2)
    assert captured_sizes(Version.parse(version), load, capability) == sizes


def test_larger_graphs_of_a_device_are_in_its_footprint():
    load = Load(1024, 8192, 2)
    hopper, blackwell = (
        footprint(LLAMA, "0.33.0", load, Device(capability=one)).cuda_graphs.expected
        for one in ((9, 0), (10, 0))
    )
    assert blackwell > 1.3 * hopper


def test_graphs_of_few_sequences_take_less_than_those_of_many():
    few, many = (
        footprint(LLAMA, "0.26.0", Load(seqs, 8192, 2)).cuda_graphs_outside.expected
        for seqs in (16, 1024)
    )
    assert few == pytest.approx(0.11 * GIBIBYTE, rel=0.3)
    assert many > 5 * few


def test_five_requests_of_latent_states_are_gathered_for_sparse_attention():
    # v1/attention/backends/mla/flashmla_sparse.py: DeepSeek-V3.2 at 163,840 tokens, some 900 MB
    load = Load(64, 2048, 2, 163_840)
    found = sparse_workspace(V3_2, Version((0, 30, 0)), load, rocm=False)
    assert found == 5 * 163_840 * 576 * 2
    assert sparse_logits(V3_2, Version((0, 30, 0))) == 512 * MEBIBYTE


def test_compressed_states_are_gathered_for_a_quarter_of_the_length():
    load = Load(64, 2048, 2, 1_048_576)
    found = sparse_workspace(V4, Version((0, 30, 0)), load, rocm=False)
    assert found == 40 * 262_144 * 132
    alone = sparse_workspace(WINDOW, Version((0, 30, 0)), load, rocm=False)
    assert alone == 4 * (128 + 2048) * 512 * 2


def test_before_the_workspace_the_keys_were_gathered_and_parted():
    load = Load(64, 2048, 2, 163_840)
    found = sparse_workspace(V3_2, Version((0, 12, 0)), load, rocm=False)
    assert found == 2 * 40 * 163_840 * 132
    assert sparse_logits(V3_2, Version((0, 12, 0))) == 0


@pytest.mark.parametrize(
    ("version", "rows"), [("0.27.1", 0), ("0.28.0", 4096), ("0.30.0", 2048), ("0.33.0", 2048)]
)
def test_on_rocm_an_indexer_keeps_the_logits_of_decoded_tokens(version: str, rows: int):
    # SemiAnalysisAI/InferenceX#3336: halving 4,096 tokens a step frees some 4 GiB at 1M tokens.
    load = Load(512, 4096, 2, 1_048_576, drafts=3)
    found = sparse_workspace(V4, Version.parse(version), load, rocm=True)
    assert found == max(rows * 262_144 * 4, 40 * 262_144 * 132)


def test_ordinary_attention_reserves_nothing_of_it():
    version, load = Version((0, 30, 0)), Load(64, 2048, 2, 131_072)
    for cache in (AttentionCache(8, 128, 128), LatentCache(512, 64), None):
        assert sparse_workspace(cache, version, load, rocm=True) == 0
        assert sparse_logits(cache, version) == 0


def test_the_workspace_is_still_there_when_the_sampler_runs():
    short, long = (
        peak.activation_peak(
            architecture(V3),
            Version((0, 25, 0)),
            Parallelism(8),
            Load(1024, 1024, 2, max_model_len=length),
        )
        for length in (16_384, 163_840)
    )
    assert long.expected - short.expected == (163_840 - 16_384) * 5 * 576 * 2


def test_weights_on_rocm_are_those_that_its_logs_print():
    # MI300X: 15.3047 GiB logged of Llama-3.1-8B (benchmarks/data/vllm_startup_logs.csv L068)
    found = footprint(LLAMA, "0.9.1", Load(256, 8192, 2), ROCM)
    assert found.weights.expected / GIBIBYTE == pytest.approx(15.3047, rel=0.003)
    assert found.non_torch.expected / GIBIBYTE == pytest.approx(0.66)


def test_sparse_attention_on_rocm_is_bounded_by_its_width_alone():
    dense = footprint(LLAMA, "0.33.0", Load(64, 2048, 2), ROCM)
    sparse = footprint(V3, "0.33.0", Load(64, 2048, 2, 65_536), ROCM, ranks=8)
    assert sparse.unexplained.high - dense.unexplained.high == pytest.approx(48 * GIBIBYTE)


@pytest.mark.parametrize(("version", "gib"), [("0.19.0", 0), ("0.25.1", 43), ("0.29.0", 0)])
def test_graphs_of_shared_experts_beside_recurrent_layers_are_bounded_by_no_log(
    version: str, gib: float
):
    model, device = architecture("Qwen/Qwen3.5-122B-A10B-FP8"), Device(100 * GIBIBYTE)
    load, parsed = Load(64, 2048, 2, 8192), Version.parse(version)
    alone, shared = (
        accounting.footprint(model, parsed, split, load, enforce_eager=False, device=device)
        for split in (Parallelism(4), Parallelism(4, expert=True))
    )
    wider = shared.unexplained.high - alone.unexplained.high
    assert wider == pytest.approx(gib * GIBIBYTE, abs=2)
