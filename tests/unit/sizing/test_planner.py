"""What is planned for a server, and how a server that cannot be planned is told so."""

from dataclasses import replace

import pytest

from unit.sizing.examples import (
    GIBIBYTE,
    H100,
    LLAMA_8B,
    LLAMA_70B,
    QWEN_0_6B,
    QWEN_7B,
    has,
    inputs_for,
    offer,
    only_problem,
    plan_of,
    reason_of,
    server,
    value_of,
)
from vllm_operator.api.plan import Plan
from vllm_operator.errors import ModelAccessDenied
from vllm_operator.models import catalogue
from vllm_operator.sizing.plan.planner import make_plan, size

L4 = {"product": "L4", "perNode": 8}


def test_llama_8b_runs_whole_on_one_h100():
    plan = plan_of()
    assert (plan.feasible, plan.placement.gpu) == (True, "NVIDIA-H100-80GB-HBM3")
    assert plan.placement.gpus_per_replica == 1
    assert plan.capacity.max_model_len == 131072
    assert plan.capacity.max_num_seqs == 1024
    assert plan.capacity.max_num_batched_tokens == 8192
    assert plan.memory.utilization == 0.92
    assert plan.capacity.max_concurrency.low > 3


def test_llama_8b_with_its_whole_context_takes_two_l4():
    plan = plan_of(gpu=L4)
    assert (plan.placement.tensor, plan.capacity.max_model_len) == (2, 131072)
    assert [(r.tensor, "at most" in r.reason) for r in plan.rejected] == [(1, True)]


def test_on_a_single_l4_the_longest_context_that_fits_is_taken():
    plan = plan_of(gpu={"product": "L4", "perNode": 1})
    length = plan.capacity.max_model_len
    assert 8_192 < length < 40_000
    assert length % 16 == 0
    assert plan.capacity.max_concurrency.low >= 1
    assert "longest that fits" in reason_of(plan, "--max-model-len")


def test_limits_are_lowered_where_memory_asks_for_it_and_the_reason_says_so():
    plan = plan_of(gpu={"product": "L4", "perNode": 1})
    assert plan.capacity.max_num_seqs == 64
    assert "lowered from 256" in reason_of(plan, "--max-num-seqs")


def test_llama_70b_takes_the_fewest_h100_that_hold_one_request():
    assert plan_of(LLAMA_70B, engine={"maxModelLen": 8192}).placement.tensor == 2
    assert plan_of(LLAMA_70B).placement.tensor == 4


def test_a_model_of_several_names_serves_under_each_with_one_argument():
    model = {"id": LLAMA_8B, "servedName": "chat", "additionalServedNames": ["gpt-4", "llama"]}
    command = plan_of(model).engine.command
    assert command.count("--served-model-name") == 1
    first = command.index("--served-model-name") + 1
    assert command[first : first + 3] == ["chat", "gpt-4", "llama"]
    assert command[first + 3].startswith("--")


def test_further_names_come_after_the_model_s_own_id():
    command = plan_of({"id": LLAMA_8B, "additionalServedNames": ["gpt-4"]}).engine.command
    first = command.index("--served-model-name") + 1
    assert command[first : first + 2] == [LLAMA_8B, "gpt-4"]


def test_every_argument_has_one_flag_and_the_command_is_made_of_them():
    plan = plan_of(
        {"id": LLAMA_8B, "revision": "abc", "servedName": "chat", "trustRemoteCode": True},
        engine={
            "dtype": "float16",
            "kvCacheDtype": "fp8",
            "blockSize": 32,
            "enforceEager": True,
            "prefixCaching": False,
            "chunkedPrefill": True,
        },
    )
    rebuilt = ["vllm", "serve"]
    for flag in plan.flags:
        rebuilt += [] if flag.name == "model" else [flag.name]
        rebuilt += [] if flag.value is None else [flag.value]
    assert plan.engine.command == rebuilt
    assert plan.engine.command == [
        "vllm",
        "serve",
        LLAMA_8B,
        "--served-model-name",
        "chat",
        "--revision",
        "abc",
        "--tensor-parallel-size",
        "1",
        "--max-model-len",
        "131072",
        "--max-num-seqs",
        "1024",
        "--max-num-batched-tokens",
        "8192",
        "--gpu-memory-utilization",
        "0.92",
        "--dtype",
        "float16",
        "--kv-cache-dtype",
        "fp8",
        "--block-size",
        "32",
        "--enforce-eager",
        "--no-enable-prefix-caching",
        "--enable-chunked-prefill",
        "--trust-remote-code",
        "--port",
        "8000",
        "--shutdown-timeout",
        "60",
    ]


