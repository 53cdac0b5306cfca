"""What others reported of their servers, beside what a plan says of them: ``public_reports.json``.

The structure was chosen with these reports in view, so they hold it and judge nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unit.sizing.examples import reason_of
from vllm_operator.api.plan import Plan, Unplanned
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.engine.versions import DEFAULT_IMAGE
from vllm_operator.models import catalogue
from vllm_operator.models.facts import facts_from_inline
from vllm_operator.sizing.asked.inputs import PlanningInputs
from vllm_operator.sizing.plan.planner import make_plan

GIBIBYTE = 1024**3
REPORTS = json.loads(Path(__file__).with_name("public_reports.json").read_text())
STARTED = [one for one in REPORTS if "kvGiB" in one]


def of(report: str) -> dict[str, Any]:
    (found,) = [one for one in REPORTS if one["id"] == report]
    return found


def planned(report: dict[str, Any], **engine: Any) -> Plan | Unplanned:
    spec = report["spec"] | {"engine": report["spec"]["engine"] | engine}
    server = VLLMServer.model_validate(
        {
            "apiVersion": "vllm-operator.io/v1alpha1",
            "kind": "VLLMServer",
            "metadata": {"name": report["id"].lower()},
            "spec": spec,
        }
    )
    model = server.spec.model
    facts = facts_from_inline(model) if model.config else catalogue.find(model.id)
    return make_plan(server, PlanningInputs(model=facts, default_image=DEFAULT_IMAGE))


def cache_of(report: dict[str, Any]) -> tuple[float, float]:
    """GiB of KV cache, expected and sure."""
    plan = planned(report)
    assert isinstance(plan, Plan)
    cache = plan.memory.kv_cache
    return cache.expected / GIBIBYTE, cache.low / GIBIBYTE


@pytest.mark.parametrize("report", STARTED, ids=lambda one: one["id"])
def test_no_more_cache_is_sure_than_there_was(report: dict[str, Any]) -> None:
    _, low = cache_of(report)
    assert 0 < low <= report["kvGiB"]


@pytest.mark.parametrize(
    "report", [one for one in STARTED if "within" in one], ids=lambda one: one["id"]
)
def test_the_cache_that_is_expected_is_the_one_that_there_was(report: dict[str, Any]) -> None:
    expected, _ = cache_of(report)
    assert expected == pytest.approx(report["kvGiB"], rel=report["within"])


def test_cached_states_and_drafts_take_the_blocks_that_the_engine_prints() -> None:
    report = of("A06")
    plan = planned(report)
    assert isinstance(plan, Plan)
    blocks = plan.memory.kv_cache.expected // plan.capacity.bytes_per_block
    assert blocks / plan.capacity.max_concurrency.expected == pytest.approx(
        report["blocks"], abs=0.2
    )


def test_sparse_attention_on_rocm_is_not_sure_of_what_nobody_measured() -> None:
    report = of("A08")
    found = planned(report, maxNumBatchedTokens=report["tokens"])
    assert isinstance(found, Unplanned)
    assert "does not fit" in found.problems[0].message


def test_steps_that_leave_room_for_its_logits_are_taken_instead() -> None:
    plan = planned(of("A08"))
    assert isinstance(plan, Plan)
    assert plan.capacity.max_num_batched_tokens < of("A08")["tokens"]


def test_a_pin_that_leaves_too_little_outside_the_budget_says_so() -> None:
    plan = planned(of("A11"))
    assert "the start may end when the sampler is warmed up" in reason_of(
        plan, "--gpu-memory-utilization"
    )


def test_a_pin_that_leaves_enough_there_says_nothing_of_it() -> None:
    plan = planned(of("A11"), gpuMemoryUtilization=0.9)
    assert "warmed up" not in reason_of(plan, "--gpu-memory-utilization")


def test_steps_smaller_than_those_of_a_report_leave_room_for_more_cache() -> None:
    report = of("A13")
    reported = planned(report)
    own = planned(report, maxModelLen=137_664, maxNumBatchedTokens=None, maxNumSeqs=None)
    assert isinstance(reported, Plan)
    assert isinstance(own, Plan)
    assert own.capacity.max_num_batched_tokens < reported.capacity.max_num_batched_tokens
    freed = reported.memory.activation_peak - own.memory.activation_peak
    # 9.15 GiB are sure with steps of 4,096 tokens, of the 10.3 that 9.01 with 8,192 would be then.
    assert own.memory.kv_cache.low <= report["kvGiB"] * GIBIBYTE + freed


RTX = "RTX PRO 6000"


def asked(
    model: str, gpu: str, gpus: int, config: dict[str, Any] | None = None, **engine: Any
) -> Plan | Unplanned:
    """The plan of a case whose report prints no KV cache."""
    facts = {"id": model} if config is None else {"id": model, "config": config}
    spec = {"model": facts, "gpu": {"product": gpu, "perNode": gpus}, "engine": engine}
    return planned({"id": "case", "spec": spec})


def refusal(found: Plan | Unplanned) -> tuple[str, str]:
    assert isinstance(found, Unplanned)
    return found.problems[0].field, found.problems[0].message


def test_a05_drafts_that_the_checkpoint_does_not_hold_are_refused() -> None:
    """A KeyError there: DSpark's stages under mtp.* (Kempner hpc-agentic-recipes, rtx-8)."""
    drafts = {"method": "mtp", "tokens": 1}
    model = "deepseek-ai/DeepSeek-V4-Flash-0731"
    field, message = refusal(asked(model, RTX, 8, version="0.28.0", speculative=drafts))
    assert field == "spec.engine.speculative.method"
    assert "vLLM finds no weights of 'mtp' in it" in message


