"""What is kept of nodes, and when that is news."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_operator.controller.nodes import Nodes

H100, L40S = "NVIDIA-H100-80GB-HBM3", "NVIDIA-L40S"


def node(name: str, product: str = H100, **extra: Any) -> dict[str, Any]:
    amounts = {"nvidia.com/gpu": "8", "cpu": "96"}
    labels = {"nvidia.com/gpu.product": product, "nvidia.com/gpu.count": "8", "zone": "a"}
    return {
        "metadata": {"name": name, "labels": labels},
        "status": {"capacity": amounts, "allocatable": amounts},
        **extra,
    }


@pytest.fixture
def nodes() -> Nodes:
    seen = Nodes(visible=True)
    seen.observe(node("one"))
    return seen


def products(nodes: Nodes) -> list[tuple[str, int]]:
    return [(offer.product, offer.nodes) for offer in nodes.offers()]


def test_a_heartbeat_is_no_news(nodes: Nodes) -> None:
    assert not nodes.observe(node("one", status={**node("one")["status"], "conditions": [{}]}))


def test_another_node_of_a_product_is_counted_and_no_news(nodes: Nodes) -> None:
    assert not nodes.observe(node("two"))
    assert products(nodes) == [(H100, 2)]


def test_a_product_that_comes_or_goes_is_news(nodes: Nodes) -> None:
    assert nodes.observe(node("two", L40S))
    assert sorted(products(nodes)) == [(H100, 1), (L40S, 1)]
    assert nodes.remove("two")
    assert products(nodes) == [(H100, 1)]


def test_one_of_two_nodes_may_go_without_news(nodes: Nodes) -> None:
    nodes.observe(node("two"))
    assert not nodes.remove("two")
    assert products(nodes) == [(H100, 1)]


def test_a_node_that_nobody_knows_cannot_go(nodes: Nodes) -> None:
    assert not nodes.remove("another")
    assert products(nodes) == [(H100, 1)]


def test_a_listing_keeps_what_it_held(nodes: Nodes) -> None:
    nodes.observe(node("two", L40S))
    assert not nodes.retain(["one", "two", "three"])
    assert nodes.retain(["one"])
    assert products(nodes) == [(H100, 1)]


def test_each_node_s_offer_of_a_product_is_told_by_name(nodes: Nodes) -> None:
    nodes.observe(node("two", L40S))
    offers = nodes.by_node(H100)
    assert list(offers) == ["one"]
    assert offers["one"].nodes == 1


def test_only_what_planning_reads_is_kept(nodes: Nodes) -> None:
    taint = {"key": "gpu", "effect": "NoSchedule"}
    nodes.observe(node("two", spec={"taints": [taint], "unschedulable": True, "podCIDR": "x"}))
    _, kept = nodes._nodes["two"]
    assert kept == {
        "metadata": {
            "name": "two",
            "labels": {"nvidia.com/gpu.product": H100, "nvidia.com/gpu.count": "8"},
        },
        "spec": {"taints": [taint], "unschedulable": True},
        "status": {
            "capacity": {"nvidia.com/gpu": "8"},
            "allocatable": {"nvidia.com/gpu": "8"},
        },
    }


@pytest.mark.parametrize(
    "label",
    ["nvidia.com/mig.strategy", "amd.com/gpu.vram", "beta.amd.com/gpu.family",
     "feature.node.kubernetes.io/pci-10de.present"],
)  # fmt: skip
def test_labels_of_gpus_are_kept(nodes: Nodes, label: str) -> None:
    nodes.observe({"metadata": {"name": "two", "labels": {label: "x"}}})
    assert nodes._nodes["two"][1]["metadata"]["labels"] == {label: "x"}


def test_a_node_of_which_nothing_is_known_offers_nothing(nodes: Nodes) -> None:
    assert not nodes.observe({"metadata": {"name": "two"}, "spec": None, "status": None})
    assert products(nodes) == [(H100, 1)]