def test_pins_are_used_as_they_are_and_named():
    pins = {
        "maxModelLen": 12345,
        "maxNumSeqs": 77,
        "maxNumBatchedTokens": 3333,
        "gpuMemoryUtilization": 0.29,
    }
    plan = plan_of(engine=pins)
    assert value_of(plan, "--max-model-len") == "12345"
    assert value_of(plan, "--max-num-seqs") == "77"
    assert value_of(plan, "--max-num-batched-tokens") == "3333"
    assert value_of(plan, "--gpu-memory-utilization") == "0.29"
    assert reason_of(plan, "--max-num-seqs") == "pinned in spec.engine.maxNumSeqs"


def test_an_fp8_cache_holds_twice_the_tokens():
    whole = plan_of().capacity.kv_tokens.expected
    halved = plan_of(engine={"kvCacheDtype": "fp8"}).capacity.kv_tokens.expected
    assert halved == pytest.approx(2 * whole, abs=32)


def test_a_bfloat16_checkpoint_runs_as_float16_on_a_t4():
    plan = plan_of("Qwen/Qwen3-4B", gpu={"product": "T4", "perNode": 1})
    assert value_of(plan, "--dtype") == "float16"
    assert "compute capability 8.0" in reason_of(plan, "--dtype")


def test_a_t4_refuses_pinned_bfloat16():
    plan = plan_of(gpu={"product": "T4"}, engine={"dtype": "bfloat16"})
    assert only_problem(plan)[:2] == ("spec.engine.dtype", "IllegalPin")


def test_a_v100_is_too_old():
    plan = plan_of(gpu={"product": "V100"})
    assert only_problem(plan)[:2] == ("spec.gpu.product", "Infeasible")


def test_a_checkpoint_on_a_volume_is_served_from_its_path_without_the_hub():
    claim = {"claimName": "models", "path": "/llama", "mode": "Model"}
    storage = {"persistentVolumeClaim": claim}
    plan = plan_of({"id": LLAMA_8B, "revision": "abc", "storage": storage})
    assert plan.engine.command[:5] == [
        "vllm",
        "serve",
        "/models/llama",
        "--served-model-name",
        LLAMA_8B,
    ]
    assert plan.engine.env["HF_HUB_OFFLINE"] == "1"
    assert not has(plan, "--revision")


def test_the_root_of_a_volume_is_a_path_too():
    storage = {"persistentVolumeClaim": {"claimName": "models", "mode": "Model"}}
    assert plan_of({"id": LLAMA_8B, "storage": storage}).engine.command[2] == "/models"


def test_the_environment_lets_a_user_without_a_passwd_entry_run():
    assert plan_of().engine.env == {
        "HF_HOME": "/cache/huggingface",
        "HOME": "/tmp",
        "USER": "vllm",
        "VLLM_CACHE_ROOT": "/cache/vllm",
        "VLLM_ENGINE_READY_TIMEOUT_S": "1200",
        "VLLM_NO_USAGE_STATS": "1",
    }


def test_older_versions_get_neither_the_shutdown_timeout_nor_the_ready_timeout():
    plan = plan_of(engine={"version": "0.11.0"})
    assert plan.engine.image == "vllm/vllm-openai:v0.11.0"
    assert not has(plan, "--shutdown-timeout")
    assert "VLLM_ENGINE_READY_TIMEOUT_S" not in plan.engine.env


def test_the_start_budget_grows_with_the_weights_and_can_be_set():
    assert plan_of().startup.budget_seconds == 1200
    assert plan_of(LLAMA_70B).startup.budget_seconds > 3000
    pinned = plan_of(rollout={"startupBudgetSeconds": 90, "drainSeconds": 5})
    assert pinned.startup.budget_seconds == 90
    assert pinned.engine.env["VLLM_ENGINE_READY_TIMEOUT_S"] == "90"
    assert value_of(pinned, "--shutdown-timeout") == "5"


def test_without_chunked_prefill_a_prompt_fits_into_one_step():
    plan = plan_of(engine={"chunkedPrefill": False, "maxModelLen": 32768})
    assert plan.capacity.max_num_batched_tokens == 32768
    assert has(plan, "--no-enable-chunked-prefill")


def test_without_chunked_prefill_pinned_tokens_bound_the_length():
    plan = plan_of(engine={"chunkedPrefill": False, "maxNumBatchedTokens": 4096})
    assert plan.capacity.max_model_len == 4096


