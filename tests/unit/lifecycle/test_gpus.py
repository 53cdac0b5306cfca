"""How many GPUs are seen, and who holds them."""

from __future__ import annotations

from typing import Any

from vllm_operator.controller.nodes import Nodes
from vllm_operator.hardware.nodes import GPUOffer
from vllm_operator.lifecycle.gpus import count
from vllm_operator.lifecycle.reading import pod_record
from vllm_operator.lifecycle.records import PodRecord

H100 = "NVIDIA-H100-80GB-HBM3"


def h100s(*products: str) -> dict[str, GPUOffer]:
    found = Nodes(visible=True)
    for number, product in enumerate(products):
        labels = {"nvidia.com/gpu.product": product, "nvidia.com/gpu.count": "8"}
        amounts = {"nvidia.com/gpu": "8"}
        found.observe(
            {
                "metadata": {"name": f"node-{number}", "labels": labels},
                "status": {"capacity": amounts, "allocatable": amounts},
            }
        )
    return found.by_node(H100)


def pod(name: str, node: str, gpus: int, **status: Any) -> PodRecord:
    limits = {"nvidia.com/gpu": str(gpus), "memory": "8Gi"}
    return pod_record(
        {
            "metadata": {"name": name, "namespace": "a"},
            "spec": {
                "nodeName": node,
                "containers": [{"name": "engine", "resources": {"limits": limits}}],
            },
            "status": status,
        }
    )


def test_gpus_of_the_product_s_nodes_are_counted_and_what_pods_hold_of_them() -> None:
    seen = count(h100s(H100, H100, "NVIDIA-L40S"), [pod("a", "node-0", 4)])
    assert str(seen) == "2 nodes have 16, model servers that this operator sees hold 4"


def test_pods_on_other_products_without_a_node_or_that_failed_hold_nothing() -> None:
    others = [
        pod("a", "node-1", 4),
        pod("b", "", 4),
        pod("c", "node-0", 4, phase="Failed"),
    ]
    seen = count(h100s(H100, "NVIDIA-L40S"), others)
    assert str(seen) == "1 node has 8, model servers that this operator sees hold 0"
