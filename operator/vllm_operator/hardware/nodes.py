"""Which GPUs the nodes offer, read from their labels and resources; pure, over Node objects.

Labels are those of NVIDIA's GPU feature discovery (``nvidia.com/gpu.product``, ``.memory`` in MiB,
``.count``, ``.replicas``, ``.compute.major``; ``nvidia.com/mig-<profile>.*`` with the mixed MIG
strategy) and of AMD's node labeller (``amd.com/gpu.product-name``, ``amd.com/gpu.vram``). Where
none of these names the product, a cloud's own label does (``clouds``).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from vllm_operator.api.quantity import GIBIBYTE, MEBIBYTE

from . import catalogue, clouds
from .slices import is_slice

NVIDIA_PREFIX: Final = "nvidia.com/"
AMD_PREFIXES: Final = ("amd.com/gpu", "beta.amd.com/gpu")
AMD_PRODUCT_LABELS: Final = (catalogue.AMD_PRODUCT_LABEL, "beta.amd.com/gpu.product-name")
SHARED_SUFFIX: Final = "-SHARED"
MIG_LABEL: Final = re.compile(r"^nvidia\.com/(mig-[0-9]+g\.[0-9]+gb(?:\.[a-z0-9.]+)?)\.product$")
LARGEST_COUNT: Final = 1024


@dataclass(frozen=True, slots=True)
class GPUOffer:
    """One product that nodes offer."""

    product: str
    """Label value."""
    memory_bytes: int
    """Memory of one GPU as PyTorch sees it; 0 where neither label nor catalogue says it."""
    per_node: int
    """GPUs in the largest node that offers the product."""
    nodes: int
    """Nodes that offer it."""
    resource_name: str
    """Extended resource that pods ask for."""
    node_labels: Mapping[str, tuple[str, ...]]
    """Labels that select these nodes, each by itself, with their values."""
    compute_capability: tuple[int, int] | None = None
    """CUDA compute capability; None where it is not known."""

    @property
    def is_partition(self) -> bool:
        """Whether this is a slice (MIG or time): slices cannot serve one model together."""
        return is_slice(self.product, self.resource_name) or self.product.endswith(SHARED_SUFFIX)

    def to_json_object(self) -> dict[str, Any]:
        """The offer as plain JSON."""
        return {
            "product": self.product,
            "memoryBytes": self.memory_bytes,
            "perNode": self.per_node,
            "nodes": self.nodes,
            "resourceName": self.resource_name,
            "nodeLabels": {key: list(values) for key, values in sorted(self.node_labels.items())},
            "computeCapability": list(self.compute_capability) if self.compute_capability else None,
        }

    @classmethod
    def from_json_object(cls, document: Mapping[str, Any]) -> GPUOffer:
        """The inverse of ``to_json_object``."""
        capability = document.get("computeCapability")
        return cls(
            product=document["product"],
            memory_bytes=document["memoryBytes"],
            per_node=document["perNode"],
            nodes=document["nodes"],
            resource_name=document["resourceName"],
            node_labels={key: tuple(values) for key, values in document["nodeLabels"].items()},
            compute_capability=(capability[0], capability[1]) if capability else None,
        )


@dataclass(frozen=True, slots=True)
class _Sighting:
    """One product on one node."""

    product: str
    labels: Mapping[str, tuple[str, ...]]
    resource_name: str
    count: int
    nvml_bytes: int
    replicas: int
    compute_capability: tuple[int, int] | None


def inventory(nodes: Iterable[Mapping[str, Any]]) -> tuple[GPUOffer, ...]:
    """The products that the nodes offer, sorted by name, whatever the order of the nodes.

    Cordoned and not-ready nodes count: their product is known, and whether a pod can run now is
    the scheduler's decision. Time-sliced GPUs are left out (``shared_products`` names them): a
    slice has no memory of its own, so no plan for it can be kept.
    """
    groups: dict[tuple[str, str], list[_Sighting]] = {}
    for sighting in _sightings(nodes):
        if not _is_shared(sighting) and sighting.count > 0:
            groups.setdefault((sighting.product, sighting.resource_name), []).append(sighting)
    return tuple(_offer(group) for _, group in sorted(groups.items()))


def own_labels(labels: Collection[str]) -> tuple[str, ...]:
    """The labels of its vendor's discovery, if one of them is among those that select nodes."""
    vendors = ((catalogue.PRODUCT_LABEL,), AMD_PRODUCT_LABELS)
    return next((own for own in vendors if any(label in labels for label in own)), ())


