"""Where the weights lie or are cached, and what follows: arguments, start, rollouts.

``spec.model.storage`` names a volume and says whether it is a cache that the engine fills or holds
the checkpoint that is served. A volume that one node or one pod at a time may hold forbids a pod
beside the old one: the new pod would wait for the volume, and the old pod for the new one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from vllm_operator.api.plan import PlannedStorage
from vllm_operator.api.quantity import GIBIBYTE, parse_quantity
from vllm_operator.api.v1alpha1 import VLLMServerSpec
from vllm_operator.errors import IllegalPin, PlanningError

MODELS_PATH: Final = "/models"
CLAIM_FIELD: Final = "spec.model.storage.persistentVolumeClaim"
HOST_PATH_FIELD: Final = "spec.model.storage.hostPath"
SIZE_LIMIT_FIELD: Final = "spec.model.storage.emptyDir.sizeLimit"
VOLUME_SIZE_FIELD: Final = "spec.model.storage.ephemeral.size"
EPHEMERAL_FIELD: Final = "spec.pod.resources.limits[ephemeral-storage]"
CACHE_ROOM_GIB: Final = 2
"""For the tokenizer, logs and vLLM's compile cache beside the weights."""
PREFIXES_VALUE: Final = "hostPathPrefixes"
"""Chart value with the folders of nodes that servers may use."""

SHARED_MODES: Final = frozenset({"ReadWriteMany", "ReadOnlyMany"})
"""Access modes by which several nodes hold a volume at once."""

ONE_POD: Final = "ReadWriteOncePod"

Kind = Literal["EmptyDir", "PersistentVolumeClaim", "HostPath", "Image", "Ephemeral"]


@dataclass(frozen=True, slots=True)
class ClaimFacts:
    """What was read of a PersistentVolumeClaim."""

    name: str
    access_modes: tuple[str, ...]

    @property
    def one_pod(self) -> bool:
        """Whether one pod at a time may use it."""
        return self.access_modes == (ONE_POD,)

    @property
    def one_node(self) -> bool:
        """Whether one node at a time may hold it."""
        return bool(self.access_modes) and not SHARED_MODES & set(self.access_modes)

    def to_json_object(self) -> dict[str, Any]:
        """The facts as plain JSON."""
        return {"name": self.name, "accessModes": list(self.access_modes)}

    @classmethod
    def from_json_object(cls, document: Mapping[str, Any]) -> ClaimFacts:
        """The inverse of ``to_json_object``."""
        return cls(document["name"], tuple(document["accessModes"]))


@dataclass(frozen=True, slots=True)
class Volume:
    """The volume that a specification names."""

    kind: Kind
    source: str
    """Name of the claim or of the storage class, folder of the node or reference of the image;
    empty for an emptyDir, and for the cluster's default class."""
    path: str
    """Folder on the volume, absolute from its root."""
    serves: bool
    """Whether the checkpoint lies there and is served from there; else it is a cache."""

    @property
    def model_path(self) -> str:
        """Where the engine finds the checkpoint."""
        # A folder of an image is reached by its path: subPath of image volumes is newer than they.
        return (MODELS_PATH + ("" if self.kind == "HostPath" else self.path)).rstrip("/")

    def __str__(self) -> str:
        return f"{WORDS[self.kind]} {self.source}".rstrip()


WORDS: Final[Mapping[Kind, str]] = {
    "EmptyDir": "emptyDir",
    "PersistentVolumeClaim": "PersistentVolumeClaim",
    "HostPath": "node folder",
    "Image": "image",
    "Ephemeral": "volume of storage class",
}


def volume_of(spec: VLLMServerSpec) -> Volume:
    """The volume that the specification names; an emptyDir as cache where it names none."""
    storage = spec.model.storage
    if storage is not None and storage.persistent_volume_claim is not None:
        claim = storage.persistent_volume_claim
        path, serves = claim.path or "", claim.mode == "Model"
        return Volume("PersistentVolumeClaim", claim.claim_name, path, serves)
    if storage is not None and storage.host_path is not None:
        folder = storage.host_path
        return Volume("HostPath", folder.path, "", folder.mode == "Model")
    if storage is not None and storage.image is not None:
        return Volume("Image", storage.image.reference, storage.image.path or "", serves=True)
    if storage is not None and storage.ephemeral is not None:
        return Volume("Ephemeral", storage.ephemeral.storage_class_name or "", "", serves=False)
    return Volume("EmptyDir", "", "", serves=False)


def is_served_from_disk(spec: VLLMServerSpec) -> bool:
    """Whether the checkpoint is there when the engine starts, on a volume or in its container: the
    Hub is not asked for it."""
    return spec.model.is_folder or volume_of(spec).serves


