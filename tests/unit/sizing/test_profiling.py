"""The profiling run's peak: what the code of each vLLM version makes, against what logs print."""

from dataclasses import replace

import pytest

from vllm_operator.engine.versions import Version
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import Architecture, architecture_from_config
from vllm_operator.models.shapes import Pictures
from vllm_operator.sizing.asked.features import with_whole_encoder
from vllm_operator.sizing.memory import accounting, peak
from vllm_operator.sizing.memory.coefficients import Coefficient
from vllm_operator.sizing.memory.device import ANY_DEVICE, Device
from vllm_operator.sizing.memory.load import Load
from vllm_operator.sizing.split.parallelism import SINGLE, Parallelism

GIBIBYTE = 1024**3
QWEN_7B = "Qwen/Qwen2.5-7B-Instruct"
VISION = "Qwen/Qwen3-VL-30B-A3B-Instruct"
EMBEDDING = "Qwen/Qwen3-Embedding-8B"


def architecture(model: str) -> Architecture:
    return architecture_from_config(catalogue.find(model).config)


def peak_of(model: str, version: str, load: Load, ranks: int = 1) -> float:
    """Expected GiB."""
    found = peak.activation_peak(
        architecture(model), Version.parse(version), Parallelism(ranks), load
    )
    return found.expected / GIBIBYTE


@pytest.mark.parametrize(
    ("model", "ranks", "logged"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", 1, 4.76),
        ("Qwen/Qwen3-0.6B", 1, 5.56),
        ("Qwen/Qwen3-32B", 1, 5.64),
        ("openai/gpt-oss-20b", 1, 7.38),
        ("RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic", 2, 4.84),
    ],
)
def test_pytorchs_sampler_makes_the_peak_of_a_thousand_sequences(
    model: str, ranks: int, logged: float
):
    # Source: llm-d-benchmark config_explorer/empirical-vllm-memory-results.md
    found = peak_of(model, "0.11.2", Load(1024, 8192, 2), ranks)
    assert found == pytest.approx(logged, rel=0.02)


def test_the_last_hidden_states_are_held_beside_the_sampler():
    wide, narrow = (peak_of(QWEN_7B, "0.11.2", Load(1024, tokens, 2)) for tokens in (8192, 4096))
    assert wide - narrow == pytest.approx(4096 * 3584 * 2 / GIBIBYTE)


def test_flashinfers_sampler_takes_less_than_pytorchs():
    load = {"max_num_seqs": 1024, "max_num_batched_tokens": 2048, "element_bytes": 2}
    own, flashinfer = (Load(**load, flashinfer=given) for given in (False, True))
    assert peak_of(QWEN_7B, "0.11.0", flashinfer) < peak_of(QWEN_7B, "0.11.0", own) / 2


def test_a_pooling_server_samples_nothing():
    one, many = (peak_of(EMBEDDING, "0.11.0", Load(seqs, 8192, 2)) for seqs in (1, 1024))
    assert one == many


def test_an_unquantised_start_of_one_embedding_server_leaves_what_it_logged():
    # Boot log of Qwen3-Embedding-8B on H100, 0.11.0: 14.1062 GiB of weights and 56.18 of cache.
    found = accounting.footprint(
        architecture(EMBEDDING),
        Version((0, 11, 0)),
        SINGLE,
        Load(1024, 8192, 2),
        enforce_eager=False,
    )
    expected, _ = found.kv_cache(int(79.18 * GIBIBYTE), 0.9)
    assert expected / GIBIBYTE == pytest.approx(56.18, abs=0.15)


def test_pictures_of_0_11_are_padded_to_a_video_that_nobody_encodes():
    # 12.5 tokens were counted for each of the 12288 that a video makes; each keeps four levels of
    # 2048 elements. With pixels and what was encoded: 2.75 GiB in logs of 0.11.0 and 0.12.0.
    model, load = architecture(VISION), Load(64, 8192, 2)
    padded = peak.kept_pictures(model, Version((0, 11, 0)), load) / GIBIBYTE
    bare = peak.kept_pictures(model, Version((0, 13, 0)), load) / GIBIBYTE
    assert padded == pytest.approx(2.75, abs=0.05)
    assert bare < 0.5


@pytest.mark.parametrize(
    ("version", "seqs", "length", "items"),
    [
        ("0.30.0", 256, 16384, 32),
        ("0.30.0", 1, 16384, 32),
        ("0.30.0", 1, 1024, 4),
        ("0.9.2", 8, 16384, 8),
    ],
)
def test_small_pictures_are_encoded_many_at_a_time(
    version: str, seqs: int, length: int, items: int
):
    pictures = architecture("gaunernst/gemma-3-12b-it-qat-autoawq").pictures
    load = Load(seqs, 8192, 2, length)
    assert peak.encoded_items(pictures, Version.parse(version), load) == items


@pytest.mark.parametrize(
    ("version", "ranks", "gib"), [("0.30.0", 1, 4.0), ("0.30.0", 8, 0.5), ("0.10.2", 1, 0.0)]
)
def test_latent_attention_is_profiled_with_its_context_projected_up(
    version: str, ranks: int, gib: float
):
    # 65,536 tokens of 128 heads of 128 + 128 elements.
    layer = architecture("deepseek-ai/DeepSeek-R1").kinds[0]
    load = Load(64, 2048, 2, 163840)
    found = peak.context_bytes(layer, Parallelism(ranks), Version.parse(version), load)
    assert found / GIBIBYTE == pytest.approx(gib)


