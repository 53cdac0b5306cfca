"""Builders of servers and plans, for tests that do not care how they came about."""

from __future__ import annotations

from typing import Any

from vllm_operator.api.plan import Plan
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.hardware.nodes import GPUOffer
from vllm_operator.manifests.planned import Planned
from vllm_operator.manifests.render import Object
from vllm_operator.sizing.plan.planner import Sized

OFFER = GPUOffer(
    product="NVIDIA-H100-80GB-HBM3",
    memory_bytes=85_000_000_000,
    per_node=8,
    nodes=1,
    resource_name="nvidia.com/gpu",
    node_labels={"nvidia.com/gpu.product": ("A", "B")},
)


def server_manifest(name: str = "qwen", namespace: str = "default", **spec: Any) -> dict[str, Any]:
    """A manifest as a user writes it; ``spec`` is merged over the minimal one."""
    return {
        "apiVersion": "vllm-operator.io/v1alpha1",
        "kind": "VLLMServer",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"model": {"id": "Qwen/Qwen2.5-7B-Instruct"}, **spec},
    }


def make_server(name: str = "qwen", uid: str = "uid-1", **spec: Any) -> VLLMServer:
    """A server as it is read back from the API server."""
    manifest = server_manifest(name, **spec)
    manifest["metadata"].update(uid=uid, generation=1, resourceVersion="1")
    return VLLMServer.model_validate(manifest)


def make_plan(name: str = "qwen", **changes: Any) -> Plan:
    """A plan of two GPUs; ``changes`` replace parts of it."""
    estimate = {"expected": 40 << 30, "low": 38 << 30}
    plan: dict[str, Any] = {
        "schemaVersion": 1,
        "inputsHash": "abc",
        "name": name,
        "namespace": "default",
        "feasible": True,
        "model": {
            "id": "Qwen/Qwen2.5-7B-Instruct",
            "parameters": 7_615_616_512,
            "weightBytes": 15_231_233_024,
            "facts": {"hiddenSize": 3584},
            "source": "catalogue",
        },
        "engine": {
            "image": "vllm/vllm-openai:v0.30.0",
            "version": "0.30.0",
            "command": ["vllm", "serve", "Qwen/Qwen2.5-7B-Instruct", "--max-num-seqs", "256"],
            "env": {"HOME": "/cache/home", "HF_HOME": "/cache/huggingface"},
        },
        "placement": {
            "gpu": "NVIDIA-H100-80GB-HBM3",
            "gpuMemoryBytes": 85_000_000_000,
            "gpusPerNode": 8,
            "tensor": 2,
            "pipeline": 1,
            "data": 1,
            "expert": False,
            "nodes": 1,
            "gpusPerReplica": 2,
        },
        "capacity": {
            "maxModelLen": 32768,
            "maxNumSeqs": 256,
            "maxNumBatchedTokens": 8192,
            "blockSize": 16,
            "kvTokens": estimate,
            "maxConcurrency": {"expected": 20.0, "low": 19.0},
        },
        "memory": {
            "total": 85_000_000_000,
            "utilization": 0.92,
            "budget": 78_200_000_000,
            "weights": 7_650_000_000,
            "activationPeak": 5_000_000_000,
            "cudaGraphs": 1_000_000_000,
            "nonTorch": 500_000_000,
            "kvCache": estimate,
            "margin": 2 << 30,
            "outsideBudget": 500_000_000,
            "freeAtStart": estimate,
        },
        "storage": {"kind": "EmptyDir", "mode": "Cache", "surge": True},
        "startup": {"seconds": 120.0, "budgetSeconds": 900.0},
    }
    return Plan.model_validate({**plan, **changes})


def make_sized(**changes: Any) -> Sized:
    """The same, made for an H100."""
    return Sized(make_plan(**changes), OFFER)


def make_planned(*objects: Object, plan: Plan | None = None) -> Planned:
    """The same with what is applied for it."""
    return Planned(make_server(), plan or make_plan(), OFFER, objects)
