"""What would end between the arguments and the first step is refused while it is planned."""

from typing import Any

import pytest

from unit.sizing.examples import (
    LLAMA_8B,
    has,
    inputs_for,
    offer,
    only_problem,
    plan_of,
    reason_of,
    server,
    value_of,
)
from vllm_operator.models.facts import facts_from_inline
from vllm_operator.sizing.plan.planner import make_plan

V4_FLASH = "deepseek-ai/DeepSeek-V4-Flash"
V4_DSPARK = "deepseek-ai/DeepSeek-V4-Flash-0731"
LATENT = "deepseek-ai/DeepSeek-V2-Lite"
QWEN = "Qwen/Qwen3.8-27B"
RTX_PRO = "NVIDIA-RTX-PRO-6000-Blackwell-Workstation-Edition"
H200 = {"product": "NVIDIA-H200", "perNode": 8}
NVFP4_EXPERTS = {
    "architectures": ["MiniMaxM2ForCausalLM"],
    "attn_type_list": [1] * 62,
    "head_dim": 128,
    "hidden_size": 3072,
    "intermediate_size": 1536,
    "max_position_embeddings": 196608,
    "model_type": "minimax_m2",
    "num_attention_heads": 48,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 62,
    "num_key_value_heads": 8,
    "num_local_experts": 256,
    "qk_norm_type": "per_layer",
    "rotary_dim": 64,
    "scoring_func": "sigmoid",
    "tie_word_embeddings": False,
    "use_qk_norm": True,
    "use_routing_bias": True,
    "vocab_size": 200064,
    "quantization_config": {
        "quant_method": "modelopt",
        "quant_algo": "NVFP4",
        "config_groups": {
            "group_0": {
                "input_activations": {"dynamic": False, "num_bits": 4, "type": "float"},
                "weights": {"dynamic": False, "num_bits": 4, "type": "float", "group_size": 16},
                "targets": ["Linear"],
            }
        },
        "ignore": ["lm_head", "*self_attn*", "*gate"],
    },
}


def refused(model: str | dict[str, Any], **spec: Any) -> tuple[str, str]:
    field, _, message = only_problem(plan_of(model, **spec))
    return field, message


def engine(version: str, **pins: Any) -> dict[str, Any]:
    return {"version": version, "image": f"vllm/vllm-openai:v{version}", **pins}


@pytest.mark.parametrize("version", ["0.24.0", "0.30.0", "0.33.0"])
def test_deepseek_v4_is_told_the_fp8_cache_that_the_plan_counts(version: str):
    gpu = {"product": RTX_PRO, "perNode": 2}
    plan = plan_of(V4_FLASH, engine=engine(version), gpu=gpu, parallelism={"tensor": 2})
    assert value_of(plan, "--kv-cache-dtype") == "fp8"
    assert "in 8 bits" in reason_of(plan, "--kv-cache-dtype")


def test_no_other_model_is_told_a_cache():
    assert not has(plan_of(LATENT), "--kv-cache-dtype")


def test_an_automatic_cache_that_deepseek_v4_asserts_against_is_refused_with_the_one_that_works():
    field, message = refused(V4_FLASH, gpu=H200, engine=engine("0.24.0", kvCacheDtype="auto"))
    assert field == "spec.engine.kvCacheDtype"
    assert "set it to fp8, or remove it" in message


def test_drafts_that_the_checkpoint_does_not_hold_are_refused_by_what_it_holds():
    field, message = refused(
        V4_DSPARK, gpu=H200, engine=engine("0.25.1", speculative={"method": "mtp", "tokens": 1})
    )
    assert field == "spec.engine.speculative.method"
    assert "draft as DSpark" in message
    assert message.endswith("take one of ngram, draft_model, eagle")


def test_the_same_model_with_drafts_in_its_checkpoint_is_planned():
    speculative = {"method": "mtp", "tokens": 1}
    plan = plan_of(V4_FLASH, gpu=H200, engine=engine("0.25.1", speculative=speculative))
    assert has(plan, "--speculative-config")


SMALL_DRAFT = {"method": "draft_model", "model": "Qwen/Qwen2.5-0.5B-Instruct", "tokens": 3}


