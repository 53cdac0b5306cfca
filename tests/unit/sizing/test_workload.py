"""What is expected of a server bounds its batch, and what it asks for is held or refused."""

from typing import Any

import pytest

from unit.sizing.examples import LLAMA_8B, LLAMA_70B, only_problem, plan_of, reason_of
from vllm_operator.api.v1alpha1 import Workload
from vllm_operator.sizing.asked.workload import expected_load

L4 = {"product": "L4", "perNode": 1}


def with_workload(model: str = LLAMA_8B, **spec: Any):
    workload = {
        name: spec.pop(name)
        for name in ("promptTokens", "outputTokens", "concurrency")
        if name in spec
    }
    return plan_of(model, workload=workload, **spec)


def test_the_asked_concurrency_surely_fits():
    plan = with_workload(gpu=L4, promptTokens=2000, outputTokens=500, concurrency=6)
    assert plan.feasible
    assert plan.capacity.max_num_seqs >= 6
    assert plan.capacity.kv_tokens.low >= 6 * 2500


def test_more_gpus_are_taken_where_fewer_hold_too_few_requests():
    one_request = plan_of(LLAMA_8B)
    many = with_workload(concurrency=600)
    assert one_request.placement.tensor == 1
    assert many.placement.tensor > 1
    (fewer, *_) = many.rejected
    assert "600 requests of 1024 + 256 tokens need" in fewer.reason


def test_max_num_seqs_is_no_more_than_the_cache_surely_holds():
    plan = with_workload(LLAMA_70B, promptTokens=4000, outputTokens=1000, concurrency=16)
    held = plan.capacity.kv_tokens.low // 5000
    assert 16 <= plan.capacity.max_num_seqs <= held + 1
    assert "surely holds" in reason_of(plan, "--max-num-seqs")


def test_max_num_seqs_rises_above_the_default_to_what_is_asked():
    plan = with_workload(gpu={"product": "A100", "perNode": 8}, promptTokens=64, concurrency=300)
    assert plan.capacity.max_num_seqs == 300
    assert "raised from 256" in reason_of(plan, "--max-num-seqs")


def test_a_step_has_no_more_tokens_than_the_expected_prompts():
    plan = with_workload(
        promptTokens=512, outputTokens=512, concurrency=4, engine={"maxNumSeqs": 8}
    )
    assert plan.capacity.max_num_batched_tokens == 4096
    assert "8 prompts of 512 tokens" in reason_of(plan, "--max-num-batched-tokens")


def test_without_a_workload_the_defaults_of_vllm_stay():
    plan = plan_of()
    assert (plan.capacity.max_num_seqs, plan.capacity.max_num_batched_tokens) == (1024, 8192)


def test_performance_is_stated_for_the_asked_requests():
    plan = with_workload(promptTokens=3000, outputTokens=700, concurrency=12)
    speed = plan.performance
    assert (speed.prompt_tokens, speed.output_tokens, speed.concurrency) == (3000, 700, 12)


def test_performance_of_data_parallel_ranks_is_that_of_the_replica():
    one = with_workload(concurrency=16)
    four = with_workload(concurrency=64, parallelism={"data": 4})
    assert four.performance.concurrency == 64
    assert four.performance.output_tokens_per_second == pytest.approx(
        4 * one.performance.output_tokens_per_second, rel=0.02
    )


def test_the_load_is_shared_by_data_parallel_ranks():
    load = expected_load(Workload(concurrency=65), 8192, 4)
    assert load.concurrency == 17


def test_a_concurrency_that_nothing_holds_is_answered_with_the_most_that_works():
    gpu = {"product": "L4", "perNode": 1}
    field, reason, message = only_problem(with_workload(gpu=gpu, concurrency=500))
    assert (field, reason) == ("spec.workload.concurrency", "Infeasible")
    most = int(message.partition("concurrency of at most ")[2].split()[0])
    assert with_workload(gpu=gpu, concurrency=most).feasible
    assert "spec.replicas" in message


def test_a_pinned_max_num_seqs_below_the_asked_concurrency_is_refused():
    plan = with_workload(concurrency=64, engine={"maxNumSeqs": 8})
    field, reason, message = only_problem(plan)
    assert (field, reason) == ("spec.engine.maxNumSeqs", "IllegalPin")
    assert message.endswith("at least 64, or the concurrency to at most 8")


def test_pinned_tokens_a_step_below_the_asked_concurrency_are_refused():
    plan = with_workload(concurrency=64, engine={"maxNumBatchedTokens": 32})
    assert only_problem(plan)[0] == "spec.engine.maxNumBatchedTokens"


def test_an_expected_request_above_the_pinned_length_is_refused():
    plan = with_workload(promptTokens=4000, engine={"maxModelLen": 4096})
    assert plan.feasible  # the output that is not stated is cut to what is left
    plan = with_workload(promptTokens=4000, outputTokens=256, engine={"maxModelLen": 4096})
    field, reason, message = only_problem(plan)
    assert (field, reason) == ("spec.engine.maxModelLen", "IllegalPin")
    assert message.endswith("at least 4256")


def test_an_expected_request_above_the_models_limit_is_refused_with_the_most_that_works():
    plan = with_workload(promptTokens=200_000, outputTokens=1000)
    field, reason, message = only_problem(plan)
    assert (field, reason) == ("spec.workload.promptTokens", "IllegalPin")
    assert message.endswith(f"at most {131_072 - 1000}")


def test_a_context_that_would_be_shorter_than_the_expected_request_is_refused():
    fits = with_workload(gpu=L4, promptTokens=12_000, outputTokens=2000)
    assert 14_000 <= fits.capacity.max_model_len < 30_000
    field, reason, message = only_problem(
        with_workload(gpu=L4, promptTokens=30_000, outputTokens=2000)
    )
    assert (field, reason) == ("spec.gpu", "Infeasible")
    assert "one request of 30000 + 2000 tokens (spec.workload) needs" in message


def test_without_chunked_prefill_pinned_tokens_bound_the_expected_request():
    engine = {"chunkedPrefill": False, "maxNumBatchedTokens": 2048}
    plan = with_workload(promptTokens=4000, engine=engine)
    assert only_problem(plan)[0] == "spec.engine.maxNumBatchedTokens"
