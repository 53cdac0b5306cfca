"""What a user may say about the pods: the part of a pod that is not vLLM's business."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from . import pod_rules as rules
from .base import ResourceModel, validations
from .fields import FREE_FORM, field, required, without_nulls
from .patterns import (
    DATA_KEY,
    DNS_LABEL,
    IMAGE,
    LABEL_VALUE,
    OPTIONAL_QUALIFIED_NAME,
    QUALIFIED_NAME,
    QUANTITY,
    VARIABLE,
)
from .patterns import OBJECT_NAME as NAME
from .volumes import EngineVolumeMount, Volume, VolumeMount

LabelValue = Annotated[str, Field(max_length=63, pattern=LABEL_VALUE)]
AnnotationValue = Annotated[str, Field(max_length=4096)]
Quantity = (
    Annotated[str, Field(max_length=32, pattern=QUANTITY)]
    | Annotated[int, Field(ge=0, le=2**53 - 1)]
)

Argument = Annotated[str, Field(max_length=4096)]
GroupId = Annotated[int, Field(ge=0, le=2**31 - 1)]

Labels = Annotated[dict[str, LabelValue], BeforeValidator(without_nulls)]
Annotations = Annotated[dict[str, AnnotationValue], BeforeValidator(without_nulls)]
Amounts = Annotated[dict[str, Quantity], BeforeValidator(without_nulls)]

Identity = Literal["Fixed", "Platform"]
"""Who says the user and the groups of the pods."""


class NamedReference(ResourceModel):
    """An object of the server's namespace, by name."""

    name: str = required(
        "Name of the object, in the server's namespace.", max_length=253, pattern=NAME
    )


class KeyReference(ResourceModel):
    """One key of a Secret or ConfigMap of the server's namespace."""

    name: str = required(
        "Name of the object, in the server's namespace.", max_length=253, pattern=NAME
    )
    key: str = required("Key inside the object.", min_length=1, max_length=253, pattern=DATA_KEY)


class Toleration(ResourceModel):
    """A taint that the pods tolerate; Kubernetes' own fields."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            rules.TOLERATION_WITHOUT_KEY, rules.TOLERATION_EXISTS, rules.TOLERATION_SECONDS
        )
    )

    key: str | None = field(
        "Taint key; with operator Exists and no key, every taint.",
        max_length=317,
        pattern=OPTIONAL_QUALIFIED_NAME,
    )
    operator: Literal["Exists", "Equal"] | None = field(
        "How key and value match; Equal by default."
    )
    value: str | None = field("Taint value to match.", max_length=63, pattern=LABEL_VALUE)
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = field(
        "Taint effect to match; every effect by default."
    )
    toleration_seconds: int | None = field(
        "How long a NoExecute taint is tolerated.", ge=0, le=2_592_000
    )


class TopologySpreadConstraint(ResourceModel):
    """How replicas spread over a topology; the label selector is the operator's."""

    max_skew: int = required("Largest allowed difference between two domains.", ge=1, le=100)
    topology_key: str = required(
        "Node label that names the domain.", min_length=1, max_length=317, pattern=QUALIFIED_NAME
    )
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"] = required(
        "What the scheduler does when it cannot keep the skew."
    )


class Resources(ResourceModel):
    """CPU, memory and disk of a container; GPUs are the engine's and come from the plan."""

    model_config = ConfigDict(json_schema_extra=validations(rules.REQUESTS_WITHIN_LIMITS))

    requests: Amounts | None = field(
        "Requests by resource name, for cpu, memory and ephemeral-storage. "
        "The operator computes those that are left out for the engine.",
        schema=validations(rules.REQUESTABLE, maxProperties=3),
    )
    limits: Amounts | None = field(
        "Limits by resource name, for cpu, memory and ephemeral-storage.",
        schema=validations(rules.LIMITABLE, maxProperties=3),
    )


class EnvironmentVariable(ResourceModel):
    """One environment variable of a container: a value, or a Secret's or ConfigMap's."""

    model_config = ConfigDict(json_schema_extra=validations(rules.ENV_HAS_ONE_SOURCE))

    name: str = required("Name of the variable.", min_length=1, max_length=128, pattern=VARIABLE)
    value: str | None = field("Literal value; not for secrets.", max_length=4096)
    secret_key_ref: KeyReference | None = field("Take the value from a Secret.")
    config_map_key_ref: KeyReference | None = field("Take the value from a ConfigMap.")


