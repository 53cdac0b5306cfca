"""What a pod waits for beside its engine, as scheduler and kubelet write it. Pure.

A pod may hold more than the operator put into it: a mesh or an agent for secrets injects containers
that run before the engine or beside it, a queue holds it by gates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from vllm_operator.api.pod_rules import ENGINE
from vllm_operator.engine.failures import ended

from .endings import MESSAGE_LIMIT, engine_status

BACK_OFF: Final = "CrashLoopBackOff"
ON_ITS_WAY: Final = frozenset({"", "ContainerCreating", "PodInitializing"})
"""Reasons of a waiting container that say nothing of a failure."""

_OWN_CLAIM: Final = "waiting for ephemeral volume controller"
"""What kube-scheduler says of a pod whose claim is yet to be made for it. It stands there for as
long as a volume is made then, of which a scheduler says nothing."""

Status = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Beside:
    """Another container, which keeps its pod from starting or from being ready by a failure."""

    container: str
    """With its kind: ``init container mesh-init``."""
    image: str
    waits: str
    """Reason and message of its waiting; empty where it crashes."""
    ending: str
    """How it ended the last time, as ``engine.failures.ended`` writes it; empty where it waits."""


def waits_for(body: Mapping[str, Any]) -> str:
    """What a pod that is not ready waits for; empty where its engine loads.

    Also empty where the scheduler has looked for a node and found none: it says why itself.
    """
    spec, status = body.get("spec") or {}, body.get("status") or {}
    conditions = {one["type"]: one.get("status") for one in status.get("conditions") or []}
    if not spec.get("nodeName"):
        return _before_a_node(body)
    if not status.get("startTime"):
        return f"the kubelet of node {spec['nodeName']}"
    sandbox = conditions.get("PodReadyToStartContainers")
    if sandbox == "False":
        return "its volumes and its network"
    for name, is_sidecar, one in _init_containers(body):
        if not _is_past(one, is_sidecar):
            return f"init container {name}"
    engine = engine_status(body)
    state = engine.get("state") or {}
    waiting = (state.get("waiting") or {}).get("reason") or ("" if state else "ContainerCreating")
    if waiting == "ContainerCreating":
        return "its image" if sandbox == "True" else "its volumes, its network and its image"
    if waiting:
        return "its engine's container"
    if engine.get("ready"):
        # Where nothing else is missing, somebody has said so for a kubelet that is silent.
        silent = f"node {spec['nodeName']}, whose kubelet does not report (kubectl describe node)"
        return _beside_a_ready_engine(spec, status, conditions) or silent
    return "its engine, which has loaded, to answer its probe" if engine.get("started") else ""


def is_unprepared(body: Mapping[str, Any]) -> bool:
    """Whether the node that took the pod has yet to give it volumes and network.

    Before Kubernetes 1.29 no condition tells these from an image that is pulled: then it is a pod
    of which no container has begun.
    """
    status = body.get("status") or {}
    conditions = {one["type"]: one.get("status") for one in status.get("conditions") or []}
    sandbox = conditions.get("PodReadyToStartContainers")
    if not status.get("startTime") or sandbox is not None:
        return sandbox == "False" and bool(status.get("startTime"))
    kinds = ("initContainerStatuses", "containerStatuses")
    return not any(_has_begun(one) for kind in kinds for one in status.get(kind) or [])


def _has_begun(one: Status) -> bool:
    """Whether its node has got to a container: it ran, or it is told why it does not."""
    state = one.get("state") or {}
    reason = (state.get("waiting") or {}).get("reason") or ""
    return (
        bool(one.get("lastState")) or bool(state.keys() - {"waiting"}) or reason not in ON_ITS_WAY
    )


def failing_beside(body: Mapping[str, Any]) -> Beside | None:
    """The first container beside the engine that fails; None where none does."""
    for name, is_sidecar, one in _init_containers(body):
        if not _is_past(one, is_sidecar) and (found := _failing(f"init container {name}", one)):
            return found
    for one in (body.get("status") or {}).get("containerStatuses") or []:
        if one.get("name") != ENGINE and not one.get("ready"):
            found = _failing(f"container {one.get('name')}", one)
            if found is not None:
                return found
    return None


def awaits_its_claim(body: Mapping[str, Any]) -> bool:
    """Whether a pod has no node as a claim of its own, or the volume of it, is yet to be made."""
    scheduled = _scheduled(body)
    return scheduled.get("status") == "False" and _OWN_CLAIM in (scheduled.get("message") or "")


def _scheduled(body: Mapping[str, Any]) -> Status:
    conditions = (body.get("status") or {}).get("conditions") or []
    return next((one for one in conditions if one["type"] == "PodScheduled"), {})


def _before_a_node(body: Mapping[str, Any]) -> str:
    spec = body.get("spec") or {}
    gates = [str(gate.get("name")) for gate in spec.get("schedulingGates") or []]
    if gates:
        return f"the removal of the scheduling gates {', '.join(gates)}"
    claims = ", ".join(_claims(body))
    if awaits_its_claim(body):
        return f"claim {claims} and its volume (kubectl describe pvc)"
    if not _scheduled(body):
        scheduler = f"the scheduler {spec.get('schedulerName') or 'default-scheduler'}"
        # While volumes are made for the node that it chose, a scheduler says nothing.
        made = f", or the volume of claim {claims} (kubectl describe pvc)" if claims else ""
        return f"{scheduler} to look at it{made}"
    return ""


def _claims(body: Mapping[str, Any]) -> Iterator[str]:
    """Names of the claims that a pod mounts, also of those that are made for it alone."""
    pod = (body.get("metadata") or {}).get("name")
    for volume in (body.get("spec") or {}).get("volumes") or []:
        if "persistentVolumeClaim" in volume:
            yield str(volume["persistentVolumeClaim"].get("claimName"))
        elif "ephemeral" in volume:
            yield f"{pod}-{volume.get('name')}"


def _beside_a_ready_engine(
    spec: Mapping[str, Any], status: Mapping[str, Any], conditions: Mapping[str, Any]
) -> str:
    unready = [one for one in status.get("containerStatuses") or [] if not one.get("ready")]
    gates = [gate.get("conditionType") for gate in spec.get("readinessGates") or []]
    others = [f"container {one.get('name')}" for one in unready]
    others += [f"readiness gate {gate}" for gate in gates if conditions.get(gate) != "True"]
    return ", ".join(others)


def _init_containers(body: Mapping[str, Any]) -> Iterator[tuple[str, bool, Status]]:
    """Name, whether it goes on beside the engine (restartPolicy Always), and status."""
    spec, status = body.get("spec") or {}, body.get("status") or {}
    sidecars = {
        one.get("name")
        for one in spec.get("initContainers") or []
        if one.get("restartPolicy") == "Always"
    }
    for one in status.get("initContainerStatuses") or []:
        yield str(one.get("name")), one.get("name") in sidecars, one


def _is_past(one: Status, is_sidecar: bool) -> bool:
    """Whether what comes after it may start: it has ended well, or a sidecar has started."""
    state = one.get("state") or {}
    if is_sidecar:
        return "running" in state and bool(one.get("started"))
    return (state.get("terminated") or {}).get("exitCode") == 0


def _failing(container: str, one: Status) -> Beside | None:
    state = one.get("state") or {}
    waiting = state.get("waiting") or {}
    reason = waiting.get("reason") or ""
    image = str(one.get("image") or "")
    if reason not in ON_ITS_WAY | {BACK_OFF}:
        waits = f"{reason}: {waiting.get('message') or ''}"
        return Beside(container, image, waits[:MESSAGE_LIMIT], "")
    last = state.get("terminated") or (one.get("lastState") or {}).get("terminated") or {}
    if not last.get("exitCode") and reason != BACK_OFF:
        return None
    message = str(last.get("message") or "")[:MESSAGE_LIMIT]
    ending = ended(int(last.get("exitCode", 0)), str(last.get("reason") or "Error"), message)
    return Beside(container, image, "", ending)
