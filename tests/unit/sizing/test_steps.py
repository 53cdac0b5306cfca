"""What sizing takes otherwise from one vLLM release to the next, on both sides of each change."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from unit.engine.test_steps import RELEASES
from unit.sizing.examples import LLAMA_8B, plan_of
from vllm_operator.api.plan import Plan
from vllm_operator.engine.versions import Version
from vllm_operator.hardware import performance as gpus
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import Architecture, architecture_from_config
from vllm_operator.sizing.asked.adapters import (
    Adapters,
    adapter_bytes,
    graphs_factor,
    may_divide_experts,
)
from vllm_operator.sizing.memory.allocator import CachingAllocator
from vllm_operator.sizing.memory.coefficients import coefficient
from vllm_operator.sizing.memory.kernels import as_loaded
from vllm_operator.sizing.memory.kvcache import CacheSettings, cache_layout
from vllm_operator.sizing.memory.load import Load
from vllm_operator.sizing.memory.peak import context_bytes, encoded_items, runner_of
from vllm_operator.sizing.memory.weights import bytes_per_rank
from vllm_operator.sizing.performance.server import server
from vllm_operator.sizing.performance.work import work_of
from vllm_operator.sizing.split.parallelism import SINGLE, Parallelism

GIBIBYTE = 1024**3
MEBIBYTE = 1024**2
ONE = Adapters(slots=1, rank=8)
EXPERTS = "Qwen/Qwen3-235B-A22B-FP8"
BITS_AND_BYTES = "unsloth/meta-llama-3.1-8b-instruct-unsloth-bnb-4bit"
FP8_MODEL = "RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic"
Question = Callable[[Version], Any]


def model(name: str) -> Architecture:
    return architecture_from_config(catalogue.find(name).config)


def windowed(version: Version) -> int:
    """Blocks of a long request in one group of windows of 1024, with steps of 2048 tokens."""
    settings = CacheSettings(version, SINGLE, 16, 16, 2048)
    groups = cache_layout(model("gaunernst/gemma-3-12b-it-qat-autoawq"), settings).groups
    return max((g.blocks_for(65_536, settings) for g in groups if g.kind == "window"), default=0)


def held(version: Version, mebibytes: float) -> float:
    """MiB of a tensor with what the allocator adds."""
    allocator = CachingAllocator(version)
    allocator.allocate(int(mebibytes * MEBIBYTE))
    return allocator.allocated / MEBIBYTE


def says(version: Version, words: str, name: str = LLAMA_8B, **engine: Any) -> bool:
    """Whether a plan is refused with these words."""
    plan = plan_of(name, engine={"version": str(version), **engine})
    return any(words in problem.message for problem in plan.problems)


def fp8_cache_unasked(version: Version) -> bool:
    plan = plan_of(LLAMA_8B, engine={"version": str(version)}, workload={"profile": "LongContext"})
    return any(flag.name == "--kv-cache-dtype" for flag in plan.flags)


def whole_experts_unasked(version: Version) -> bool:
    """Whether experts whose blocks eight ranks would cut are kept whole."""
    plan = plan_of(EXPERTS, engine={"version": str(version)}, parallelism={"tensor": 8})
    return isinstance(plan, Plan) and plan.placement.expert


def schedules_ahead(version: Version, pipeline: int) -> bool:
    gpu = gpus.find("NVIDIA-H100-80GB-HBM3")
    assert gpu is not None
    work = work_of(model(LLAMA_8B), Parallelism(1, pipeline))
    return server(
        work, gpu, version=version, max_num_batched_tokens=2048, max_num_seqs=8
    ).times.asynchronous


def inductor(version: Version) -> str | None:
    """How a switch of the compilation's configuration is passed on."""
    argument = '--compilation-config={"use_inductor":true}'
    plan = plan_of(LLAMA_8B, engine={"version": str(version), "extraArgs": [argument]})
    return next((flag.value for flag in plan.flags if flag.name == "--compilation-config"), None)


