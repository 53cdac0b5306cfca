"""Fewer bits that would halve the GPUs are named, and never taken."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from unit.sizing.examples import H100, LLAMA_8B, LLAMA_70B, QWEN_7B, only_problem, plan_of
from vllm_operator.api.plan import Plan
from vllm_operator.models import catalogue

LLAMA_3_3 = "meta-llama/Llama-3.3-70B-Instruct"
QWEN_32B = "Qwen/Qwen3-32B"


def told(plan: Plan) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in plan.advice or ():
        found.setdefault(one.field, []).append(one.message)
    return found


def test_fp8_that_halves_the_gpus_is_named_and_not_taken() -> None:
    plan = plan_of(LLAMA_70B)
    assert plan.placement.gpus_per_replica == 4
    (message,) = told(plan)["spec.engine.quantization"]
    assert message.startswith("fp8_per_tensor would take 2 instead of 4 NVIDIA-H100-80GB-HBM3")
    assert not any(flag.name == "--quantization" for flag in plan.flags)


def test_what_is_named_does_it() -> None:
    plan = plan_of(LLAMA_70B, engine={"quantization": "fp8_per_tensor"})
    assert plan.placement.gpus_per_replica == 2
    assert plan.capacity.max_model_len == plan_of(LLAMA_70B).capacity.max_model_len
    assert plan.advice is None


def test_a_catalogued_checkpoint_of_the_model_is_named_and_does_it() -> None:
    (message,) = told(plan_of(LLAMA_3_3))["spec.model.id"]
    name = "RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic"
    assert message.startswith(f"{name}, a quantised checkpoint of this model, would take 2 instead")
    assert plan_of(name).placement.gpus_per_replica == 2


def test_an_older_release_is_advised_in_its_own_words() -> None:
    engine = {"image": "vllm/vllm-openai:v0.12.0"}
    (message,) = told(plan_of(LLAMA_70B, engine=engine))["spec.engine.quantization"]
    assert message.startswith("fp8 would take 2 instead of 4")


@pytest.mark.parametrize(
    ("model", "gpu"),
    [(LLAMA_8B, H100), ("RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic", H100)],
    ids=["one GPU", "quantised already"],
)
def test_where_there_is_nothing_to_halve_nothing_is_said(model: str, gpu: object) -> None:
    assert plan_of(model, gpu=gpu).advice is None


def test_no_advice_of_fp8_where_the_gpu_does_not_take_it() -> None:
    plan = plan_of(QWEN_32B, gpu={"product": "V100", "perNode": 8}, engine={"version": "0.12.0"})
    assert "spec.engine.quantization" not in told(plan)


def test_a_checkpoint_in_fewer_bits_is_known_by_its_name_and_its_shapes() -> None:
    assert catalogue.quantized_of(QWEN_32B) == ("Qwen/Qwen3-32B-AWQ", "Qwen/Qwen3-32B-FP8")
    assert catalogue.quantized_of("Qwen/Qwen3-32B-AWQ") == ()
    assert catalogue.quantized_of("nobody/knows-this") == ()


def test_where_nothing_fits_fp8_that_would_is_among_what_works() -> None:
    asked: dict[str, Any] = {
        "engine": {"maxModelLen": 8192},
        "gpu": {"product": "T4", "perNode": 1},
    }
    _, _, message = only_problem(plan_of(QWEN_7B, **deepcopy(asked)))
    assert (
        "What works: 2 Tesla-T4 in one node or spec.engine.quantization fp8_per_tensor on 1"
        in message
    )
    asked["engine"]["quantization"] = "fp8_per_tensor"
    assert plan_of(QWEN_7B, **asked).feasible


def test_fp8_that_does_not_fit_either_is_not_among_what_works() -> None:
    gpu = {"product": "T4", "perNode": 1}
    assert "fp8" not in only_problem(plan_of(LLAMA_3_3, gpu=gpu))[2]
