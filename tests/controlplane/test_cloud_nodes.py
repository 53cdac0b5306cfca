"""GPU nodes as clouds make them: without feature discovery, and with GPUs that pods share."""

from __future__ import annotations

from typing import Any

import pytest

from support.fixtures import StartOperator
from support.world import World

GKE = "cloud.google.com/gke-accelerator"
SMALL = "Qwen/Qwen2.5-1.5B-Instruct"


def make_node(world: World, name: str, gpus: int, labels: dict[str, str]) -> None:
    """A node whose kubelet kwok plays, with these labels alone."""
    size = {"cpu": "48", "memory": "192Gi", "ephemeral-storage": "1Ti", "pods": "110"}
    amounts = {**size, "nvidia.com/gpu": str(gpus)}
    metadata = {
        "name": name,
        "annotations": {"kwok.x-k8s.io/node": "fake"},
        "labels": {"kubernetes.io/hostname": name, **labels},
    }
    status = {"capacity": amounts, "allocatable": amounts}
    world.cluster.api("POST", "/api/v1/nodes", {"metadata": metadata, "status": status})


def node_of(world: World, server: str) -> str:
    (pod,) = [one for one in world.list("Pod") if one["metadata"]["name"].startswith(server)]
    return str(pod["spec"]["nodeName"])


def test_a_node_that_its_cloud_labels_serves_what_asks_for_its_gpu(
    own_world: World, start_operator: StartOperator
) -> None:
    world = own_world
    make_node(world, "gke-l4", 1, {GKE: "nvidia-l4"})
    start_operator(world)
    selector = {"nodeSelector": {GKE: "nvidia-l4"}}
    world.apply(model={"id": SMALL}, gpu={"product": "L4"}, pod=selector)
    world.wait_ready()
    assert node_of(world, "qwen") == "gke-l4"
    assert world.status()["plan"]["placement"]["gpu"] == "NVIDIA-L4"


def test_a_node_that_names_no_gpu_serves_whoever_selects_it_and_names_the_product(
    own_world: World, start_operator: StartOperator
) -> None:
    world = own_world
    make_node(world, "own-l4", 1, {"example.com/pool": "l4"})
    start_operator(world)
    world.apply(model={"id": SMALL}, gpu={"product": "L4", "perNode": 1})
    message = world.wait_condition("Progressing", "True", "WaitingForGPU")["message"]
    assert message.endswith("need the label nvidia.com/gpu.product=NVIDIA-L4")
    selector = {"nodeSelector": {"example.com/pool": "l4"}}
    world.apply(model={"id": SMALL}, gpu={"product": "L4", "perNode": 1}, pod=selector)
    world.wait_ready()
    assert node_of(world, "qwen") == "own-l4"


KARPENTER = "karpenter.k8s.aws/instance-gpu-name"


@pytest.mark.parametrize(
    ("labels", "pod"),
    [
        ({"nvidia.com/gpu.product": "NVIDIA-A10G-SHARED", "nvidia.com/gpu.replicas": "4"}, {}),
        (
            {KARPENTER: "a10g", "karpenter.k8s.aws/instance-gpu-count": "1"},
            {"nodeSelector": {KARPENTER: "a10g"}},
        ),
    ],
    ids=["labelled by feature discovery", "by Karpenter alone"],
)
def test_a_shared_gpu_is_refused_with_the_way_that_works_which_then_works(
    own_world: World, start_operator: StartOperator, labels: dict[str, str], pod: dict[str, Any]
) -> None:
    world = own_world
    shared = "NVIDIA-A10G-SHARED"
    make_node(world, "shared", 4, labels)
    start_operator(world)
    world.apply(model={"id": SMALL}, gpu={"product": "A10G"})
    message = world.wait_condition("Planned", "False", "UnknownGPU")["message"]
    assert f"only as {shared}, which pods share by time-slicing or MPS" in message
    share = {"product": shared, "memoryGiB": 22}
    for name in ("a", "b"):
        half = {"gpuMemoryUtilization": 0.4}
        world.apply(name, model={"id": SMALL}, gpu=share, engine=half, pod=pod)
    for name in ("a", "b"):
        world.wait_ready(name)