QUESTIONS: Mapping[str, tuple[Question, Mapping[str, Any]]] = {
    "whether latent attention projects its context up": (
        lambda v: (
            context_bytes(
                model("deepseek-ai/DeepSeek-R1").kinds[0], SINGLE, v, Load(64, 2048, 2, 163_840)
            )
            > 0
        ),
        {"0.8.0": False, "0.11.0": True},
    ),
    "what a cache is not sure of for want of a log": (
        lambda v: coefficient("unlogged", v).high,
        {"0.8.0": 0.0, "0.30.0": 0.99},
    ),
    "the model runner of pooled models": (
        lambda v: runner_of(model("Qwen/Qwen3-Embedding-8B"), v),
        {"0.8.0": 1, "0.29.0": 2},
    ),
    "pictures that one sequence has encoded at once": (
        lambda v: encoded_items(
            model("gaunernst/gemma-3-12b-it-qat-autoawq").pictures, v, Load(1, 8192, 2, 16_384)
        ),
        {"0.8.0": 1, "0.10.0": 32},
    ),
    "blocks that a window keeps of a long request": (
        windowed,
        {"0.8.0": 0, "0.10.0": 193, "0.26.0": 321},
    ),
    "whether experts have adapters": (
        lambda v: adapter_bytes(ONE, model("Qwen/Qwen3-30B-A3B"), SINGLE, 2, v) > GIBIBYTE / 2,
        {"0.8.0": False, "0.11.1": True},
    ),
    "whether adapters may add tokens": (
        lambda v: (
            adapter_bytes(ONE, model(LLAMA_8B), SINGLE, 2, v)
            - adapter_bytes(ONE, model(LLAMA_8B), SINGLE, 2, Version((0, 33, 0)))
        ),
        {"0.8.0": 2 * 2 * 256 * 4096, "0.12.0": 0},
    ),
    "how often graphs are captured beside adapters": (
        lambda v: (graphs_factor(ONE, v), graphs_factor(None, v)),
        {"0.8.0": (1, 1), "0.11.1": (2, 1)},
    ),
    "whether whole experts go with adapters": (
        lambda v: (may_divide_experts(ONE, v), may_divide_experts(None, v)),
        {"0.8.0": (False, True), "0.21.0": (True, True)},
    ),
    "whether adapters of rank 1 are refused": (
        lambda v: says(v, "1 is none of 8, 16", lora={"maxRank": 1}),
        {"0.8.0": True, "0.11.1": False},
    ),
    "whether the cache is made small unasked": (
        fp8_cache_unasked,
        {"0.8.0": False, "0.11.0": True},
    ),
    "whether whole experts are chosen unasked": (
        whole_experts_unasked,
        {"0.8.0": False, "0.9.2": True},
    ),
    "MiB of a tensor of 24.5 MiB": (lambda v: held(v, 24.5), {"0.8.0": 24.5, "0.21.0": 26.0}),
    "MiB of a tensor of 12.5 MiB": (lambda v: held(v, 12.5), {"0.8.0": 12.5}),
    "whether the next step is scheduled ahead": (
        lambda v: schedules_ahead(v, 1),
        {"0.8.0": False, "0.14.0": True},
    ),
    "whether the next step of a pipeline is scheduled ahead": (
        lambda v: schedules_ahead(v, 2),
        {"0.8.0": False, "0.29.0": True},
    ),
    "bytes of a block of pages of different sizes": (
        lambda v: layout_of("deepseek-ai/DeepSeek-V4-Flash", v),
        {"0.8.0": 1_051_776, "0.29.0": 1_002_240},
    ),
    "whether scales of four bits are whole": (
        lambda v: (
            bytes_per_rank(as_loaded(model(BITS_AND_BYTES), v, None), SINGLE, 2)
            == bytes_per_rank(model(BITS_AND_BYTES), SINGLE, 2)
        ),
        {"0.8.0": False, "0.9.2": True},
    ),
    "whether compressed-tensors always have scales for a cache": (
        lambda v: says(v, "scales for an fp8 cache", FP8_MODEL, kvCacheDtype="fp8_e5m2"),
        {"0.8.0": True, "0.24.0": False},
    ),
    "whether sizes of graphs are checked": (
        lambda v: says(
            v,
            "asks for no graph",
            extraArgs=['--compilation-config={"cudagraph_capture_sizes":[]}'],
        ),
        {"0.8.0": False, "0.11.1": True},
    ),
    "how a switch of the compilation is written": (
        inductor,
        {"0.8.0": '{"use_inductor":1}', "0.9.1": '{"use_inductor":true}', "0.12.0": None},
    ),
}


def layout_of(name: str, version: Version) -> int:
    return cache_layout(model(name), CacheSettings(version, SINGLE, 16, 256, 2048)).bytes_per_block


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_answer_changes_with_its_release_and_with_no_other(question: str):
    ask, steps = QUESTIONS[question]
    assert set(steps) <= set(RELEASES)
    said, answer = {}, None
    for text in RELEASES:
        answer = steps.get(text, answer)
        said[text] = answer
    assert {text: ask(Version.parse(text)) for text in RELEASES} == said
