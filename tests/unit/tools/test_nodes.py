"""Labels and capacities of the nodes that kwok plays."""

import re
from typing import Any

import pytest

from localcluster import nodes

LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


def test_an_h100_node_has_the_labels_of_gpu_feature_discovery() -> None:
    labels = nodes.gpu_labels("NVIDIA-H100-80GB-HBM3", 8)
    expected = {
        "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
        "nvidia.com/gpu.memory": "81559",
        "nvidia.com/gpu.count": "8",
        "nvidia.com/gpu.replicas": "1",
        "nvidia.com/gpu.sharing-strategy": "none",
        "nvidia.com/gpu.family": "hopper",
        "nvidia.com/gpu.compute.major": "9",
        "nvidia.com/gpu.compute.minor": "0",
        "nvidia.com/gpu.present": "true",
        "nvidia.com/mig.capable": "true",
        "nvidia.com/mig.strategy": "single",
    }
    assert expected.items() <= labels.items()


def test_a_product_without_mig_has_no_mig_strategy() -> None:
    labels = nodes.gpu_labels("NVIDIA-L4", 1)
    assert labels["nvidia.com/mig.capable"] == "false"
    assert "nvidia.com/mig.strategy" not in labels


@pytest.mark.parametrize("product", nodes.products())
def test_every_label_is_one_that_the_api_server_takes(product: str) -> None:
    for name, value in nodes.gpu_labels(product, 8).items():
        assert LABEL_VALUE.fullmatch(value), name


def test_an_unknown_product_needs_its_memory_and_gets_no_made_up_capability() -> None:
    with pytest.raises(ValueError, match="give memory_mebibytes"):
        nodes.gpu_labels("NVIDIA-Z900", 4)
    labels = nodes.gpu_labels("NVIDIA-Z900", 4, 300_000)
    assert labels["nvidia.com/gpu.memory"] == "300000"
    assert "nvidia.com/gpu.compute.major" not in labels


def test_a_given_memory_wins_over_the_table() -> None:
    assert nodes.gpu_labels("NVIDIA-L4", 1, 1000)["nvidia.com/gpu.memory"] == "1000"


def test_a_node_offers_its_gpus_and_is_kwoks_to_play() -> None:
    node = nodes.node("a", {"x": "y"}, {"nvidia.com/gpu": 8}, "96", "1Ti")
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "8"
    assert node["status"]["capacity"] == node["status"]["allocatable"]
    assert node["metadata"]["annotations"] == {"kwok.x-k8s.io/node": "fake"}
    assert node["metadata"]["labels"]["x"] == "y"
    assert node["metadata"]["labels"]["kubernetes.io/hostname"] == "a"


def live(ready: str | None, *taints: str) -> dict[str, Any]:
    conditions = [] if ready is None else [{"type": "Ready", "status": ready}]
    return {
        "spec": {"taints": [{"key": key} for key in taints]} if taints else {},
        "status": {"conditions": conditions},
    }


def test_a_node_is_usable_when_it_is_ready_and_its_first_taint_is_gone() -> None:
    assert nodes.is_usable(live("True"))
    assert nodes.is_usable(live("True", "example.com/reserved"))
    assert not nodes.is_usable(live("True", "node.kubernetes.io/not-ready"))
    assert not nodes.is_usable(live("Unknown"))
    assert not nodes.is_usable(live(None))