def test_a_draft_whose_heads_no_rank_can_share_is_refused_with_the_sizes_that_work():
    pins = engine("0.30.0", speculative=SMALL_DRAFT)
    field, message = refused(
        "Qwen/Qwen2.5-1.5B-Instruct", engine=pins, parallelism={"tensor": 4, "pipeline": 1}
    )
    assert field == "spec.parallelism.tensor"
    assert "the draft's 14 attention heads are not divisible by 4" in message
    assert message.endswith("vLLM accepts 1, 2 here")


def test_a_size_that_divides_model_and_draft_is_planned():
    pins = engine("0.30.0", speculative=SMALL_DRAFT)
    plan = plan_of("Qwen/Qwen2.5-1.5B-Instruct", engine=pins, parallelism={"tensor": 2})
    assert plan.placement.tensor == 2


def test_experts_without_a_kernel_for_the_gpu_are_refused_with_the_release_that_has_one():
    model = {"id": "example/MiniMax-M2.1-NVFP4", "config": NVFP4_EXPERTS}
    spec = {"gpu": {"product": RTX_PRO, "perNode": 2}, "parallelism": {"tensor": 2}}
    planned = server(model, engine=engine("0.15.0", maxModelLen=65536), **spec)
    facts = facts_from_inline(planned.spec.model)
    field, _, message = only_problem(make_plan(planned, inputs_for(planned, model=facts)))
    assert field == "spec.gpu.product"
    assert "no kernel of NVFP4 experts; take vLLM 0.16.0 or newer" in message


@pytest.mark.parametrize("version", ["0.20.0", "0.25.1"])
def test_a_step_holds_a_block_of_recurrent_states_where_prefixes_are_cached(version: str):
    a100 = {"product": "NVIDIA-A100-SXM4-80GB", "perNode": 1}
    pins = engine(version, prefixCaching=True, kvCacheDtype="fp8", maxModelLen=32768)
    plan = plan_of(QWEN, gpu=a100, engine=pins)
    assert plan.capacity.max_num_batched_tokens >= plan.capacity.block_size


def test_a_pinned_step_that_is_smaller_than_such_a_block_is_refused_with_the_block():
    pins = engine("0.25.1", prefixCaching=True, maxNumBatchedTokens=512, maxNumSeqs=16)
    gpu = {"product": "H100", "perNode": 1}
    field, message = refused(QWEN, gpu=gpu, engine={**pins, "maxModelLen": 32768})
    assert field == "spec.engine.maxNumBatchedTokens"
    assert "set it to at least 784" in message


@pytest.mark.parametrize("changes", [{"prefixCaching": False}, {"version": "0.28.0"}])
def test_a_small_step_is_planned_where_no_block_must_lie_in_it(changes: dict[str, Any]):
    version = str(changes.get("version", "0.25.1"))
    pins = engine(version, prefixCaching=True, maxNumBatchedTokens=512, maxNumSeqs=16)
    gpu = {"product": "H100", "perNode": 1}
    plan = plan_of(QWEN, gpu=gpu, engine={**pins, "maxModelLen": 32768, **changes})
    assert plan.feasible


def test_whole_prompts_are_refused_where_prefixes_of_recurrent_layers_are_cached():
    pins = engine("0.33.0", chunkedPrefill=False, maxModelLen=8192)
    field, message = refused(QWEN, engine=pins)
    assert field == "spec.engine.chunkedPrefill"
    assert "prefixCaching: false" in message
    assert plan_of(QWEN, engine={**pins, "prefixCaching": False}).feasible


def test_deepseek_v4_is_on_one_stage_in_the_release_that_divides_it_into_none():
    plan = plan_of(V4_FLASH, gpu={"product": "NVIDIA-H200", "perNode": 8}, engine=engine("0.20.0"))
    assert plan.feasible
    assert plan.placement.pipeline == 1


def test_fewer_adapters_in_the_host_than_on_the_gpu_are_refused():
    pins = {"lora": {"maxLoras": 4}, "extraArgs": ["--max-cpu-loras=2"]}
    field, message = refused(LLAMA_8B, engine=pins)
    assert field == "spec.engine.extraArgs"
    assert "is 2, less than the 4 of spec.engine.lora.maxLoras; set it to at least 4" in message


def test_a_threshold_of_prompts_that_are_longer_than_any_is_refused():
    pins = {"maxModelLen": 4096, "extraArgs": ["--long-prefill-token-threshold=8192"]}
    field, message = refused(LLAMA_8B, engine=pins)
    assert field == "spec.engine.extraArgs"
    assert message.endswith("set it to at most 4096")


