"""Servers, inputs and nodes that the tests of this room plan with."""

from __future__ import annotations

from typing import Any

from vllm_operator.api.plan import Plan
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.engine.versions import DEFAULT_IMAGE, version_in_tag
from vllm_operator.hardware.nodes import GPUOffer
from vllm_operator.models import catalogue
from vllm_operator.sizing.asked.inputs import PlanningInputs
from vllm_operator.sizing.plan.planner import make_plan

LLAMA_8B = "meta-llama/Llama-3.1-8B-Instruct"
LLAMA_70B = "meta-llama/Llama-3.1-70B-Instruct"
QWEN_7B = "Qwen/Qwen2.5-7B-Instruct"
QWEN_0_6B = "Qwen/Qwen3-0.6B"
H100 = {"product": "NVIDIA-H100-80GB-HBM3", "perNode": 8}
GIBIBYTE = 1024**3
DEFAULT_VERSION = version_in_tag(DEFAULT_IMAGE)

EAGLE3 = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_hidden_layers": 1,
    "vocab_size": 128256,
    "draft_vocab_size": 32000,
    "max_position_embeddings": 2048,
}
"""The config.json of yuhuili/EAGLE3-LLaMA3.1-Instruct-8B, cut to what is read."""


def server(model: str | dict[str, Any] = LLAMA_8B, **spec: Any) -> VLLMServer:
    described = {"id": model} if isinstance(model, str) else model
    return VLLMServer.model_validate(
        {
            "apiVersion": "vllm-operator.io/v1alpha1",
            "kind": "VLLMServer",
            "metadata": {"name": "chat", "namespace": "team"},
            "spec": {"model": described, **spec},
        }
    )


def inputs_for(planned: VLLMServer, **changes: Any) -> PlanningInputs:
    given: dict[str, Any] = {
        "model": catalogue.find(planned.spec.model.id),
        "default_image": DEFAULT_IMAGE,
    }
    return PlanningInputs(**(given | changes))


def plan_of(model: str | dict[str, Any] = LLAMA_8B, **spec: Any) -> Plan:
    """The plan of a catalogued model; without ``gpu``, on a node of eight H100."""
    spec.setdefault("gpu", H100)
    planned = server(model, **spec)
    return make_plan(planned, inputs_for(planned))


def offer(product: str, memory_gib: float, per_node: int = 8, nodes: int = 1) -> GPUOffer:
    return GPUOffer(
        product=product,
        memory_bytes=int(memory_gib * GIBIBYTE),
        per_node=per_node,
        nodes=nodes,
        resource_name="nvidia.com/gpu",
        node_labels={"nvidia.com/gpu.product": (product,)},
        compute_capability=(9, 0),
    )


def value_of(plan: Plan, flag: str) -> str | None:
    """The value that the command gives a flag."""
    (found,) = [given for given in plan.flags if given.name == flag]
    return found.value


def reason_of(plan: Plan, flag: str) -> str:
    (found,) = [given for given in plan.flags if given.name == flag]
    return found.reason


def has(plan: Plan, flag: str) -> bool:
    return any(given.name == flag for given in plan.flags)


def only_problem(plan: Plan) -> tuple[str, str, str]:
    """Field, reason and message of the one problem that stops a plan."""
    assert not plan.feasible
    (problem,) = plan.problems
    return problem.field, problem.reason, problem.message
