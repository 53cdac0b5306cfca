"""Volumes of a replica's pod: the checkpoint, the caches, shared memory and scratch space; and
those that the specification adds."""

from __future__ import annotations

from typing import Any, Final

from vllm_operator.api.pod import PodSpec
from vllm_operator.api.v1alpha1 import VLLMServerSpec
from vllm_operator.sizing.asked.storage import MODELS_PATH, Volume

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


def volumes(spec: VLLMServerSpec, volume: Volume, pod: PodSpec, gpus: int) -> list[Object]:
    """The pod's volumes; ``gpus`` of the pod decide how much memory they share."""
    named = {"name": "model" if volume.serves else "cache", **_source(spec, volume)}
    scratch: Object = {"name": "cache", "emptyDir": {}}
    memory = {"medium": "Memory", "sizeLimit": pod.shm_size or f"{max(2, 2 * gpus)}Gi"}
    return [
        scratch if volume.serves else named,
        {"name": "shm", "emptyDir": memory},
        {"name": "tmp", "emptyDir": {}},
        *([named] if volume.serves else []),
        *(one.to_json_object() for one in pod.volumes or []),
    ]


def _source(spec: VLLMServerSpec, volume: Volume) -> Object:
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
    limit = storage.empty_dir.size_limit if storage and storage.empty_dir else None
    return {"emptyDir": {"sizeLimit": limit} if limit else {}}