def storage_problems(
    spec: VLLMServerSpec, host_path_prefixes: tuple[str, ...] | None
) -> Iterator[PlanningError]:
    """What forbids the storage. ``host_path_prefixes`` None: nobody's settings are known."""
    volume = volume_of(spec)
    if volume.kind != "HostPath" or host_path_prefixes is None:
        return
    if any(_lies_under(volume.source, prefix) for prefix in host_path_prefixes):
        return
    allowed = ", ".join(host_path_prefixes)
    remedy = f"use a folder under {allowed}" if allowed else "use a persistentVolumeClaim"
    yield IllegalPin(
        f"{HOST_PATH_FIELD}.path",
        f"{volume.source} is no folder of nodes that this operator allows; {remedy}, or let its "
        f"chart value {PREFIXES_VALUE} allow it",
    )


def ephemeral_limit(spec: VLLMServerSpec) -> str | None:
    """How much of the node's disk a pod may use, where its cache lies there."""
    resources = spec.pod.resources if spec.pod is not None else None
    limits = resources.limits if resources is not None else None
    if volume_of(spec).kind != "EmptyDir" or limits is None:
        return None
    limit = limits.get("ephemeral-storage")
    return None if limit is None else str(limit)


def room_gib(download: int) -> int:
    """GiB that a cache of so many bytes of weights takes."""
    return -(-download // GIBIBYTE) + CACHE_ROOM_GIB


def room_problems(spec: VLLMServerSpec, download: int) -> Iterator[PlanningError]:
    """Bounds of a pod's cache that are smaller than the ``download`` bytes of the checkpoint.

    The kubelet evicts a pod that goes beyond those of an emptyDir, and the next pod begins anew; a
    volume would be full.
    """
    storage = spec.model.storage
    folder = storage.empty_dir if storage is not None else None
    own = storage.ephemeral if storage is not None else None
    evicted = "the emptyDir: the pod would be evicted"
    for field, limit, so in (
        (SIZE_LIMIT_FIELD, folder.size_limit if folder is not None else None, evicted),
        (EPHEMERAL_FIELD, ephemeral_limit(spec), evicted),
        (
            VOLUME_SIZE_FIELD,
            own.size if own is not None else None,
            "the volume, which is full then",
        ),
    ):
        if limit is not None and parse_quantity(limit) < download:
            works = room_gib(download)
            yield IllegalPin(
                field,
                f"is {limit}, and {download / GIBIBYTE:.2f} GiB of weights are downloaded into "
                f"{so}; set it to {works}Gi or more, or remove it",
            )


def spread_problem(spec: VLLMServerSpec, claim: ClaimFacts | None, nodes: int) -> IllegalPin | None:
    """Why a replica on so many nodes cannot use its claim."""
    if nodes == 1 or claim is None or not claim.one_node:
        return None
    return IllegalPin(
        CLAIM_FIELD,
        f"{claim.name} is {', '.join(claim.access_modes)}: one node at a time holds it, and a "
        f"replica of this model takes {nodes}; use a claim with ReadWriteMany or ReadOnlyMany",
    )


def planned_storage(
    spec: VLLMServerSpec, claim: ClaimFacts | None, download: int, streamed: int | None = None
) -> PlannedStorage:
    """The storage as it stands in the plan, with what it means for rollouts and nodes' disks.

    ``download``: bytes of weights that an empty cache takes up; ``streamed``: of a pod's memory
    that they take where they are streamed.
    """
    volume = volume_of(spec)
    known = claim if volume.kind == "PersistentVolumeClaim" else None
    single = known is not None and known.one_node
    return PlannedStorage(
        kind=volume.kind,
        source=volume.source or None,
        mode="Model" if volume.serves else "Cache",
        access_modes=list(known.access_modes) if known else None,
        surge=not single,
        note=_single(known) if known is not None and single else None,
        disk_bytes=room_gib(download) * GIBIBYTE if volume.kind == "EmptyDir" else None,
        volume_bytes=_volume_bytes(spec, download),
        buffer_bytes=streamed,
    )


def _volume_bytes(spec: VLLMServerSpec, download: int) -> int | None:
    """Of the volume of its own that each pod gets; None where it gets none."""
    storage = spec.model.storage
    if storage is None or storage.ephemeral is None:
        return None
    size = storage.ephemeral.size
    return room_gib(download) * GIBIBYTE if size is None else int(parse_quantity(size))


def _single(claim: ClaimFacts) -> str:
    modes = ", ".join(claim.access_modes)
    said = f"PersistentVolumeClaim {claim.name} is {modes}"
    if claim.one_pod:
        return f"{said}: updates go in place, and only one replica can run"
    return f"{said}: updates go in place, and all replicas have to fit on the node that holds it"


def _lies_under(path: str, prefix: str) -> bool:
    folder, allowed = path.rstrip("/"), prefix.rstrip("/")
    return folder == allowed or folder.startswith(f"{allowed}/")