def test_more_pinned_sequences_than_default_tokens_raise_the_tokens():
    plan = plan_of(gpu={"product": "L40S"}, engine={"maxNumSeqs": 4096})
    assert plan.capacity.max_num_batched_tokens == 4096


def test_a_negative_switch_that_the_version_lacks_is_refused():
    plan = plan_of(engine={"version": "0.8.4", "chunkedPrefill": False})
    assert only_problem(plan)[:2] == ("spec.engine.chunkedPrefill", "IllegalPin")


def test_a_length_above_the_models_own_is_refused_with_the_limit():
    field, reason, message = only_problem(plan_of(engine={"maxModelLen": 200_000}))
    assert (field, reason) == ("spec.engine.maxModelLen", "IllegalPin")
    assert "131072" in message


def test_a_pinned_length_that_does_not_fit_is_answered_with_what_fits():
    gpu = {"product": "L40S", "perNode": 4}
    plan = plan_of(LLAMA_70B, gpu=gpu, engine={"maxModelLen": 131072})
    field, reason, message = only_problem(plan)
    assert (field, reason) == ("spec.engine.maxModelLen", "Infeasible")
    length = int(message.partition("of at most ")[2].split()[0])
    assert plan_of(LLAMA_70B, gpu=gpu, engine={"maxModelLen": length}).feasible
    assert not plan_of(LLAMA_70B, gpu=gpu, engine={"maxModelLen": length + 16}).feasible
    assert "8 NVIDIA-L40S in one node" in message
    assert plan_of(
        LLAMA_70B, gpu={"product": "L40S", "perNode": 8}, engine={"maxModelLen": 131072}
    ).feasible


def test_weights_that_do_not_fit_are_answered_with_the_gpus_that_would_do():
    field, reason, message = only_problem(plan_of(LLAMA_70B, gpu={"product": "L40S", "perNode": 1}))
    assert (field, reason) == ("spec.gpu", "Infeasible")
    assert "4 NVIDIA-L40S in one node" in message
    assert "131." in message


def test_too_much_utilization_is_answered_with_the_most_that_works():
    gpu = {"product": "T4", "perNode": 1}
    engine = {"maxModelLen": 2048, "gpuMemoryUtilization": 0.99}
    field, reason, message = only_problem(plan_of(QWEN_0_6B, gpu=gpu, engine=engine))
    assert (field, reason) == ("spec.engine.gpuMemoryUtilization", "Infeasible")
    engine["gpuMemoryUtilization"] = float(message.rpartition(" ")[2])
    assert plan_of(QWEN_0_6B, gpu=gpu, engine=engine).feasible


def test_utilization_is_lowered_where_the_default_could_not_start():
    plan = plan_of("Qwen/Qwen3-4B", gpu={"product": "T4", "perNode": 8}, parallelism={"tensor": 8})
    assert plan.memory.utilization < 0.92
    assert plan.memory.free_at_start.low >= plan.memory.budget
    assert "lowered from 0.92" in reason_of(plan, "--gpu-memory-utilization")


def test_an_illegal_tensor_size_is_answered_with_the_legal_ones():
    field, reason, message = only_problem(plan_of(QWEN_7B, parallelism={"tensor": 8}))
    assert (field, reason) == ("spec.parallelism.tensor", "IllegalPin")
    assert message.endswith("vLLM accepts 1, 2, 4 here")


def test_more_ranks_than_a_node_has_gpus_are_refused():
    field, reason, message = only_problem(plan_of(parallelism={"tensor": 16}))
    assert (field, reason) == ("spec.parallelism.tensor", "IllegalPin")
    assert "at most 8" in message


def test_a_pinned_tensor_size_is_used_though_fewer_gpus_would_do():
    plan = plan_of(parallelism={"tensor": 4})
    assert plan.placement.gpus_per_replica == 4
    assert reason_of(plan, "--tensor-parallel-size") == "pinned in spec.parallelism.tensor"


def test_independent_problems_are_told_together():
    plan = plan_of(
        gpu={"product": "H10O"},
        engine={
            "image": "vllm/vllm-openai:latest",
            "maxNumSeqs": 512,
            "maxNumBatchedTokens": 256,
            "env": [{"name": "HF_TOKEN", "value": "x"}, {"name": "A"}],
        },
    )
    assert [problem.field for problem in plan.problems] == [
        "spec.engine.env[HF_TOKEN]",
        "spec.engine.env[A]",
        "spec.engine.version",
        "spec.engine.maxNumBatchedTokens",
        "spec.gpu.product",
    ]


def test_a_variable_that_stands_twice_is_refused():
    variables = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]
    assert only_problem(plan_of(engine={"env": variables}))[0] == "spec.engine.env[A]"


