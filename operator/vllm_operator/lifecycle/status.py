"""The status of a server, folded from what was decided and observed. Pure.

What is wrong stands in the condition that it is of and in ``Ready``; others name the condition.
Two visits that see the same write the same: nothing in it changes without a transition.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from vllm_operator.api.conditions import (
    START_FAILURES,
    ConditionDraft,
    merge_conditions,
    timestamp,
    truncate,
)
from vllm_operator.api.counting import counted
from vllm_operator.api.plan import Plan
from vllm_operator.api.status import Summary, VLLMServerStatus
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.engine.versions import (
    OLDEST,
    Version,
    version_differs,
    version_in_tag,
    version_note,
)
from vllm_operator.manifests import labels as names
from vllm_operator.sizing.layout.utilization import gib

from .objections import steadied
from .progress import Observed, progress_of, rollout_cause
from .recovery import Trouble
from .remembered import Remembered
from .revisions import Abandoned

NOT_THE_SPECIFICATION: Final = frozenset({"ObjectRefused", "OperatorDefect", "PlanUnreadable"})
"""Problems that an edit of the specification need not mend."""


@dataclass(frozen=True)
class Folded:
    """A status, and when to look again (seconds) if time alone may change it."""

    status: VLLMServerStatus
    look_again: float | None


def fold(server: VLLMServer, remembered: Remembered, observed: Observed, now: datetime) -> Folded:
    """The whole status of a server.

    Of the one before it keeps transition times, and what is not seen again at each visit: the plan
    with which the server was last ready, what engines of the plan said, and the cause of a rollout.
    """
    before, plan = remembered.status, observed.plan
    if before.observed_generation == server.metadata.generation:
        steady = tuple(steadied(one, before.problems) for one in observed.problems)
        observed = replace(observed, problems=steady)
    same_plan = plan is not None and remembered.inputs_hash == plan.inputs_hash
    engine_version = observed.engine_version or (before.engine_version if same_plan else None)
    planned = _planned(observed, engine_version if plan else None)
    progressing, look_again = progress_of(server, remembered, observed, now)
    available = _available(server, observed)
    ready = _ready(server, planned, progressing, available)
    stalled = _stalled(observed, progressing)
    drafts = [
        ready,
        available,
        progressing,
        planned,
        _update_available(observed),
        _reconciling(planned, progressing, stalled),
        stalled,
        *observed.tuning_conditions,
        *observed.routing_conditions,
    ]
    deployment = observed.deployment
    metadata = server.metadata
    selector = ",".join(f"{name}={value}" for name, value in names.serving(metadata.name).items())
    status = VLLMServerStatus(
        observed_generation=metadata.generation,
        replicas=deployment.replicas if deployment else 0,
        ready_replicas=deployment.ready_replicas if deployment else 0,
        selector=selector,
        conditions=merge_conditions(
            before.conditions,
            drafts,
            generation=metadata.generation,
            now=timestamp(now),
        ),
        problems=list(observed.problems),
        latest_ready_revision=observed.ready_revision or before.latest_ready_revision,
        rollout_cause=rollout_cause(remembered, observed),
        tuning=observed.tuning,
        summary=_columns(server, observed),
    )
    if plan is not None:
        said = {
            "plan": plan,
            "endpoint": names.endpoint(metadata.name, metadata.namespace),
            "calibration": observed.calibration or (before.calibration if same_plan else None),
            "engine_version": engine_version,
        }
        status = status.model_copy(update=said)
    return Folded(status, look_again)


def _columns(server: VLLMServer, observed: Observed) -> Summary:
    """What the printer columns show of a server."""
    wanted = server.spec.replicas
    ready = observed.deployment.ready_replicas if observed.deployment else 0
    shown = summary(observed.plan) if observed.plan else Summary(model=server.spec.model.id)
    return shown.model_copy(update={"ready": f"{min(ready, wanted)}/{wanted}"})


def summary(plan: Plan) -> Summary:
    """What people are shown of a plan."""
    placement = plan.placement
    split = [("TP", placement.tensor), ("PP", placement.pipeline), ("DP", placement.data)]
    parts = [f"{name}{size}" for name, size in split if size > 1 or name == "TP"]
    if placement.expert:
        parts.append("EP")
    gpus = f"{placement.gpus_per_replica} x {placement.gpu.removeprefix('NVIDIA-')}"
    if placement.nodes > 1:
        gpus += f" on {counted(placement.nodes, 'node')}"
    memory = plan.memory
    return Summary(
        model=plan.model.id,
        gpus=gpus,
        parallelism=" ".join(parts),
        memory=f"{gib(memory.weights)} weights and {gib(memory.kv_cache.expected)} KV cache of "
        f"{gib(memory.total)}",
        version=plan.engine.version,
    )


def describe(plan: Plan) -> str:
    """One sentence on a plan."""
    shown, capacity = summary(plan), plan.capacity
    newer = version_note(Version.parse(plan.engine.version))
    tag = version_in_tag(plan.engine.image)
    other = None
    if version_differs(plan.engine.version, tag):
        other = f"the tag of image {plan.engine.image} says {tag}, and spec.engine.version decides"
    note = ". ".join(filter(None, (newer, other, plan.storage.note)))
    requests = counted(capacity.max_num_seqs, "request")
    return (
        f"{shown.gpus} a replica, {shown.parallelism}, vLLM {shown.version}: "
        f"up to {capacity.max_model_len} tokens a request, {requests} at "
        f"once, KV cache for at least {capacity.kv_tokens.low} tokens"
    ) + (f". {note}" if note else "")


def server_state(status: VLLMServerStatus) -> str:
    """The one word that the operator's metrics give a server."""
    by_type = {condition.type: condition for condition in status.conditions}
    unplanned = by_type["Planned"].status != "True"
    if by_type["Stalled"].status == "True":
        return "NotPlanned" if unplanned else "Stalled"
    if by_type["Progressing"].reason == "Paused":
        return "Paused"
    if by_type["Available"].reason == "ScaledToZero":
        return "ScaledToZero"
    if by_type["Ready"].status == "True":
        return "Ready"
    return "NotPlanned" if unplanned else "Progressing"