@pytest.mark.parametrize(
    ("words", "version", "told"),
    [
        (["--stream-interval=0"], "0.30.0", "takes at least 1; set it to 1"),
        (["--watermark=1"], "0.33.0", "takes at least 0 and less than 1"),
        (["--kv-cache-metrics-sample=0"], "0.30.0", "takes more than 0 and at most 1"),
        (["--tokenizer-mode=slow"], "0.31.0", "is refused by vLLM 0.31.0; take hf or auto"),
        (["--numa-bind-nodes=0"], "0.33.0", "needs --numa-bind beside it"),
        (
            ['--structured-outputs-config={"disable_any_whitespace":true}'],
            "0.30.0",
            "refused with another backend than xgrammar or guidance",
        ),
        (["--logging-config.formatter=json"], "0.31.0", "has no key formatter"),
    ],
)
def test_a_value_that_the_engines_configuration_refuses_is_refused(
    words: list[str], version: str, told: str
):
    field, message = refused(LLAMA_8B, engine=engine(version, extraArgs=words))
    assert field.startswith("spec.engine.extraArgs")
    assert told in message


@pytest.mark.parametrize(
    ("words", "version"),
    [
        (["--stream-interval=1"], "0.30.0"),
        (["--watermark=0.1"], "0.33.0"),
        (["--tokenizer-mode=slow"], "0.30.0"),
        (["--numa-bind", "--numa-bind-nodes=0"], "0.33.0"),
        (["--logging-config.formatter=json"], "0.32.0"),
        (["--max-num-scheduled-tokens=1k"], "0.33.0"),
        (['--reasoning-effort-map={"medium":"low"}'], "0.33.0"),
        (
            ['--structured-outputs-config={"backend":"guidance","disable_any_whitespace":true}'],
            "0.30.0",
        ),
    ],
)
def test_one_that_it_takes_is_passed_on(words: list[str], version: str):
    assert plan_of(LLAMA_8B, engine=engine(version, extraArgs=words)).feasible


def test_a_chosen_backend_is_planned_with_a_wider_bound_that_its_reason_states():
    gpu = {"product": "H100", "perNode": 1}
    free = plan_of(LLAMA_8B, gpu=gpu)
    chosen = plan_of(LLAMA_8B, gpu=gpu, engine={"extraArgs": ["--moe-backend=marlin"]})
    assert chosen.memory.kv_cache.expected == free.memory.kv_cache.expected
    lost = free.memory.kv_cache.low - chosen.memory.kv_cache.low
    assert 8 * 1024**3 < lost < 10 * 1024**3
    assert "leave 12.5% of the GPU's memory" in reason_of(chosen, "--moe-backend")


def test_an_attention_backend_that_the_model_cannot_have_is_refused_with_one_that_it_can():
    words = ["--attention-backend=flashmla"]
    field, message = refused(LLAMA_8B, engine={"extraArgs": words})
    assert field == "spec.engine.extraArgs"
    assert "LlamaForCausalLM has none; take FLASH_ATTN or FLASHINFER" in message


def test_an_attention_backend_that_the_gpu_cannot_have_is_refused():
    gpu = {"product": "L40S", "perNode": 1}
    words = ["--attention-backend=FLASHMLA"]
    field, message = refused(LATENT, gpu=gpu, engine={"extraArgs": words})
    assert field == "spec.engine.extraArgs"
    assert "for GPUs of compute capability 9.x" in message


def test_a_backend_that_is_left_to_vllm_costs_nothing():
    gpu = {"product": "H100", "perNode": 1}
    chosen = plan_of(LLAMA_8B, gpu=gpu, engine={"extraArgs": ["--moe-backend", "auto"]})
    assert chosen.memory.kv_cache == plan_of(LLAMA_8B, gpu=gpu).memory.kv_cache


@pytest.mark.parametrize(
    ("gpu", "field", "told"),
    [
        ({"product": "Gaudi2"}, "spec.gpu.product", "stands for Gaudi accelerators"),
        ({"product": "TPU v5e"}, "spec.gpu.product", "stands for Google TPUs"),
        ({"product": "cpu"}, "spec.gpu.product", "stands for CPUs"),
        (
            {"product": "HL-225", "resourceName": "habana.ai/gaudi", "memoryGiB": 96},
            "spec.gpu.product",
            "by a plugin of its own",
        ),
        (
            {"resourceName": "google.com/tpu"},
            "spec.gpu.resourceName",
            "google.com/tpu stands for Google TPUs",
        ),
        ({"product": "AGX Thor"}, "spec.gpu.product", "set spec.gpu.memoryGiB to what"),
    ],
)
def test_hardware_whose_memory_no_plan_counts_is_refused_by_name(
    gpu: dict[str, Any], field: str, told: str
):
    where, message = refused(LLAMA_8B, gpu=gpu)
    assert where == field
    assert told in message


