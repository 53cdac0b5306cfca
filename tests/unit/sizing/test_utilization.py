"""The utilization leaves room for what vLLM's profiling run does not count."""

from unit.sizing.examples import DEFAULT_VERSION, GIBIBYTE, LLAMA_8B, QWEN_7B, plan_of, reason_of
from vllm_operator.engine import defaults
from vllm_operator.engine.versions import Version

GEMMA = "google/gemma-4-26B-A4B"
FIRST_RUNNER = {"version": "0.20.0"}


def test_all_prompt_tokens_of_a_step_have_logits_in_the_first_runner_and_1024_in_the_second():
    first = defaults.prompt_logprobs_bytes(Version((0, 20, 0)), 1, 8192, 151_936)
    second = defaults.prompt_logprobs_bytes(Version((0, 30, 0)), 2, 8192, 151_936)
    # vllm pull request 52054: 8192 x 152k x 6 bytes.
    assert (first, second) == (8192 * 151_936 * 6, 1024 * 151_936 * 5)


def test_a_large_vocabulary_lowers_the_utilization_below_the_default():
    plan = plan_of(GEMMA, engine=FIRST_RUNNER)
    assert plan.memory.utilization < 0.92
    assert "prompt_logprobs of 8192 tokens" in reason_of(plan, "--gpu-memory-utilization")


def test_the_room_that_is_left_holds_what_is_not_profiled():
    plan = plan_of(GEMMA, engine=FIRST_RUNNER)
    ledger = plan.memory
    spare = ledger.total - ledger.budget - ledger.outside_budget + ledger.activation_peak
    assert spare >= 8192 * 262_144 * 6


def test_where_the_room_is_there_anyway_the_default_stays():
    plan = plan_of(LLAMA_8B)
    assert plan.memory.utilization == 0.92
    assert reason_of(plan, "--gpu-memory-utilization") == f"default of vLLM {DEFAULT_VERSION}"


def test_a_pin_above_the_ceiling_is_kept_with_a_warning():
    plan = plan_of(LLAMA_8B, engine={**FIRST_RUNNER, "gpuMemoryUtilization": 0.97})
    assert plan.memory.utilization == 0.97
    reason = reason_of(plan, "--gpu-memory-utilization")
    assert reason.startswith("pinned in spec.engine.gpuMemoryUtilization; above 0.9")
    assert "a request may end the engine" in reason


def test_no_gpu_is_bought_for_requests_that_hardly_anybody_sends():
    gpu = {"product": "L4", "perNode": 2}
    plan = plan_of(QWEN_7B, gpu=gpu, engine={**FIRST_RUNNER, "maxModelLen": 8192})
    assert plan.placement.tensor == 1
    assert plan.memory.total < 23 * GIBIBYTE
