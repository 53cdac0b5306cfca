"""Volumes of a pod's own beside those of the operator: what brings files in, and nothing of nodes.

Kubernetes' own shapes. What restricted Pod Security refuses, or what belongs to the node (hostPath,
NFS, CSI volumes of the pod's own), is no source here.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict

from . import pod_rules as rules
from .base import ResourceModel, validations
from .fields import field, required
from .patterns import DATA_KEY, DNS_LABEL, MOUNT_PATH, QUANTITY, RELATIVE_PATH
from .patterns import OBJECT_NAME as NAME


class KeyToPath(ResourceModel):
    """One key of a ConfigMap or Secret as a file."""

    key: str = required("Key of the object.", min_length=1, max_length=253, pattern=DATA_KEY)
    path: str = required(
        "File, relative to the mount.", min_length=1, max_length=253, pattern=RELATIVE_PATH
    )
    mode: int | None = field("Mode of the file (288 is 0440).", ge=0, le=0o777)


def _items() -> Any:
    return field(
        "Keys that become files; all by default.",
        max_length=32,
        schema={"x-kubernetes-list-type": "atomic"},
    )


def _default_mode() -> Any:
    return field("Mode of the files; 420 (0644) by default.", ge=0, le=0o777)


class ConfigMapVolume(ResourceModel):
    """Keys of a ConfigMap as files."""

    name: str = required(
        "Name of the ConfigMap, in the server's namespace.", max_length=253, pattern=NAME
    )
    items: list[KeyToPath] | None = _items()
    default_mode: int | None = _default_mode()
    optional: bool | None = field("Whether pods start without the ConfigMap; false by default.")


class SecretVolume(ResourceModel):
    """Keys of a Secret as files."""

    secret_name: str = required(
        "Name of the Secret, in the server's namespace.", max_length=253, pattern=NAME
    )
    items: list[KeyToPath] | None = _items()
    default_mode: int | None = _default_mode()
    optional: bool | None = field("Whether pods start without the Secret; false by default.")


class ClaimVolume(ResourceModel):
    """A PersistentVolumeClaim."""

    claim_name: str = required(
        "Name of the claim, in the server's namespace.", max_length=253, pattern=NAME
    )
    read_only: bool | None = field("Whether it is mounted read-only; false by default.")


class EmptyDirVolume(ResourceModel):
    """A folder that lives and dies with the pod."""

    medium: Literal["", "Memory"] | None = field("Where it lies: the node's disk, or its memory.")
    size_limit: str | None = field("Largest size, a quantity.", max_length=32, pattern=QUANTITY)


class Volume(ResourceModel):
    """A volume of the pods, and its source."""

    model_config = ConfigDict(
        json_schema_extra=validations(rules.VOLUME_HAS_ONE_SOURCE, rules.NOT_AN_OWN_VOLUME)
    )

    name: str = required(
        "Name of the volume, for mounts.",
        min_length=1,
        max_length=63,
        pattern=DNS_LABEL,
    )
    config_map: ConfigMapVolume | None = field("Files from a ConfigMap.")
    secret: SecretVolume | None = field("Files from a Secret.")
    persistent_volume_claim: ClaimVolume | None = field("A claim of the server's namespace.")
    empty_dir: EmptyDirVolume | None = field("An empty folder.")


class VolumeMount(ResourceModel):
    """Where a container sees a volume."""

    name: str = required("Name of the volume.", min_length=1, max_length=63, pattern=DNS_LABEL)
    mount_path: str = required(
        "Absolute path in the container.", min_length=2, max_length=1024, pattern=MOUNT_PATH
    )
    sub_path: str | None = field(
        "File or folder of the volume; its root by default.",
        min_length=1,
        max_length=1024,
        pattern=RELATIVE_PATH,
    )
    read_only: bool | None = field("Whether it is read-only; false by default.")


class EngineVolumeMount(VolumeMount):
    """Where the engine sees a volume, beside those of the operator."""

    model_config = ConfigDict(json_schema_extra=validations(rules.NOT_AN_OWN_PATH))