GB10 = {"product": "NVIDIA-GB10", "perNode": 1}


def test_a_device_with_the_systems_memory_takes_what_is_surely_left_of_it():
    plan = plan_of(LLAMA_8B, gpu=GB10)
    assert value_of(plan, "--gpu-memory-utilization") == "0.82"
    assert "are sure to be free when the engine starts" in reason_of(
        plan, "--gpu-memory-utilization"
    )


def test_who_pins_the_utilization_of_such_a_device_knows_what_else_runs_there():
    # 0.88 and 0.93 started: hardware/unified.csv
    assert plan_of(LLAMA_8B, gpu=GB10, engine={"gpuMemoryUtilization": 0.92}).feasible
    assert not plan_of(LLAMA_8B, gpu=GB10, engine={"gpuMemoryUtilization": 0.97}).feasible


ONE_CARD = {"product": "NVIDIA-GeForce-RTX-5090", "perNode": 1}
TOO_LARGE = "Qwen/Qwen3-32B"


def over_nodes(nodes: int = 0, **spec: Any) -> Any:
    planned = server(TOO_LARGE, **{"gpu": ONE_CARD, **spec})
    offers = (offer("NVIDIA-GeForce-RTX-5090", 31.37, 1, nodes),) if nodes else ()
    return make_plan(planned, inputs_for(planned, max_nodes=8, offers=offers))


def test_a_model_too_large_for_the_one_card_is_refused_with_how_to_ask_for_several_nodes():
    field, _, message = only_problem(over_nodes())
    assert field == "spec.gpu"
    assert "unless several are asked for (spec.parallelism.pipeline" in message


def test_several_nodes_are_planned_where_they_are_asked_for():
    assert over_nodes(parallelism={"pipeline": 3}).placement.nodes == 3


def test_several_nodes_are_planned_where_they_exist():
    assert over_nodes(4).placement.nodes > 1


def test_no_more_nodes_are_planned_than_there_are():
    only_problem(over_nodes(1))


LLAMA_405B_FP8 = "meta-llama/Meta-Llama-3.1-405B-Instruct-FP8"
ALLOWED = "--allow-deprecated-quantization"


def fbgemm(version: str, **engine: Any) -> Any:
    return plan_of(LLAMA_405B_FP8, gpu=H200, engine={"version": version, **engine})


def test_a_quantisation_that_vllm_gives_up_is_allowed_from_the_release_that_asks_for_it():
    assert ALLOWED in fbgemm("0.14.0").engine.command
    assert ALLOWED not in fbgemm("0.12.0").engine.command


def test_what_is_allowed_already_is_not_allowed_twice():
    plan = fbgemm("0.33.0", extraArgs=[ALLOWED])
    assert plan.engine.command.count(ALLOWED) == 1


MAMBA = {
    "architectures": ["Mamba2ForCausalLM"],
    "model_type": "mamba2",
    "hidden_size": 4096,
    "num_heads": 128,
    "head_dim": 64,
    "n_groups": 8,
    "state_size": 128,
    "num_hidden_layers": 64,
    "vocab_size": 32768,
}


def inline_plan(config: dict[str, Any], **spec: Any) -> Any:
    h100 = {"product": "NVIDIA-H100-80GB-HBM3", "perNode": 1}
    planned = server({"id": "example/inline", "config": config}, gpu=h100, **spec)
    facts = facts_from_inline(planned.spec.model)
    return make_plan(planned, inputs_for(planned, model=facts))


@pytest.mark.parametrize(("pinned", "length"), [({}, "2048"), ({"maxModelLen": 262144}, "262144")])
def test_a_model_without_positions_takes_any_length(pinned: dict[str, Any], length: str):
    plan = inline_plan(MAMBA, engine=pinned)
    assert value_of(plan, "--max-model-len") == length


def test_a_length_of_a_model_without_positions_takes_no_memory():
    short = inline_plan(MAMBA)
    long = inline_plan(MAMBA, engine={"maxModelLen": 262144})
    assert short.capacity.max_concurrency.low == long.capacity.max_concurrency.low
