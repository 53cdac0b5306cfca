"""Where a server's weights lie or are cached."""

from __future__ import annotations

from typing import Literal

from .base import ResourceModel
from .fields import field, required
from .patterns import FOLDER, IMAGE, OBJECT_NAME, QUANTITY


class PersistentVolumeClaimStorage(ResourceModel):
    """A claim of the server's namespace that holds or caches the weights."""

    claim_name: str = required(
        "Name of the PersistentVolumeClaim.", max_length=253, pattern=OBJECT_NAME
    )
    path: str | None = field(
        "Folder on the volume, absolute from the volume's root; the root by default.",
        max_length=1024,
        pattern=FOLDER,
    )
    mode: Literal["Cache", "Model"] | None = field(
        "Cache (default): the Hugging Face cache lives on the volume and is filled on first start. "
        "Model: the checkpoint lies at path and is served from there, read-only."
    )


class EmptyDirStorage(ResourceModel):
    """A cache that lives and dies with the pod."""

    size_limit: str | None = field("Largest size, a quantity.", max_length=32, pattern=QUANTITY)


class EphemeralStorage(ResourceModel):
    """A cache on a volume of each pod's own, made from a storage class and deleted with the pod."""

    storage_class_name: str | None = field(
        "Storage class that makes the volume; the cluster's default class where it is not given.",
        max_length=253,
        pattern=OBJECT_NAME,
    )
    size: str | None = field(
        "Size of the volume, a quantity; the weights and 2 GiB by default.",
        max_length=32,
        pattern=QUANTITY,
    )


class HostPathStorage(ResourceModel):
    """A folder of the node. The operator's settings say which folders may be used."""

    path: str = required(
        "Folder on the node; it must exist. The operator refuses it outside the folders of its "
        "chart value hostPathPrefixes, which is empty by default.",
        min_length=2,
        max_length=1024,
        pattern=FOLDER,
    )
    mode: Literal["Cache", "Model"] | None = field(
        "Cache (default): the Hugging Face cache lives in the folder, which user 65532 must be "
        "able to write. Model: the checkpoint lies there and is served from there, read-only."
    )


class ImageStorage(ResourceModel):
    """An OCI image that holds the checkpoint, mounted read-only (Kubernetes image volumes)."""

    reference: str = required(
        "Image, as in a container.",
        min_length=1,
        max_length=500,
        pattern=IMAGE,
    )
    path: str | None = field(
        "Folder inside the image, absolute from its root; the root by default.",
        max_length=1024,
        pattern=FOLDER,
    )
    pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = field(
        "When the node pulls the image; Kubernetes' own default follows from the tag."
    )


class Storage(ResourceModel):
    """Where the weights live or are cached; one of the members."""

    persistent_volume_claim: PersistentVolumeClaimStorage | None = field("A PersistentVolumeClaim.")
    empty_dir: EmptyDirStorage | None = field(
        "A node-local cache, the default: every new pod downloads the weights again."
    )
    ephemeral: EphemeralStorage | None = field(
        "A cache on a volume of each pod's own, made from a storage class: every new pod downloads "
        "the weights again, and the node's disk holds none of them."
    )
    host_path: HostPathStorage | None = field(
        "A folder of the node, only where the operator's settings allow it."
    )
    image: ImageStorage | None = field(
        "An OCI image that holds the checkpoint. The cluster needs image volumes: on by default "
        "from Kubernetes 1.35, behind the feature gate ImageVolume from 1.31."
    )
