"""What changes from one vLLM release to the next, with the answers on both sides of each change."""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from vllm_operator.engine import defaults
from vllm_operator.engine.addresses import unread_because
from vllm_operator.engine.devices import oldest_capability
from vllm_operator.engine.failures import known_failure
from vllm_operator.engine.metrics import metrics
from vllm_operator.engine.tables import does
from vllm_operator.engine.versions import Version

RELEASES = (
    *("0.8.0", "0.8.1", "0.8.2", "0.8.3", "0.8.4", "0.8.5", "0.9.0", "0.9.1", "0.9.2"),
    *("0.10.0", "0.10.1", "0.10.2", "0.11.0", "0.11.1", "0.11.2", "0.12.0", "0.13.0", "0.14.0"),
    *("0.15.0", "0.15.1", "0.16.0", "0.17.0", "0.17.1", "0.18.0", "0.19.0", "0.19.1", "0.20.0"),
    *("0.20.2", "0.21.0", "0.22.0", "0.22.1", "0.23.0", "0.24.0", "0.25.0", "0.25.1", "0.26.0"),
    *("0.26.1", "0.27.0", "0.28.0", "0.28.1", "0.29.0", "0.30.0", "0.31.0", "0.32.0", "0.33.0"),
    "0.34.0",
)
GIBIBYTE = 1024**3
TAKEN = (
    "ValueError: Free memory on device (60.11/79.18 GiB) on startup is less than desired GPU "
    "memory utilization (0.92, 72.85 GiB)."
)
Question = Callable[[Version], Any]
QUESTIONS: Mapping[str, tuple[Question, Mapping[str, Any]]] = {
    "share of the memory that is taken": (
        defaults.gpu_memory_utilization,
        {"0.8.0": 0.9, "0.20.0": 0.92},
    ),
    "whether the budget pays for graphs": (
        lambda v: defaults.counts_cuda_graphs(v, 1),
        {"0.8.0": False, "0.20.0": True},
    ),
    "whether the budget pays for graphs of the second runner": (
        lambda v: defaults.counts_cuda_graphs(v, 2),
        {"0.8.0": False, "0.29.0": True},
    ),
    "whether the budget pays for all that is taken": (
        partial(does, "counts-all-that-is-taken"),
        {"0.8.0": False, "0.27.0": True},
    ),
    "object stores that are read": (
        lambda v: [one for one in ("s3", "gs", "az") if unread_because(one, v) is None],
        {
            "0.8.0": [],
            "0.8.5": ["s3"],
            "0.10.1": [],
            "0.10.2": ["s3"],
            "0.11.0": [],
            "0.11.1": ["s3", "gs"],
            "0.18.0": ["s3", "gs", "az"],
        },
    ),
    "whether pictures are padded to the encoder's budget": (
        partial(does, "pads-pictures"),
        {"0.8.0": False, "0.11.0": True, "0.13.0": False},
    ),
    "whether FlashInfer samples in official images": (
        lambda v: defaults.samples_with_flashinfer(v, "vllm/vllm-openai:v1"),
        {"0.8.0": False, "0.9.0": True, "0.11.1": False},
    ),
    "whether FlashInfer samples in others": (
        lambda v: defaults.samples_with_flashinfer(v, "mine/vllm:v1"),
        {"0.8.0": False},
    ),
    "whether concurrency times length is printed": (
        partial(does, "prints-concurrency-tokens"),
        {"0.8.0": False, "0.21.0": True},
    ),
    "whether blocks have 8 tokens": (
        lambda v: defaults.accepts_block_size(8, v),
        {"0.8.0": True, "0.18.0": False},
    ),
    "whether blocks have 16 tokens": (
        lambda v: defaults.accepts_block_size(16, v),
        {"0.8.0": True},
    ),
    "whether blocks have 48 tokens": (
        lambda v: defaults.accepts_block_size(48, v),
        {"0.8.0": False, "0.18.0": True},
    ),
    "whether blocks have 256 tokens": (
        lambda v: defaults.accepts_block_size(256, v),
        {"0.8.0": False, "0.11.1": True},
    ),
    "whether windows have tables of their own": (
        partial(does, "has-hybrid-cache"),
        {"0.8.0": False, "0.10.0": True},
    ),
    "whether groups are those of all stages": (
        partial(does, "groups-whole-models"),
        {"0.8.0": False, "0.11.0": True},
    ),
    "how much longer groups are padded": (
        defaults.group_padding,
        {"0.8.0": 1.0, "0.12.0": 1.25, "0.18.0": 1.5},
    ),
    "whether graphs want a block for each state": (
        partial(does, "wants-a-block-a-state"),
        {"0.8.0": False, "0.20.0": True},
    ),
    "whether windows keep every batch in flight": (
        partial(does, "counts-batches-in-flight"),
        {"0.8.0": False, "0.26.0": True},
    ),
    "whether yarn multiplies the length": (
        partial(does, "multiplies-yarn"),
        {"0.8.0": True, "0.30.0": False},
    ),
    "whether recurrent layers cache prefixes unasked": (
        partial(does, "caches-recurrent-prefixes"),
        {"0.8.0": False, "0.28.0": True},
    ),
    "whether mamba2 keeps a state of each block": (
        lambda v: defaults.state_caching(v, "mamba2", True, drafting=False).chunk > 0,
        {"0.8.0": False, "0.11.1": True, "0.28.0": False},
    ),
    "blocks of cached states": (
        lambda v: {
            kind: defaults.state_caching(v, kind, True, drafting=True).blocks
            for kind in ("mamba1", "mamba2", "linear", "gdn", "kda", "short_conv")
        },
        {
            "0.8.0": dict.fromkeys(("mamba1", "mamba2", "linear", "gdn", "kda", "short_conv"), 0),
            "0.15.0": dict.fromkeys(("mamba1", "mamba2", "linear", "gdn", "kda", "short_conv"), 1),
            "0.32.0": {
                **dict.fromkeys(("mamba1", "linear", "gdn", "kda", "short_conv"), 1),
                "mamba2": 2,
            },
            "0.33.0": {
                **dict.fromkeys(("mamba1", "linear", "kda", "short_conv"), 1),
                "mamba2": 2,
                "gdn": 2,
            },
        },
    ),
    "bytes of verifying a logit": (
        lambda v: defaults.rejection_bytes(v, 1, 1000),
        {"0.8.0": 0, "0.8.2": 10_000, "0.14.0": 14_000},
    ),
    "bytes of verifying a logit with the second runner": (
        lambda v: defaults.rejection_bytes(v, 2, 1000),
        {"0.8.0": 0, "0.22.0": 10_000, "0.27.0": 10_000},
    ),
    "bytes of verifying many logits with the second runner": (
        lambda v: defaults.rejection_bytes(v, 2, 2**30),
        {"0.8.0": 0, "0.22.0": 10 * 2**30, "0.27.0": 2 * 2**30 + 8 * 2**28},
    ),
    "whether Gemma 2 runs in float16": (
        lambda v: defaults.has_half_precision("Gemma2ForCausalLM", v),
        {"0.8.0": True, "0.9.1": False},
    ),
    "whether Gemma 3's text runs in float16": (
        lambda v: defaults.has_half_precision("Gemma3ForCausalLM", v),
        {"0.8.0": True, "0.10.2": False},
    ),
    "whether asynchronous scheduling is offered": (
        partial(does, "schedules-ahead-when-asked"),
        {"0.8.0": False, "0.12.0": True, "0.14.0": False},
    ),
    "whether the time to get ready is a variable": (
        lambda v: defaults.has_environment("VLLM_ENGINE_READY_TIMEOUT_S", v),
        {"0.8.0": False, "0.14.0": True},
    ),
    "whether the cache's folder is a variable": (
        lambda v: defaults.has_environment("VLLM_CACHE_ROOT", v),
        {"0.8.0": True},
    ),
    "whether the engine drains by itself": (
        lambda v: defaults.has_flag("--shutdown-timeout", v),
        {"0.8.0": False, "0.18.0": True},
    ),
    "limits of an 80 GiB GPU": (
        lambda v: limits(v, 80, "NVIDIA-H100-80GB-HBM3"),
        {"0.8.0": (8192, 1024)},
    ),
    "limits of an A100": (
        lambda v: limits(v, 80, "NVIDIA-A100-SXM4-80GB"),
        {"0.8.0": (2048, 1024), "0.8.4": (2048, 256), "0.8.5": (8192, 1024), "0.9.0": (2048, 256)},
    ),
    "limits of an H20": (
        lambda v: limits(v, 96, "NVIDIA-H20"),
        {"0.8.0": (2048, 1024), "0.8.4": (2048, 256), "0.8.5": (8192, 1024)},
    ),
    "limits of a GPU with 160 GiB": (
        lambda v: limits(v, 160, "NVIDIA-B200"),
        {
            "0.8.0": (2048, 1024),
            "0.8.4": (2048, 256),
            "0.8.5": (8192, 1024),
            "0.28.0": (16384, 1024),
        },
    ),
    "limits of a GB10": (
        lambda v: limits(v, 119, "NVIDIA-GB10"),
        {
            "0.8.0": (2048, 1024),
            "0.8.4": (2048, 256),
            "0.8.5": (8192, 1024),
            "0.33.0": (2048, 256),
        },
    ),
    "limits of a GPU just below 70 GiB": (
        lambda v: limits(v, 69.99, "NVIDIA-X"),
        {"0.8.0": (2048, 1024), "0.8.4": (2048, 256)},
    ),
    "the model runner of Qwen3": (
        lambda v: runner(v, "Qwen3ForCausalLM"),
        {"0.8.0": 1, "0.22.0": 2},
    ),
    "the model runner of Qwen3, quantised": (
        lambda v: runner(v, "Qwen3ForCausalLM", quantized=True),
        {"0.8.0": 1, "0.24.0": 2},
    ),
    "the model runner of Llama": (
        lambda v: runner(v, "LlamaForCausalLM"),
        {"0.8.0": 1, "0.23.0": 2},
    ),
    "the model runner of Gemma 3": (
        lambda v: runner(v, "Gemma3ForCausalLM"),
        {"0.8.0": 1, "0.25.0": 2},
    ),
    "the model runner of another mixture of experts": (
        lambda v: runner(v, "Qwen3MoeForCausalLM", dense=False),
        {"0.8.0": 1, "0.29.0": 2},
    ),
    "the model runner of a dense model with states": (
        lambda v: runner(v, "SomethingForCausalLM", recurrent=True),
        {"0.8.0": 1, "0.29.0": 2},
    ),
    "the model runner of DeepSeek-V4 on AMD": (
        lambda v: runner(v, "DeepseekV4ForCausalLM", dense=False, rocm=True),
        {"0.8.0": 1, "0.28.0": 2, "0.29.0": 1, "0.32.0": 2},
    ),
    "the model runner of GLM-5 on AMD": (
        lambda v: runner(v, "GlmMoeDsaForCausalLM", dense=False, rocm=True),
        {"0.8.0": 1, "0.29.0": 2, "0.30.0": 1, "0.32.0": 2},
    ),
    "the oldest GPU of the images": (
        oldest_capability,
        {"0.8.0": (7, 0), "0.20.0": (7, 5)},
    ),
    "the name of the cache's use": (
        lambda v: metrics(v)["kvCacheUsage"].name,
        {"0.8.0": "vllm:gpu_cache_usage_perc", "0.9.2": "vllm:kv_cache_usage_perc"},
    ),
    "the name of the time between tokens": (
        lambda v: metrics(v)["interTokenLatency"].name,
        {
            "0.8.0": "vllm:time_per_output_token_seconds",
            "0.10.2": "vllm:inter_token_latency_seconds",
        },
    ),
    "starts before what somebody else takes is done without": (
        lambda v: failure(v, TAKEN)[1],
        {"0.8.0": 1, "0.9.0": 2},
    ),
    "what too little free memory is told as": (
        lambda v: failure(v, TAKEN)[0],
        {"0.8.0": "", "0.9.0": "GPUMemoryTaken"},
    ),
}


def limits(version: Version, gibibytes: float, gpu: str) -> tuple[int, int]:
    found = defaults.batch_defaults(version, int(gibibytes * GIBIBYTE), gpu)
    return found.max_num_batched_tokens, found.max_num_seqs


def runner(version: Version, architecture: str, **kind: bool) -> int:
    full = {"dense": True, "recurrent": False, "quantized": False, **kind}
    return defaults.model_runner(architecture, version, **full)


def failure(version: Version, text: str) -> tuple[str, int]:
    found = known_failure("log", text, version)
    return (found.reason, found.after) if found else ("", 1)


def test_releases_ascend() -> None:
    found = [Version.parse(text).release for text in RELEASES]
    assert all(one < other for one, other in pairwise(found))


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_answer_changes_with_its_release_and_with_no_other(question: str) -> None:
    ask, steps = QUESTIONS[question]
    assert set(steps) <= set(RELEASES)
    said, answer = {}, None
    for text in RELEASES:
        answer = steps.get(text, answer)
        said[text] = answer
    assert {text: ask(Version.parse(text)) for text in RELEASES} == said
