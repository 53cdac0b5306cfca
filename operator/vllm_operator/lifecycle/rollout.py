"""Surge or in place: the scheduler decides, because nobody else sees who holds the GPUs.

Other teams' pods hold GPUs too, and a namespaced install cannot see them; free GPUs cannot be
counted. So a rollout starts with a pod beside the old ones. Where something keeps it from starting
that the end of an old pod may free, for as long as the surge timeout, the rollout goes on by
replacing, and the strategy returns to surging when the rollout is over. Decided from what is
observed alone: nothing is remembered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from vllm_operator.api.canonical import digest
from vllm_operator.api.v1alpha1 import VLLMServerSpec
from vllm_operator.manifests.pod import surge_timeout_seconds
from vllm_operator.manifests.render import IN_PLACE, SURGE

from .hindrances import is_freed
from .records import ChildRecord, PodRecord

WOKEN_SECONDS: Final = 30.0
"""How long after a ReplicaSet was woken a pod that it still cannot make counts as refused."""


@dataclass(frozen=True)
class Strategy:
    """The rolling update of the moment, and when to look again (seconds) if time alone decides."""

    rolling_update: Mapping[str, int]
    look_again: float | None = None
    woken: str | None = None
    """For the annotation that wakes a ReplicaSet: which pods there were, and since when."""


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
    planned_at: str = "",
    may_surge: bool = True,
) -> Strategy:
    """The strategy for the next apply.

    ``template`` tells pods of the plan that is rolled out from others, and ``planned_at`` is when
    it was pinned. ``may_surge`` is false where a new pod would wait for a volume that the old one
    holds: then nothing but in place can ever end, whatever the specification asks for.
    """
    wanted = (spec.rollout.strategy if spec.rollout else None) or "Auto"
    if not may_surge:
        wanted = "InPlace"
    rolling = deployment if deployment is not None and is_rolling(deployment) else None
    if wanted == "InPlace" or (wanted == "Auto" and rolling is not None and rolling.in_place):
        return Strategy(IN_PLACE) if rolling is None else _in_place(rolling, template, pods, now)
    if wanted == "Surge" or rolling is None:
        return Strategy(SURGE)
    waiting_since = surge_waits_since(rolling, template, planned_at, pods)
    if waiting_since is None:
        return Strategy(SURGE)
    deadline = waiting_since + timedelta(seconds=surge_timeout_seconds(spec))
    if now >= deadline:
        return _in_place(rolling, template, pods, now)
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
    planned_at: str = "",
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
    waiting_since = surge_waits_since(successor, template, planned_at, pods)
    if waiting_since is None or wanted == "Surge":
        return Retirement(now=False)
    left = waiting_since + timedelta(seconds=surge_timeout_seconds(spec)) - now
    seconds = left.total_seconds()
    return Retirement(now=seconds <= 0, look_again=seconds if seconds > 0 else None)


def _in_place(
    deployment: ChildRecord, template: str, pods: Sequence[PodRecord], now: datetime
) -> Strategy:
    """In place, with room for replicas that had no GPU before the rollout either.

    Where fewer GPUs than replicas exist, the Deployment controller counts the pod that waits, or
    that a quota refuses, as the one that may be unavailable, and would never replace a running one
    to make room for it. So once everything of the plan that can run does, those that wait are
    counted on top. Of another plan's the Deployment controller itself replaces first what does not
    serve.
    """
    alive = [pod for pod in pods if not pod.failed]
    mine = [pod for pod in alive if pod.template == template]
    waiting = len([pod for pod in mine if pod.unschedulable_since and not pod.scheduled])
    woken, look_again = deployment.woken, None
    if deployment.message and is_freed("deployment", deployment.message):
        woken = _woken(deployment, pods, now)
        left = WOKEN_SECONDS - (now - datetime.fromisoformat(woken.split()[1])).total_seconds()
        look_again = left if left > 0 else None
        waiting += max(deployment.spec_replicas - len(alive), 0) if left <= 0 else 0
    at_rest = not any(pod.deleting for pod in alive) and all(
        pod.ready for pod in mine if pod.scheduled
    )
    if not waiting or not at_rest or deployment.replicas > deployment.spec_replicas:
        return Strategy(IN_PLACE, look_again, woken)
    return Strategy({**IN_PLACE, "maxUnavailable": 1 + waiting}, look_again, woken)


def _woken(deployment: ChildRecord, pods: Sequence[PodRecord], now: datetime) -> str:
    """What wakes the ReplicaSet whose pods a quota refuses, each time that a pod has gone.

    Its controller tries again after a back-off of up to a quarter of an hour, and nothing tells it
    that the quota has room again. An annotation of the Deployment is copied to the ReplicaSet,
    whose controller looks at every change. Source: deployment_util.go, replica_set.go of
    kube-controller-manager 1.36.
    """
    crowd = digest(sorted(pod.uid for pod in pods), 8)
    before = deployment.woken
    if before is not None and before.split()[0] == crowd:
        return before
    return f"{crowd} {now.strftime('%Y-%m-%dT%H:%M:%SZ')}"


def surge_waits_since(
    deployment: ChildRecord, template: str, planned_at: str, pods: Sequence[PodRecord]
) -> datetime | None:
    """Since when something keeps the pod beside the old ones from starting that their end may free.

    Old ones may be of the same plan: ``kubectl rollout restart`` makes a ReplicaSet too. What they
    cannot free would hold the pod up without them as well: a typing error in a selector or a
    claim's name, a webhook or a policy must not end a pod that serves.
    """
    times = (_waits_for_node_since(template, pods), _refused_since(deployment, planned_at))
    return min(filter(None, times), default=None)


def _waits_for_node_since(template: str, pods: Sequence[PodRecord]) -> datetime | None:
    alive = [pod for pod in pods if not pod.deleting and not pod.failed]
    templates = {pod.template_hash for pod in alive if pod.scheduled}
    times = [
        datetime.fromisoformat(pod.unschedulable_since)
        for pod in alive
        if pod.template == template
        and pod.unschedulable_since
        and not pod.scheduled
        and templates - {pod.template_hash}
        and is_freed("scheduling", pod.unschedulable_message)
    ]
    return min(times, default=None)


def _refused_since(deployment: ChildRecord, planned_at: str) -> datetime | None:
    """Since when a quota refuses a pod of the plan.

    The condition stays as it was first written while another ReplicaSet's pods are refused for
    another reason: what is older than the plan is not counted.
    """
    old_ones = deployment.replicas > deployment.updated_replicas
    if not deployment.refused_since or is_lagging(deployment) or not old_ones:
        return None
    if not is_freed("deployment", deployment.message):
        return None
    return datetime.fromisoformat(max(deployment.refused_since, planned_at))
