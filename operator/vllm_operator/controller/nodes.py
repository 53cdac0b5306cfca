"""The GPU nodes that were seen, reduced to what planning reads of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from vllm_operator.hardware import clouds
from vllm_operator.hardware.nodes import GPUOffer, fingerprint, inventory, shared_products

KEPT_LABEL_PREFIXES = ("nvidia.com/", "amd.com/", "feature.node.kubernetes.io/", "beta.amd.com/")


class Nodes:
    """Nodes by name. ``visible`` is false where nodes may not be read."""

    def __init__(self, visible: bool) -> None:
        self.visible = visible
        self._nodes: dict[str, tuple[str, Mapping[str, Any]]] = {}
        self._offers: tuple[GPUOffer, ...] | None = ()

    def observe(self, node: Mapping[str, Any]) -> bool:
        """Take in a node; whether that changes what it offers (heartbeats do not)."""
        mark = fingerprint(node)
        name = node["metadata"]["name"]
        if name in self._nodes and self._nodes[name][0] == mark:
            return False
        before = self._products()
        self._nodes[name] = (mark, _reduced(node))
        return self._changed(before)

    def remove(self, name: str) -> bool:
        """Take a node out; whether that changes the offers."""
        before = self._products()
        return self._nodes.pop(name, None) is not None and self._changed(before)

    def retain(self, names: Iterable[str]) -> bool:
        """Drop nodes that a live listing did not hold; whether that changes the offers."""
        before = self._products()
        gone = set(self._nodes) - set(names)
        for name in gone:
            del self._nodes[name]
        return bool(gone) and self._changed(before)

    def offers(self) -> tuple[GPUOffer, ...]:
        """What the nodes offer, product by product."""
        if self._offers is None:
            self._offers = inventory(node for _, node in self._nodes.values())
        return self._offers

    def by_node(self, product: str) -> dict[str, GPUOffer]:
        """What each node that offers the product offers of it."""
        offers = {
            name: [offer for offer in inventory([node]) if offer.product == product]
            for name, (_, node) in self._nodes.items()
        }
        return {name: found[0] for name, found in offers.items() if found}

    def shared_products(self) -> tuple[str, ...]:
        """Products whose GPUs pods share on some node."""
        return shared_products(node for _, node in self._nodes.values())

    def _changed(self, before: tuple[GPUOffer, ...]) -> bool:
        self._offers = None
        return self._products() != before

    def _products(self) -> tuple[GPUOffer, ...]:
        # How many nodes offer a product changes with every autoscaling and decides nothing.
        return tuple(replace(offer, nodes=0) for offer in self.offers())


def _reduced(node: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata, spec, status = node["metadata"], node.get("spec") or {}, node.get("status") or {}
    labels = {
        key: value
        for key, value in (metadata.get("labels") or {}).items()
        if key.startswith(KEPT_LABEL_PREFIXES) or clouds.is_known(key)
    }
    amounts = {
        part: {key: value for key, value in (status.get(part) or {}).items() if "/" in key}
        for part in ("capacity", "allocatable")
    }
    return {
        "metadata": {"name": metadata["name"], "labels": labels},
        "spec": {key: spec[key] for key in ("taints", "unschedulable") if key in spec},
        "status": amounts,
    }
