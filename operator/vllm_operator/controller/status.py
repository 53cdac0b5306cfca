"""The status of a server, folded from what was decided and observed. Pure.

Two visits that see the same write the same: there is no clock, counter or heartbeat in it but the
transition times, which change only with a condition's status.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from vllm_operator.api.conditions import ConditionDraft, merge_conditions, truncate
from vllm_operator.api.plan import Plan, Problem
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.manifests import labels as names

from .rollout import is_lagging, is_rolling
from .store import ChildRecord, PodRecord

LOADING_AFTER_SECONDS: Final = 5.0
"""A pod that is ready sooner never shows as Loading: it saves a write for each start."""

WAITING_REASONS: Final = frozenset({"UnknownGPU"})
"""Planning failures that the world mends, not the user: waiting, not failing."""


@dataclass(frozen=True)
class Observed:
    """What a visit saw and decided."""

    problems: tuple[Problem, ...]
    """Why the specification as it stands cannot be planned; empty where it is planned."""

    waits: bool
    """Whether the problems may pass by themselves (an outage, nodes to come)."""

    plan: Plan | None
    """The plan in force."""

    planned: bool
    """Whether the plan in force is that of the specification as it stands."""

    update: str | None
    """What a new plan would change."""

    deployment: ChildRecord | None
    pods: Sequence[PodRecord]


@dataclass(frozen=True)
class Folded:
    """A status, and when to look again (seconds) if time alone may change it."""

    status: dict[str, Any]
    look_again: float | None


def fold(server: VLLMServer, previous: dict[str, Any], observed: Observed, now: datetime) -> Folded:
    """The whole status of a server. ``previous`` gives transition times only."""
    planned = _planned(observed)
    progressing, look_again = _progressing(
        server, observed, now, was_settled=_was_settled(server, previous)
    )
    available = _available(server, observed)
    ready = _ready(server, planned, progressing, available)
    stalled = _stalled(observed, progressing)
    drafts = [
        planned,
        progressing,
        available,
        _update_available(observed),
        _reconciling(planned, progressing, stalled),
        stalled,
        ready,
    ]
    deployment = observed.deployment
    status: dict[str, Any] = {
        "observedGeneration": server.metadata.generation,
        "replicas": deployment.replicas if deployment else 0,
        "readyReplicas": deployment.ready_replicas if deployment else 0,
        "selector": f"{names.SERVER_LABEL}={server.metadata.name}",
        "conditions": merge_conditions(
            previous.get("conditions") or [],
            drafts,
            generation=server.metadata.generation,
            now=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        ),
        "problems": [problem.to_json_object() for problem in observed.problems],
    }
    if observed.plan is not None:
        status["plan"] = observed.plan.to_json_object()
        status["summary"] = summary(observed.plan)
        status["endpoint"] = names.endpoint(server.metadata.name, server.metadata.namespace)
    return Folded(status, look_again)


def summary(plan: Plan) -> dict[str, str]:
    """What the printer columns show of a feasible plan."""
    assert plan.placement is not None
    assert plan.engine is not None
    placement = plan.placement
    split = [("TP", placement.tensor), ("PP", placement.pipeline), ("DP", placement.data)]
    parts = [f"{name}{size}" for name, size in split if size > 1 or name == "TP"]
    gpu = placement.gpu.removeprefix("NVIDIA-")
    return {
        "gpus": f"{placement.gpus_per_replica} x {gpu}",
        "parallelism": " ".join(parts),
        "version": plan.engine.version,
    }


def describe(plan: Plan) -> str:
    """One sentence on a feasible plan."""
    assert plan.capacity is not None
    shown = summary(plan)
    capacity = plan.capacity
    return (
        f"{shown['gpus']} a replica, {shown['parallelism']}, vLLM {shown['version']}: "
        f"up to {capacity.max_model_len} tokens a request, {capacity.max_num_seqs} requests at "
        f"once, KV cache for at least {capacity.kv_tokens.low} tokens"
    )


def server_state(status: dict[str, Any]) -> str:
    """The one word that the operator's metrics give a server."""
    by_type = {condition["type"]: condition for condition in status["conditions"]}
    if by_type["Stalled"]["status"] == "True":
        return "NotPlanned" if by_type["Planned"]["status"] != "True" else "Stalled"
    if by_type["Progressing"]["reason"] == "Paused":
        return "Paused"
    if by_type["Available"]["reason"] == "ScaledToZero":
        return "ScaledToZero"
    if by_type["Ready"]["status"] == "True":
        return "Ready"
    return "NotPlanned" if by_type["Planned"]["status"] != "True" else "Progressing"


