"""What a trial has proven stands where nobody pinned, within memory, load and repairs."""

import json

import pytest

from unit.sizing.examples import H100, LLAMA_8B, inputs_for, reason_of, server
from vllm_operator.api.plan import Plan
from vllm_operator.sizing.asked.inputs import PlanningInputs
from vllm_operator.sizing.asked.repairs import Repair
from vllm_operator.sizing.asked.tuned import Tuned
from vllm_operator.sizing.plan.planner import make_plan

WHY = "tokens come 3 times too late"
NEW = {"version": "0.32.0", "image": "vllm/vllm-openai:v0.32.0"}


def tuned(
    *repairs: Repair, engine: object = None, workload: object = None, **knobs: object
) -> Plan:
    planned = server(LLAMA_8B, gpu=H100, engine=engine or {}, workload=workload or {})
    plan = make_plan(planned, inputs_for(planned, repairs=repairs, tuned=Tuned(WHY, **knobs)))
    assert isinstance(plan, Plan)
    return plan


def flag(plan: Plan, name: str) -> str | None:
    return next((one.value for one in plan.flags if one.name == name), None)


@pytest.mark.parametrize(
    ("knob", "value", "name", "before"),
    [
        ("max_num_seqs", 96, "--max-num-seqs", "1024"),
        ("max_num_batched_tokens", 4096, "--max-num-batched-tokens", "8192"),
        ("gpu_memory_utilization", 0.88, "--gpu-memory-utilization", "0.92"),
    ],
)
def test_a_tuned_value_is_taken_and_its_reason_says_from_what_and_why(
    knob: str, value: float, name: str, before: str
):
    plan = tuned(**{knob: value})
    assert flag(plan, name) == str(value)
    assert reason_of(plan, name) == f"tuned from {before} to {value}: {WHY}"


def test_fewer_sequences_are_admitted_where_the_version_can():
    plan = tuned(engine=NEW, max_num_active_seqs=96)
    assert flag(plan, "--max-num-active-seqs") == "96"
    assert reason_of(plan, "--max-num-active-seqs") == f"tuned from 1024 to 96: {WHY}"
    assert flag(plan, "--max-num-seqs") == "1024"
    before = tuned(engine={"version": "0.30.0"}, max_num_active_seqs=96)
    assert flag(before, "--max-num-active-seqs") is None


def test_a_pin_takes_its_knob_and_leaves_the_others():
    plan = tuned(engine={"maxNumSeqs": 128}, max_num_seqs=96, max_num_batched_tokens=4096)
    assert (flag(plan, "--max-num-seqs"), flag(plan, "--max-num-batched-tokens")) == ("128", "4096")


def test_who_pins_the_sequences_says_how_many_are_admitted():
    plan = tuned(engine={**NEW, "maxNumSeqs": 128}, max_num_active_seqs=96)
    assert flag(plan, "--max-num-active-seqs") is None


def test_a_repair_bounds_a_tuned_value():
    plan = tuned(Repair("lowerUtilization", 0.85, "repair 1 of 3"), gpu_memory_utilization=0.9)
    assert flag(plan, "--gpu-memory-utilization") == "0.85"


def test_memory_bounds_a_tuned_value():
    plan = tuned(gpu_memory_utilization=0.995)
    assert flag(plan, "--gpu-memory-utilization") == "0.99"
    assert "are sure to be free" in reason_of(plan, "--gpu-memory-utilization")


def test_a_stated_concurrency_bounds_a_tuned_value():
    load = {"promptTokens": 500, "outputTokens": 100, "concurrency": 64}
    assert flag(tuned(workload=load, max_num_seqs=32), "--max-num-seqs") == "64"


def test_a_tuned_value_does_not_follow_from_the_expected_load():
    load = {"promptTokens": 60_000, "outputTokens": 4_000}
    assert int(flag(tuned(workload=load), "--max-num-seqs")) < 96
    assert flag(tuned(workload=load, max_num_seqs=96), "--max-num-seqs") == "96"


def test_room_that_tuning_finds_makes_no_requests_longer():
    assert flag(tuned(max_num_seqs=96, max_model_len=65_536), "--max-model-len") == "65536"


def test_pinned_inputs_keep_what_was_tuned_and_are_without_it_what_they_were():
    knobs = Tuned(WHY, 96, 64, 4096, 0.9, 65_536)
    inputs = PlanningInputs(model=None, default_image="x", tuned=knobs)
    document = json.loads(json.dumps(inputs.to_json_object()))
    assert PlanningInputs.from_json_object(document) == inputs
    untuned = PlanningInputs(model=None, default_image="x").to_json_object()
    assert "tuned" not in untuned
    assert PlanningInputs.from_json_object(untuned).tuned is None


def active(version: str, **engine: object) -> list[str]:
    image = f"vllm/vllm-openai:v{version}"
    planned = server(LLAMA_8B, gpu=H100, engine={"image": image, **engine})
    plan = make_plan(planned, inputs_for(planned))
    if isinstance(plan, Plan):
        return plan.engine.command
    return [problem.message for problem in plan.problems]


def test_a_pinned_number_of_admitted_requests_is_planned_and_makes_room_for_itself():
    command = active("0.32.0", maxNumActiveSeqs=1500)
    assert command[command.index("--max-num-active-seqs") + 1] == "1500"
    assert command[command.index("--max-num-seqs") + 1] == "1500"


def test_a_version_without_the_flag_is_named():
    assert active("0.30.0", maxNumActiveSeqs=64) == [
        "needs --max-num-active-seqs, which vLLM 0.30.0 does not have; set spec.engine.maxNumSeqs"
    ]


def test_more_admitted_requests_than_fit_are_refused_with_what_fits():
    (message,) = active("0.32.0", maxNumActiveSeqs=600, maxNumBatchedTokens=512)
    assert message.startswith("is 600, and --max-num-seqs is 512")
    assert message.endswith("set it to at most 512")
