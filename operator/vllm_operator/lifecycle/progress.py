"""The condition Progressing: what is under way, why, and what it waits for. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from vllm_operator.api.conditions import ConditionDraft, truncate
from vllm_operator.api.counting import counted
from vllm_operator.api.ledger import Tuning
from vllm_operator.api.plan import Plan, Problem
from vllm_operator.api.pod import PodSpec
from vllm_operator.api.quantity import GIBIBYTE
from vllm_operator.api.status import MeasuredCache
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.hardware import catalogue
from vllm_operator.manifests.pod import requests

from .containers import ON_ITS_WAY
from .gpus import GPUCount
from .hindrances import fits_no_node, is_selection, reasons, way_out
from .records import ChildRecord, PodRecord
from .recovery import Trouble
from .remembered import Remembered
from .revisions import Abandoned
from .rollout import calm, is_lagging, is_rolling

LOADING_AFTER_SECONDS: Final = 5.0
"""A pod that is ready sooner shows as nothing else: it saves a write for each start."""

HINT_LIMIT: Final = 400

_OF_GPUS = re.compile(r"/gpu|nvidia\.com/|resources?: GPUs?\b")
"""GPUs that are missing, as Kubernetes' scheduler and Volcano name them, and in KAI's words."""
_TAINT = re.compile(r"\{[^}]*\}")
"""Its key and value, which often name GPUs: no GPU is missing there."""


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
    """What runs the pods, as it is."""
    pods: Sequence[PodRecord]
    """Those of the plan in force."""
    with_trial: bool = False
    """Whether one pod of it is of a trial, or was."""
    trouble: Trouble | None = None
    """What keeps pods of the plan in force from starting."""
    calibration: MeasuredCache | None = None
    """The KV cache that an engine of the plan in force has."""

    engine_version: str | None = None
    """What an engine of the plan in force says that it is."""

    abandoned: Abandoned | None = None
    """Why the specification as it stands is not tried again, if so."""

    ready_revision: str | None = None
    """Name of the plan in force, where its pods serve."""

    change: str | None = None
    """What made the plan in force another one than the plan before."""

    tuning: Tuning | None = None
    """Where tuning is."""

    tuning_conditions: tuple[ConditionDraft, ...] = ()
    """What tuning says; none of a server without it."""

    routing_conditions: tuple[ConditionDraft, ...] = ()
    """What is said of objects for gateways; none of a server that asks for none."""

    gpus: GPUCount | None = None
    """How many GPUs of the planned product are seen; None where nodes are not."""

    @property
    def judged(self) -> ChildRecord | None:
        """What runs the pods, as readiness is judged: with a trial, by pods of either template."""
        found = self.deployment
        return calm(found) if found is not None and self.with_trial else found

    @property
    def stopped(self) -> bool:
        """Whether the pods of the plan in force are no longer started."""
        return self.abandoned is not None and self.abandoned.stopped


def progress_of(
    server: VLLMServer, remembered: Remembered, observed: Observed, now: datetime
) -> tuple[ConditionDraft, float | None]:
    """The condition Progressing, and when to look again (seconds) if time alone may change it.

    While pods are replaced the message ends with the change that they are replaced for.
    """
    draft, look_again = _progressing(server, remembered, observed, now)
    cause = rollout_cause(remembered, observed)
    if draft.status == "True" and cause is not None:
        message = truncate(f"{draft.message}; because of {cause}")
        draft = draft.model_copy(update={"message": message})
    return draft, look_again


def rollout_cause(remembered: Remembered, observed: Observed) -> str | None:
    """What pods are being replaced for; nothing where they only come to be, as in a scaling.

    It stays the cause until the last pod is ready: the old ones are gone by then.
    """
    deployment = observed.judged
    if observed.change is None or deployment is None:
        return None
    change = truncate(observed.change)
    replaces = deployment.replicas > deployment.updated_replicas or is_lagging(deployment)
    return change if replaces or remembered.status.rollout_cause == change else None


def _progressing(
    server: VLLMServer, remembered: Remembered, observed: Observed, now: datetime
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
    if observed.stopped and server.spec.replicas:
        assert observed.abandoned is not None
        return draft("False", observed.abandoned.reason, observed.abandoned.message), None
    deployment = observed.judged
    if deployment is None:
        return draft("True", "RollingOut", "creating the objects"), None
    wanted = server.spec.replicas
    served = sum(pod.ready for pod in observed.pods) >= wanted
    if served and _was_settled(server, remembered) and is_lagging(deployment):
        # An annotation of somebody else's raises a Deployment's generation too. What counts shows
        # in the replicas a moment later. After a change of the plan no pod is of it yet.
        deployment = replace(deployment, observed_generation=deployment.generation)
    if (
        not is_rolling(deployment)
        and deployment.spec_replicas == wanted
        and deployment.ready_replicas == wanted == deployment.replicas
    ):
        if observed.abandoned is not None and not observed.stopped:
            abandoned = observed.abandoned
            told = f"{wanted} of {wanted} replicas are of the plan before; {abandoned.message}"
            return draft("False", abandoned.reason, told), None
        return draft("False", "Settled", f"{wanted} of {wanted} replicas are up to date"), None
    progress = f"{deployment.updated_replicas} of {wanted} replicas updated"
    progress += f", {deployment.ready_replicas} ready"
    if observed.trouble is not None:
        late = deployment.deadline_exceeded and not is_lagging(deployment)
        going_on = "False" if observed.trouble.stops or late else "True"
        message = f"{progress}; {observed.trouble.message}"
        return draft(going_on, observed.trouble.reason, message), None
    if deployment.deadline_exceeded and not is_lagging(deployment):
        hint = _pod_hint(observed.pods) or deployment.message or _waited_for(observed.pods)
        return draft("False", "RolloutStuck", f"{progress}; {hint}"), None
    waiting = [pod for pod in observed.pods if pod.unschedulable_since]
    if waiting:
        reason, message = _unschedulable(server, observed, waiting[0])
        return draft("True", reason, message), None
    if deployment.message:
        return draft("True", "RollingOut", f"{progress}; {deployment.message}"), None
    starting, look_again = _starting(observed.pods, now)
    if starting:
        said = (progress, _waited_for(starting), _pod_hint(observed.pods))
        loads = any(not pod.waits_for for pod in starting)
        reason = "Loading" if loads else "Preparing"
        return draft("True", reason, "; ".join(filter(None, said))), look_again
    return draft("True", "RollingOut", f"rolling out to {counted(wanted, 'replica')}"), look_again


def _was_settled(server: VLLMServer, remembered: Remembered) -> bool:
    before = remembered.condition("Progressing")
    return (
        before is not None
        and before.reason == "Settled"
        and before.observed_generation == server.metadata.generation
    )


def _starting(pods: Sequence[PodRecord], now: datetime) -> tuple[list[PodRecord], float | None]:
    """Pods that have been on their way for a while, and when others will have been."""
    starting = []
    look_again: float | None = None
    for pod in pods:
        begun = pod.started_at or (pod.created_at if pod.waits_for else None)
        if pod.ready or not begun:
            continue
        since = datetime.fromisoformat(begun) + timedelta(seconds=LOADING_AFTER_SECONDS)
        if now >= since:
            starting.append(pod)
        else:
            left = (since - now).total_seconds()
            look_again = left if look_again is None else min(look_again, left)
    return starting, look_again


def _waited_for(pods: Sequence[PodRecord]) -> str:
    """What pods that are not ready wait for, with their number."""
    counts = Counter(pod.waits_for for pod in pods if not pod.ready)
    loading = counts.pop("", 0)
    said = [f"{loading} loading the model"] if loading else []
    return ", ".join([*said, *(f"{count} waiting for {what}" for what, count in counts.items())])


def _unschedulable(server: VLLMServer, observed: Observed, pod: PodRecord) -> tuple[str, str]:
    """Reason and message for a pod without a node: want of GPUs, or of something else."""
    assert observed.plan is not None
    placement = observed.plan.placement
    told = pod.unschedulable_message
    if pod.waits_for:
        return "SchedulingGated", (
            f"a pod waits for {pod.waits_for}; whoever set them, such as a queue, removes them"
        )
    each = placement.gpus_per_replica // placement.nodes
    pod_spec, seen = server.spec.pod, observed.gpus
    asked = pod_spec is not None and bool(pod_spec.node_selector or pod_spec.affinity)
    given = (one.field for one in observed.plan.defaults or ())
    asked = asked or any(field.startswith("spec.pod.nodeSelector") for field in given)
    free = seen is not None and seen.offered - seen.held >= each
    short = _short_of(pod_spec or PodSpec(), observed.plan, each, told)
    # A node that does not match is one without the planned product, unless such a one is free and
    # lacks something else, or the user wishes for another.
    unmatched = [is_selection(one) for one in reasons(told)]
    no_match = any(unmatched) and not (free and (asked or not all(unmatched)))
    of_gpus = bool(_OF_GPUS.search(_TAINT.sub("", told))) and not (free and short)
    way = way_out(told, selects=asked)
    if (of_gpus and not way) or no_match or not told:
        need = f"{each} free {placement.gpu}"
        count = f" ({seen})" if seen is not None else ""
        where = "for a replica" if placement.nodes == 1 else f"for each of {placement.nodes} pods"
        label = _missing_label(placement.gpu) if no_match and seen and not seen.offered else ""
        said = f"the scheduler finds no node with {need} {where}{count}: {told}"
        return "WaitingForGPU", _with(said, label or way or short)
    disk = observed.plan.storage.disk_bytes
    if disk and "ephemeral-storage" in told:
        way = (
            f"a pod asks for {disk // GIBIBYTE} GiB of the node's disk for what it downloads, and "
            "for none where spec.model.storage names a volume"
        )
    said = f"the scheduler finds no node for a replica: {told}"
    return "Unschedulable", _with(said, way or short)


def _short_of(pod: PodSpec, plan: Plan, gpus: int, told: str) -> str:
    """What a pod asks of a node beside its GPUs, where one has too little of it."""
    asked = requests(pod, gpus, plan.storage)
    names = [name for name in ("cpu", "memory") if f"Insufficient {name}" in told]
    if not names:
        return ""
    figures = " and ".join(f"{asked[name]} of {name}" for name in names)
    said = f"a pod asks for {figures} (spec.pod.resources.requests)"
    return f"{said}, and no node has as much" if fits_no_node(told) else said


def _with(said: str, way: str) -> str:
    return f"{said}; {way}" if way else said


def _missing_label(product: str) -> str:
    """What to do where nodes of the product may be there, or come, without a label that says so."""
    known = catalogue.find(product)
    if known is None:
        return ""
    label = f"{known.own_label}={known.label_values[0]}"
    return f"nodes that have it, and pools that are to bring them, need the label {label}"


def _pod_hint(pods: Sequence[PodRecord]) -> str:
    for pod in pods:
        if pod.restarts and pod.last_exit:
            return f"a pod has restarted, {pod.last_exit}"
        if pod.waiting_reason not in ON_ITS_WAY:
            said = pod.waiting_message[-HINT_LIMIT:]  # its end: that is where a cause stands
            detail = f" ({said})" if said else ""
            return f"a pod is in {pod.waiting_reason}{detail}"
    return ""
