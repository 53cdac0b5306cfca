"""The performance model: what it must say whatever its coefficients."""

from dataclasses import replace
from itertools import pairwise

import pytest

from vllm_operator.engine.versions import NEWEST_KNOWN, Version
from vllm_operator.hardware import catalogue
from vllm_operator.hardware import performance as gpus
from vllm_operator.models.matrices import Matrix, Split
from vllm_operator.models.quantization import Quantization, Scheme
from vllm_operator.models.shapes import Architecture, AttentionCache, Layer
from vllm_operator.sizing.performance.batch import PerformanceEstimate
from vllm_operator.sizing.performance.coefficients import Coefficients, coefficients
from vllm_operator.sizing.performance.estimate import estimate
from vllm_operator.sizing.performance.server import Server, server
from vllm_operator.sizing.performance.work import experts_touched, work_of

GENERATIONS = ("volta", "turing", "ampere", "ada", "hopper", "blackwell", "cdna", "rdna")
FP8 = Quantization("fp8", lambda name, layer, expert: Scheme("fp8", 8, compute="fp8"))


def gpu(name="NVIDIA-H100-80GB-HBM3"):
    found = gpus.find(name)
    assert found is not None
    return found


def layer(window=None, experts=0, active=0) -> Layer:
    def mlp(name, inputs, outputs, split):
        return Matrix(name, inputs, outputs, split, experts=experts, active=active)

    return Layer(
        matrices=(
            Matrix("self_attn.q_proj", 4096, 4096, Split.HEADS, heads=32),
            Matrix("self_attn.k_proj", 4096, 1024, Split.HEADS, heads=8),
            Matrix("self_attn.v_proj", 4096, 1024, Split.HEADS, heads=8),
            Matrix("self_attn.o_proj", 4096, 4096, Split.INPUTS),
            mlp("mlp.gate_proj", 4096, 14336, Split.OUTPUTS),
            mlp("mlp.up_proj", 4096, 14336, Split.OUTPUTS),
            mlp("mlp.down_proj", 14336, 4096, Split.INPUTS),
        ),
        norms=8192,
        cache=AttentionCache(heads=8, key_dim=128, value_dim=128, window=window),
        query_heads=32,
        query_dim=128,
        value_dim=128,
    )


def model(kinds=None, pattern=(0,) * 32, **facts) -> Architecture:
    """Llama-3.1-8B, or a model of its widths."""
    return Architecture(
        name="LlamaForCausalLM",
        hidden_size=4096,
        kinds=kinds or (layer(),),
        pattern=pattern,
        embedding=Matrix("embed_tokens", 4096, 128256, Split.VOCABULARY, kind="embedding"),
        head=Matrix("lm_head", 4096, 128256, Split.VOCABULARY, kind="other"),
        extra_norms=4096,
        attention_heads=32,
        key_value_heads=8,
        vocabulary_size=128256,
        context_length=131072,
        rotary_elements=0,
        dtype="bfloat16",
        **facts,
    )


def load(architecture=None, on=None, **given) -> PerformanceEstimate:
    settings = {
        "tensor": 1,
        "version": NEWEST_KNOWN,
        "max_num_batched_tokens": 8192,
        "max_num_seqs": 256,
        "prompt_tokens": 1024,
        "output_tokens": 256,
        "concurrency": 64,
        **given,
    }
    return estimate(architecture or model(), on or gpu(), **settings)


def ready(architecture=None, on=None, found=None, **given) -> Server:
    work = work_of(architecture or model(), tensor=given.pop("tensor", 1))
    limits = {"max_num_batched_tokens": 8192, "max_num_seqs": 256, **given}
    return server(work, on or gpu(), version=NEWEST_KNOWN, found=found, **limits)


PERFECT = Coefficients(
    compute=1,
    narrow=0,
    expert_compute=1,
    expert_padding=0,
    dequantized_compute=1,
    bandwidth=1,
    attention_compute=1,
    cache_bandwidth=1,
    elementwise_passes=0,
    step_seconds=0,
    ranks_seconds=0,
    kernel_seconds=0,
    launch_seconds=0,
    eager_launch_seconds=0,
    sequence_seconds=0,
    answer_seconds=0,
    logit_passes=0,
    expert_skew=1,
    all_reduce_seconds=0,
    link_efficiency=1,
    network_bandwidth=50e9,
    network_seconds=0,
    recompute=0,
    preempted=0,
    request_seconds=0,
)


def test_one_request_of_a_dense_model_is_bound_by_memory():
    loaded = 2 * (model().parameters - model().embedding.parameters)
    found = ready(found=PERFECT).times.step(1, 0, 0, 0)
    assert found == pytest.approx(loaded / gpu().memory_bandwidth, rel=0.01)


def test_a_long_prompt_is_bound_by_arithmetic():
    matrices = sum(one.parameters for one in model().kinds[0].matrices) * 32
    found = ready(found=PERFECT).times.step(0, 0, 8192, 0)
    assert found == pytest.approx(2 * matrices * 8192 / gpu().flops_16bit, rel=0.01)


