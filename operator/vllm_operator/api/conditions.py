"""Condition types and reasons, and the pure merge that keeps transition times honest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final, Literal

from .base import ResourceModel
from .fields import required

MESSAGE_LIMIT: Final = 1024

ConditionStatus = Literal["True", "False", "Unknown"]

REASONS: Final[Mapping[str, Mapping[str, str]]] = {
    "Planned": {
        "Sized": "The specification is planned and the plan is the one that is applied.",
        "VersionDiffers": "Sized, for another vLLM version than the engine says that it is.",
        "Infeasible": "Everything is known and nothing fits.",
        "UnknownModel": "No source knows the model's facts.",
        "UnknownGPU": "No source knows the GPU product, or there is none to choose from.",
        "LeaderWorkerSetMissing": "A replica takes several nodes, and the cluster has no "
        "LeaderWorkerSets.",
        "IllegalPin": "A field that vLLM would refuse, or that contradicts another.",
        "ModelAccessDenied": "The Hub refuses to show the model.",
        "UnsupportedEngineVersion": "This release does not know how to run that vLLM version.",
        "Unschedulable": "No node was found for the plan's pods, and the plan before it serves.",
        "NameConflict": "An object of that name exists and is somebody else's.",
        "ObjectRefused": "The API server, a quota or a webhook refuses an object of the plan.",
        "SourceUnavailable": "What a plan depends on cannot be read: the Hub or the API server "
        "does not answer, or the operator's chart value defaults is wrong.",
        "PlanUnreadable": "The plan in force is one of another release; its objects are kept.",
        "OperatorDefect": "Planning failed in a way that is the operator's fault.",
        "Paused": "spec.paused is true, and the specification as it stands was not planned.",
    },
    "Progressing": {
        "RollingOut": "Objects were applied and the pods are being replaced or created.",
        "WaitingForGPU": "The scheduler finds no node for a pod.",
        "Unschedulable": "The scheduler finds no node for a pod, for want of something else.",
        "SchedulingGated": "A pod is held by scheduling gates, which something else removes.",
        "Preparing": "Pods wait for something else than the loading of their model.",
        "Loading": "Engines run and load the model.",
        "Settled": "Nothing is under way.",
        "Paused": "spec.paused is true: nothing is rolled, scaled or repaired.",
        "NotPlanned": "Nothing can be rolled out because nothing is planned.",
        "RolloutStuck": "The Deployment passed its progress deadline.",
    },
    "Available": {
        "ReplicasReady": "Every replica is ready.",
        "SomeReplicasReady": "At least one replica is ready, and at least one is not.",
        "NoReplicaReady": "No replica is ready.",
        "ScaledToZero": "spec.replicas is 0.",
    },
    "UpdateAvailable": {
        "UpToDate": "A new plan would choose the same.",
        "PlanDiffers": "A new plan would choose otherwise; the message says what would change.",
        "NotPlanned": "The specification as it stands has no plan to compare with.",
    },
    "MetricsAvailable": {
        "Available": "What tuning reads is there and fresh.",
        "NotConfigured": "The operator was given no Prometheus.",
        "Unreachable": "Prometheus does not answer, or refuses.",
        "NoSeries": "Prometheus has no series of the server's pods.",
        "LabelsAmbiguous": "Several series claim to be the same one of a pod.",
        "ScrapeTooSlow": "The pods are scraped too seldom.",
        "Stale": "The newest samples are too old.",
        "NotANumber": "Samples are no numbers.",
        "CountersReset": "Counters began anew, as where an engine was started again.",
        "IdentityBroken": "Figures that must agree do not.",
        "TooLittleTraffic": "There are too few requests to learn from.",
        "UnevenPods": "Pods differ at equal load by more than settings would explain.",
    },
    "Tuned": {
        "Observing": "Evidence is gathered.",
        "Settled": "No setting is enough better to be tried.",
        "CapNotBinding": "No limit binds at this load, and the objective is kept.",
        "Pinned": "Every flag that could be tuned is pinned.",
        "Promoted": "A setting was put in force.",
        "ScaleOut": "No flag helps; more replicas would.",
        "Proposed": "A better setting was found, and is not tried yet, or not at all.",
        "OutsideWindow": "A trial waits for spec.autotune.window.",
        "WindowUnreadable": "spec.autotune.window names a time or zone that does not exist.",
        "BudgetSpent": "spec.autotune.maxTrialsPerDay was reached.",
        "OthersFirst": "A trial waits for those of other servers.",
        "ScaledTooOften": "The replicas change too often for a trial to reach its end.",
        "InCanary": "A setting is on trial on one pod, or is being rolled out.",
        "NoRoomForCanary": "There was no room for a trial's pod.",
        "RolledBack": "A setting was taken back.",
        "Inconclusive": "A trial told nothing.",
        "Interrupted": "A trial ended before its verdict.",
        "CoolingDown": "Nothing is tried for a while.",
        "Suspended": "Three of the last five trials were taken back.",
        "NotDescribed": "Nothing is known of how fast such a server is.",
    },
    "Routed": {
        "Applied": "The InferencePool of spec.routing stands.",
        "InferencePoolMissing": "The cluster has no InferencePools.",
        "InferencePoolForbidden": "The operator may not write InferencePools.",
        "NameConflict": "An InferencePool of that name exists and is somebody else's.",
        "ObjectRefused": "The API server, a quota or a webhook refuses the InferencePool.",
        "Paused": "spec.paused is true, and spec.routing as it stands was not looked at.",
    },
    "Reconciling": {
        "Settled": "The last good state is reached.",
        "Progressing": "The operator is on its way to the desired state.",
    },
    "Stalled": {
        "Progressing": "Nothing stops the operator.",
        "NotPlanned": "The specification must change before the operator can go on.",
        "RolloutStuck": "The rollout makes no progress.",
    },
    "Ready": {
        "Ready": "Planned, rolled out and available.",
        "ScaledToZero": "spec.replicas is 0, as asked.",
        "Paused": "spec.paused is true.",
    },
}
"""Every reason that a condition may carry; ``Ready`` may also repeat the reason that stops it."""

START_FAILURES: Final[Mapping[str, str]] = {
    "KVCacheTooSmall": "The memory that is left for the KV cache does not hold one request.",
    "TooManySequences": "The cache of recurrent state has fewer blocks than sequences may run.",
    "GPUMemoryTaken": "Less of the GPU is free than the engine is to take.",
    "GPUOutOfMemory": "The GPU ran out of memory; the message says at which step.",
    "ArgumentRefused": "vLLM does not know an argument, or refuses its value.",
    "EngineRefused": "vLLM refuses its configuration.",
    "MaxModelLenTooLong": "Longer requests are asked for than the model allows.",
    "IllegalParallelism": "The model cannot be divided like that.",
    "TooFewGPUs": "The container sees fewer GPUs than the layout needs.",
    "ModelAccessDenied": "The Hub does not show the model to this token, or without one; or the "
    "pod has no rights on the bucket of spec.model.id.",
    "ModelNotFound": "There is no such model, revision, bucket or folder with weights.",
    "HubUnreachable": "The pod does not reach the Hub, or another host that it downloads from.",
    "HubRateLimited": "The Hub answers 429: too many requests.",
    "HubCertificateUntrusted": "The pod does not trust the certificate that answers for the Hub.",
    "ProxyDenied": "The proxy on the way to the Hub does not let the pod through.",
    "XetFailed": "The Hub's Xet storage cannot be read.",
    "StaleFileHandle": "A file on a network volume was replaced while it was open.",
    "ModelDamaged": "A file of the checkpoint is cut off, or not what its name says.",
    "ModelUnsupported": "This vLLM version cannot run the model's architecture.",
    "RemoteCodeRefused": "The model needs code of its own, and it is not trusted.",
    "QuantizationUnsupported": "The GPU, the data type or this vLLM rules the quantisation out.",
    "DtypeUnsupported": "The GPU or the model rules the data type out.",
    "DriverTooOld": "The node's GPU driver is older than the image's CUDA.",
    "GPUUnsupported": "The image has no code for this kind of GPU.",
    "GPUFailed": "The GPU is not there, or reports an error.",
    "CommunicationFailed": "The ranks of a replica cannot reach each other.",
    "SharedMemoryTooSmall": "/dev/shm is full.",
    "VolumeFull": "A volume is full.",
    "VolumeFailed": "A volume fails under the engine.",
    "PermissionDenied": "The engine may not read or write a path.",
    "NodeLimitReached": "The pod may have no more processes, files or memory of its node.",
    "PortInUse": "Something else in the pod listens on the engine's port.",
    "StartedTooSlowly": "The engine was not ready within its startup budget.",
    "OOMKilled": "The container, or a process in it, took more memory than it may.",
    "ImagePullFailed": "The image cannot be pulled.",
    "ImageUnusable": "The image cannot run vLLM on this node.",
    "ContainerNotStarted": "The container runtime cannot create or start the container.",
    "ContainerFailed": "Another container of the pod fails; the message names it.",
    "SecretMissing": "A Secret or a key of it is missing.",
    "ConfigMapMissing": "A ConfigMap or a key of it is missing.",
    "VolumeClaimMissing": "A PersistentVolumeClaim is missing or about to go.",
    "VolumeInUse": "A volume is attached to another node, and may be to one only.",
    "VolumeNotMounted": "A volume cannot be attached to the node, or not be mounted there.",
    "NetworkFailed": "The node cannot give the pod a network.",
    "SandboxFailed": "The node cannot make the pod's sandbox.",
    "QuotaExceeded": "A ResourceQuota has no room for a pod.",
    "LimitRangeExceeded": "A LimitRange of the namespace refuses the pod, or limits it too low.",
    "PodRefused": "An admission check refuses the pod.",
    "PodEvicted": "The node evicted the pod, for what the message says.",
    "PodRejected": "The node did not keep the pod that was scheduled to it.",
    "EngineFailed": "The engine ended while it started, for a reason that is not in the table.",
    "EngineCrashed": "The engine ended after it had served.",
}
"""Why an engine does not start; any condition but UpdateAvailable may carry one."""


class Condition(ResourceModel):
    """Kubernetes' own condition."""

    type: str = required("Aspect of the server.", max_length=64)
    status: ConditionStatus = required("Whether it holds.")
    reason: str = required("Machine-readable reason.", max_length=64)
    message: str = required("What it means here, and what to do.", max_length=MESSAGE_LIMIT)
    observed_generation: int = required("Generation of the specification that was looked at.")
    last_transition_time: str = required(
        "When the status last changed.", schema={"format": "date-time"}
    )


class ConditionDraft(ResourceModel):
    """A condition before it is merged with what stood there."""

    type: str
    status: ConditionStatus
    reason: str
    message: str


def timestamp(now: datetime) -> str:
    """A time in UTC as Kubernetes writes it, in whole seconds."""
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")


def truncate(message: str, limit: int = MESSAGE_LIMIT) -> str:
    """``message`` in at most ``limit`` characters; what is cut is shown by an ellipsis."""
    return message if len(message) <= limit else message[: limit - 1] + "…"


def merge_conditions(
    previous: Iterable[Condition],
    drafts: Iterable[ConditionDraft],
    *,
    generation: int,
    now: str,
) -> list[Condition]:
    """All drafts as conditions, in order; a transition time changes only with its status.

    ``now`` is an RFC 3339 time. Conditions that stood there and are not drafted are dropped: every
    condition of ours is drafted at every visit.
    """
    since = {(one.type, one.status): one.last_transition_time for one in previous}
    return [
        Condition(
            type=draft.type,
            status=draft.status,
            reason=draft.reason,
            message=truncate(draft.message),
            observed_generation=generation,
            last_transition_time=since.get((draft.type, draft.status), now),
        )
        for draft in drafts
    ]
