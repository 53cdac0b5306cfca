"""Which data types, quantisations and GPUs go together, by vLLM's version."""

from typing import Any

import pytest

from unit.sizing.examples import (
    DEFAULT_VERSION,
    H100,
    LLAMA_8B,
    QWEN_0_6B,
    QWEN_7B,
    inputs_for,
    only_problem,
    plan_of,
    server,
)
from vllm_operator.api.plan import Plan
from vllm_operator.models import catalogue
from vllm_operator.models.facts import ModelFacts
from vllm_operator.sizing.plan.planner import make_plan

AWQ = "Qwen/Qwen2.5-7B-Instruct-AWQ"
FP8 = "Qwen/Qwen3-32B-FP8"
MXFP4 = "openai/gpt-oss-20b"
GEMMA_AWQ = "gaunernst/gemma-3-12b-it-qat-autoawq"
FP8_DYNAMIC = "RedHatAI/DeepSeek-R1-Distill-Qwen-14B-FP8-dynamic"
MODELOPT = "nvidia/Llama-3_3-Nemotron-Super-49B-v1_5-FP8"
SPARSE = "deepseek-ai/DeepSeek-V3.2"
BFLOAT16_GPTQ = "TheBloke/Mistral-7B-Instruct-v0.2-GPTQ"
RTX_PRO = "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition"
SHORT = {"maxModelLen": 2048}


def gpu(product: str) -> dict[str, Any]:
    return {"product": product, "perNode": 8}


def problem(model: str, product: str = "H100", **engine: Any) -> tuple[str, str]:
    field, _, message = only_problem(plan_of(model, gpu=gpu(product), engine=SHORT | engine))
    return field, message


def starts(model: str, product: str = "H100", **engine: Any) -> bool:
    return plan_of(model, gpu=gpu(product), engine=SHORT | engine).feasible


def plan_of_plain_gemma(engine: dict[str, Any]) -> Plan:
    """Gemma 3 as it is without a quantisation, on as many T4 as hold it in float32."""
    found = catalogue.find(GEMMA_AWQ)
    config = {key: value for key, value in found.config.items() if key != "quantization_config"}
    planned = server(GEMMA_AWQ, gpu=gpu("T4") | {"perNode": 16}, engine=SHORT | engine)
    facts = ModelFacts(config=config, weight_bytes=None, source="catalogue")
    return make_plan(planned, inputs_for(planned, model=facts))


@pytest.mark.parametrize(
    ("model", "product", "engine", "works"),
    [
        (AWQ, "L4", {"dtype": "float32"}, "set it to bfloat16, float16 or auto"),
        (FP8, "H100", {"dtype": "float32"}, "set it to bfloat16, float16 or auto"),
        (
            QWEN_7B,
            "H100",
            {"dtype": "float32", "quantization": "fp8_per_tensor"},
            "float16 or auto",
        ),
        (MXFP4, "H100", {"dtype": "float16"}, "set it to bfloat16 or auto"),
        (MXFP4, "H100", {"dtype": "float32"}, "set it to bfloat16 or auto"),
        (AWQ, "T4", {"dtype": "float32"}, "set it to float16 or auto"),
    ],
)
def test_a_data_type_that_the_quantisation_does_not_take_is_refused_with_those_that_it_takes(
    model: str, product: str, engine: dict[str, str], works: str
):
    field, message = problem(model, product, **engine)
    assert field == "spec.engine.dtype"
    assert message.endswith(works)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "auto"])
def test_the_data_types_that_the_message_names_start(dtype: str):
    assert starts(AWQ, "L4", dtype=dtype)
    assert starts(FP8, dtype=dtype)


def test_a_quantisation_that_takes_float32_starts_in_it():
    assert starts(FP8_DYNAMIC, dtype="float32")
    assert starts(QWEN_7B, version="0.20.0", quantization="bitsandbytes", dtype="float32")


def test_compressed_tensors_take_no_float32_up_to_0_10_0():
    field, _ = problem(FP8_DYNAMIC, version="0.10.0", dtype="float32")
    assert field == "spec.engine.dtype"


def test_awq_that_is_named_takes_float16_alone_where_vllm_keeps_its_own_kernels():
    named = {"quantization": "awq", "version": "0.19.0"}
    field, message = problem(AWQ, dtype="bfloat16", **named)
    assert field == "spec.engine.dtype"
    assert message.endswith("set it to float16 or auto")
    assert starts(AWQ, dtype="auto", **named)
    assert starts(AWQ, dtype="bfloat16", version="0.19.0")


def test_a_checkpoint_whose_own_data_type_its_named_method_refuses_is_given_one():
    named = {"quantization": "gptq", "version": "0.19.0"}
    field, message = problem(BFLOAT16_GPTQ, **named)
    assert field == "spec.engine.dtype"
    assert message.startswith("is not set, and the checkpoint says bfloat16")
    assert message.endswith("set it to float16")
    assert starts(BFLOAT16_GPTQ, dtype="float16", **named)


