"""What is refused is refused by the field that is wrong, with what works."""

from typing import Any

import pytest

from unit.sizing.examples import (
    H100,
    LLAMA_8B,
    QWEN_7B,
    inputs_for,
    only_problem,
    plan_of,
    reason_of,
    server,
    value_of,
)
from vllm_operator.models import catalogue
from vllm_operator.sizing.plan.planner import make_plan

ONE_L4 = {"product": "L4", "perNode": 1}
QWEN_FP8 = "Qwen/Qwen3-235B-A22B-FP8"


def problem(model: str = LLAMA_8B, **spec: Any) -> tuple[str, str]:
    field, _, message = only_problem(plan_of(model, **spec))
    return field, message


def test_a_version_without_the_architecture_is_refused_with_the_first_that_has_it():
    field, message = problem("Qwen/Qwen3.5-27B", engine={"version": "0.8.5"})
    assert field == "spec.engine.version"
    assert "the first version with it is 0.17.0" in message


def test_an_image_without_the_architecture_is_refused_as_the_image():
    field, _ = problem("openai/gpt-oss-20b", engine={"image": "vllm/vllm-openai:v0.8.5"})
    assert field == "spec.engine.image"


def a_model_with(method: str) -> str:
    for model in catalogue.known_models():
        found = catalogue.find(model).config.get("quantization_config", {})
        if found.get("quant_method") == method and not found.get("kv_cache_scheme"):
            return model
    raise LookupError(method)


@pytest.mark.parametrize("version", ["0.12.0", "0.30.0"])
def test_an_e5m2_cache_is_refused_with_an_fp8_checkpoint(version: str):
    engine = {"version": version, "kvCacheDtype": "fp8_e5m2"}
    field, message = problem(QWEN_FP8, engine=engine)
    assert field == "spec.engine.kvCacheDtype"
    assert "fp8 or auto" in message


def test_an_e5m2_cache_is_taken_with_weights_that_are_not_fp8():
    assert plan_of(engine={"kvCacheDtype": "fp8_e5m2"}).feasible


def test_compressed_tensors_without_a_scheme_for_the_cache_take_e5m2_from_0_24_on():
    model = a_model_with("compressed-tensors")
    engine = {"kvCacheDtype": "fp8_e5m2", "maxModelLen": 2048}
    assert plan_of(model, engine={**engine, "version": "0.30.0"}).feasible
    field, _ = problem(model, engine={**engine, "version": "0.23.0"})
    assert field == "spec.engine.kvCacheDtype"


@pytest.mark.parametrize("size", [1, 8])
def test_a_block_size_that_only_the_parser_takes_is_refused(size: int):
    field, message = problem(engine={"version": "0.12.0", "blockSize": size})
    assert field == "spec.engine.blockSize"
    assert "16, 32, 64, 128, 256" in message


def test_the_engine_before_v1_takes_blocks_of_8():
    engine = {"version": "0.8.5", "blockSize": 8, "maxModelLen": 2048}
    plan = plan_of("Qwen/Qwen3-0.6B", gpu={"product": "T4", "perNode": 1}, engine=engine)
    assert plan.feasible


OLD = {"product": "V100", "memoryGiB": 31.7, "perNode": 1}


@pytest.mark.parametrize("size", [1, 7, 48, 64, 128, 256])
def test_a_gpu_before_8_0_is_told_the_block_sizes_that_its_kernels_take(size: int):
    engine = {"version": "0.8.5", "blockSize": size, "maxModelLen": 2048}
    field, message = problem("Qwen/Qwen3-0.6B", gpu=OLD, engine=engine)
    assert field == "spec.engine.blockSize"
    old_gpus = "; on GPUs before compute capability 8.0 it takes 8, 16, 32"
    assert message.endswith(("kernels of vLLM 0.8.5 take 8, 16, 32", old_gpus))


@pytest.mark.parametrize("pin", [{"kvCacheDtype": "fp8"}, {"dtype": "float32"}])
@pytest.mark.parametrize("size", [8, 16, 32, 64, 128])
def test_what_only_xformers_serves_takes_blocks_up_to_32(pin: dict[str, str], size: int):
    engine = {"version": "0.8.5", "blockSize": size, "maxModelLen": 2048, **pin}
    asked = {"gpu": ONE_L4, "engine": engine}
    if size <= 32:
        assert plan_of("Qwen/Qwen3-0.6B", **asked).feasible
    else:
        _, message = problem("Qwen/Qwen3-0.6B", **asked)
        assert message.endswith(
            f"is {size}, and the attention kernels of vLLM 0.8.5 take 8, 16, 32"
        )


def test_an_8_bit_cache_on_hopper_is_no_reason_for_small_blocks():
    engine = {"version": "0.8.5", "blockSize": 64, "maxModelLen": 2048, "kvCacheDtype": "fp8"}
    assert plan_of("Qwen/Qwen3-0.6B", gpu={"product": "H100", "perNode": 1}, engine=engine).feasible


def test_a_version_without_the_engine_before_v1_says_nothing_of_old_gpus():
    _, message = problem(engine={"version": "0.12.0", "blockSize": 7})
    assert message == "7 is none of 16, 32, 64, 128, 256, which vLLM 0.12.0 accepts"


def test_a_newer_version_takes_every_multiple_of_16_and_says_so():
    field, message = problem(engine={"blockSize": 7})
    assert field == "spec.engine.blockSize"
    assert "multiples of 16" in message
    assert plan_of(engine={"blockSize": 48}).feasible


