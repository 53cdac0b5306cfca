"""Inputs can be pinned, hashes follow what matters, and differences are told in order."""

import pytest

from unit.sizing.examples import (
    DEFAULT_VERSION,
    LLAMA_8B,
    LLAMA_70B,
    QWEN_7B,
    inputs_for,
    offer,
    plan_of,
    server,
)
from vllm_operator.errors import (
    Infeasible,
    ModelAccessDenied,
    PlanningError,
    UnknownModel,
)
from vllm_operator.sizing.asked.inputs import PlanningInputs
from vllm_operator.sizing.plan.difference import plan_difference
from vllm_operator.sizing.plan.planner import inputs_hash, make_plan


def test_inputs_survive_a_round_trip_through_json():
    planned = server()
    inputs = inputs_for(
        planned,
        offers=(offer("NVIDIA-L4", 22),),
        nodes_visible=True,
        max_nodes=3,
        identity="Platform",
    )
    restored = PlanningInputs.from_json_object(inputs.to_json_object())
    assert restored.identity == "Platform"
    assert restored.fingerprint() == inputs.fingerprint()
    assert make_plan(planned, restored) == make_plan(planned, inputs)


def test_inputs_that_an_earlier_release_pinned_are_for_one_node():
    document = inputs_for(server()).to_json_object()
    del document["maxNodes"]
    assert PlanningInputs.from_json_object(document).max_nodes == 1


@pytest.mark.parametrize("error", [UnknownModel, ModelAccessDenied, Infeasible])
def test_a_problem_survives_a_round_trip_through_json(error: type[PlanningError]):
    inputs = inputs_for(server("a/b"), model_problem=error("spec.model.id", "no"))
    restored = PlanningInputs.from_json_object(inputs.to_json_object()).model_problem
    assert (type(restored), restored.field, restored.message) == (error, "spec.model.id", "no")


def test_replicas_pods_and_pauses_do_not_change_the_hash():
    before = server()
    after = server(replicas=3, paused=True, pod={"labels": {"a": "b"}})
    assert inputs_hash(before, inputs_for(before)) == inputs_hash(after, inputs_for(after))


@pytest.mark.parametrize(
    "change",
    [
        {"engine": {"maxNumSeqs": 7}},
        {"gpu": {"product": "H100"}},
        {"rollout": {"drainSeconds": 1}},
    ],
)
def test_what_is_planned_with_changes_the_hash(change: dict):
    before, after = server(), server(**change)
    assert inputs_hash(before, inputs_for(before)) != inputs_hash(after, inputs_for(after))


def test_an_input_that_changes_changes_the_hash():
    planned = server()
    other = inputs_for(planned, default_image="vllm/vllm-openai:v0.31.0")
    assert inputs_hash(planned, inputs_for(planned)) != inputs_hash(planned, other)


def test_equal_plans_have_no_difference():
    assert plan_difference(plan_of(), plan_of()) is None


def test_a_plan_with_another_hash_alone_has_no_difference():
    plan = plan_of()
    assert plan_difference(plan, plan.model_copy(update={"inputs_hash": "x"})) is None


def test_gpus_come_first_among_the_differences():
    text = plan_difference(
        plan_of(LLAMA_70B), plan_of(LLAMA_70B, gpu={"product": "H200", "perNode": 8})
    )
    assert text.startswith("GPUs 4 x NVIDIA-H100-80GB-HBM3 -> 2 x NVIDIA-H200; tensor parallel 4")


def test_a_new_version_tells_image_and_limits():
    text = plan_difference(plan_of(engine={"version": "0.11.0"}), plan_of())
    assert text.startswith(f"vLLM 0.11.0 -> {DEFAULT_VERSION}; image vllm/vllm-openai:v0.11.0 -> ")
    assert "gpu-memory-utilization 0.9 -> 0.92" in text


def test_a_pin_that_changes_is_told():
    text = plan_difference(plan_of(engine={"maxNumSeqs": 8}), plan_of(engine={"maxNumSeqs": 9}))
    assert text.startswith("max-num-seqs 8 -> 9")


def test_another_division_is_told_once():
    gpu = {"product": "H100", "perNode": 8}
    pinned = plan_of(LLAMA_8B, gpu=gpu, parallelism={"tensor": 2, "pipeline": 2, "data": 2})
    text = plan_difference(plan_of(LLAMA_8B, gpu=gpu), pinned)
    assert text.startswith(
        "GPUs 1 x H100 -> 8 x H100; tensor parallel 1 -> 2; pipeline parallel 1 -> 2; "
        "data parallel 1 -> 2"
    )
    assert "parallel-size" not in text


def test_a_plan_that_is_no_longer_possible_is_told_with_the_problem():
    broken = plan_of(engine={"maxModelLen": 10**6})
    assert plan_difference(plan_of(), broken).startswith("it can no longer be planned: is 1000000")


def test_many_differences_are_cut_short():
    old = plan_of(LLAMA_8B, engine={"version": "0.11.0"}, gpu={"product": "L4", "perNode": 1})
    assert plan_difference(old, plan_of(QWEN_7B)).endswith("more")
