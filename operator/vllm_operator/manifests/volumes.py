"""Volumes of a replica's pod: the checkpoint, the caches, shared memory and scratch space; and
those that the specification adds."""

from __future__ import annotations

from typing import Any, Final

from vllm_operator.api.plan import PlannedStorage
from vllm_operator.api.pod import PodSpec
from vllm_operator.api.quantity import GIBIBYTE, MEBIBYTE
from vllm_operator.api.v1alpha1 import VLLMServerSpec
from vllm_operator.sizing.asked.storage import MODELS_PATH, Volume, room_gib

CACHE_MOUNT: Final = "/cache"

Object = dict[str, Any]


def volume_mounts(volume: Volume, pod: PodSpec) -> list[Object]:
    """Where the engine's container finds them."""
    return [*_own_mounts(volume), *(mount.to_json_object() for mount in pod.volume_mounts or [])]


def _own_mounts(volume: Volume) -> list[Object]:
    sub_path = volume.path.strip("/")
    cache: Object = {"name": "cache", "mountPath": CACHE_MOUNT}
    mounts = [
        cache,
        {"name": "shm", "mountPath": "/dev/shm"},
        {"name": "tmp", "mountPath": "/tmp"},
    ]
    if not volume.serves:
        if sub_path:
            cache["subPath"] = sub_path
        return mounts
    model: Object = {"name": "model", "mountPath": MODELS_PATH, "readOnly": True}
    if volume.kind == "PersistentVolumeClaim" and sub_path:
        # The engine sees that folder of the volume, and no other.
        model.update(mountPath=volume.model_path, subPath=sub_path)
    return [*mounts, model]


def volumes(
    spec: VLLMServerSpec, volume: Volume, planned: PlannedStorage, pod: PodSpec, gpus: int
) -> list[Object]:
    """The pod's volumes; ``gpus`` of the pod decide how much memory they share."""
    source = _source(spec, volume, planned)
    named = {"name": "model" if volume.serves else "cache", **source}
    scratch: Object = {"name": "cache", "emptyDir": {}}
    memory = {"medium": "Memory", "sizeLimit": pod.shm_size or f"{max(2, 2 * gpus)}Gi"}
    return [
        scratch if volume.serves else named,
        {"name": "shm", "emptyDir": memory},
        {"name": "tmp", "emptyDir": {}},
        *([named] if volume.serves else []),
        *(one.to_json_object() for one in pod.volumes or []),
    ]


def _source(spec: VLLMServerSpec, volume: Volume, planned: PlannedStorage) -> Object:
    storage = spec.model.storage
    if volume.kind == "PersistentVolumeClaim":
        claim: Object = {"claimName": volume.source}
        return {"persistentVolumeClaim": {**claim, "readOnly": True} if volume.serves else claim}
    if volume.kind == "HostPath":
        # A folder that the kubelet would make is root's, and the engine could not write it.
        return {"hostPath": {"path": volume.source, "type": "Directory"}}
    if volume.kind == "Image":
        assert storage is not None
        assert storage.image is not None
        image: Object = {"reference": volume.source, "pullPolicy": storage.image.pull_policy}
        return {"image": image}
    if volume.kind == "Ephemeral":
        return {"ephemeral": {"volumeClaimTemplate": {"spec": _claim(volume, planned)}}}
    limit = storage.empty_dir.size_limit if storage and storage.empty_dir else None
    return {"emptyDir": {"sizeLimit": limit} if limit else {}}


def _claim(volume: Volume, planned: PlannedStorage) -> Object:
    """The claim of a volume of the pod's own: one node at a time holds it."""
    named: Object = {"storageClassName": volume.source} if volume.source else {}
    # No plan is made without the figure; where one says none, there is room for what is no weights.
    size = {"storage": _quantity(planned.volume_bytes or room_gib(0) * GIBIBYTE)}
    return {"accessModes": ["ReadWriteOnce"], **named, "resources": {"requests": size}}


def _quantity(size: int) -> str:
    """So many bytes in the largest of Gi, Mi and bytes that says them whole."""
    for unit, name in ((GIBIBYTE, "Gi"), (MEBIBYTE, "Mi")):
        if size % unit == 0:
            return f"{size // unit}{name}"
    return str(size)