def _planned(observed: Observed, engine_version: str | None) -> ConditionDraft:
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
    reason, message = "Sized", describe(observed.plan)
    if engine_version and version_differs(observed.plan.engine.version, engine_version):
        reason = "VersionDiffers"
        message = (
            f"the engine says that it is vLLM {engine_version}, and the plan is for "
            f"{observed.plan.engine.version}, whose flags and memory it may not share: "
            f"{_version_to_say(engine_version)}. {message}"
        )
    return ConditionDraft(type="Planned", status="True", reason=reason, message=message)


def _version_to_say(engine_version: str) -> str:
    """What to do about an engine of another version; builds from source count from 0.1."""
    found = Version.parse(engine_version)
    if found.release < OLDEST.release:
        return "set spec.engine.version to the release that it was built from"
    release = ".".join(map(str, found.release))
    return f'set spec.engine.version to "{release}"'


def _available(server: VLLMServer, observed: Observed) -> ConditionDraft:
    wanted = server.spec.replicas
    ready = observed.judged.ready_replicas if observed.judged else 0
    trouble: Trouble | Abandoned | None = observed.trouble if ready < wanted else None
    if observed.stopped:
        trouble = observed.abandoned
    why = "; the condition Progressing says why" if trouble else ""
    if wanted == 0 and ready == 0:
        return ConditionDraft(
            type="Available", status="False", reason="ScaledToZero", message="spec.replicas is 0"
        )
    if ready == 0:
        return ConditionDraft(
            type="Available",
            status="False",
            reason=trouble.reason if trouble else "NoReplicaReady",
            message=f"0 of {wanted} replicas are ready{why}",
        )
    reason = "ReplicasReady" if ready >= wanted else "SomeReplicasReady"
    return ConditionDraft(
        type="Available",
        status="True",
        reason=reason,
        message=f"{ready} of {wanted} replicas are ready{why}",
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
        edit = "" if first.reason in NOT_THE_SPECIFICATION else "the specification must change: "
        return ConditionDraft(
            type="Stalled",
            status="True",
            reason=observed.abandoned.reason if observed.abandoned else "NotPlanned",
            message=f"{edit}{first.reason} at {first.field}; the condition Planned says why",
        )
    stopped = progressing.reason in START_FAILURES and progressing.status == "False"
    if stopped or progressing.reason == "RolloutStuck":
        return ConditionDraft(
            type="Stalled",
            status="True",
            reason=progressing.reason,
            message="it does not go on like this; the condition Progressing says why",
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
            type="Reconciling",
            status="True",
            reason="Progressing",
            message=f"{cause.reason}; the condition {cause.type} says more",
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