def _planned(observed: Observed) -> ConditionDraft:
    if observed.problems:
        first = observed.problems[0]
        more = len(observed.problems) - 1
        message = f"{first.field}: {first.message}" + (
            f" (and {more} more in status.problems)" if more else ""
        )
        if observed.plan is not None:
            message += "; the last good plan keeps serving"
        return ConditionDraft(type="Planned", status="False", reason=first.reason, message=message)
    if observed.plan is None or not observed.planned:
        return ConditionDraft(
            type="Planned",
            status="Unknown",
            reason="Paused",
            message="spec.paused is true, and the specification as it stands was not planned",
        )
    return ConditionDraft(
        type="Planned", status="True", reason="Sized", message=describe(observed.plan)
    )


def _progressing(
    server: VLLMServer, observed: Observed, now: datetime, *, was_settled: bool
) -> tuple[ConditionDraft, float | None]:
    def draft(status: str, reason: str, message: str) -> ConditionDraft:
        return ConditionDraft.model_validate(
            {"type": "Progressing", "status": status, "reason": reason, "message": message}
        )

    if server.spec.paused:
        message = "spec.paused is true: nothing is rolled, scaled or repaired"
        return draft("False", "Paused", message), None
    if observed.plan is None:
        return draft("False", "NotPlanned", "nothing can be rolled out before it is planned"), None
    deployment = observed.deployment
    if deployment is None:
        return draft("True", "RollingOut", "creating the objects"), None
    wanted = server.spec.replicas
    if was_settled and is_lagging(deployment):
        # An annotation of somebody else's raises a Deployment's generation too. What counts shows
        # in the replicas a moment later.
        deployment = replace(deployment, observed_generation=deployment.generation)
    if (
        not is_rolling(deployment)
        and deployment.spec_replicas == wanted
        and deployment.ready_replicas == wanted == deployment.replicas
    ):
        return draft("False", "Settled", f"{wanted} of {wanted} replicas are up to date"), None
    progress = f"{deployment.updated_replicas} of {wanted} replicas updated"
    progress += f", {deployment.ready_replicas} ready"
    if deployment.deadline_exceeded and not is_lagging(deployment):
        hint = _pod_hint(observed.pods) or deployment.message
        return draft("False", "RolloutStuck", f"{progress}; {hint}"), None
    waiting = [pod for pod in observed.pods if pod.unschedulable_since and not pod.deleting]
    if waiting:
        reason, message = _unschedulable(observed.plan, waiting[0])
        return draft("True", reason, message), None
    if deployment.message:
        return draft("True", "RollingOut", f"{progress}; {deployment.message}"), None
    loading, look_again = _loading(observed.pods, now)
    if loading:
        hint = _pod_hint(observed.pods)
        message = f"{progress}; {len(loading)} loading the model" + (f"; {hint}" if hint else "")
        return draft("True", "Loading", message), look_again
    return draft("True", "RollingOut", f"rolling out to {wanted} replicas"), look_again


def _was_settled(server: VLLMServer, previous: dict[str, Any]) -> bool:
    conditions: list[dict[str, Any]] = previous.get("conditions") or []
    return any(
        condition["type"] == "Progressing"
        and condition["reason"] == "Settled"
        and condition.get("observedGeneration") == server.metadata.generation
        for condition in conditions
    )


def _loading(pods: Sequence[PodRecord], now: datetime) -> tuple[list[PodRecord], float | None]:
    loading = []
    look_again: float | None = None
    for pod in pods:
        if pod.ready or pod.deleting or pod.failed or not pod.scheduled or pod.started_at is None:
            continue
        since = datetime.fromisoformat(pod.started_at) + timedelta(seconds=LOADING_AFTER_SECONDS)
        if now >= since:
            loading.append(pod)
        else:
            left = (since - now).total_seconds()
            look_again = left if look_again is None else min(look_again, left)
    return loading, look_again


def _unschedulable(plan: Plan, pod: PodRecord) -> tuple[str, str]:
    """Reason and message for a pod without a node: want of GPUs, or of something else."""
    assert plan.placement is not None
    placement = plan.placement
    told = pod.unschedulable_message
    if "/gpu" in told or "nvidia.com/" in told or "node affinity" in told or not told:
        need = f"{placement.gpus_per_replica} free {placement.gpu}"
        return "WaitingForGPU", f"the scheduler finds no node with {need} for a replica: {told}"
    return "Unschedulable", f"the scheduler finds no node for a replica: {told}"


