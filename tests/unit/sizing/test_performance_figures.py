"""Figures of the performance model, to five digits.

Coefficients are frozen here, so that a new fit changes nothing; a change of the formulas does.
"""

from dataclasses import replace

import pytest

from vllm_operator.engine.versions import Version
from vllm_operator.hardware import performance as gpus
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import architecture_from_config
from vllm_operator.sizing.performance.batch import PerformanceEstimate
from vllm_operator.sizing.performance.coefficients import Coefficients
from vllm_operator.sizing.performance.server import Server, server
from vllm_operator.sizing.performance.work import work_of

FROZEN = Coefficients(
    compute=0.6,
    narrow=150,
    expert_compute=0.9,
    expert_padding=32,
    dequantized_compute=0.75,
    bandwidth=0.8,
    attention_compute=0.5,
    cache_bandwidth=0.65,
    elementwise_passes=11,
    step_seconds=0.0016,
    sequence_seconds=2e-5,
    ranks_seconds=0.0016,
    kernel_seconds=3.5e-6,
    launch_seconds=3e-5,
    eager_launch_seconds=6e-5,
    answer_seconds=5e-5,
    logit_passes=8,
    expert_skew=1.2,
    all_reduce_seconds=2.5e-5,
    link_efficiency=0.6,
    network_bandwidth=50e9,
    network_seconds=2e-5,
    recompute=0.4,
    preempted=0.2,
    request_seconds=0.003,
)
LLAMA_8B, LLAMA_70B = "meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-70B-Instruct"
QWEN, R1, OSS = (
    "Qwen/Qwen3-235B-A22B-Instruct-2507-FP8",
    "deepseek-ai/DeepSeek-R1-0528",
    "openai/gpt-oss-20b",
)
# Model, GPU, tensor-parallel size, version, requests that the KV cache holds; prompt and output
# tokens and requests; then seconds to the first token and between tokens, output tokens a second
# and the napkin figure, of a steady load and of a burst of twice as many requests.
FIGURES = [
    (
        (LLAMA_8B, "H100 SXM", 1, (0, 30, 0), None),
        (1024, 256, 1),
        (0.0314511, 0.0069065, 142.809, 220.972),
        (0.0580842, 0.0069805, 279.002, 220.972),
    ),
    (
        (LLAMA_8B, "L4", 1, (0, 12, 0), 20.5),
        (1024, 256, 64),
        (0.321205, 0.100963, 209.28, 19.7885),
        (78.2876, 0.105286, 171.718, 19.7885),
    ),
    (
        (LLAMA_70B, "A100 SXM 80GB", 4, (0, 12, 0), None),
        (20000, 300, 32),
        (5.69778, 0.609898, 51.0483, 56.0141),
        (173.854, 1.15036, 46.7025, 56.0141),
    ),
    (
        (QWEN, "H200", 4, (0, 30, 0), None),
        (1024, 1024, 64),
        (0.178819, 0.0349284, 1824.98, 840.787),
        (1.86112, 0.0393387, 1511.86, 840.787),
    ),
    (
        (R1, "H200", 8, (0, 30, 0), None),
        (4000, 500, 100),
        (0.252483, 0.0645403, 1540.45, 799.807),
        (13.4978, 0.114708, 1277.54, 799.807),
    ),
    (
        (OSS, "H100 SXM", 2, (0, 12, 0), None),
        (8192, 100, 200),
        (0.152197, 0.0985544, 998.344, 1637.85),
        (20.0332, 0.0986453, 926.092, 1637.85),
    ),
]
IDS = [f"{model[0].rpartition('/')[2]} on {model[1]}" for model, *_ in FIGURES]


def ready(model, product, tensor, version, held) -> Server:
    facts, gpu = catalogue.find(model), gpus.find(product)
    assert facts is not None
    assert gpu is not None
    work = work_of(architecture_from_config(facts.config), tensor=tensor)
    return server(
        work,
        gpu,
        version=Version(version),
        max_num_batched_tokens=8192,
        max_num_seqs=256,
        kv_concurrency=held,
        found=FROZEN,
    )


def figures(found: PerformanceEstimate) -> tuple[float, ...]:
    return (
        found.time_to_first_token,
        found.inter_token_latency,
        found.output_tokens_per_second,
        found.napkin_tokens_per_second,
    )


@pytest.mark.parametrize(("given", "load", "steady", "burst"), FIGURES, ids=IDS)
def test_a_steady_load_has_the_figures_that_it_had(given, load, steady, burst):
    assert figures(ready(*given).steady(*load)) == pytest.approx(steady, rel=1e-5)


@pytest.mark.parametrize(("given", "load", "steady", "burst"), FIGURES, ids=IDS)
def test_a_burst_has_the_figures_that_it_had(given, load, steady, burst):
    prompt, output, requests = load
    found = ready(*given).burst(prompt, output, 2 * requests, varied=True)
    assert figures(found) == pytest.approx(burst, rel=1e-5)


def test_no_more_requests_come_in_than_the_api_server_takes():
    busy = replace(ready(*FIGURES[0][0]), found=replace(FROZEN, request_seconds=0.05))
    assert busy.steady(16, 2, 256).requests_per_second == pytest.approx(20)