def shared_products(nodes: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Products whose GPUs pods share on some node (time-slicing, MPS), sorted."""
    return tuple(sorted({s.product for s in _sightings(nodes) if _is_shared(s)}))


def fingerprint(node: Mapping[str, Any]) -> str:
    """Hash of what of a node matters here: GPU resources and labels, taints, schedulability.

    A node's heartbeat changes its conditions every few seconds and leaves this as it is.
    """
    spec = _mapping(node.get("spec"))
    status = _mapping(node.get("status"))
    taints = [
        [str(taint.get(part, "")) for part in ("key", "value", "effect")]
        for taint in spec.get("taints") or ()
        if isinstance(taint, Mapping)
    ]
    document = [
        {key: value for key, value in _labels(node).items() if _is_gpu_key(key)},
        {
            part: {k: str(v) for k, v in _mapping(status.get(part)).items() if _is_gpu_key(k)}
            for part in ("capacity", "allocatable")
        },
        sorted(taints),
        bool(spec.get("unschedulable")),
    ]
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _is_gpu_key(key: str) -> bool:
    return key.startswith((NVIDIA_PREFIX, *AMD_PREFIXES)) or clouds.is_known(key)


def _is_shared(sighting: _Sighting) -> bool:
    return sighting.product.endswith(SHARED_SUFFIX) or sighting.replicas > 1


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _labels(node: Mapping[str, Any]) -> dict[str, str]:
    labels = _mapping(_mapping(node.get("metadata")).get("labels"))
    return {str(key): str(value) for key, value in labels.items()}


def _count(text: Any) -> int:
    """A small whole number, 0 where it is none: labels are anybody's text."""
    digits = str(text)
    return min(int(digits), LARGEST_COUNT) if re.fullmatch(r"[0-9]{1,6}", digits) else 0


def _resource_count(node: Mapping[str, Any], resource: str, label_count: str) -> int:
    """Allocatable GPUs; the capacity (or the label) where none is allocatable just now."""
    status = _mapping(node.get("status"))
    for part in ("allocatable", "capacity"):
        count = _count(_mapping(status.get(part)).get(resource))
        if count:
            return count
    return _count(label_count)


def _sightings(nodes: Iterable[Mapping[str, Any]]) -> Iterator[_Sighting]:
    for node in nodes:
        labels = _labels(node)
        if labels.get(catalogue.PRODUCT_LABEL):
            yield _nvidia(node, labels, "gpu")
        elif not any(labels.get(label) for label in AMD_PRODUCT_LABELS):
            yield from _of_cloud(node, labels)
        for label in labels:
            partition = MIG_LABEL.match(label)
            if partition and labels[label]:
                yield _nvidia(node, labels, partition[1])
        for label in AMD_PRODUCT_LABELS:
            if labels.get(label):
                yield _amd(node, labels, label)
                break


def _nvidia(node: Mapping[str, Any], labels: Mapping[str, str], device: str) -> _Sighting:
    prefix = f"{NVIDIA_PREFIX}{device}"
    major = labels.get("nvidia.com/gpu.compute.major", "")
    minor = labels.get("nvidia.com/gpu.compute.minor", "")
    memory = labels.get(f"{prefix}.memory", "")
    return _Sighting(
        product=labels[f"{prefix}.product"],
        labels={f"{prefix}.product": (labels[f"{prefix}.product"],)},
        resource_name=prefix,
        count=_resource_count(node, prefix, labels.get(f"{prefix}.count", "")),
        nvml_bytes=int(memory) * MEBIBYTE if re.fullmatch(r"[0-9]{1,8}", memory) else 0,
        replicas=_count(labels.get(f"{prefix}.replicas", "")),
        compute_capability=(_count(major), _count(minor)) if _count(major) else None,
    )


def _of_cloud(node: Mapping[str, Any], labels: Mapping[str, str]) -> Iterator[_Sighting]:
    """A product that only a cloud's label names; parts of GPUs have no name of their own."""
    named = clouds.named(labels)
    if named is None:
        return
    label, name = named
    product = catalogue.find(name)
    marks = [part for part in clouds.parts(label) if part.marks(labels)]
    if product is None or any(not part.is_shared for part in marks):
        return
    # Also by the label that feature discovery would write, so that it may be installed later.
    known = product.node_labels
    count, there = _resource_count(node, product.resource_name, ""), clouds.gpus(labels)
    shared = bool(marks) or (there is not None and count > there)
    yield _Sighting(
        product=f"{name}{SHARED_SUFFIX}" if shared else name,
        labels={key: known[key] for key in (product.own_label, label)},
        resource_name=product.resource_name,
        count=count,
        nvml_bytes=0,
        replicas=0,
        compute_capability=None,
    )


def _amd(node: Mapping[str, Any], labels: Mapping[str, str], label: str) -> _Sighting:
    vram = re.fullmatch(
        r"([0-9]{1,6})([MG])", labels.get(label.replace("product-name", "vram"), "")
    )
    unit = MEBIBYTE if vram and vram[2] == "M" else GIBIBYTE
    return _Sighting(
        product=labels[label],
        labels={label: (labels[label],)},
        resource_name=catalogue.AMD_RESOURCE,
        count=_resource_count(node, catalogue.AMD_RESOURCE, ""),
        nvml_bytes=int(vram[1]) * unit if vram else 0,
        replicas=0,
        compute_capability=None,
    )


def _offer(group: list[_Sighting]) -> GPUOffer:
    product = catalogue.find(group[0].product)
    labels: dict[str, tuple[str, ...]] = {}
    for sighting in group:
        for label, values in sighting.labels.items():
            labels[label] = tuple(sorted({*labels.get(label, ()), *values}))
    capabilities = sorted(s.compute_capability for s in group if s.compute_capability)
    if not capabilities and product is not None and product.compute_capability:
        capabilities = [product.compute_capability]
    return GPUOffer(
        product=group[0].product,
        memory_bytes=_memory(product, [s.nvml_bytes for s in group if s.nvml_bytes]),
        per_node=max(sighting.count for sighting in group),
        nodes=len(group),
        resource_name=group[0].resource_name,
        node_labels=labels,
        compute_capability=capabilities[0] if capabilities else None,
    )


def _memory(product: catalogue.GPUProduct | None, labelled: list[int]) -> int:
    """The catalogue's figure, unless a node's label says clearly less (ECC on, a smaller card)."""
    smallest = min(labelled, default=0)
    if product is None:
        return catalogue.device_memory_from_nvml(smallest)
    if smallest and smallest < product.nvml_bytes - product.nvml_bytes // 100:
        return catalogue.device_memory_from_nvml(smallest)
    return product.memory_bytes