def test_a09_the_fp8_cache_that_a_layout_asserts_is_passed_and_its_absence_refused() -> None:
    """An assertion there, as no --kv-cache-dtype was given (vllm-project/vllm#47174)."""
    case = "deepseek-ai/DeepSeek-V4-Flash", RTX, 2
    found = asked(*case, version="0.24.0", maxModelLen=8192)
    assert isinstance(found, Plan)
    command = found.engine.command
    assert command[command.index("--kv-cache-dtype") + 1] == "fp8"
    auto = asked(*case, version="0.24.0", maxModelLen=8192, kvCacheDtype="auto")
    assert refusal(auto)[0] == "spec.engine.kvCacheDtype"


@pytest.mark.parametrize(("version", "starts"), [("0.15.0", False), ("0.16.0", True)])
def test_a16_experts_in_nvfp4_without_a_kernel_for_the_gpu_are_refused(
    version: str, starts: bool
) -> None:
    """MiniMax-M2.1-NVFP4 on SM120 (vllm-project/vllm#33416), with the shape of MiniMax-M2.5."""
    facts = catalogue.find("MiniMaxAI/MiniMax-M2.5")
    assert facts is not None
    quantized = {"quant_method": "modelopt", "quant_algo": "NVFP4"}
    config = {**facts.config, "quantization_config": quantized}
    found = asked("report/MiniMax-M2.1", RTX, 8, config, version=version, maxModelLen=8192)
    if starts:
        assert isinstance(found, Plan)
    else:
        field, message = refusal(found)
        assert field == "spec.gpu.product"
        assert "no kernel of NVFP4 experts" in message


def test_a17_a_gemma_with_its_own_drafter_starts_with_less_cache() -> None:
    """6 % less there, of Gemma 4 31B with three tokens; on which GPU is not said."""
    case = "cyankiwi/gemma-4-31B-it-AWQ-4bit", "H100", 1
    drafts = {"method": "mtp", "model": "google/gemma-4-31B-it-assistant", "tokens": 3}
    alone = asked(*case, version="0.30.0", maxModelLen=8192)
    drafted = asked(*case, version="0.30.0", maxModelLen=8192, speculative=drafts)
    assert isinstance(alone, Plan)
    assert isinstance(drafted, Plan)
    ratio = drafted.memory.kv_cache.expected / alone.memory.kv_cache.expected
    assert ratio == pytest.approx(0.94, abs=0.04)


def test_a_model_that_one_card_does_not_hold_is_refused_and_not_planned_on_nodes() -> None:
    """No start there, on one RTX 5090; the plan was of two nodes, with exit status 0."""
    field, message = refusal(asked("meta-llama/Llama-3.1-70B-Instruct", "RTX 5090", 1))
    assert field == "spec.gpu"
    assert "do not fit into 31.34 GiB" in message
    assert "one node is looked at" in message
