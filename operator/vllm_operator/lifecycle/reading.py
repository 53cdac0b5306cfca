"""Reads records out of objects as the API server sends them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from vllm_operator.api.pod_rules import ENGINE
from vllm_operator.manifests import labels as names
from vllm_operator.manifests.fieldset import field_set_digest
from vllm_operator.manifests.render import surroundings

from .containers import awaits_its_claim, failing_beside, is_unprepared, waits_for
from .endings import MESSAGE_LIMIT, ending_of, engine_status
from .kinds import DEPLOYMENTS, LEADER_WORKER_SETS, PODS, REVISIONS, SERVERS
from .records import ChildRecord, Key, PodRecord, Record, RevisionRecord, ServerRecord, pack

COMPONENT: Final = "app.kubernetes.io/component"


def _metadata(body: Mapping[str, Any]) -> dict[str, Any]:
    metadata = body["metadata"]
    return {
        "namespace": metadata.get("namespace", ""),
        "name": metadata["name"],
        "uid": metadata.get("uid", ""),
        "resource_version": metadata.get("resourceVersion", ""),
    }


def _controller_uid(body: Mapping[str, Any]) -> str | None:
    for reference in body["metadata"].get("ownerReferences") or []:
        if reference.get("controller"):
            return str(reference["uid"])
    return None


def server_record(body: Mapping[str, Any]) -> ServerRecord:
    """A VLLMServer as it is kept."""
    metadata = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
    kept = {**body, "metadata": metadata}
    deleting = "deletionTimestamp" in metadata
    return ServerRecord(**_metadata(body), deleting=deleting, packed=pack(kept))


def owned_fields(body: Mapping[str, Any]) -> str | None:
    """Digest of the field set that our last apply still owns."""
    for entry in body["metadata"].get("managedFields") or []:
        if (
            entry.get("manager") == names.FIELD_MANAGER
            and entry.get("operation") == "Apply"
            and not entry.get("subresource")
        ):
            return field_set_digest(entry.get("fieldsV1") or {})
    return None


def child_record(kind: str, body: Mapping[str, Any]) -> ChildRecord:
    """A child as it is kept."""
    metadata = body["metadata"]
    annotations = metadata.get("annotations") or {}
    common: dict[str, Any] = {
        **_metadata(body),
        "kind": kind,
        "controller_uid": _controller_uid(body),
        "applied_hash": annotations.get(names.APPLIED_HASH),
        "replaced_in_place": annotations.get(names.IN_PLACE_SINCE, ""),
        "owned_fields": owned_fields(body),
        "deleting": "deletionTimestamp" in metadata,
    }
    spec, status = body.get("spec") or {}, body.get("status") or {}
    if kind == LEADER_WORKER_SETS.kind:
        return ChildRecord(**common, **_group_facts(metadata, spec, status))
    if kind != DEPLOYMENTS.kind:
        return ChildRecord(**common)
    progressing: Mapping[str, Any] = next(
        (item for item in status.get("conditions") or [] if item["type"] == "Progressing"), {}
    )
    failure: Mapping[str, Any] = next(
        (item for item in status.get("conditions") or [] if item["type"] == "ReplicaFailure"), {}
    )
    rolling = (spec.get("strategy") or {}).get("rollingUpdate") or {}
    return ChildRecord(
        **common,
        generation=metadata.get("generation", 0),
        observed_generation=status.get("observedGeneration", 0),
        spec_replicas=spec.get("replicas", 1),
        replicas=status.get("replicas", 0),
        updated_replicas=status.get("updatedReplicas", 0),
        ready_replicas=status.get("readyReplicas", 0),
        available_replicas=status.get("availableReplicas", 0),
        in_place=rolling.get("maxSurge") == 0,
        deadline_exceeded=progressing.get("reason") == "ProgressDeadlineExceeded",
        message=failure.get("message", ""),
        refused_since=failure.get("lastTransitionTime", ""),
        woken=annotations.get(names.WOKEN, ""),
        **_trial_facts(annotations, spec),
    )


def _trial_facts(annotations: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    """What tells of a held rollout."""
    template, trial = spec.get("template") or {}, annotations.get(names.TRIAL, "")
    labels = (template.get("metadata") or {}).get("labels") or {}
    return {
        "template": labels.get(names.TEMPLATE_LABEL, ""),
        "min_ready_seconds": spec.get("minReadySeconds", 0),
        "paused": spec.get("paused", False),
        "trial": trial,
        "surroundings": surroundings(template) if trial else "",
    }


def _group_facts(
    metadata: Mapping[str, Any], spec: Mapping[str, Any], status: Mapping[str, Any]
) -> dict[str, Any]:
    """How far a LeaderWorkerSet is. Its older controllers write no observedGeneration."""
    generation = metadata.get("generation", 0)
    rolling = (spec.get("rolloutStrategy") or {}).get("rollingUpdateConfiguration") or {}
    return {
        "generation": generation,
        "observed_generation": status.get("observedGeneration") or generation,
        "spec_replicas": spec.get("replicas", 1),
        "replicas": status.get("replicas", 0),
        "updated_replicas": status.get("updatedReplicas", 0),
        "ready_replicas": status.get("readyReplicas", 0),
        "in_place": rolling.get("maxSurge") == 0,
    }


def pod_record(body: Mapping[str, Any]) -> PodRecord:
    """A pod as it is kept."""
    metadata, status = body["metadata"], body.get("status") or {}
    labels = metadata.get("labels") or {}
    conditions = {item["type"]: item for item in status.get("conditions") or []}
    scheduled = conditions.get("PodScheduled", {})
    own_claim = awaits_its_claim(body)
    unschedulable = scheduled.get("status") == "False" and not own_claim
    container = engine_status(body)
    state = container.get("state") or {}
    waiting = state.get("waiting") or {}
    last = (container.get("lastState") or {}).get("terminated") or {}
    failed = status.get("phase") == "Failed"
    # What ends a whole pod may leave the condition as it was.
    ready = conditions.get("Ready", {}).get("status") == "True" and not failed
    exited = f"last exit code {last.get('exitCode')} ({last.get('reason', 'Error')})"
    return PodRecord(
        **_metadata(body),
        template_hash=_template_hash_of(labels),
        deleting="deletionTimestamp" in metadata,
        scheduled=bool((body.get("spec") or {}).get("nodeName")),
        unschedulable_since=scheduled.get("lastTransitionTime") if unschedulable else None,
        unschedulable_message=scheduled.get("message", "") if unschedulable else "",
        scheduler_failed=scheduled.get("reason") == "SchedulerError",
        ready=ready,
        ready_since=conditions.get("Ready", {}).get("lastTransitionTime") or "",
        waiting_reason=waiting.get("reason") or "",
        waiting_message=(waiting.get("message") or "")[-MESSAGE_LIMIT:],
        last_exit=exited if last else "",
        restarts=container.get("restartCount", 0),
        started_at=status.get("startTime"),
        failed=failed,
        failure=_failure_of(status) if failed else "",
        created_at=metadata.get("creationTimestamp", ""),
        ending=ending_of(body),
        template=labels.get(names.TEMPLATE_LABEL, ""),
        address=status.get("podIP") or "",
        node=(body.get("spec") or {}).get("nodeName") or "",
        devices=_devices(body),
        leads=labels.get(COMPONENT, ENGINE) == ENGINE,
        waits_for="" if ready else waits_for(body),
        beside=None if ready else failing_beside(body),
        unprepared=not ready and not failed and (own_claim or is_unprepared(body)),
        engine_ready=bool(container.get("ready")),
    )


def _failure_of(status: Mapping[str, Any]) -> str:
    """Why the node ended a pod; empty where only its containers ended."""
    reason = status.get("reason")
    return f"{reason}: {status.get('message') or ''}"[:MESSAGE_LIMIT] if reason else ""


def _template_hash_of(labels: Mapping[str, str]) -> str | None:
    own = labels.get("pod-template-hash")
    return own or labels.get("leaderworkerset.sigs.k8s.io/template-revision-hash")


def _devices(body: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    containers = (body.get("spec") or {}).get("containers") or []
    return tuple(
        (name, int(amount))
        for container in containers
        for name, amount in ((container.get("resources") or {}).get("limits") or {}).items()
        if "/" in name and str(amount).isdecimal()
    )


def revision_record(body: Mapping[str, Any]) -> RevisionRecord:
    """A pinned plan as it is kept."""
    return RevisionRecord(
        **_metadata(body),
        controller_uid=_controller_uid(body),
        revision=body["revision"],
        packed=pack(body.get("data") or {}),
        trial="trial" in (body.get("data") or {}),
        created_at=body["metadata"].get("creationTimestamp", ""),
    )


def record_of(kind: str, body: Mapping[str, Any]) -> Record:
    """The record of an object of a watched kind."""
    if kind == SERVERS.kind:
        return server_record(body)
    if kind == PODS.kind:
        return pod_record(body)
    if kind == REVISIONS.kind:
        return revision_record(body)
    return child_record(kind, body)


def server_key(kind: str, body: Mapping[str, Any]) -> Key | None:
    """The server that an object speaks of: its controller, else what its label says."""
    metadata = body["metadata"]
    namespace = metadata.get("namespace", "")
    if kind == SERVERS.kind:
        return (namespace, metadata["name"])
    for reference in metadata.get("ownerReferences") or []:
        if reference.get("controller") and reference["kind"] == SERVERS.kind:
            return (namespace, reference["name"])
    name = (metadata.get("labels") or {}).get(names.SERVER_LABEL)
    return None if name is None else (namespace, name)