def test_sparse_attention_projects_no_context_up():
    layer = architecture("deepseek-ai/DeepSeek-V3.2").kinds[0]
    load = Load(64, 2048, 2, 163840)
    assert peak.context_bytes(layer, SINGLE, Version((0, 30, 0)), load) == 0


def test_a_long_context_makes_long_videos():
    pictures = architecture("Qwen/Qwen2-VL-2B-Instruct").pictures
    frames = [peak.frames_of(pictures, Load(1, 2048, 2, length)) for length in (4096, 65536)]
    assert frames == [1, 4]


def test_ranks_that_encode_items_of_their_own_gather_as_many_as_the_fullest_of_them_has():
    model = with_whole_encoder(architecture(VISION), Version((0, 33, 0)))
    pictures = model.pictures
    load = Load(64, 5 * pictures.tokens, 2, 4096)
    assert peak.encoded_at_once(pictures, Version((0, 33, 0)), load, 1) == (5, 5)
    assert peak.encoded_at_once(pictures, Version((0, 33, 0)), load, 4) == (2, 8)
    divided = peak.encoded_at_once(replace(pictures, spread=False), Version((0, 33, 0)), load, 4)
    assert divided == (5, 5)


def test_one_picture_of_ranks_that_encode_their_own_is_kept_once_for_each_rank():
    model = with_whole_encoder(architecture(VISION), Version((0, 33, 0)))
    one, four = (
        peak.kept_pictures(model, Version((0, 33, 0)), Load(64, 8192, 2, 4096), ranks)
        for ranks in (1, 4)
    )
    gathered = 2 * model.pictures.tokens * model.pictures.output
    assert four - one == 3 * gathered


def test_a_text_model_keeps_no_pictures():
    assert peak.kept_pictures(architecture(QWEN_7B), Version((0, 11, 0)), Load(1, 8192, 2)) == 0


@pytest.mark.parametrize(("version", "held"), [("0.26.0", False), ("0.27.0", True)])
def test_what_the_second_runner_holds_for_penalties_is_paid_for_from_0_27(version: str, held: bool):
    model, load = architecture(QWEN_7B), Load(1024, 2048, 2)
    found = accounting.footprint(model, Version.parse(version), SINGLE, load, enforce_eager=True)
    states = 1024 * 152064 * 33 // 8
    assert accounting.request_states(model, load) == states
    assert (found.non_torch.expected > states) is held


@pytest.mark.parametrize(
    ("device", "least"), [(Device(linked=True), 0.3), (Device(linked=False), 0.0)]
)
def test_communicators_of_linked_gpus_hold_buffers(device: Device, least: float):
    found = accounting.footprint(
        architecture(QWEN_7B),
        Version((0, 25, 0)),
        Parallelism(2),
        Load(256, 2048, 2),
        enforce_eager=True,
        device=device,
    )
    assert least <= found.non_torch.expected / GIBIBYTE < least + 0.3


def test_the_engine_before_v1_counts_no_context():
    first, second = (
        accounting.footprint(
            architecture(QWEN_7B),
            Version((0, 8, 5)),
            SINGLE,
            Load(256, 2048, 2, first_engine=given),
            enforce_eager=True,
        ).non_torch.expected
        for given in (True, False)
    )
    assert first < second


def test_bounds_of_parts_add_as_independent_errors():
    found = accounting.footprint(
        architecture(QWEN_7B),
        Version((0, 25, 0)),
        SINGLE,
        Load(256, 2048, 2),
        enforce_eager=True,
        device=ANY_DEVICE,
    )
    parts = (found.weights, found.activation_peak, found.non_torch)
    largest = max(part.high - part.expected for part in parts)
    total = found.inside_budget
    assert (
        largest
        <= total.high - total.expected
        < sum(p.high - p.expected for p in parts) + (found.device_total.high)
    )


def test_data_parallel_ranks_gather_each_others_tokens_before_the_experts():
    model, load = architecture("Qwen/Qwen3-30B-A3B"), Load(16, 8192, 2)
    version = Version((0, 30, 0))
    alone = peak.forward_bytes(model, version, Parallelism(1), load)
    four = peak.forward_bytes(model, version, Parallelism(1, 1, 4, True), load)
    assert four == 4 * alone


def test_what_latent_attention_made_stands_beside_its_context():
    # 2 bytes of 2,048 tokens: of two hidden states of 7,168 and of 128 heads' queries and answers
    # of 192 + 128; and 4 GiB of context.
    model, load = architecture("deepseek-ai/DeepSeek-R1"), Load(64, 2048, 2, 163840)
    found = peak.forward_bytes(model, Version((0, 30, 0)), SINGLE, load)
    assert found == 58_720_256 + 167_772_160 + 4 * GIBIBYTE


def test_ranks_that_encode_items_of_their_own_hold_those_of_all_of_them():
    # One item of four tokens a rank, of 1,000 elements of two bytes, and those of all eight.
    pictures = Pictures(16, 4, 8, 8, 1000, 1, rotary=True, spread=True)
    model = replace(architecture(QWEN_7B), pictures=pictures)
    load, none = Load(1, 2048, 2, 4), Coefficient(0.0, 0.0)
    found = peak.tower_bytes(model, Version((0, 33, 0)), load, none, 8)
    assert found == (72_000, 72_000)