def test_a_v100_is_served_by_a_version_that_is_built_for_it():
    gpu = {"product": "V100", "memoryGiB": 31.7, "perNode": 1}
    assert plan_of(gpu=gpu, engine={"version": "0.8.5", "maxModelLen": 2048}).feasible
    field, message = problem(gpu=gpu, engine={"version": "0.30.0"})
    assert field == "spec.gpu.product"
    assert "vLLM 0.30.0's images start at 7.5" in message


def test_a_tensor_size_that_the_heads_stop_is_refused_by_the_heads():
    field, message = problem_on_nodes({"tensor": 64})
    assert field == "spec.parallelism.tensor"
    assert "32 attention heads are not divisible by 64" in message
    assert "1, 2, 4, 8, 16, 32 work here" in message


def problem_on_nodes(parallelism: dict[str, int]) -> tuple[str, str]:
    planned = server(LLAMA_8B, gpu=H100, parallelism=parallelism)
    field, _, message = only_problem(make_plan(planned, inputs_for(planned, max_nodes=8)))
    return field, message


def test_an_illegal_tensor_size_is_named_before_stages_that_are_too_many():
    field, message = problem(parallelism={"tensor": 5, "pipeline": 2})
    assert field == "spec.parallelism.tensor"
    assert "32 attention heads are not divisible by 5" in message
    assert "1, 2, 4 work here" in message


def test_accepted_tensor_sizes_are_listed_once_and_in_order():
    pins = {"tensor": 8, "expert": False}
    _, message = problem(QWEN_FP8, parallelism=pins)
    assert message.endswith("vLLM accepts 1, 2, 4 here")


def test_pinned_limits_that_are_too_large_for_the_gpu_are_named_with_what_fits():
    engine = {"maxNumSeqs": 16384, "maxNumBatchedTokens": 16384}
    field, message = problem(gpu=ONE_L4, engine=engine)
    assert field == "spec.engine.maxNumSeqs"
    assert "What works: spec.engine.maxNumSeqs of at most " in message
    value = int(message.rpartition(" ")[2])
    assert plan_of(gpu=ONE_L4, engine={**engine, "maxNumSeqs": value}).feasible


@pytest.mark.parametrize(
    ("workload", "field", "words"),
    [
        ({"promptTokens": 1000, "outputTokens": 200_000}, "outputTokens", "at most 130072"),
        ({"promptTokens": 200_000, "outputTokens": 1000}, "promptTokens", "at most 130072"),
        ({"promptTokens": 200_000, "outputTokens": 200_000}, "promptTokens", "131072 together"),
    ],
)
def test_the_longer_part_of_a_request_is_the_one_to_shorten(
    workload: dict[str, int], field: str, words: str
):
    found, message = problem(workload=workload)
    assert found == f"spec.workload.{field}"
    assert words in message


def test_no_whole_card_is_proposed_for_a_slice_that_nobody_knows():
    field, message = problem(gpu={"product": "NVIDIA-H100-80GB-HBM3-MIG-9g.99gb"})
    assert field == "spec.gpu.product"
    assert "did you mean" not in message
    assert "set spec.gpu.memoryGiB" in message


@pytest.mark.parametrize(("version", "size"), [("0.11.0", 64), ("0.30.0", 16)])
def test_blocks_of_latent_attention_are_those_of_its_kernels(version: str, size: int):
    gpu = {"product": "H200", "perNode": 8}
    plan = plan_of("deepseek-ai/DeepSeek-V3", gpu=gpu, engine={"version": version})
    assert plan.capacity.block_size == size


def test_requests_at_once_that_leave_no_room_are_named_with_a_number_that_works():
    gpu = {"product": "L4", "perNode": 8}
    plan = plan_of(QWEN_7B, gpu=gpu, workload={"concurrency": 65536})
    field, reason, message = only_problem(plan)
    assert (field, reason) == ("spec.workload.concurrency", "Infeasible")
    assert message.startswith("is 65536, ")
    at_most = int(message.partition("of at most ")[2].partition(" ")[0])
    assert plan_of(QWEN_7B, gpu=gpu, workload={"concurrency": at_most}).feasible


@pytest.mark.parametrize(
    ("model", "method", "version"),
    [(QWEN_7B, "nvfp4_per_token", "0.30.0"), ("Qwen/Qwen3-30B-A3B", "bitsandbytes", "0.9.2")],
)
def test_a_quantisation_that_does_not_suit_a_model_names_those_that_do(
    model: str, method: str, version: str
):
    quantised = plan_of(model, engine={"quantization": method, "version": version})
    field, _, message = only_problem(quantised)
    assert field == "spec.engine.quantization"
    offered = message.partition("take one of ")[2].partition(", or leave")[0].split(", ")
    assert method not in offered
    for other in offered:
        assert plan_of(model, engine={"quantization": other, "version": version}).feasible


def test_tokens_of_a_step_are_counted_for_each_drafting_sequence():
    speculative = {"method": "ngram", "tokens": 32}
    plan = plan_of(QWEN_7B, engine={"maxNumSeqs": 1000, "speculative": speculative})
    assert value_of(plan, "--max-num-batched-tokens") == "33000"
    assert reason_of(plan, "--max-num-batched-tokens") == (
        "raised to spec.engine.maxNumSeqs, 33 tokens a sequence (spec.engine.speculative)"
    )
