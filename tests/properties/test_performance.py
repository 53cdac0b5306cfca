"""What holds for every estimate of a server's speed, whatever the model, GPU and load."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from vllm_operator.engine.versions import Version
from vllm_operator.hardware import performance as gpus
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import Architecture, architecture_from_config
from vllm_operator.sizing.performance.server import Server, server
from vllm_operator.sizing.performance.work import work_of
from vllm_operator.sizing.split.parallelism import Parallelism

MODELS = (
    "meta-llama/Llama-3.1-8B-Instruct",
    "Qwen/Qwen3-30B-A3B",
    "deepseek-ai/DeepSeek-R1-0528",
    "openai/gpt-oss-120b",
)
VERSIONS = (Version((0, 8, 5)), Version((0, 14, 0)), Version((0, 30, 0)))
ARITHMETIC = ("flops_16bit", "flops_fp8", "flops_int8", "flops_fp4")
ROUNDING = 1 + 1e-9


def architecture(name: str) -> Architecture:
    facts = catalogue.find(name)
    assert facts is not None
    return architecture_from_config(facts.config)


architectures = st.sampled_from([architecture(name) for name in MODELS])
products = st.sampled_from(gpus.products())
splits = st.builds(
    Parallelism,
    tensor=st.sampled_from([1, 2, 8]),
    pipeline=st.sampled_from([1, 2, 3]),
    data=st.sampled_from([1, 2, 4]),
    expert=st.booleans(),
)
prompts, outputs = st.integers(1, 100_000), st.integers(2, 4000)


@st.composite
def servers(draw: st.DrawFn) -> Server:
    split, version = draw(splits), draw(st.sampled_from(VERSIONS))
    return server(
        work_of(draw(architectures), split),
        draw(products),
        version=version,
        max_num_batched_tokens=draw(st.sampled_from([512, 2048, 8192])),
        max_num_seqs=draw(st.integers(1, 1024)),
        kv_concurrency=draw(st.none() | st.floats(1, 2000)),
        nodes=draw(st.sampled_from([1, 2])),
    )


@given(servers(), prompts, outputs, st.integers(1, 2000), st.integers(1, 2000))
def test_more_requests_at_once_never_make_less_throughput(one, prompt, output, some, more):
    most = one.limits.sequences * one.work.split.data
    few, many = sorted(min(number, most) for number in (some, more))
    less = one.steady(prompt, output, few).output_tokens_per_second
    assert one.steady(prompt, output, many).output_tokens_per_second * ROUNDING >= less


@given(servers(), prompts, outputs, st.integers(1, 2000))
def test_requests_beyond_the_limit_wait_and_change_nothing_that_runs(one, prompt, output, more):
    one = replace(one, limits=replace(one.limits, cache_bound=False))
    most = one.limits.sequences * one.work.split.data
    assert one.steady(prompt, output, most + more) == one.steady(prompt, output, most)


@given(
    servers(),
    st.floats(0, 1000),
    st.floats(0, 10_000),
    st.floats(0, 100_000),
    st.floats(0, 100_000),
    st.floats(1, 3),
)
def test_a_step_never_gets_faster_with_longer_contexts(one, decodes, prompt, some, more, flying):
    short, long = sorted((some, more))
    less = one.times.step(decodes, short, prompt, short / 2, in_flight=flying)
    assert one.times.step(decodes, long, prompt, long / 2, in_flight=flying) * ROUNDING >= less


@given(servers(), prompts, prompts, outputs)
def test_a_request_alone_never_generates_faster_after_a_longer_prompt(one, some, more, output):
    short, long = sorted((some, more))
    less = one.steady(short, output, 1).inter_token_latency
    assert one.steady(long, output, 1).inter_token_latency * ROUNDING >= less


@given(
    architectures,
    products,
    splits,
    st.floats(1, 10),
    st.sampled_from([("memory_bandwidth",), ("link_bandwidth",), ARITHMETIC]),
    prompts,
    outputs,
    st.integers(1, 2000),
    st.sampled_from([1, 2]),
)
def test_a_faster_gpu_never_makes_a_slower_server(
    model, gpu, split, factor, what, prompt, output, requests, nodes
):
    figures = {name: getattr(gpu, name) for name in what}
    better = replace(gpu, **{name: figure and factor * figure for name, figure in figures.items()})
    one, other = (
        server(
            work_of(model, split),
            some,
            version=VERSIONS[-1],
            max_num_batched_tokens=2048,
            max_num_seqs=256,
            nodes=nodes,
        ).steady(prompt, output, requests)
        for some in (gpu, better)
    )
    assert other.output_tokens_per_second * ROUNDING >= one.output_tokens_per_second
    assert other.time_to_first_token <= one.time_to_first_token * ROUNDING


@given(servers(), prompts, outputs, st.integers(1, 2000))
def test_no_figure_is_negative_and_no_request_beats_the_napkin(one, prompt, output, requests):
    found = one.steady(prompt, output, requests)
    assert found.time_to_first_token > 0
    assert found.inter_token_latency * found.napkin_tokens_per_second > 0.99
    assert found.requests_per_second > 0
