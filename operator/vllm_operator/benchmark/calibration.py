"""The Job that measures a GPU product: vLLM's image, one free GPU (or several), minutes. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from vllm_operator import datafiles
from vllm_operator.api.canonical import digest
from vllm_operator.api.pod import Identity, PodSpec
from vllm_operator.errors import InputError
from vllm_operator.hardware.measured import MeasuredGPU
from vllm_operator.hardware.nodes import GPUOffer
from vllm_operator.manifests import labels as names
from vllm_operator.manifests.pod import with_gpu_nodes
from vllm_operator.manifests.security import container_security_context, pod_security_context

from .jobs import CONTAINER, as_job, marked, plain

COMPONENT: Final = "calibration"
MARK: Final = "vllm-operator-hardware "
SIZES: Final = ((4096, 4096, 4096), (8192, 8192, 8192), (2048, 8192, 16384), (16384, 16384, 8192))
"""Rows, columns and inner side of the products: none is large enough to wait long for, and the
best of them is within a few percent of the best of all."""
COPIES: Final = (1 << 30, 4 << 30)
REDUCED: Final = 256 << 20
ROUND_SECONDS: Final = 0.3
PORT: Final = 29517
SHARED_MEMORY: Final = "1Gi"
"""For NCCL between the processes of several GPUs."""

Object = dict[str, Any]


def calibration_job(
    offer: GPUOffer,
    name: str,
    namespace: str,
    *,
    image: str,
    gpus: int,
    deadline_seconds: int,
    identity: Identity = "Fixed",
) -> Object:
    """The Job for one product. Raises ``InputError`` where it has not so many GPUs in a node."""
    if gpus > offer.per_node:
        raise InputError(
            f"--gpus {gpus}: no node has more than {offer.per_node} {offer.product}; all-reduces "
            "are measured between the GPUs of one node"
        )
    given = {
        "sizes": SIZES,
        "copies": COPIES,
        "reduced": REDUCED,
        "s": ROUND_SECONDS,
        "port": PORT,
        "gpus": gpus,
    }
    labels = {
        "app.kubernetes.io/name": "vllm-operator",
        "app.kubernetes.io/component": COMPONENT,
        "app.kubernetes.io/managed-by": names.FIELD_MANAGER,
    }
    who = {key: value for key, value in pod_security_context(PodSpec(), identity).items() if value}
    alternatives = [
        [{"key": key, "operator": "In", "values": sorted(values)}]
        for key, values in sorted(offer.node_labels.items())
    ]
    script = datafiles.text(__package__, "scripts/hardware.py")
    resource = {offer.resource_name: gpus}
    spec: Object = {
        "securityContext": who,
        "affinity": with_gpu_nodes(None, alternatives),
        "tolerations": [{"key": offer.resource_name, "operator": "Exists", "effect": "NoSchedule"}],
        "containers": [
            {
                "name": CONTAINER,
                "image": image,
                "command": ["python3", "-c", plain(script), plain(json.dumps(given))],
                "env": [
                    {"name": key, "value": value}
                    for key, value in (("HOME", "/tmp"), ("USER", "vllm"), ("NCCL_DEBUG", "WARN"))
                ],
                "resources": {
                    "requests": {"cpu": "1", "memory": "4Gi", **resource},
                    "limits": {"memory": "16Gi", **resource},
                },
                "securityContext": container_security_context(PodSpec()),
                "volumeMounts": [
                    {"name": "tmp", "mountPath": "/tmp"},
                    {"name": "shm", "mountPath": "/dev/shm"},
                ],
            }
        ],
        "volumes": [
            {"name": "tmp", "emptyDir": {}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": SHARED_MEMORY}},
        ],
    }
    name = f"calibrate-{digest([offer.product], 8)}-{name}"
    return as_job(name, namespace, labels, spec, deadline_seconds)


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What a log says so far."""

    state: str = "starts"
    notes: tuple[str, ...] = ()
    """What could not be measured, and why."""
    device: str = ""
    """What PyTorch calls the GPU."""
    figures: Mapping[str, Any] | None = None
    """Once all is measured."""

    def of(self, product: str, at: str, image: str) -> MeasuredGPU:
        """The measurement. Raises ``InputError`` where there is none yet, or none that can be."""
        try:
            record = {**(self.figures or {}), "product": product, "at": at}
            software = f"{record['software']}, {image}"
            return MeasuredGPU.from_json_object({**record, "software": software})
        except (KeyError, TypeError, ValueError) as problem:
            notes = "".join(f"; {note}" for note in self.notes)
            raise InputError(f"{product} was not measured ({problem!r:.200}){notes}") from problem


def read_log(text: str) -> Calibrated:
    """What the marked lines of a Job's log say. Raises ``InputError`` where one cannot be read."""
    found = Calibrated()
    state, notes, device, figures = found.state, [], found.device, found.figures
    for record in marked(text, MARK):
        state = record.get("state", state)
        notes += [str(record["note"])] if "note" in record else []
        if "measured" in record:
            figures, device = record["measured"], str(record.get("device", ""))
    return Calibrated(state, tuple(notes), device, figures)