class ContainerPort(ResourceModel):
    """A port that a container listens on."""

    model_config = ConfigDict(
        json_schema_extra=validations(rules.NOT_THE_ENGINES_PORT, rules.NOT_THE_ENGINES_PORT_NAME)
    )

    container_port: int = required("Number of the port.", ge=1, le=65535)
    name: str | None = field(
        "Name of the port, unlike those of the pod's others.",
        min_length=1,
        max_length=15,
        pattern=DNS_LABEL,
    )
    protocol: Literal["TCP", "UDP", "SCTP"] | None = field("Protocol; TCP by default.")


class Container(ResourceModel):
    """A container beside the engine, under the same security context."""

    model_config = ConfigDict(json_schema_extra=validations(rules.NOT_THE_ENGINE))

    name: str = required("Name of the container.", min_length=1, max_length=63, pattern=DNS_LABEL)
    image: str = required("Container image.", min_length=1, max_length=500, pattern=IMAGE)
    command: list[Argument] | None = field(
        "Program, instead of the image's own.",
        max_length=64,
        schema={"x-kubernetes-list-type": "atomic"},
    )
    args: list[Argument] | None = field(
        "Arguments, instead of the image's own.",
        max_length=64,
        schema={"x-kubernetes-list-type": "atomic"},
    )
    env: list[EnvironmentVariable] | None = field(
        "Environment variables.",
        max_length=32,
        schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    resources: Resources | None = field("CPU, memory and disk of the container; no GPU.")
    volume_mounts: list[VolumeMount] | None = field(
        "Where it finds volumes of spec.pod.volumes, or cache: that of the weights.",
        max_length=16,
        schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["mountPath"]},
    )
    ports: list[ContainerPort] | None = field(
        "Ports that it listens on.",
        max_length=8,
        schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["containerPort"]},
    )


class InitContainer(Container):
    """A container that ends before the engine starts, or runs beside it from before on."""

    restart_policy: Literal["Always"] | None = field(
        "Always: it starts before the engine and runs on beside it. By default it must end first."
    )


class SecurityContext(ResourceModel):
    """What Kubernetes' own security contexts of pod and container say, as far as it may be chosen.

    The rest is what restricted Pod Security wants, and no field changes it.
    """

    run_as_user: int | None = field(
        "User of the processes; by default as spec.pod.identity says.", ge=1, le=2**31 - 1
    )
    run_as_group: int | None = field(
        "Group of the processes; by default as spec.pod.identity says.", ge=0, le=2**31 - 1
    )
    fs_group: int | None = field(
        "Group that the volumes' files get; by default as spec.pod.identity says.",
        ge=0,
        le=2**31 - 1,
    )
    supplemental_groups: list[GroupId] | None = field(
        "Further groups of the processes, by number, such as that of /dev/kfd on nodes with AMD "
        "GPUs (render).",
        max_length=16,
        schema={"x-kubernetes-list-type": "atomic"},
    )
    read_only_root_filesystem: bool | None = field(
        "Whether the containers' root file systems are read-only; true by default. The engine "
        "writes to volumes: /cache, /tmp (its home) and /dev/shm. False is for an image that "
        "writes elsewhere."
    )