def test_the_napkin_figure_is_bandwidth_over_the_bytes_of_a_token():
    weights = 2 * (model().parameters - model().embedding.parameters)
    cache = 32 * 2 * 8 * 128 * 2 * (1024 + 256 / 2)
    expected = gpu().memory_bandwidth / (weights + cache)
    assert load().napkin_tokens_per_second == pytest.approx(expected, rel=0.001)


def test_one_request_is_slower_than_the_napkin_figure_but_not_by_much():
    alone = load(concurrency=1)
    reached = 1 / alone.inter_token_latency / alone.napkin_tokens_per_second
    assert 0.5 < reached < 1


def test_the_napkin_figure_counts_only_the_experts_that_a_token_visits():
    sparse = model((layer(experts=8, active=2),))
    dense = work_of(model(), tensor=1)
    assert work_of(sparse, tensor=1).napkin_bytes(0) == pytest.approx(
        dense.napkin_bytes(0) + 32 * 3 * 4096 * 14336 * 2
    )


@pytest.mark.parametrize(
    ("tokens", "touched"), [(0, 0), (1, 8), (2, 128 * (1 - (15 / 16) ** 2)), (10_000, 128)]
)
def test_tokens_visit_distinct_experts_as_balls_fall_into_bins(tokens, touched):
    assert experts_touched(128, 8, tokens) == pytest.approx(touched)


def test_more_requests_read_more_experts():
    sparse = ready(model((layer(experts=8, active=2),)), found=PERFECT)
    one, two, many = (sparse.times.step(batch, 0, 0, 0) for batch in (1, 2, 32))
    assert two > 1.5 * one
    assert many == pytest.approx(sparse.times.step(31, 0, 0, 0), rel=0.01)


@pytest.mark.parametrize("tokens", [1, 16, 256, 8192])
def test_more_gpus_never_make_the_matrices_slower(tokens):
    found = replace(coefficients(NEWEST_KNOWN, "hopper", "nvlink"), all_reduce_seconds=0)
    found = replace(found, ranks_seconds=0, link_efficiency=1e9)
    times = [
        ready(tensor=tensor, found=found).times.step(0, 0, tokens, 0) for tensor in (1, 2, 4, 8)
    ]
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize("concurrency", [1, 8, 64, 256, 1024])
@pytest.mark.parametrize(("prompt", "output"), [(128, 1), (128, 1024), (8192, 64), (1024, 256)])
def test_throughput_never_falls_with_more_bandwidth(concurrency, prompt, output):
    given = {"concurrency": concurrency, "prompt_tokens": prompt, "output_tokens": output}
    figures = [
        load(on=replace(gpu(), memory_bandwidth=bandwidth * 1e12), **given).output_tokens_per_second
        for bandwidth in (1, 2, 3, 4, 8)
    ]
    assert figures == sorted(figures)


@pytest.mark.parametrize(("prompt", "output"), [(128, 1024), (8192, 64), (1024, 256)])
def test_throughput_rises_with_concurrency_until_the_batch_is_full(prompt, output):
    figures = [
        load(
            concurrency=number, prompt_tokens=prompt, output_tokens=output
        ).output_tokens_per_second
        for number in (1, 2, 4, 8, 16, 32, 64, 128, 256)
    ]
    assert all(more >= less * 0.98 for less, more in pairwise(figures))
    full = load(concurrency=256, prompt_tokens=prompt, output_tokens=output)
    over = load(concurrency=4096, prompt_tokens=prompt, output_tokens=output)
    assert over.output_tokens_per_second == full.output_tokens_per_second


def test_prompts_of_others_lengthen_the_time_between_tokens():
    short = load(prompt_tokens=16, output_tokens=256)
    long = load(prompt_tokens=4096, output_tokens=256)
    assert long.inter_token_latency > 1.5 * short.inter_token_latency


def test_a_prompt_takes_as_long_as_its_pieces():
    whole = load(concurrency=1, prompt_tokens=16384, output_tokens=16)
    pieces = load(concurrency=1, prompt_tokens=16384, output_tokens=16, max_num_batched_tokens=2048)
    assert whole.time_to_first_token < pieces.time_to_first_token < 1.5 * whole.time_to_first_token


def test_a_request_waits_for_the_step_that_it_arrives_in():
    given = {"prompt_tokens": 64, "output_tokens": 512}
    alone, many = (load(concurrency=number, **given) for number in (1, 128))
    assert many.time_to_first_token > alone.time_to_first_token + many.inter_token_latency


def test_the_kv_cache_limits_the_batch():
    limited = load(concurrency=64, kv_concurrency=8)
    assert limited.batch <= 8
    assert limited.output_tokens_per_second < load(concurrency=64).output_tokens_per_second


def test_a_window_spares_the_cache_bandwidth():
    slid = model((layer(window=128),))
    given = {"prompt_tokens": 16384, "output_tokens": 512, "concurrency": 32}
    assert load(slid, **given).inter_token_latency < load(**given).inter_token_latency