def test_named_marlin_kernels_need_8_0_up_to_0_13():
    field, message = problem(AWQ, "T4", quantization="awq_marlin", version="0.13.0")
    assert field == "spec.gpu.product"
    assert message.endswith("or vLLM 0.14.0")
    assert starts(AWQ, "T4", quantization="awq_marlin", version="0.14.0")
    assert starts(AWQ, "T4", version="0.13.0")


def test_no_data_type_is_offered_where_the_quantisation_takes_none_that_the_gpu_has():
    field, message = problem(GEMMA_AWQ, "T4")
    assert field == "spec.gpu.product"
    assert "awq takes bfloat16 or float16 alone" in message
    assert "float32" not in message
    assert starts(GEMMA_AWQ, "L4")


def test_a_model_without_float16_is_offered_float32_on_an_old_gpu_and_starts_in_it():
    for pinned in ({}, {"dtype": "float16"}, {"dtype": "bfloat16"}):
        _, _, message = only_problem(plan_of_plain_gemma(pinned))
        assert message.endswith("to float32")
    assert plan_of_plain_gemma({"dtype": "float32"}).feasible


def test_a_quantisation_that_leaves_a_model_no_data_type_is_refused_itself():
    engine = {"quantization": "awq", "version": "0.19.0"}
    field, message = problem(GEMMA_AWQ, **engine)
    assert field == "spec.engine.quantization"
    assert message.endswith("leave it out")
    assert starts(GEMMA_AWQ, version="0.19.0")


def test_mxfp4_is_refused_for_a_gpu_without_bfloat16():
    field, message = problem(MXFP4, "T4")
    assert field == "spec.gpu.product"
    assert f"mxfp4 of vLLM {DEFAULT_VERSION} needs 8.0 at least" in message


@pytest.mark.parametrize(
    ("model", "product", "refused", "takes"),
    [
        (FP8, "T4", "0.11.2", "0.14.0"),
        (FP8_DYNAMIC, "T4", "0.11.2", "0.15.0"),
        (MODELOPT, "A100", "0.26.0", "0.27.0"),
    ],
)
def test_a_checkpoint_needs_the_capability_that_the_version_demands(
    model: str, product: str, refused: str, takes: str
):
    field, message = problem(model, product, version=refused)
    assert field == "spec.gpu.product"
    assert message.endswith(f"or vLLM {takes}")
    assert starts(model, product, version=takes)


def test_a_method_while_loading_is_refused_with_the_version_that_takes_the_gpu():
    engine = {"quantization": "fp8", "maxModelLen": 2048}
    _, message = problem(QWEN_0_6B, "T4", version="0.11.2", **engine)
    assert message.endswith("such as L4 or H100, or vLLM 0.14.0")
    assert starts(QWEN_0_6B, "T4", version="0.14.0", **engine)


def test_a_method_that_no_version_has_for_the_gpu_is_refused_without_naming_one():
    _, message = problem(MXFP4, "T4")
    assert message.endswith("needs 8.0 at least; take a GPU such as L4 or H100")
    _, message = problem(QWEN_7B, "T4", version="0.26.0", quantization="mxfp8")
    assert message.endswith("needs 8.0 at least; take a GPU such as L4 or H100")


@pytest.mark.parametrize(
    ("product", "version"),
    [
        ("T4", "0.11.2"),
        ("A100", "0.11.2"),
        ("A100", "0.30.0"),
        ("L40S", "0.19.0"),
        (RTX_PRO, "0.23.0"),
    ],
)
def test_sparse_attention_is_refused_on_a_gpu_without_a_kernel_for_it(product: str, version: str):
    field, message = problem(SPARSE, product, version=version)
    assert field == "spec.gpu.product"
    assert "sparse attention of DeepseekV32ForCausalLM for 9.x, 10.x" in message
    assert message.endswith("take a GPU such as H200 or B200")


@pytest.mark.parametrize(
    ("product", "version"), [("H200", "0.11.2"), ("B200", "0.11.2"), ("H200", "0.30.0")]
)
def test_sparse_attention_starts_where_there_is_a_kernel(product: str, version: str):
    assert starts(SPARSE, product, version=version)


@pytest.mark.parametrize("product", ["B200", "NVIDIA-GeForce-RTX-5090"])
def test_an_official_image_without_code_for_a_new_gpu_is_refused_with_the_first_that_has_it(
    product: str,
):
    field, message = problem(QWEN_0_6B, product, image="vllm/vllm-openai:v0.8.5")
    assert field == "spec.gpu.product"
    assert "vLLM 0.8.5's images end at 9.0; take vLLM 0.9.0 or newer" in message
    assert starts(QWEN_0_6B, product, image="vllm/vllm-openai:v0.9.0")


def test_of_an_image_of_one_s_own_it_is_not_known_which_gpus_it_has_code_for():
    assert starts(QWEN_0_6B, "B200", image="registry.example/vllm/vllm-openai:v0.8.5")


def test_an_image_of_one_s_own_may_have_sparse_attention_for_other_gpus():
    assert starts(SPARSE, RTX_PRO, image="registry.example/vllm:v0.23.0")


def test_a_gpu_that_an_old_image_has_code_for_is_served():
    assert plan_of(LLAMA_8B, gpu=H100, engine={"version": "0.8.5"}).feasible
