"""A repair bounds what nobody pinned, and says so beside the flag."""

import json

import pytest

from unit.sizing.examples import H100, LLAMA_8B, inputs_for, reason_of, server
from vllm_operator.api.plan import Plan
from vllm_operator.sizing.asked.inputs import PlanningInputs
from vllm_operator.sizing.asked.repairs import Repair
from vllm_operator.sizing.plan.planner import make_plan

SHORTER = Repair("shorterMaxModelLen", 65_536, "repair 1 of 3: because")
LOWER = Repair("lowerUtilization", 0.88, "repair 2 of 3: because")
FEWER = Repair("fewerSequences", 512, "repair 3 of 3: because")


def repaired(*repairs: Repair, **engine: object) -> Plan:
    planned = server(LLAMA_8B, gpu=H100, engine=engine)
    return make_plan(planned, inputs_for(planned, repairs=repairs))


@pytest.mark.parametrize(
    ("repair", "flag", "value"),
    [
        (SHORTER, "--max-model-len", "65536"),
        (LOWER, "--gpu-memory-utilization", "0.88"),
        (FEWER, "--max-num-seqs", "512"),
    ],
)
def test_a_repair_lowers_its_flag_and_is_the_reason(repair: Repair, flag: str, value: str):
    plan = repaired(repair)
    assert next(one.value for one in plan.flags if one.name == flag) == value
    assert reason_of(plan, flag) == repair.reason


def test_a_repair_moves_the_server_to_no_other_layout():
    assert repaired(SHORTER, LOWER, FEWER).placement == repaired().placement


def test_the_tightest_of_several_repairs_holds():
    plan = repaired(SHORTER, Repair("shorterMaxModelLen", 32_768, "repair 2 of 3: again"))
    assert plan.capacity.max_model_len == 32_768


def test_a_pin_is_never_repaired():
    plan = repaired(SHORTER, LOWER, FEWER, maxModelLen=131_072, gpuMemoryUtilization=0.9)
    assert plan.capacity.max_model_len == 131_072
    assert plan.memory.utilization == 0.9


def test_pinned_inputs_keep_their_repairs():
    inputs = PlanningInputs(model=None, default_image="x", repairs=(SHORTER, LOWER))
    document = json.loads(json.dumps(inputs.to_json_object()))
    assert PlanningInputs.from_json_object(document) == inputs
