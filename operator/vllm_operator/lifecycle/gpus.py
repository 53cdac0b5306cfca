"""How many GPUs of a product there are, as far as the operator sees. It explains, never decides.

Other teams' pods hold GPUs too, and a namespaced install cannot see them: the scheduler decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vllm_operator.hardware.nodes import GPUOffer

from .records import PodRecord


@dataclass(frozen=True, slots=True)
class GPUCount:
    """GPUs of one product."""

    offered: int
    nodes: int
    held: int
    """By pods of model servers that the operator sees."""

    def __str__(self) -> str:
        nodes = "1 node has" if self.nodes == 1 else f"{self.nodes} nodes have"
        return f"{nodes} {self.offered}, model servers that this operator sees hold {self.held}"


def count(offers: Mapping[str, GPUOffer], pods: Iterable[PodRecord]) -> GPUCount:
    """The GPUs of a product that nodes offer, by the nodes' names, and those that pods hold."""
    held = sum(
        amount
        for pod in pods
        if pod.node in offers and not pod.failed
        for resource, amount in pod.devices
        if resource == offers[pod.node].resource_name
    )
    return GPUCount(sum(offer.per_node for offer in offers.values()), len(offers), held)
