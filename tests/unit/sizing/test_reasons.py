"""The reason of a number is what led to it, also where another number is equal by chance."""

import pytest

from unit.sizing.examples import (
    DEFAULT_VERSION,
    H100,
    LLAMA_8B,
    QWEN_0_6B,
    QWEN_7B,
    inputs_for,
    plan_of,
    reason_of,
    server,
    value_of,
)
from vllm_operator.api.plan import Plan
from vllm_operator.sizing.asked.repairs import Repair
from vllm_operator.sizing.layout.knobs import Knob
from vllm_operator.sizing.plan.planner import make_plan

L4 = {"product": "L4", "perNode": 1}
SEQS, TOKENS = "--max-num-seqs", "--max-num-batched-tokens"
UTILIZATION = "--gpu-memory-utilization"


def repaired(kind: str, limit: float, gpu: dict, model: str = LLAMA_8B, **spec: object) -> Plan:
    planned = server(model, gpu=gpu, **spec)
    repair = Repair(kind, limit, "repair 1 of 3: because")  # type: ignore[arg-type]
    return make_plan(planned, inputs_for(planned, repairs=(repair,)))


def test_sequences_that_a_pinned_step_has_bounded_are_not_lowered_from_a_default():
    plan = plan_of(gpu=L4, engine={"maxNumBatchedTokens": 200})
    assert reason_of(plan, SEQS) == (
        "lowered from 200: the KV cache needs the room; lowered from 256 "
        f"(default of vLLM {DEFAULT_VERSION} for this GPU): spec.engine.maxNumBatchedTokens has "
        "tokens for no more"
    )


def test_sequences_that_drafts_have_bounded_are_not_lowered_from_a_default():
    engine = {"speculative": {"method": "ngram", "tokens": 15}}
    assert reason_of(plan_of(gpu=L4, engine=engine), SEQS) == (
        "lowered from 128: the KV cache needs the room; lowered from 256 "
        f"(default of vLLM {DEFAULT_VERSION} for this GPU): a step has tokens for no more: it "
        "verifies 16 of each sequence "
        "(spec.engine.speculative)"
    )


def test_sequences_that_a_repair_has_bounded_are_lowered_from_the_repair():
    plan = repaired("fewerSequences", 200, L4)
    assert reason_of(plan, SEQS) == (
        "lowered from 200 (repair 1 of 3: because): the KV cache needs the room"
    )


def test_a_utilization_that_a_repair_has_bounded_is_lowered_from_the_repair():
    gemma, engine = "google/gemma-4-26B-A4B", {"version": "0.20.0"}
    plan = repaired("lowerUtilization", 0.9, H100, gemma, engine=engine)
    assert plan.memory.utilization < 0.9
    assert reason_of(plan, UTILIZATION).startswith("lowered from 0.9 (repair 1 of 3: because): ")


@pytest.mark.parametrize(
    ("kind", "limit", "flag"),
    [
        ("lowerUtilization", 0.95, UTILIZATION),
        ("lowerUtilization", 0.92, UTILIZATION),
        ("fewerSequences", 1024, SEQS),
        ("shorterMaxModelLen", 131_072, "--max-model-len"),
    ],
)
def test_a_repair_that_bounds_nothing_is_no_reason(kind: str, limit: float, flag: str):
    plan = repaired(kind, limit, H100)
    assert reason_of(plan, flag) == reason_of(plan_of(LLAMA_8B), flag)


def test_requests_that_nobody_states_are_told_as_assumed():
    reason = reason_of(plan_of(workload={"profile": "Throughput"}), SEQS)
    assert reason.endswith("requests of 1024 + 256 tokens (assumed: spec.workload states none)")


def test_requests_that_are_stated_are_told_as_stated():
    reason = reason_of(plan_of(workload={"promptTokens": 1024}), SEQS)
    assert reason.endswith("requests of 1024 + 256 tokens (spec.workload)")


@pytest.mark.parametrize(
    "engine",
    [
        {"chunkedPrefill": False, "maxModelLen": 4096},
        {"version": "0.9.1", "kvCacheDtype": "fp8", "maxModelLen": 1024},
    ],
)
def test_a_step_that_holds_the_longest_prompt_anyway_is_the_default(engine: dict):
    gpu = {"product": "A100-40GB", "perNode": 1} if "version" in engine else H100
    plan = plan_of(QWEN_0_6B, gpu=gpu, engine=engine)
    assert reason_of(plan, TOKENS).startswith("default of vLLM")


def test_halved_lengths_and_steps_are_told_once():
    gpu = {"product": "T4", "perNode": 1}
    plan = plan_of(QWEN_7B, gpu=gpu, engine={"version": "0.8.5", "quantization": "bitsandbytes"})
    assert value_of(plan, TOKENS) == value_of(plan, "--max-model-len")
    assert reason_of(plan, TOKENS).count("from") == 1


def test_every_source_replaces_what_stood_before_and_every_change_names_it():
    knob = Knob.starting(None, "x", 100, "default").at_least(120, "load")
    assert knob.reason == "raised from 100 (default): load"
    learned = knob.at_most(80, "learned", source=True)
    assert (learned.value, learned.reason) == (80, "learned")
    halved = learned.at_most(40, "room").at_most(20, "room").at_most(10, "held")
    assert halved.reason == "lowered from 20: held; lowered from 80 (learned): room"
    assert halved.start.value == 80


def test_a_number_that_is_led_back_has_not_moved():
    knob = Knob.starting(None, "x", 100, "default")
    assert knob.at_least(400, "one step").at_most(100, "one step") == knob


def test_a_pin_moves_for_nothing():
    pinned = Knob.starting(7, "maxNumSeqs", 100, "default")
    assert (
        pinned.at_most(1, "room").at_least(9, "load").reason == "pinned in spec.engine.maxNumSeqs"
    )
