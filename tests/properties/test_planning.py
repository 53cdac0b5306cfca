"""What holds for every plan, whatever the specification."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.divisions import refusals
from unit.sizing.examples import inputs_for, offer, plan_of, server
from vllm_operator.api.plan import Plan, Unplanned
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.engine.versions import Version
from vllm_operator.hardware import catalogue as gpus
from vllm_operator.models import catalogue as models
from vllm_operator.models.architecture import Architecture, architecture_from_config
from vllm_operator.sizing.asked.inputs import PlanningInputs
from vllm_operator.sizing.memory import accounting
from vllm_operator.sizing.memory.load import Load
from vllm_operator.sizing.plan.planner import make_plan
from vllm_operator.sizing.split.parallelism import SINGLE, Parallelism

MODELS = models.known_models()
PRODUCTS = tuple(product.name for product in gpus.products() if product.compute_capability)
VERSIONS = ("0.8.0", "0.8.5", "0.10.2", "0.11.0", "0.19.1", "0.20.0", "0.24.0", "0.30.0", "0.40.0")
RECENT = (*VERSIONS[-4:], "0.33.0")
"""Versions that serve every catalogued model, or nearly."""
LARGE = ("NVIDIA-H100-80GB-HBM3", "NVIDIA-H200", "NVIDIA-A100-SXM4-80GB", "NVIDIA-B200")
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
parallelisms = st.fixed_dictionaries(
    {},
    optional={
        "tensor": st.integers(1, 16),
        "pipeline": st.integers(1, 8),
        "data": st.integers(1, 8),
        "expert": st.booleans(),
    },
)
workloads = st.fixed_dictionaries(
    {},
    optional={
        "promptTokens": st.integers(1, 20_000),
        "outputTokens": st.integers(1, 4000),
        "concurrency": st.integers(1, 2000),
    },
)
nodes = st.lists(st.sampled_from(PRODUCTS), max_size=3, unique=True)


@st.composite
def specifications(draw: st.DrawFn) -> tuple[VLLMServer, PlanningInputs]:
    spec: dict[str, Any] = {"engine": draw(engines)}
    if draw(st.booleans()):
        spec["gpu"] = {"product": draw(st.sampled_from(PRODUCTS))}
        if draw(st.booleans()):
            spec["gpu"]["perNode"] = draw(st.integers(1, 16))
    if draw(st.booleans()):
        spec["parallelism"] = draw(parallelisms)
    if draw(st.booleans()):
        spec["workload"] = draw(workloads)
    planned = server(draw(st.sampled_from(MODELS)), **spec)
    offers = tuple(
        replace(offer(name, gpus.find(name).memory_bytes / 2**30), per_node=draw(st.integers(1, 8)))
        for name in draw(nodes)
    )
    return planned, inputs_for(
        planned,
        offers=offers,
        nodes_visible=draw(st.booleans()),
        max_nodes=draw(st.sampled_from([1, 1, 2, 8])),
    )


@st.composite
def legal_splits(draw: st.DrawFn, model: str, per_node: int, nodes: int) -> dict[str, Any]:
    """A division that the rules in tests/support allow, and that the nodes have room for."""
    config = models.find(model).config
    sizes = [1, 2, 3, 4, 8]
    fits = [
        (tensor, pipeline, data)
        for tensor in sizes
        for pipeline in (1, 2, 3)
        for data in (1, 2, 4)
        if tensor * pipeline * data <= per_node * nodes
        and tensor <= per_node
        and not refusals(config, tensor, pipeline, data)
    ]
    tensor, pipeline, data = draw(st.sampled_from(fits[::-1] or [(1, 1, 1)]))
    split = {"tensor": tensor, "pipeline": pipeline, "data": data}
    pinned_ones = draw(st.sets(st.sampled_from(sorted(split)), min_size=1))
    return {name: split[name] for name in pinned_ones}


@st.composite
def workable(draw: st.DrawFn) -> tuple[VLLMServer, PlanningInputs]:
    """A specification of what mostly can be had: so that laws of plans meet plans."""
    model = draw(st.sampled_from(MODELS))
    product = draw(st.sampled_from(LARGE))
    per_node, most = draw(st.sampled_from([4, 8, 8, 16])), draw(st.sampled_from([1, 1, 2, 8]))
    longest = architecture_from_config(models.find(model).config).context_length
    tokens = draw(st.integers(2048, 16_384))
    engine = draw(
        st.fixed_dictionaries(
            {"version": st.sampled_from(RECENT)},
            optional={
                "maxModelLen": st.integers(16, min(longest, 16_384)),
                "maxNumSeqs": st.integers(1, 1024),
                "maxNumBatchedTokens": st.just(tokens),
                "gpuMemoryUtilization": st.integers(80, 90).map(lambda percent: percent / 100),
                "enforceEager": st.booleans(),
                "prefixCaching": st.booleans(),
                "chunkedPrefill": st.booleans(),
            },
        )
    )
    if engine.get("chunkedPrefill") is False:
        engine["maxNumBatchedTokens"] = max(tokens, engine.setdefault("maxModelLen", 2048))
    spec: dict[str, Any] = {"engine": engine, "gpu": {"product": product, "perNode": per_node}}
    if draw(st.sampled_from([True, True, True, False])):
        spec["parallelism"] = draw(legal_splits(model, per_node, most))
    planned = server(model, **spec)
    return planned, inputs_for(planned, max_nodes=most)


def architecture_of(planned: VLLMServer) -> Architecture:
    return architecture_from_config(models.find(planned.spec.model.id).config)


def split_of(plan: Plan) -> Parallelism:
    place = plan.placement
    return Parallelism(place.tensor, place.pipeline, place.data, place.expert)


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
    kind = Plan if plan.feasible else Unplanned
    assert kind.model_validate(plan.to_json_object()) == plan
    assert plan.feasible == (not plan.problems)


def test_a_feasible_plan_is_legal_adds_up_and_keeps_the_pins():
    met: Counter[str] = Counter()

    @settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(workable())
    def holds(given_: tuple) -> None:
        planned, inputs = given_
        plan = make_plan(planned, inputs)
        met["drawn"] += 1
        if plan.feasible:
            met["feasible"] += 1
            met["data parallel"] += plan.placement.data > 1
            met["staged"] += plan.placement.pipeline > 1
            met["undivided prompts"] += pinned(planned).get("chunkedPrefill") is False
            is_a_plan(planned, inputs, plan)

    holds()
    assert met["feasible"] >= met["drawn"] * 0.6, met
    assert min(met["data parallel"], met["staged"], met["undivided prompts"]) >= 8, met


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(specifications())
def test_whatever_is_asked_for_a_feasible_plan_is_legal_adds_up_and_keeps_the_pins(given_: tuple):
    plan = make_plan(*given_)
    if plan.feasible:
        is_a_plan(*given_, plan)


def is_a_plan(planned: VLLMServer, inputs: PlanningInputs, plan: Plan) -> None:
    """Assert what every feasible plan must be."""
    placement, ledger, capacity = plan.placement, plan.memory, plan.capacity
    split = (placement.tensor, placement.pipeline, placement.data, placement.expert)
    assert refusals(models.find(planned.spec.model.id).config, *split) == []
    assert placement.gpus_per_replica == placement.tensor * placement.pipeline * placement.data
    assert placement.gpus_per_replica <= placement.gpus_per_node * placement.nodes
    assert placement.gpus_per_replica % placement.nodes == 0
    assert placement.nodes <= inputs.max_nodes
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
    if planned.spec.parallelism is not None:
        given_pins = planned.spec.parallelism.to_json_object()
        assert {name: getattr(placement, name) for name in given_pins} == given_pins


def test_a_feasible_plan_serves_the_asked_load():
    met: Counter[str] = Counter()
    modest = st.fixed_dictionaries(
        {},
        optional={
            "promptTokens": st.integers(1, 4000),
            "outputTokens": st.integers(1, 1000),
            "concurrency": st.integers(1, 400),
        },
    )

    @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(workable(), modest)
    def holds(given_: tuple, workload: dict[str, int]) -> None:
        planned, inputs = given_
        document = {**planned.spec.to_json_object(), "workload": workload}
        document["engine"] = {"version": document["engine"]["version"]}
        planned = server(document.pop("model"), **document)
        plan = make_plan(planned, inputs)
        met["drawn"] += 1
        if not plan.feasible:
            return
        met["feasible"] += 1
        each = -(-workload.get("concurrency", 1) // plan.placement.data)
        assert plan.capacity.max_num_seqs >= each
        asked = (workload.get("promptTokens", 0), workload.get("outputTokens", 0))
        assert plan.capacity.max_model_len >= sum(asked)
        if plan.performance is not None:
            stated = plan.performance
            assert stated.prompt_tokens == workload.get("promptTokens", stated.prompt_tokens)
            assert stated.concurrency == workload.get("concurrency", stated.concurrency)

    holds()
    assert met["feasible"] >= met["drawn"] * 0.5, met


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
    found = accounting.footprint(
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
        accounting.footprint(
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


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("max_nodes", [1, 4])
def test_every_division_that_is_taken_is_one_that_vllm_accepts(model: str, max_nodes: int):
    for count in (*range(1, 9), 12, 16):
        planned = server(model, gpu={"product": "L40S", "perNode": count})
        plan = make_plan(planned, inputs_for(planned, max_nodes=max_nodes))
        if plan.feasible:
            place = plan.placement
            split = (place.tensor, place.pipeline, place.data, place.expert)
            assert refusals(models.find(model).config, *split) == [], count


@settings(max_examples=150, deadline=None)
@given(
    model=st.sampled_from(MODELS),
    count=st.integers(1, 15),
    product=st.sampled_from(PRODUCTS),
    length=st.integers(1024, 40_000),
)
def test_a_node_with_more_gpus_serves_whatever_a_smaller_one_does(
    model: str, count: int, product: str, length: int
):
    limit = architecture_from_config(models.find(model).config).context_length
    engine = {"maxModelLen": min(length, limit)}
    fewer, more = (
        plan_of(model, gpu={"product": product, "perNode": size}, engine=engine)
        for size in (count, count + 1)
    )
    assert more.feasible >= fewer.feasible


@settings(max_examples=150, deadline=None)
@given(model=st.sampled_from(MODELS), tensor=st.sampled_from([1, 2, 4]))
def test_twice_the_ranks_never_hold_fewer_tokens_where_heads_divide(model: str, tensor: int):
    architecture = architecture_from_config(models.find(model).config)
    engine = {"maxModelLen": 2048, "gpuMemoryUtilization": 0.8}
    few, many = (
        plan_of(model, parallelism={"tensor": size, "pipeline": 1}, engine=engine)
        for size in (tensor, 2 * tensor)
    )
    if few.feasible and many.feasible and architecture.key_value_heads % (2 * tensor) == 0:
        assert many.capacity.kv_tokens.low >= few.capacity.kv_tokens.low


@settings(max_examples=100, deadline=None)
@given(model=st.sampled_from(MODELS), percent=st.integers(30, 91))
def test_a_larger_pinned_utilization_never_plans_less_cache(model: str, percent: int):
    gpu = {"product": "H100", "perNode": 8}
    less, more = (
        plan_of(
            model,
            gpu=gpu,
            parallelism=None if refusals(models.find(model).config, 8) else {"tensor": 8},
            engine={
                "gpuMemoryUtilization": value / 100,
                "maxModelLen": 1024,
                "maxNumSeqs": 64,
                "maxNumBatchedTokens": 2048,
            },
        )
        for value in (percent, percent + 1)
    )
    if less.feasible and more.feasible and split_of(less) == split_of(more):
        assert more.memory.kv_cache.low >= less.memory.kv_cache.low


@given(seqs=st.integers(1, 1024))
def test_a_larger_pinned_max_num_seqs_never_plans_more_cache(seqs: int):
    gpu = {"product": "H100", "perNode": 1}
    few = plan_of(gpu=gpu, engine={"maxNumSeqs": seqs})
    many = plan_of(gpu=gpu, engine={"maxNumSeqs": seqs + 256})
    assert few.capacity.kv_tokens.low >= many.capacity.kv_tokens.low


@settings(max_examples=150, deadline=None)
@given(
    prompt=st.integers(1, 8000),
    output=st.integers(1, 4000),
    concurrency=st.integers(1, 600),
    product=st.sampled_from(PRODUCTS),
)
def test_max_num_seqs_is_no_more_than_the_cache_surely_holds_of_the_expected_requests(
    prompt: int, output: int, concurrency: int, product: str
):
    workload = {"promptTokens": prompt, "outputTokens": output, "concurrency": concurrency}
    plan = plan_of(gpu={"product": product, "perNode": 8}, workload=workload)
    if plan.feasible:
        blocks = -(-(prompt + output) // plan.capacity.block_size)
        held = plan.capacity.kv_tokens.low // plan.capacity.block_size // blocks
        assert concurrency <= plan.capacity.max_num_seqs <= max(held, concurrency)
        assert held >= concurrency


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