def test_fewer_bits_make_one_request_faster():
    quantized = load(model(quantization=FP8), concurrency=1)
    assert quantized.inter_token_latency < 0.75 * load(concurrency=1).inter_token_latency


def test_fp8_arithmetic_needs_hardware_that_has_it():
    ampere = gpu("NVIDIA-A100-SXM4-80GB")
    assert ampere.flops("fp8") == ampere.flops_16bit
    step = ready(model(quantization=FP8), on=ampere).times.step(0, 0, 8192, 0)
    assert step > ready(on=ampere).times.step(0, 0, 8192, 0)


def test_eager_execution_is_slower():
    assert (
        load(concurrency=1, enforce_eager=True).inter_token_latency
        > load(concurrency=1).inter_token_latency
    )


def test_a_step_that_no_cuda_graph_holds_takes_as_long_as_its_launches():
    found = replace(PERFECT, launch_seconds=1.0)
    times = ready(found=found, max_num_seqs=1024).times
    assert times.step(513, 100, 0, 0) == pytest.approx(32 * 11, rel=0.01)
    assert times.step(512, 100, 0, 0) < 1


def test_few_sequences_capture_few_graphs():
    found = replace(PERFECT, launch_seconds=1.0)
    small, large = (ready(found=found, max_num_seqs=seqs).times for seqs in (16, 64))
    assert small.step(0, 0, 64, 0) > 1 > large.step(0, 0, 64, 0)


def test_scheduling_ahead_hides_the_hosts_work():
    ahead = load(version=Version((0, 14, 0)), concurrency=256)
    behind = load(version=Version((0, 13, 0)), concurrency=256)
    assert ahead.inter_token_latency < behind.inter_token_latency


def test_pipeline_stages_raise_throughput_but_not_the_speed_of_one_request():
    given = {"prompt_tokens": 128, "output_tokens": 512}
    one, two = (load(pipeline=stages, concurrency=1, **given) for stages in (1, 2))
    assert two.inter_token_latency >= one.inter_token_latency
    one, two = (load(pipeline=stages, concurrency=256, **given) for stages in (1, 2))
    assert two.output_tokens_per_second > one.output_tokens_per_second


def test_a_burst_takes_as_long_as_its_prompts_and_its_tokens():
    found = ready(found=replace(PERFECT, request_seconds=1e-9)).burst(1024, 256, 64)
    times = ready(found=PERFECT).times
    prompts = 8 * times.step(4, 1024, 8192, 512)
    tokens = 255 * times.step(64, 1152, 0, 0)
    assert found.requests_per_second == pytest.approx(64 / (prompts + tokens), rel=0.02)


def test_outputs_of_many_lengths_lengthen_a_burst():
    alike = ready().burst(256, 256, 200)
    varied = ready().burst(256, 256, 200, varied=True)
    assert varied.inter_token_latency > alike.inter_token_latency
    assert varied.output_tokens_per_second < alike.output_tokens_per_second


@pytest.mark.parametrize("rate", [0.01, 1, 5, 10])
def test_requests_that_arrive_slowly_are_served_as_they_arrive(rate):
    found = ready().arriving(1024, 256, rate)
    assert found.requests_per_second == rate
    assert found.output_tokens_per_second == rate * 256


def test_requests_that_arrive_too_fast_get_what_there_is():
    full = ready().steady(1024, 256, 256)
    assert ready().arriving(1024, 256, 10_000) == full


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("link", ["nvlink", "xgmi", "pcie"])
def test_every_coefficient_is_known_for_all_hardware(generation, link):
    found = coefficients(Version((0, 8, 0)), generation, link)
    assert 0 < found.compute <= 1
    assert 0 < found.bandwidth <= 1


@pytest.mark.parametrize("product", catalogue.products(), ids=lambda product: product.name)
def test_every_product_has_its_figures(product):
    found = gpus.find(product.name)
    assert found is not None
    assert found.name == product.name
    assert found.generation in GENERATIONS
    assert 100e9 < found.memory_bandwidth < 10e12
    assert found.source


def test_a_product_without_a_known_memory_has_its_figures_too():
    assert catalogue.find("Jetson AGX Thor") is None
    assert catalogue.find("NVIDIA-RTX-6000D") is None


@pytest.mark.parametrize("row", gpus.products(), ids=lambda row: row.name)
def test_fewer_bits_are_never_multiplied_slower(row):
    figures = [row.flops_16bit, row.flops_fp8, row.flops_fp4]
    known = [figure for figure in figures if figure is not None]
    assert known == sorted(known)
    assert row.link_bandwidth < row.memory_bandwidth


def test_a_family_is_as_fast_as_its_slowest_member():
    family, slowest = gpu("H100"), gpu("NVIDIA-H100-PCIe")
    assert family.memory_bandwidth == slowest.memory_bandwidth
    assert family.link == "pcie"


def test_an_unknown_product_has_no_figures():
    assert gpus.find("Voodoo 2") is None