def test_an_unknown_model_is_told_with_what_to_give():
    field, reason, message = only_problem(plan_of("meta-llama/Llama-3.1-8B-Instrct"))
    assert (field, reason) == ("spec.model.id", "UnknownModel")
    assert LLAMA_8B in message
    assert "spec.model.config" in message


def test_why_there_are_no_facts_is_passed_on():
    planned = server("gated/model", gpu={"product": "H100"})
    problem = ModelAccessDenied("spec.model.id", "is gated")
    plan = make_plan(planned, inputs_for(planned, model_problem=problem))
    assert only_problem(plan) == ("spec.model.id", "ModelAccessDenied", "is gated")


def test_an_unknown_quantisation_is_refused_by_the_fact():
    planned = server({"id": "a/b", "config": {"quantization_config": {}}}, gpu={"product": "H100"})
    facts = inputs_for(server()).model
    config = {**facts.config, "quantization_config": {"quant_method": "exl3"}}
    changed = type(facts)(config, None, "inline")
    plan = make_plan(planned, inputs_for(planned, model=changed))
    assert only_problem(plan)[0] == "spec.model.config.quantization_config.quant_method"


def test_without_nodes_and_without_gpu_the_fields_to_set_are_named():
    planned = server()
    field, reason, message = only_problem(make_plan(planned, inputs_for(planned)))
    assert (field, reason) == ("spec.gpu.product", "UnknownGPU")
    assert "--nodes" in message


def test_a_cluster_without_gpus_is_told_apart():
    planned = server()
    plan = make_plan(planned, inputs_for(planned, nodes_visible=True))
    assert "no node offers a GPU" in only_problem(plan)[2]


def test_an_unknown_gpu_with_its_memory_given_is_planned():
    plan = plan_of(gpu={"product": "RTX 9999", "memoryGiB": 48, "perNode": 2})
    assert (plan.placement.gpu, plan.placement.gpu_memory_bytes) == ("RTX-9999", 48 * GIBIBYTE)


def test_a_number_of_gpus_that_nobody_gave_is_named_as_an_assumption():
    assert "assumed" in reason_of(plan_of(gpu={"product": "H100"}), "--tensor-parallel-size")


def test_of_the_nodes_products_the_one_that_needs_the_fewest_gpus_is_taken():
    planned = server(LLAMA_70B)
    offers = (offer("NVIDIA-H100-80GB-HBM3", 79.18), offer("NVIDIA-H200", 139.2))
    plan = make_plan(planned, inputs_for(planned, offers=offers, nodes_visible=True))
    assert (plan.placement.gpu, plan.placement.tensor) == ("NVIDIA-H200", 2)
    assert ("NVIDIA-H100-80GB-HBM3", 4) in [(r.gpu, r.tensor) for r in plan.rejected]


def test_ties_go_to_the_product_of_which_there_is_more_and_then_to_the_name():
    planned = server()
    many, few = offer("NVIDIA-H200", 139, nodes=3), offer("NVIDIA-H100-80GB-HBM3", 79)
    plan = make_plan(planned, inputs_for(planned, offers=(few, many)))
    assert plan.placement.gpu == "NVIDIA-H200"
    same = offer("NVIDIA-H200", 139), offer("NVIDIA-H100-80GB-HBM3", 79)
    assert make_plan(planned, inputs_for(planned, offers=same)).placement.gpu == (
        "NVIDIA-H100-80GB-HBM3"
    )


def test_the_product_in_force_is_kept_while_it_fits():
    planned = server(LLAMA_70B)
    offers = (offer("NVIDIA-H100-80GB-HBM3", 79.18), offer("NVIDIA-H200", 139.2))
    kept = inputs_for(planned, offers=offers, preferred_product="NVIDIA-H100-80GB-HBM3")
    assert make_plan(planned, kept).placement.gpu == "NVIDIA-H100-80GB-HBM3"
    gone = inputs_for(planned, offers=offers[1:], preferred_product="NVIDIA-H100-80GB-HBM3")
    assert make_plan(planned, gone).placement.gpu == "NVIDIA-H200"


def test_an_alias_behind_which_one_product_is_offered_becomes_that_product():
    planned = server(gpu={"product": "H100"})
    inputs = inputs_for(planned, offers=(offer("NVIDIA-H100-80GB-HBM3", 79.18),))
    plan = make_plan(planned, inputs)
    assert plan.placement.gpu == "NVIDIA-H100-80GB-HBM3"


