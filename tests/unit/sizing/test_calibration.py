"""What an engine measured corrects the next plan of its kind, and only that."""

import json
from dataclasses import replace

import pytest

from unit.sizing.examples import H100, LLAMA_8B, inputs_for, plan_of, server
from vllm_operator.api.plan import Plan
from vllm_operator.api.v1alpha1 import Engine
from vllm_operator.sizing.asked.inputs import PlanningInputs
from vllm_operator.sizing.memory.calibration import Calibration, measured
from vllm_operator.sizing.plan.planner import make_plan

PLAN = plan_of(LLAMA_8B)
GIBIBYTE = 1024**3


def blocks_of(plan: Plan, kv_bytes: int) -> int:
    return kv_bytes // plan.capacity.bytes_per_block


def learned(beyond: int, plan: Plan = PLAN) -> Calibration:
    """From an engine of ``plan`` with so many bytes beyond the expected ones."""
    found = measured(plan, Engine(), [], blocks_of(plan, plan.memory.kv_cache.expected + beyond))
    assert found is not None
    return found


def replanned(calibration: Calibration, **engine: object) -> Plan:
    planned = server(LLAMA_8B, gpu=H100, engine=engine)
    return make_plan(planned, inputs_for(planned, calibrations=(calibration,)))


@pytest.mark.parametrize("beyond", [-4 * GIBIBYTE, -GIBIBYTE, 0, GIBIBYTE, 3 * GIBIBYTE])
def test_the_next_plan_of_the_kind_expects_what_was_measured(beyond: int):
    plan = replanned(learned(beyond))
    wanted = blocks_of(PLAN, PLAN.memory.kv_cache.expected + beyond)
    assert abs(blocks_of(plan, plan.memory.kv_cache.expected) - wanted) <= 1


@pytest.mark.parametrize("beyond", [-4 * GIBIBYTE, -GIBIBYTE, 0, GIBIBYTE, 3 * GIBIBYTE])
def test_the_bound_never_is_above_the_measurement(beyond: int):
    plan = replanned(learned(beyond))
    assert plan.memory.kv_cache.low <= PLAN.memory.kv_cache.expected + beyond


def test_the_bound_comes_closer_to_what_was_measured():
    assert replanned(learned(0)).memory.margin < PLAN.memory.margin


def test_of_a_release_that_was_measured_nothing_is_kept_back_for_want_of_a_log():
    logged, unlogged = (plan_of(LLAMA_8B, engine={"version": v}) for v in ("0.29.0", "0.30.0"))
    assert logged.memory.margin < unlogged.memory.margin
    margins = [
        replanned(learned(0, plan), version=plan.engine.version).memory.margin
        for plan in (logged, unlogged)
    ]
    assert margins[0] == margins[1]


def test_with_other_limits_the_estimate_s_own_errors_stay_in_the_bound():
    other = replanned(learned(0), maxNumSeqs=64)
    assert other.memory.margin == plan_of(LLAMA_8B, engine={"maxNumSeqs": 64}).memory.margin


@pytest.mark.parametrize(
    "engine",
    [{"enforceEager": True}, {"lora": {"maxLoras": 8, "maxRank": 64}}, {"dtype": "float16"}],
)
def test_of_an_engine_that_was_not_measured_the_errors_stay_in_the_bound(engine: dict[str, object]):
    uncalibrated = plan_of(LLAMA_8B, engine=engine)
    assert replanned(learned(0), **engine).memory.margin == uncalibrated.memory.margin


def test_what_takes_no_memory_leaves_a_measurement_exact():
    exact = replanned(learned(0)).memory.margin
    assert replanned(learned(0), toolCallParser="hermes").memory.margin == exact


def test_the_parts_of_the_budget_still_add_up():
    for beyond in (-GIBIBYTE, 3 * GIBIBYTE):
        ledger = replanned(learned(beyond)).memory
        parts = ledger.weights + ledger.activation_peak + ledger.cuda_graphs + ledger.non_torch
        assert ledger.budget == parts + ledger.kv_cache.expected


def test_a_second_measurement_of_a_calibrated_plan_teaches_the_same():
    first = learned(-GIBIBYTE)
    plan = replanned(first)
    again = measured(
        plan, Engine(), [first], blocks_of(PLAN, PLAN.memory.kv_cache.expected - GIBIBYTE)
    )
    assert again is not None
    assert abs(again.difference - first.difference) <= PLAN.capacity.bytes_per_block


@pytest.mark.parametrize(
    "changed", [{"version": "0.29.0"}, {"gpu": "NVIDIA-L4"}, {"tensor": 2}, {"pipeline": 2}]
)
def test_another_kind_is_planned_as_before(changed: dict[str, object]):
    other = replace(learned(-GIBIBYTE), **changed)
    assert replanned(other).memory == PLAN.memory


def test_an_engine_whose_blocks_are_set_outright_teaches_nothing():
    engine = PLAN.engine.model_copy(
        update={"command": [*PLAN.engine.command, "--num-gpu-blocks-override=100"]}
    )
    assert measured(PLAN.model_copy(update={"engine": engine}), Engine(), [], 100) is None


def test_a_plan_of_a_release_without_block_bytes_teaches_nothing():
    capacity = PLAN.capacity.model_copy(update={"bytes_per_block": None})
    assert measured(PLAN.model_copy(update={"capacity": capacity}), Engine(), [], 100) is None


def test_pinned_inputs_keep_their_calibrations():
    inputs = PlanningInputs(model=None, default_image="x", calibrations=(learned(1),))
    document = json.loads(json.dumps(inputs.to_json_object()))
    assert PlanningInputs.from_json_object(document) == inputs


@pytest.mark.parametrize("other", ["max_num_seqs", "max_num_batched_tokens", "engine"])
def test_of_an_engine_that_differs_in_one_thing_the_errors_stay_in_the_bound(other: str):
    same = learned(0)
    value = "another" if other == "engine" else getattr(same, other) + 1
    differs = replace(same, **{other: value})
    assert replanned(differs).memory.margin > replanned(same).memory.margin
