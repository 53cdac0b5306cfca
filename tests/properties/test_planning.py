"""What holds for every plan, whatever the specification."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unit.sizing.examples import inputs_for, offer, plan_of, server
from vllm_operator.api.plan import Plan
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.engine.versions import Version
from vllm_operator.hardware import catalogue as gpus
from vllm_operator.models import catalogue as models
from vllm_operator.models.architecture import Architecture, architecture_from_config
from vllm_operator.sizing import memory, parallelism
from vllm_operator.sizing.memory import Load
from vllm_operator.sizing.parallelism import SINGLE, Parallelism
from vllm_operator.sizing.planner import PlanningInputs, make_plan

MODELS = models.known_models()
PRODUCTS = tuple(product.name for product in gpus.products() if product.compute_capability)
VERSIONS = ("0.8.0", "0.8.5", "0.10.2", "0.11.0", "0.19.1", "0.20.0", "0.24.0", "0.30.0", "0.40.0")
PINS = {
    "maxModelLen": st.integers(16, 200_000),
    "maxNumSeqs": st.integers(1, 4096),
    "maxNumBatchedTokens": st.integers(16, 65_536),
    "gpuMemoryUtilization": st.integers(5, 99).map(lambda percent: percent / 100),
    "dtype": st.sampled_from(["auto", "bfloat16", "float16", "float32"]),
    "kvCacheDtype": st.sampled_from(["auto", "fp8", "fp8_e5m2"]),
    "blockSize": st.sampled_from([8, 16, 32, 64, 100]),
    "enforceEager": st.booleans(),
    "prefixCaching": st.booleans(),
    "chunkedPrefill": st.booleans(),
    "version": st.sampled_from(VERSIONS),
}
engines = st.fixed_dictionaries({}, optional=PINS)
nodes = st.lists(st.sampled_from(PRODUCTS), max_size=3, unique=True)


@st.composite
def specifications(draw: st.DrawFn) -> tuple[VLLMServer, PlanningInputs]:
    spec: dict[str, Any] = {"engine": draw(engines)}
    if draw(st.booleans()):
        spec["gpu"] = {"product": draw(st.sampled_from(PRODUCTS))}
        if draw(st.booleans()):
            spec["gpu"]["perNode"] = draw(st.integers(1, 16))
    if draw(st.booleans()):
        spec["parallelism"] = {"tensor": draw(st.integers(1, 16))}
    planned = server(draw(st.sampled_from(MODELS)), **spec)
    offers = tuple(
        replace(offer(name, gpus.find(name).memory_bytes / 2**30), per_node=draw(st.integers(1, 8)))
        for name in draw(nodes)
    )
    return planned, inputs_for(planned, offers=offers, nodes_visible=draw(st.booleans()))


def architecture_of(planned: VLLMServer) -> Architecture:
    return architecture_from_config(models.find(planned.spec.model.id).config)


def pinned(planned: VLLMServer) -> dict[str, Any]:
    return planned.spec.engine.to_json_object() if planned.spec.engine else {}


def pins_of_block(planned: VLLMServer) -> int:
    return pinned(planned).get("blockSize", 1)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(specifications())
def test_a_plan_is_made_of_everything_and_always_the_same(given_: tuple):
    planned, inputs = given_
    plan = make_plan(planned, inputs)
    assert plan == make_plan(planned, PlanningInputs.from_json_object(inputs.to_json_object()))
    assert Plan.model_validate(plan.to_json_object()) == plan
    assert plan.feasible == (not plan.problems)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(specifications())
def test_a_feasible_plan_is_legal_adds_up_and_keeps_the_pins(given_: tuple):
    planned, inputs = given_
    plan = make_plan(planned, inputs)
    if not plan.feasible:
        return
    placement, ledger, capacity = plan.placement, plan.memory, plan.capacity
    assert (
        parallelism.illegal_because(architecture_of(planned), Parallelism(placement.tensor)) is None
    )
    assert placement.gpus_per_replica <= placement.gpus_per_node
    inside = ledger.weights + ledger.activation_peak + ledger.cuda_graphs + ledger.non_torch
    assert ledger.budget == inside + ledger.kv_cache.expected
    assert ledger.margin == ledger.kv_cache.expected - ledger.kv_cache.low >= 0
    assert ledger.free_at_start.low >= ledger.budget
    assert capacity.max_concurrency.low >= 1
    # Recurrent layers raise the block size; up to 0.20 hybrids print the tokens of one group.
    assert capacity.block_size % pins_of_block(planned) == 0
    assert capacity.max_num_batched_tokens >= capacity.max_num_seqs
    assert capacity.max_model_len <= architecture_of(planned).context_length
    chosen = {
        "maxModelLen": capacity.max_model_len,
        "maxNumSeqs": capacity.max_num_seqs,
        "maxNumBatchedTokens": capacity.max_num_batched_tokens,
        "gpuMemoryUtilization": ledger.utilization,
    }
    pins = pinned(planned)
    assert {name: chosen[name] for name in chosen if name in pins} == {
        name: pins[name] for name in chosen if name in pins
    }
    if pins.get("chunkedPrefill") is False:
        assert capacity.max_num_batched_tokens >= capacity.max_model_len


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(specifications())
def test_a_problem_says_where_and_what(given_: tuple):
    for problem in make_plan(*given_).problems:
        assert problem.field.startswith("spec.")
        assert len(problem.message) > 20


@given(
    model=st.sampled_from(MODELS),
    version=st.sampled_from(VERSIONS),
    low=st.integers(5, 98),
    tensor=st.sampled_from([1, 2, 4]),
)
def test_more_utilization_never_leaves_less_for_the_cache(
    model: str, version: str, low: int, tensor: int
):
    found = memory.footprint(
        architecture_from_config(models.find(model).config),
        Version.parse(version),
        Parallelism(tensor),
        Load(256, 2048, element_bytes=2),
        enforce_eager=False,
    )
    total = 80 * 2**30
    less, more = (found.kv_cache(total, percent / 100) for percent in (low, low + 1))
    assert less[0] <= more[0]
    assert less[1] <= more[1]


@given(
    model=st.sampled_from(MODELS),
    version=st.sampled_from(VERSIONS),
    seqs=st.integers(1, 2048),
    tokens=st.integers(2048, 16384),
)
def test_more_sequences_never_leave_more_for_the_cache(
    model: str, version: str, seqs: int, tokens: int
):
    architecture = architecture_from_config(models.find(model).config)
    few, many = (
        memory.footprint(
            architecture,
            Version.parse(version),
            SINGLE,
            Load(count, tokens, element_bytes=2),
            enforce_eager=False,
        ).kv_cache(80 * 2**30, 0.9)
        for count in (seqs, seqs * 2)
    )
    assert few[0] >= many[0]
    assert few[1] >= many[1]


@given(seqs=st.integers(1, 1024))
def test_a_larger_pinned_max_num_seqs_never_plans_more_cache(seqs: int):
    gpu = {"product": "H100", "perNode": 1}
    few = plan_of(gpu=gpu, engine={"maxNumSeqs": seqs})
    many = plan_of(gpu=gpu, engine={"maxNumSeqs": seqs + 256})
    assert few.capacity.kv_tokens.low >= many.capacity.kv_tokens.low


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
LLAMA = dict(models.find("meta-llama/Llama-3.1-8B-Instruct").config)


@settings(max_examples=300, deadline=None)
@given(
    change=st.dictionaries(st.sampled_from([*LLAMA, "head_dim", "layer_types"]), json_values),
    extra=st.dictionaries(st.text(max_size=12), json_values, max_size=2),
)
def test_any_config_at_all_gives_a_plan_or_the_fact_that_stops_it(change: dict, extra: dict):
    facts = type(models.find("meta-llama/Llama-3.1-8B-Instruct"))(
        {**LLAMA, **extra, **change}, None, "inline"
    )
    planned = server("my/model", gpu={"product": "H100"})
    plan = make_plan(planned, inputs_for(planned, model=facts))
    assert plan.feasible or plan.problems


@pytest.mark.parametrize("model", MODELS)
def test_every_catalogued_model_fits_somewhere(model: str):
    assert plan_of(model, gpu={"product": "H200", "perNode": 8}).feasible