def test_an_alias_with_several_products_selects_them_all_and_counts_the_smallest_memory():
    planned = server(gpu={"product": "H100"})
    offers = (offer("NVIDIA-H100-80GB-HBM3", 79.18), offer("NVIDIA-H100-NVL", 92))
    inputs = inputs_for(planned, offers=offers)
    sized = size(planned, inputs)
    assert sized.plan.placement.gpu == "H100"
    assert sized.plan.placement.gpu_memory_bytes == int(79.18 * GIBIBYTE)
    assert sized.gpu.node_labels == {
        "nvidia.com/gpu.product": ("NVIDIA-H100-80GB-HBM3", "NVIDIA-H100-NVL")
    }


def test_a_catalogued_product_that_no_node_offers_yet_is_planned():
    planned = server(gpu={"product": "H200"})
    inputs = inputs_for(planned, offers=(offer("NVIDIA-L4", 22),), nodes_visible=True)
    assert make_plan(planned, inputs).placement.gpu == "NVIDIA-H200"


def test_slices_of_a_gpu_serve_one_model_each():
    planned = server(LLAMA_8B, parallelism={"tensor": 2})
    part = offer("NVIDIA-A100-SXM4-80GB-MIG-3g.40gb", 38.5, per_node=2)
    plan = make_plan(planned, inputs_for(planned, offers=(part,)))
    assert "is a slice of a GPU" in only_problem(plan)[2]


def test_amd_gpus_need_an_image_that_is_built_for_them():
    assert only_problem(plan_of(gpu={"product": "MI300X"}))[0] == "spec.engine.image"
    image = {"image": "registry.example/vllm-rocm:v0.30.0"}
    assert plan_of(gpu={"product": "MI300X"}, engine=image).feasible


def test_the_memory_of_every_gpu_of_unknown_size_is_asked_for():
    planned = server()
    blind = offer("NVIDIA-X100", 0)
    plan = make_plan(planned, inputs_for(planned, offers=(blind,)))
    assert only_problem(plan)[0] == "spec.gpu.memoryGiB"


def test_rejected_layouts_are_bounded_and_carry_numbers():
    planned = server(LLAMA_70B)
    offers = tuple(offer(f"NVIDIA-X{number}", 20 + number, per_node=8) for number in range(9))
    plan = make_plan(planned, inputs_for(planned, offers=offers))
    assert len(plan.rejected) <= 32
    assert all(candidate.reason for candidate in plan.rejected)


def test_a_newer_version_than_known_is_planned_and_the_reasons_say_so():
    plan = plan_of(engine={"version": "0.99.0"})
    assert "newer than 0.33.0" in reason_of(plan, "--max-num-seqs")


def test_a_pinned_tensor_size_that_is_too_small_is_answered_with_the_one_that_works():
    pinned = server(
        LLAMA_70B,
        gpu={"product": "H100", "perNode": 8},
        parallelism={"tensor": 1, "pipeline": 1},
        engine={"maxModelLen": 8192},
    )
    field, _, message = only_problem(make_plan(pinned, inputs_for(pinned)))
    assert field == "spec.parallelism.tensor"
    assert message.endswith("What works: 2")


def test_a_cluster_with_only_time_sliced_gpus_is_told_so():
    unpinned = server()
    sliced = inputs_for(unpinned, nodes_visible=True, shared_products=("NVIDIA-L4-SHARED",))
    assert (
        "share by time-slicing or MPS (NVIDIA-L4-SHARED)"
        in only_problem(make_plan(unpinned, sliced))[2]
    )


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}


def scaled(version: str, stated: int) -> Plan:
    """Of a model whose positions are scaled by YaRN to 131,072."""
    known = catalogue.find(QWEN_7B)
    config = {**known.config, "max_position_embeddings": stated, "rope_scaling": YARN}
    planned = server(
        QWEN_7B, engine={"image": f"example/vllm:v{version}", "maxModelLen": 131072}, gpu=H100
    )
    return make_plan(planned, inputs_for(planned, model=replace(known, config=config)))


@pytest.mark.parametrize(("version", "stated"), [("0.29.0", 32768), ("0.30.0", 131072)])
def test_yarn_is_served_at_the_length_that_the_version_derives(version: str, stated: int):
    assert scaled(version, stated).feasible


def test_a_yarn_length_that_vllm_no_longer_multiplies_is_refused_with_the_way_out():
    (problem,) = scaled("0.30.0", 32768).problems
    assert problem.field == "spec.engine.maxModelLen"
    assert "the model's own limit is 32768" in problem.message
    assert "a config.json whose max_position_embeddings is the scaled length" in problem.message
