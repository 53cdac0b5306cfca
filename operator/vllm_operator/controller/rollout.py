"""Surge or in place: the scheduler decides, because nobody else sees who holds the GPUs.

Other teams' pods hold GPUs too, and a namespaced install cannot see them; free GPUs cannot be
counted. So a rollout starts with a pod beside the old ones. Where the scheduler finds no node for
it within the surge timeout, the rollout goes on by replacing, and the strategy returns to surging
when the rollout is over. Decided from what is observed alone: nothing is remembered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from vllm_operator.api.v1alpha1 import VLLMServerSpec
from vllm_operator.manifests.pod import surge_timeout_seconds
from vllm_operator.manifests.render import IN_PLACE, SURGE

from .records import ChildRecord, PodRecord

ROOM: Final = ("Insufficient ", "Too many pods", "free ports")


@dataclass(frozen=True)
class Strategy:
    """The rolling update of the moment, and when to look again (seconds) if time alone decides."""

    rolling_update: Mapping[str, int]
    look_again: float | None = None


def is_lagging(deployment: ChildRecord) -> bool:
    """Whether the Deployment's status speaks of an older specification than it has."""
    return deployment.observed_generation < deployment.generation


def is_rolling(deployment: ChildRecord) -> bool:
    """Whether a Deployment has not yet replaced every pod by its newest template."""
    return (
        is_lagging(deployment)
        or deployment.updated_replicas < deployment.spec_replicas
        or deployment.replicas > deployment.updated_replicas
    )


def is_settled(deployment: ChildRecord) -> bool:
    """Whether every replica is of the newest template and ready."""
    wanted = deployment.spec_replicas
    return not is_rolling(deployment) and wanted == deployment.replicas == deployment.ready_replicas


def choose_strategy(
    spec: VLLMServerSpec,
    deployment: ChildRecord | None,
    pods: Sequence[PodRecord],
    now: datetime,
    *,
    template: str,
    may_surge: bool = True,
) -> Strategy:
    """The strategy for the next apply.

    ``template`` tells pods of the plan that is rolled out from others. ``may_surge`` is false where
    a new pod would wait for a volume that the old one holds: then nothing but in place can ever
    end, whatever the specification asks for.
    """
    if not may_surge:
        return Strategy(IN_PLACE)
    wanted = (spec.rollout.strategy if spec.rollout else None) or "Auto"
    if wanted != "Auto":
        return Strategy(SURGE if wanted == "Surge" else IN_PLACE)
    if deployment is None or not is_rolling(deployment):
        return Strategy(SURGE)
    if deployment.in_place:
        return Strategy(_in_place(deployment, template, pods))
    waiting_since = surge_pod_waits_since(template, pods)
    if waiting_since is None:
        return Strategy(SURGE)
    deadline = waiting_since + timedelta(seconds=surge_timeout_seconds(spec))
    if now >= deadline:
        return Strategy(IN_PLACE)
    return Strategy(SURGE, look_again=(deadline - now).total_seconds())


@dataclass(frozen=True)
class Retirement:
    """Whether an old workload goes now, and when to look again (seconds) if time decides."""

    now: bool
    look_again: float | None = None


def may_retire(
    spec: VLLMServerSpec,
    successor: ChildRecord | None,
    pods: Sequence[PodRecord],
    now: datetime,
    *,
    template: str,
    may_surge: bool,
) -> Retirement:
    """Whether a workload of another kind (a server came to take several nodes, or one again) goes.

    It serves until its successor does. Where there is no room for both, it goes first, as in every
    rollout: at once in place, else after the surge timeout.
    """
    if successor is None:
        return Retirement(now=False)
    if successor.ready_replicas >= spec.replicas and not is_lagging(successor):
        return Retirement(now=True)
    wanted = (spec.rollout.strategy if spec.rollout else None) or "Auto"
    if wanted == "InPlace" or not may_surge:
        return Retirement(now=True)
    waiting_since = surge_pod_waits_since(template, pods)
    if waiting_since is None or wanted == "Surge":
        return Retirement(now=False)
    left = waiting_since + timedelta(seconds=surge_timeout_seconds(spec)) - now
    seconds = left.total_seconds()
    return Retirement(now=seconds <= 0, look_again=seconds if seconds > 0 else None)


def _in_place(
    deployment: ChildRecord, template: str, pods: Sequence[PodRecord]
) -> Mapping[str, int]:
    """In place, with room for replicas that had no GPU before the rollout either.

    Where fewer GPUs than replicas exist, the Deployment controller counts the pod that waits as the
    one that may be unavailable, and would never replace a running one to make room for it. So once
    everything of the plan that can run does, those of its pods that wait are counted on top. Of
    another plan's the Deployment controller itself replaces first what does not serve.
    """
    alive = [pod for pod in pods if not pod.failed]
    mine = [pod for pod in alive if pod.template == template]
    waiting = [pod for pod in mine if pod.unschedulable_since and not pod.scheduled]
    at_rest = not any(pod.deleting for pod in alive) and all(
        pod.ready for pod in mine if pod.scheduled
    )
    if not waiting or not at_rest or deployment.replicas > deployment.spec_replicas:
        return IN_PLACE
    return {**IN_PLACE, "maxUnavailable": 1 + len(waiting)}


def makes_room(message: str) -> bool:
    """Whether the end of another pod may help one that the scheduler finds no node for.

    Source: the messages of kube-scheduler's plug-ins NodeResourcesFit and NodePorts.
    """
    return any(words in message for words in ROOM)


def surge_pod_waits_since(template: str, pods: Sequence[PodRecord]) -> datetime | None:
    """Since when a pod of the plan waits for what pods of another ReplicaSet hold.

    Those may be of the same plan: ``kubectl rollout restart`` makes a ReplicaSet too.

    A pod that no node matches would wait as well without them: a typing error in a selector or a
    claim's name must not end a pod that serves.
    """
    alive = [pod for pod in pods if not pod.deleting and not pod.failed]
    waiting = [
        pod
        for pod in alive
        if pod.template == template
        and pod.unschedulable_since
        and not pod.scheduled
        and makes_room(pod.unschedulable_message)
    ]
    templates = {pod.template_hash for pod in alive if pod.scheduled}
    times = [
        datetime.fromisoformat(pod.unschedulable_since)
        for pod in waiting
        if pod.unschedulable_since and templates - {pod.template_hash}
    ]
    return min(times, default=None)
