"""Node objects labelled as GPU feature discovery labels them. Pure.

Label names and formats: NVIDIA k8s-device-plugin, internal/lm/resource.go, nvml.go and
machine_type.go; `gpu.present` comes from the GPU operator's own labeller.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_PRODUCTS = Path(__file__).with_name("data") / "gpu_products.csv"
_DRIVER = ("570", "124", "06")
_CUDA = ("12", "8")
NVIDIA_RESOURCE = "nvidia.com/gpu"


@dataclass(frozen=True)
class Product:
    """A row of the product table; memory in MiB as NVML reports it."""

    product: str
    memory_mebibytes: int
    compute_major: int
    compute_minor: int
    family: str
    mig_capable: bool


@cache
def products() -> dict[str, Product]:
    """The known products by their label value."""
    with _PRODUCTS.open(newline="") as file:
        rows = [
            Product(
                product=row["product"],
                memory_mebibytes=int(row["memory_mebibytes"]),
                compute_major=int(row["compute_major"]),
                compute_minor=int(row["compute_minor"]),
                family=row["family"],
                mig_capable=row["mig_capable"] == "true",
            )
            for row in csv.DictReader(file)
        ]
    return {row.product: row for row in rows}


def gpu_labels(product: str, count: int, memory_mebibytes: int | None = None) -> dict[str, str]:
    """The labels of a node with `count` whole GPUs, MIG off and not shared.

    A product that the table does not know has no compute capability or family labels, and needs
    its memory given: ValueError without it.
    """
    known = products().get(product)
    if memory_mebibytes is None:
        if known is None:
            raise ValueError(f"{product} is not in {_PRODUCTS.name}: give memory_mebibytes")
        memory_mebibytes = known.memory_mebibytes
    labels = {
        "nvidia.com/cuda.driver-version.full": ".".join(_DRIVER),
        "nvidia.com/cuda.driver-version.major": _DRIVER[0],
        "nvidia.com/cuda.driver-version.minor": _DRIVER[1],
        "nvidia.com/cuda.driver-version.revision": _DRIVER[2],
        "nvidia.com/cuda.driver.major": _DRIVER[0],
        "nvidia.com/cuda.driver.minor": _DRIVER[1],
        "nvidia.com/cuda.driver.rev": _DRIVER[2],
        "nvidia.com/cuda.runtime-version.full": ".".join(_CUDA),
        "nvidia.com/cuda.runtime-version.major": _CUDA[0],
        "nvidia.com/cuda.runtime-version.minor": _CUDA[1],
        "nvidia.com/cuda.runtime.major": _CUDA[0],
        "nvidia.com/cuda.runtime.minor": _CUDA[1],
        "nvidia.com/gfd.timestamp": "1760000000",
        "nvidia.com/gpu.count": str(count),
        "nvidia.com/gpu.machine": "localcluster",
        "nvidia.com/gpu.memory": str(memory_mebibytes),
        "nvidia.com/gpu.mode": "compute",
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.product": product,
        "nvidia.com/gpu.replicas": "1",
        "nvidia.com/gpu.sharing-strategy": "none",
        "nvidia.com/mig.capable": str(known.mig_capable).lower() if known else "false",
        "nvidia.com/mps.capable": "false",
    }
    if known is not None:
        labels |= {
            "nvidia.com/gpu.compute.major": str(known.compute_major),
            "nvidia.com/gpu.compute.minor": str(known.compute_minor),
            "nvidia.com/gpu.family": known.family,
        }
        if known.mig_capable:
            labels["nvidia.com/mig.strategy"] = "single"
    return labels


def node(
    name: str,
    labels: Mapping[str, str],
    extended_resources: Mapping[str, int],
    cpu: str,
    memory: str,
    taints: Sequence[Mapping[str, str]] = (),
) -> dict[str, Any]:
    """A Node for kwok to play, with these extended resources beside processors and memory."""
    capacity = {
        "cpu": cpu,
        "memory": memory,
        "pods": "5000",  # far above a kubelet's 110, so that GPUs are what runs out
        "ephemeral-storage": "64Ti",  # as with pods
        **{resource: str(count) for resource, count in extended_resources.items()},
    }
    basic = {
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "node.kubernetes.io/instance-type": "localcluster",
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": basic | dict(labels),
        },
        "spec": {"taints": [dict(taint) for taint in taints]},
        "status": {"capacity": capacity, "allocatable": capacity},
    }


def is_usable(node_object: Mapping[str, Any]) -> bool:
    """Ready, and without the taint that admission puts on each new node until it is."""
    taints = node_object["spec"].get("taints") or []
    conditions = node_object["status"].get("conditions") or []
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and all(taint["key"] != "node.kubernetes.io/not-ready" for taint in taints)
