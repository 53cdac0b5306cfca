"""What holds for every KV cache that is promised, whatever the model, its stages and its engine."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from properties.test_planning import MODELS, PRODUCTS, architecture_of, split_of
from unit.sizing.examples import inputs_for, plan_of, server
from vllm_operator.api.plan import Plan
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.engine.first_engine import first_engine_because, prefills_whole_prompts
from vllm_operator.engine.versions import Version
from vllm_operator.hardware import catalogue as gpus
from vllm_operator.models import catalogue as models
from vllm_operator.models.architecture import Architecture, architecture_from_config
from vllm_operator.models.shapes import AttentionCache, LatentCache, StateCache
from vllm_operator.sizing.layout.v0_setup import described_setup
from vllm_operator.sizing.memory import kvcache
from vllm_operator.sizing.plan.planner import make_plan
from vllm_operator.sizing.split.stages import stage_ranges

FIRST = ("0.8.0", "0.8.5", "0.9.1", "0.9.2", "0.10.0", "0.10.1")
LATER = ("0.10.2", "0.11.0", "0.12.0", "0.19.1", "0.20.0", "0.26.0", "0.30.0", "0.33.0")
SPLITS = st.fixed_dictionaries(
    {},
    optional={
        "tensor": st.sampled_from([1, 2, 4, 8]),
        "pipeline": st.integers(1, 8),
        "data": st.sampled_from([1, 2]),
    },
)
PINS = st.fixed_dictionaries(
    {},
    optional={
        "maxModelLen": st.integers(16, 100_000),
        "maxNumSeqs": st.integers(1, 4096),
        "maxNumBatchedTokens": st.integers(16, 65_536),
        "kvCacheDtype": st.sampled_from(["auto", "fp8"]),
        "dtype": st.sampled_from(["auto", "float16", "float32"]),
        "enforceEager": st.booleans(),
        "prefixCaching": st.booleans(),
        "chunkedPrefill": st.booleans(),
    },
)
often = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def plans(draw: st.DrawFn, versions: tuple[str, ...] = FIRST + LATER) -> tuple[VLLMServer, Plan]:
    version = draw(st.sampled_from(versions))
    planned = server(
        draw(st.sampled_from(MODELS)),
        gpu={"product": draw(st.sampled_from(PRODUCTS)), "perNode": draw(st.integers(1, 16))},
        engine={**draw(PINS), "image": f"vllm/vllm-openai:v{version}"},
        parallelism=draw(SPLITS),
    )
    return planned, make_plan(planned, inputs_for(planned))


def version_of(planned: VLLMServer) -> Version:
    return Version.parse(planned.spec.engine.image.rpartition(":v")[2])


def first_engine(planned: VLLMServer, plan: Plan) -> tuple[str | None, bool]:
    """Why the engine before V1 serves, and whether it then leaves chunked prefill off."""
    engine = planned.spec.engine
    setup = described_setup(
        architecture_of(planned),
        capability=gpus.find(planned.spec.gpu.product).compute_capability,
        float32=engine.dtype == "float32",
        kv_cache_dtype=engine.kv_cache_dtype or "auto",
        pipeline=plan.placement.pipeline,
    )
    because = first_engine_because(version_of(planned), setup)
    return because, prefills_whole_prompts(setup, plan.capacity.max_model_len)


def layout_of(planned: VLLMServer, plan: Plan) -> kvcache.CacheLayout:
    engine = planned.spec.engine
    fp8 = engine.kv_cache_dtype == "fp8" or architecture_of(planned).quantization.kv_cache
    return kvcache.cache_layout(
        architecture_of(planned),
        kvcache.CacheSettings(
            version=version_of(planned),
            parallelism=split_of(plan),
            element_bits=8 if fp8 else 32 if engine.dtype == "float32" else 16,
            block_size=16,
            max_num_batched_tokens=plan.capacity.max_num_batched_tokens,
            prefix_caching=engine.prefix_caching,
            first_engine=first_engine(planned, plan)[0] is not None,
        ),
    )


def whole_bytes(architecture: Architecture, bits: float, tensor: int, stage: range) -> float:
    """Bytes of one token in those layers of a stage that keep all tokens, on one rank."""
    total = 0.0
    for index in stage:
        match architecture.kinds[architecture.pattern[index]].cache:
            case AttentionCache(heads, key_dim, value_dim, None):
                total += max(1, heads // tensor) * (key_dim + value_dim) * bits / 8
            case LatentCache(rank, rope_dim):
                total += (rank + rope_dim) * bits / 8
    return total


@often
@given(plans())
def test_no_stage_holds_more_tokens_than_its_bytes_allow(given_: tuple[VLLMServer, Plan]):
    planned, plan = given_
    if not plan.feasible:
        return
    architecture, bits = architecture_of(planned), layout_of(planned, plan).settings.element_bits
    place, capacity, ledger = plan.placement, plan.capacity, plan.memory
    stages = stage_ranges(architecture.layers, place.pipeline)
    each = [whole_bytes(architecture, bits, place.tensor, stage) for stage in stages]
    assert capacity.kv_tokens.low * max(each) <= ledger.kv_cache.low
    assert capacity.kv_tokens.expected * max(each) <= ledger.kv_cache.expected
    # Whatever the accounting: the GPUs together hold no more than they have.
    assert capacity.kv_tokens.low * sum(each) <= place.pipeline * ledger.total


RECURRENT = [
    model
    for model in MODELS
    if any(
        isinstance(kind.cache, StateCache)
        for kind in architecture_from_config(models.find(model).config).kinds
    )
]


LONGEST_WHOLE = 32_768
"""Longest request of which the engine before V1 takes prompts whole."""


def test_each_sequence_with_states_has_a_block_where_graphs_want_one():
    met: Counter[str] = Counter()

    @often
    @given(
        model=st.sampled_from(RECURRENT),
        version=st.sampled_from(("0.20.0", "0.26.0", "0.30.0", "0.33.0")),
        product=st.sampled_from(("NVIDIA-L40S", "NVIDIA-A100-SXM4-80GB", "NVIDIA-H100-80GB-HBM3")),
        pins=PINS,
    )
    def holds(model: str, version: str, product: str, pins: dict[str, Any]) -> None:
        pins = {name: pins[name] for name in pins if name in ("prefixCaching", "enforceEager")}
        planned = server(
            model,
            gpu={"product": product, "perNode": 8},
            engine={**pins, "image": f"vllm/vllm-openai:v{version}"},
        )
        plan = make_plan(planned, inputs_for(planned))
        met["drawn"] += 1
        if plan.feasible and planned.spec.engine.enforce_eager is not True:
            met["met"] += 1
            blocks = layout_of(planned, plan).blocks_in(plan.memory.kv_cache.low)
            assert plan.capacity.max_num_seqs <= blocks

    holds()
    assert met["met"] >= met["drawn"] * 0.3, met


def test_a_step_holds_the_longest_prompt_where_the_first_engine_does_not_part_it():
    met: Counter[str] = Counter()

    @often
    @given(
        model=st.sampled_from([model for model in MODELS if attends_alone(model)]),
        version=st.sampled_from(FIRST),
        length=st.integers(2048, 40_000),
        product=st.sampled_from(("Tesla-V100-SXM2-32GB", "Tesla-T4", "Tesla-V100-PCIE-16GB")),
    )
    def holds(model: str, version: str, length: int, product: str) -> None:
        planned = server(
            model,
            gpu={"product": product, "perNode": 8},
            engine={
                "image": f"vllm/vllm-openai:v{version}",
                "dtype": "float16",
                "maxModelLen": length,
            },
        )
        plan = make_plan(planned, inputs_for(planned))
        met["drawn"] += 1
        if plan.feasible and first_engine(planned, plan)[0] is not None and length <= LONGEST_WHOLE:
            met["met"] += 1
            assert plan.capacity.max_num_batched_tokens >= plan.capacity.max_model_len

    holds()
    assert met["met"] >= met["drawn"] * 0.2, met


def attends_alone(model: str) -> bool:
    caches = [kind.cache for kind in architecture_from_config(models.find(model).config).kinds]
    return all(isinstance(one, AttentionCache) and one.window is None for one in caches)


@settings(max_examples=100, deadline=None)
@given(model=st.sampled_from(MODELS), version=st.sampled_from(LATER))
def test_data_parallel_ranks_of_a_dense_model_hold_what_one_alone_does(model: str, version: str):
    if architecture_from_config(models.find(model).config).has_experts:
        return
    one, two = (
        plan_of(
            model,
            gpu={"product": "H200", "perNode": 8},
            engine={"image": f"vllm/vllm-openai:v{version}"},
            parallelism={"tensor": 2, "pipeline": 1, "data": ranks},
        )
        for ranks in (1, 2)
    )
    assert one.feasible == two.feasible
    if one.feasible:
        assert one.capacity == two.capacity


@settings(max_examples=100, deadline=None)
@given(
    model=st.sampled_from([model for model in MODELS if attends_alone(model)]),
    version=st.sampled_from(LATER),
    stages=st.integers(2, 8),
)
def test_stages_of_plain_attention_hold_no_fewer_tokens_than_one_rank(
    model: str, version: str, stages: int
):
    one, many = (
        plan_of(
            model,
            gpu={"product": "H200", "perNode": 8},
            engine={
                "image": f"vllm/vllm-openai:v{version}",
                "maxModelLen": 2048,
                "maxNumSeqs": 128,
                "maxNumBatchedTokens": 4096,
            },
            parallelism={"tensor": 1, "pipeline": number},
        )
        for number in (1, stages)
    )
    if one.feasible:
        assert many.capacity.kv_tokens.low >= one.capacity.kv_tokens.low


KEPT_APART = [
    model
    for model in MODELS
    if not attends_alone(model)
    and architecture_from_config(models.find(model).config).indexed_tokens == 0
]
"""Models whose layers keep different things of a sequence."""


@pytest.mark.parametrize("model", KEPT_APART)
@pytest.mark.parametrize("version", ["0.10.2", "0.12.0", "0.20.0", "0.33.0"])
def test_no_pipeline_of_unlike_layers_promises_more_than_its_gpus_hold(model: str, version: str):
    architecture = architecture_from_config(models.find(model).config)
    for stages in (2, 3, 4, 5, 7, 8, 16):
        plan = plan_of(
            model,
            gpu={"product": "H100", "perNode": 16},
            engine={"image": f"vllm/vllm-openai:v{version}"},
            parallelism={"tensor": 1, "pipeline": stages},
        )
        if plan.feasible:
            # Half a byte an element is the least that any cache takes.
            ranges = stage_ranges(architecture.layers, stages)
            each = max(whole_bytes(architecture, 4, 1, stage) for stage in ranges)
            assert plan.capacity.kv_tokens.low * each <= plan.memory.kv_cache.low