class PodSpec(ResourceModel):
    """What completes the engine's pods, beside what follows from the plan."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            rules.MOUNTS_ARE_OF_VOLUMES,
            rules.INIT_MOUNTS_ARE_KNOWN,
            rules.MOUNTS_ARE_KNOWN,
            rules.CONTAINER_NAMES_ARE_UNIQUE,
        )
    )

    labels: Labels | None = field(
        "Labels to add to the pods.",
        schema=validations(rules.OWN_PREFIXES, rules.QUALIFIED_KEYS, maxProperties=32),
    )
    annotations: Annotations | None = field(
        "Annotations to add to the pods.",
        schema=validations(rules.OWN_PREFIXES, rules.QUALIFIED_KEYS, maxProperties=32),
    )
    workload_labels: Labels | None = field(
        "Labels to add to the Deployment or LeaderWorkerSet itself, such as the queue of Kueue. "
        "A change of them restarts no pod.",
        schema=validations(rules.OWN_PREFIXES, rules.QUALIFIED_KEYS, maxProperties=32),
    )
    workload_annotations: Annotations | None = field(
        "Annotations to add to the Deployment or LeaderWorkerSet itself. "
        "A change of them restarts no pod.",
        schema=validations(
            rules.OWN_PREFIXES, rules.DEPLOYMENTS_PREFIX, rules.QUALIFIED_KEYS, maxProperties=32
        ),
    )
    node_selector: Labels | None = field(
        "Node labels that the pods need, beside those of the GPU product.",
        schema=validations(rules.QUALIFIED_KEYS, maxProperties=32),
    )
    tolerations: list[Toleration] | None = field(
        "Taints to tolerate, beside those of the GPU resource.",
        max_length=32,
        schema={"x-kubernetes-list-type": "atomic"},
    )
    affinity: dict[str, Any] | None = field(
        "Kubernetes' affinity object, as it is. "
        "The node affinity for the GPU product is added to it.",
        schema={
            "type": "object",
            "properties": {
                name: {"description": description, **FREE_FORM, "maxProperties": 2}
                for name, description in (
                    ("nodeAffinity", "Nodes that the pods need or prefer."),
                    ("podAffinity", "Pods to be near to."),
                    ("podAntiAffinity", "Pods to be away from."),
                )
            },
        },
    )
    topology_spread_constraints: list[TopologySpreadConstraint] | None = field(
        "How the replicas spread over nodes or zones.",
        max_length=8,
        schema={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["topologyKey", "whenUnsatisfiable"],
        },
    )
    resources: Resources | None = field("CPU and memory of the engine's container.")
    identity: Identity | None = field(
        "Who says the pods' user, group and fsGroup where spec.pod.securityContext does not. "
        "Fixed: they are 65532, which no image defines. Platform: they are left out, for a "
        "platform that assigns them (OpenShift). By default as the operator's chart value "
        "openshift says: Fixed, unless it is true."
    )
    security_context: SecurityContext | None = field(
        "Users, groups and file systems of the containers, where they may be chosen."
    )
    service_account_name: str | None = field(
        "ServiceAccount of the pods, such as one that a cloud gives rights on a bucket; the "
        "namespace's own by default.",
        max_length=253,
        pattern=NAME,
    )
    automount_service_account_token: bool | None = field(
        "Whether the pods get the account's token for the API server; false by default."
    )
    scheduler_name: str | None = field(
        "Scheduler of the pods, where it is not Kubernetes' own.", max_length=253, pattern=NAME
    )
    priority_class_name: str | None = field(
        "PriorityClass of the pods.", max_length=253, pattern=NAME
    )
    runtime_class_name: str | None = field(
        "RuntimeClass of the pods, for clusters where GPUs need one (nvidia).",
        max_length=253,
        pattern=NAME,
    )
    image_pull_secrets: list[NamedReference] | None = field(
        "Secrets of the server's namespace to pull the image with.",
        max_length=8,
        schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    volumes: list[Volume] | None = field(
        "Further volumes of the pods: files from ConfigMaps and Secrets, claims, empty folders.",
        max_length=16,
        schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    volume_mounts: list[EngineVolumeMount] | None = field(
        "Where the engine's container finds these volumes.",
        max_length=16,
        schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["mountPath"]},
    )
    init_containers: list[InitContainer] | None = field(
        "Containers that run before the engine, in this order.",
        max_length=8,
        schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    containers: list[Container] | None = field(
        "Containers that run beside the engine.",
        max_length=8,
        schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    shm_size: str | None = field(
        "Size of /dev/shm, a quantity. By default it follows from the number of GPUs.",
        max_length=32,
        pattern=QUANTITY,
    )


__all__ = [
    "Container",
    "EnvironmentVariable",
    "Identity",
    "InitContainer",
    "KeyReference",
    "NamedReference",
    "PodSpec",
    "Resources",
    "SecurityContext",
    "Toleration",
    "TopologySpreadConstraint",
]