def _pod_hint(pods: Sequence[PodRecord]) -> str:
    for pod in pods:
        if pod.failed:
            continue
        if pod.restarts and pod.last_exit:
            return f"a pod has restarted, {pod.last_exit}"
        quiet = pod.waiting_reason in {"", "ContainerCreating", "PodInitializing"}
        if not pod.deleting and not quiet:
            detail = f" ({pod.waiting_message})" if pod.waiting_message else ""
            return f"a pod is in {pod.waiting_reason}{detail}"
    return ""


def _available(server: VLLMServer, observed: Observed) -> ConditionDraft:
    wanted = server.spec.replicas
    ready = observed.deployment.ready_replicas if observed.deployment else 0
    if wanted == 0 and ready == 0:
        return ConditionDraft(
            type="Available", status="False", reason="ScaledToZero", message="spec.replicas is 0"
        )
    if ready == 0:
        return ConditionDraft(
            type="Available",
            status="False",
            reason="NoReplicaReady",
            message=f"0 of {wanted} replicas are ready",
        )
    reason = "ReplicasReady" if ready >= wanted else "SomeReplicasReady"
    return ConditionDraft(
        type="Available",
        status="True",
        reason=reason,
        message=f"{ready} of {wanted} replicas are ready",
    )


def _update_available(observed: Observed) -> ConditionDraft:
    if observed.plan is None or observed.problems or not observed.planned:
        return ConditionDraft(
            type="UpdateAvailable",
            status="Unknown",
            reason="NotPlanned",
            message="the specification as it stands has no plan to compare with",
        )
    if observed.update is None:
        return ConditionDraft(
            type="UpdateAvailable",
            status="False",
            reason="UpToDate",
            message="a new plan would choose the same",
        )
    return ConditionDraft(
        type="UpdateAvailable",
        status="True",
        reason="PlanDiffers",
        message=truncate(
            f"a new plan would choose otherwise: {observed.update}; "
            f"change the annotation {names.REPLAN_ANNOTATION} to take it"
        ),
    )


def _stalled(observed: Observed, progressing: ConditionDraft) -> ConditionDraft:
    if observed.problems and not observed.waits:
        first = observed.problems[0]
        return ConditionDraft(
            type="Stalled",
            status="True",
            reason="NotPlanned",
            message=f"the specification must change: {first.field}: {first.message}",
        )
    if progressing.reason == "RolloutStuck":
        return ConditionDraft(
            type="Stalled", status="True", reason="RolloutStuck", message=progressing.message
        )
    return ConditionDraft(
        type="Stalled", status="False", reason="Progressing", message="nothing stops the operator"
    )


def _reconciling(
    planned: ConditionDraft, progressing: ConditionDraft, stalled: ConditionDraft
) -> ConditionDraft:
    waits = planned.status == "False" and stalled.status == "False"
    if waits or progressing.status == "True":
        cause = planned if waits else progressing
        return ConditionDraft(
            type="Reconciling", status="True", reason="Progressing", message=cause.message
        )
    return ConditionDraft(
        type="Reconciling", status="False", reason="Settled", message="nothing is under way"
    )


def _ready(
    server: VLLMServer,
    planned: ConditionDraft,
    progressing: ConditionDraft,
    available: ConditionDraft,
) -> ConditionDraft:
    """Ready, or the first reason that stops it. kstatus reads False as "in progress"."""
    if planned.status == "True" and available.reason == "ScaledToZero":
        return ConditionDraft(
            type="Ready",
            status="True",
            reason="ScaledToZero",
            message="stopped, as spec.replicas asks",
        )
    serves = available.reason == "ReplicasReady"
    for condition, holds in (
        (planned, planned.status == "True"),
        (
            progressing,
            progressing.reason == "Settled" or (progressing.reason == "Paused" and serves),
        ),
        (available, serves),
    ):
        if not holds:
            return ConditionDraft(
                type="Ready", status="False", reason=condition.reason, message=condition.message
            )
    return ConditionDraft(
        type="Ready",
        status="True",
        reason="Ready",
        message=f"serving at {names.endpoint(server.metadata.name, server.metadata.namespace)}",
    )
