"""``spec.workload.profile`` moves what nobody pinned, and nothing else."""

import pytest

from unit.sizing.examples import (
    LLAMA_8B,
    LLAMA_70B,
    has,
    inputs_for,
    offer,
    only_problem,
    plan_of,
    reason_of,
    server,
    value_of,
)
from vllm_operator.sizing.plan.planner import make_plan

T4 = {"product": "T4", "perNode": 8}
GEMMA = "gaunernst/gemma-3-12b-it-qat-autoawq"
PROFILES = ("Balanced", "Throughput", "Latency", "LongContext", "Cost")


def profiled(name: str, model: str = LLAMA_8B, **spec: object):
    workload = {"profile": name, **spec.pop("workload", {})}  # type: ignore[dict-item]
    return plan_of(model, workload=workload, **spec)


def test_balanced_is_what_happens_without_a_profile():
    assert profiled("Balanced").flags == plan_of(LLAMA_8B).flags


def test_throughput_doubles_the_step_and_takes_no_more_sequences_than_the_cache_holds():
    plan = profiled("Throughput")
    assert plan.capacity.max_num_batched_tokens == 2 * 8192
    held = plan.memory.kv_cache.low // (131_072 * (1024 + 256))
    assert 0.95 * held < plan.capacity.max_num_seqs <= held
    assert "spec.workload.profile Throughput" in reason_of(plan, "--max-num-batched-tokens")


def test_throughput_takes_no_more_gpus():
    assert profiled("Throughput", LLAMA_70B).placement.tensor == plan_of(LLAMA_70B).placement.tensor


def test_latency_takes_more_gpus_of_a_node_as_long_as_they_pay():
    plan, balanced = profiled("Latency"), plan_of(LLAMA_8B)
    assert 1 < plan.placement.tensor <= 8
    assert plan.placement.pipeline == 1
    alone = {"promptTokens": 1024, "outputTokens": 256, "concurrency": 1}
    fast = profiled("Latency", workload=alone).performance
    slow = plan_of(LLAMA_8B, workload=alone).performance
    assert fast.inter_token_latency < 0.9 * slow.inter_token_latency
    assert any("answers in" in other.reason for other in plan.rejected)
    assert balanced.placement.tensor == 1


def test_latency_takes_the_product_that_answers_soonest():
    offers = (offer("NVIDIA-L4", 22.0), offer("NVIDIA-H100-80GB-HBM3", 79.1, per_node=1))
    planned = server(LLAMA_8B, workload={"profile": "Latency"})
    plan = make_plan(planned, inputs_for(planned, offers=offers, nodes_visible=True))
    assert plan.placement.gpu == "NVIDIA-H100-80GB-HBM3"
    (other,) = [one for one in plan.rejected if "the one taken in" in one.reason]
    assert other.gpu == "NVIDIA-L4"


def test_latency_keeps_steps_small():
    plan = profiled("Latency")
    assert (plan.capacity.max_num_seqs, plan.capacity.max_num_batched_tokens) == (64, 2048)
    assert reason_of(plan, "--max-num-seqs") == "limit of spec.workload.profile Latency"


def test_latency_gives_room_to_the_requests_that_are_expected():
    plan = profiled("Latency", workload={"concurrency": 100})
    assert plan.capacity.max_num_seqs >= 100


@pytest.mark.parametrize(("version", "switched"), [("0.11.0", 0), ("0.13.0", 1), ("0.14.0", 0)])
def test_latency_schedules_ahead_where_the_version_has_it_and_does_not_by_itself(
    version: str, switched: int
):
    plan = profiled("Latency", engine={"version": version})
    assert has(plan, "--async-scheduling") == bool(switched)


def test_long_context_makes_the_cache_fp8_and_holds_twice_the_tokens():
    plan, balanced = profiled("LongContext"), plan_of(LLAMA_8B)
    assert value_of(plan, "--kv-cache-dtype") == "fp8"
    assert plan.capacity.kv_tokens.low > 1.9 * balanced.capacity.kv_tokens.low


@pytest.mark.parametrize(
    "spec",
    [
        {"engine": {"kvCacheDtype": "auto"}},
        {"gpu": {"product": "NVIDIA-A100-SXM4-80GB", "perNode": 8}},
        {"engine": {"version": "0.10.2"}},
    ],
)
def test_long_context_leaves_a_pinned_or_unsafe_cache_alone(spec: dict[str, object]):
    assert not has(profiled("LongContext", **spec), "--kv-cache-dtype")


def test_long_context_is_worth_another_node_where_one_holds_less():
    node = {"product": "L4", "perNode": 2}
    plan = profiled("LongContext", gpu=node, engine={"kvCacheDtype": "auto"})
    assert plan.capacity.max_model_len == 131_072


def test_cost_takes_the_fewest_gpus_and_gives_up_context_that_nobody_asked_for():
    plan, balanced = profiled("Cost", LLAMA_70B), plan_of(LLAMA_70B)
    assert plan.placement.gpus_per_replica < balanced.placement.gpus_per_replica
    assert 8192 <= plan.capacity.max_model_len < 131_072


def test_cost_keeps_the_context_that_is_asked_for():
    plan = profiled("Cost", LLAMA_70B, engine={"maxModelLen": 131_072})
    assert plan.capacity.max_model_len == 131_072


def test_cost_holds_the_expected_load():
    workload = {"promptTokens": 30_000, "outputTokens": 1000, "concurrency": 4}
    plan = profiled("Cost", LLAMA_70B, workload=workload)
    assert plan.capacity.max_model_len >= 31_000
    assert plan.capacity.kv_tokens.low >= 4 * 31_000


@pytest.mark.parametrize("profile", PROFILES)
def test_no_profile_moves_a_pin(profile: str):
    engine = {
        "maxModelLen": 4096,
        "maxNumSeqs": 100,
        "maxNumBatchedTokens": 3000,
        "gpuMemoryUtilization": 0.8,
        "kvCacheDtype": "fp8_e4m3",
    }
    plan = profiled(profile, engine=engine, parallelism={"tensor": 2})
    command = " ".join(plan.engine.command)
    for expected in (
        "--tensor-parallel-size 2",
        "--max-model-len 4096",
        "--max-num-seqs 100",
        "--max-num-batched-tokens 3000",
        "--gpu-memory-utilization 0.8",
        "--kv-cache-dtype fp8_e4m3",
    ):
        assert expected in command


def test_a_model_that_cannot_float16_is_refused_on_a_gpu_without_bfloat16():
    plan = plan_of(GEMMA, gpu=T4, engine={"maxModelLen": 4096})
    field, _, message = only_problem(plan)
    assert field == "spec.gpu.product"
    assert "does not serve Gemma3ForConditionalGeneration in float16" in message


def test_a_model_that_cannot_float16_refuses_the_pin():
    plan = plan_of(GEMMA, engine={"dtype": "float16"})
    field, reason, message = only_problem(plan)
    assert (field, reason) == ("spec.engine.dtype", "IllegalPin")
    assert "set it to bfloat16 or auto" in message
