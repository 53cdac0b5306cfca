"""Plans for the engine before V1, which prefills in chunks only where requests are long."""

import pytest

from unit.sizing.examples import only_problem, plan_of, reason_of, value_of

T4 = {"product": "T4", "perNode": 8}
A100 = {"product": "A100-40GB", "perNode": 8}
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
SMALL = "Qwen/Qwen2.5-0.5B-Instruct"
JAMBA = "ai21labs/AI21-Jamba-1.5-Mini"
EMBEDDING = "Qwen/Qwen3-Embedding-8B"
LATENT = "deepseek-ai/DeepSeek-V2-Lite"


def engine(version: str, **pins: object) -> dict:
    return {"image": f"vllm/vllm-openai:v{version}", **pins}


@pytest.mark.parametrize(
    ("model", "version", "gpu", "pins", "because"),
    [
        (SMALL, "0.8.5", T4, {}, "compute capability lies below 8.0"),
        (SMALL, "0.8.5", A100, {"dtype": "float32"}, "of --dtype float32"),
        (SMALL, "0.10.0", A100, {"kvCacheDtype": "fp8"}, "of --kv-cache-dtype"),
        (EMBEDDING, "0.9.1", A100, {"maxModelLen": 8192}, "the model is pooled"),
    ],
)
def test_a_step_holds_the_longest_prompt_where_prompts_are_not_parted(
    model: str, version: str, gpu: dict, pins: dict, because: str
):
    plan = plan_of(model, gpu=gpu, engine=engine(version, **pins))
    assert plan.capacity.max_num_batched_tokens >= plan.capacity.max_model_len
    assert "the engine before V1 serves" in reason_of(plan, "--max-num-batched-tokens")
    assert because in reason_of(plan, "--max-num-batched-tokens")


def test_the_context_goes_before_room_for_prompt_logprobs_of_so_long_a_step():
    plan = plan_of(SMALL, gpu=T4, engine=engine("0.8.5"))
    assert plan.capacity.max_model_len == 32_768
    reason = reason_of(plan, "--gpu-memory-utilization")
    assert "no room is left" in reason
    assert "prompt_logprobs of 32768 tokens a step" in reason


def test_newer_versions_part_prompts_on_the_same_gpu():
    plan = plan_of(SMALL, gpu=T4, engine=engine("0.10.2"))
    assert plan.capacity.max_model_len == 32_768
    assert plan.capacity.max_num_batched_tokens == 2048


def test_asking_for_chunks_has_them():
    plan = plan_of(SMALL, gpu=T4, engine=engine("0.8.5", chunkedPrefill=True))
    assert value_of(plan, "--max-num-batched-tokens") == "2048"


def test_long_requests_of_a_plain_model_are_parted():
    plan = plan_of(LLAMA, gpu=T4, engine=engine("0.8.5", maxModelLen=40_000))
    assert plan.capacity.max_num_batched_tokens == 2048


def test_what_is_shortened_below_the_bound_of_long_requests_is_one_step_again():
    # 131,072 tokens would be parted, what fits of them would not.
    gpu = {"product": "T4", "memoryGiB": 20, "perNode": 1}
    plan = plan_of(LLAMA, gpu=gpu, engine=engine("0.8.5"))
    assert 1024 <= plan.capacity.max_model_len <= 32_768
    assert plan.capacity.max_num_batched_tokens >= plan.capacity.max_model_len


def test_a_pinned_step_that_is_too_short_is_refused_with_the_reason():
    pins = {"maxModelLen": 8192, "maxNumBatchedTokens": 2048}
    field, reason, message = only_problem(plan_of(SMALL, gpu=T4, engine=engine("0.8.5", **pins)))
    assert (field, reason) == ("spec.engine.maxNumBatchedTokens", "IllegalPin")
    assert "compute capability lies below 8.0" in message
    assert "set it to at least 8192" in message


def test_a_pinned_step_bounds_the_length_that_nobody_pinned():
    plan = plan_of(SMALL, gpu=T4, engine=engine("0.8.5", maxNumBatchedTokens=4096))
    assert plan.capacity.max_model_len == 4096


def test_chunks_of_a_pooled_model_are_refused():
    pins = {"maxModelLen": 8192, "chunkedPrefill": True}
    field, _, message = only_problem(plan_of(EMBEDDING, gpu=A100, engine=engine("0.9.1", **pins)))
    assert field == "spec.engine.chunkedPrefill"
    assert "because the model is pooled" in message


def test_latent_attention_is_never_parted():
    # fp8 caches of such models were served by V1 from 0.10.2 on.
    pins = {"maxModelLen": 65_536, "kvCacheDtype": "fp8"}
    old, new = (
        plan_of(LATENT, gpu=A100, engine=engine(version, **pins))
        for version in ("0.10.0", "0.10.2")
    )
    assert old.capacity.max_num_batched_tokens >= 65_536
    assert new.capacity.max_num_batched_tokens < 65_536


def test_recurrent_states_lie_beside_the_blocks():
    # 28 of Jamba's 32 layers are recurrent: its blocks are those of the other four alone.
    few, many = (
        plan_of(
            JAMBA,
            gpu={"product": "H100", "perNode": 8},
            parallelism={"tensor": 4, "pipeline": 1},
            engine=engine("0.8.5", maxModelLen=8192, maxNumSeqs=seqs),
        )
        for seqs in (64, 256)
    )
    assert few.capacity.block_size == 16
    each = (many.memory.non_torch - few.memory.non_torch) / (256 - 64)
    # 8,192 channels x (3 columns of 2 bytes and 16 states of 2) over four ranks, 28 layers.
    assert each == pytest.approx(28 * 8192 // 4 * (3 * 2 + 16 * 2), rel=0.01)
